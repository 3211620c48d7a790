//! Times every layer shape of EfficientNet-Lite0 on each available instruction set:
//! `cargo run --release -p kinglet-kernels --example lite0 [isa] [repetitions] [bits]`, where
//! `bits` says how wide a range the input's codes are promised to span (8 or 7).
//!
//! On aarch64 every timed run lies between two harmless system calls that an emulator's plugin can
//! see, so that instructions can be counted a layer (see [`mark`]).
#![allow(clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::time::Instant;

use kinglet_kernels::add::{Add, AddParams};
use kinglet_kernels::catalogue::{Entry, Op, efficientnet_lite0};
use kinglet_kernels::conv::Conv;
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::linear::{Linear, LinearOutput};
use kinglet_kernels::pool::GlobalAveragePool;
use kinglet_kernels::{InputCodes, Isa, Requantize, Scratch};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next().filter(|name| name != "all");
    let repetitions = arguments.next().map_or(30, |n| n.parse().expect("repetitions"));
    let codes = match arguments.next().as_deref() {
        Some("7") => InputCodes { zero_point: 64, min: 0, max: 127 },
        _ => InputCodes::any(128),
    };
    for isa in Isa::available() {
        if only.as_deref().is_some_and(|name| name != isa.name()) {
            continue;
        }
        let mut sums = BTreeMap::<String, f64>::new();
        for entry in efficientnet_lite0() {
            let (kernel, us) = time(isa, &entry, repetitions, codes);
            let rate = entry.macs() as f64 / us / 1e3;
            let total = us * entry.count as f64;
            println!(
                "{:32} x{} {kernel:28} {us:9.1} us  {rate:6.1} GMAC/s",
                entry.name, entry.count
            );
            let op = entry.name.split(['_', '3', '5']).next().unwrap_or_default().to_owned();
            *sums.entry(op).or_default() += total / 1e3;
        }
        println!("{}: {:.3} ms; {sums:.3?}\n", isa.name(), sums.values().sum::<f64>());
    }
}

/// Tells an emulator's plugin that a run begins or ends: `sched_get_priority_max` of a policy that
/// does not exist fails, and changes nothing.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
fn mark(end: bool) {
    unsafe extern "C" {
        safe fn sched_get_priority_max(policy: i32) -> i32;
    }
    sched_get_priority_max(0x5150_0001 + i32::from(end));
}

/// Elsewhere nobody counts.
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
fn mark(_end: bool) {}

/// The kernel's name and its best time in microseconds.
fn time(isa: Isa, entry: &Entry, repetitions: usize, codes: InputCodes) -> (&'static str, f64) {
    let g = entry.geometry;
    let mut seed = 1u32;
    let mut random = || {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        seed >> 24
    };
    let depth = match entry.op {
        Op::Depthwise => g.kernel_h * g.kernel_w,
        _ => g.kernel_h * g.kernel_w * g.in_c,
    };
    let weights: Vec<i16> = match entry.op {
        Op::Add | Op::Pool => Vec::new(),
        _ => (0..g.out_c * depth).map(|_| random().max(1) as i16 - 128).collect(),
    };
    let input: Vec<u8> = (0..g.input_len()).map(|_| (random() as u8).min(codes.max)).collect();
    let mut output = vec![0u8; g.output_len()];
    // As in the network: projections have no activation function, all others end at code 0.
    let projection = entry.op == Op::Conv && g.is_pointwise() && g.out_c < g.in_c;
    let requantize = Requantize {
        multiplier: vec![0.0005; g.out_c],
        bias: vec![100; g.out_c],
        zero_point: if projection { 130 } else { 0 },
        min: 0,
        max: 255,
    };
    let mut scratch = Scratch::new();
    let best = |run: &mut dyn FnMut()| {
        run();
        let timed = (0..repetitions).map(|_| {
            mark(false);
            let start = Instant::now();
            run();
            mark(true);
            start.elapsed().as_secs_f64() * 1e6
        });
        timed.fold(f64::INFINITY, f64::min)
    };
    match entry.op {
        Op::Conv => {
            let conv = Conv::new(isa, g, &weights, codes, requantize).expect("valid");
            let us = best(&mut || conv.run(&input, 0..conv.pixels(), &mut output, &mut scratch));
            (conv.kernel(), us)
        }
        Op::Depthwise => {
            let conv = Depthwise::new(isa, g, &weights, codes, requantize).expect("valid");
            let us = best(&mut || conv.run(&input, 0..conv.rows(), &mut output, &mut scratch));
            (conv.kernel(), us)
        }
        Op::Linear => {
            let out = LinearOutput::Quantized(requantize);
            let linear = Linear::new(isa, g.in_c, g.out_c, &weights, codes, out).expect("valid");
            let us = best(&mut || linear.run_u8(&input, &mut output, &mut scratch));
            (linear.kernel(), us)
        }
        Op::Add => {
            let add = Add::new(
                isa,
                AddParams {
                    a_zero_point: 3,
                    b_zero_point: 5,
                    a_multiplier: 0.7,
                    b_multiplier: 0.9,
                    zero_point: 100,
                    min: 0,
                    max: 255,
                },
            )
            .expect("valid");
            let us = best(&mut || add.run(&input, &input, &mut output));
            (add.kernel(), us)
        }
        Op::Pool => {
            let pixels = g.in_h * g.in_w;
            let pool =
                GlobalAveragePool::new(isa, pixels, g.in_c, 3, 0.02, 3, 0, 255).expect("valid");
            let output = &mut output[..g.in_c];
            let us = best(&mut || pool.run(&input, output, &mut scratch));
            (pool.kernel(), us)
        }
    }
}
