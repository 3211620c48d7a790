//! Times every layer shape of EfficientNet-Lite0 on each available instruction set:
//! `cargo run --release -p kinglet-kernels --example lite0 [isa] [repetitions]`.
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
    for isa in Isa::available() {
        if only.as_deref().is_some_and(|name| name != isa.name()) {
            continue;
        }
        let mut sums = BTreeMap::<String, f64>::new();
        for entry in efficientnet_lite0() {
            let (kernel, us) = time(isa, &entry, repetitions);
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

/// The kernel's name and its best time in microseconds.
fn time(isa: Isa, entry: &Entry, repetitions: usize) -> (&'static str, f64) {
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
        _ => (0..g.out_c * depth).map(|_| random() as i16 - 128).collect(),
    };
    let input: Vec<u8> = (0..g.input_len()).map(|_| random() as u8).collect();
    let mut output = vec![0u8; g.output_len()];
    let requantize = Requantize {
        multiplier: vec![0.001; g.out_c],
        bias: vec![100; g.out_c],
        zero_point: 3,
        min: 3,
        max: 250,
    };
    let mut scratch = Scratch::new();
    let best = |run: &mut dyn FnMut()| {
        run();
        let timed = (0..repetitions).map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e6
        });
        timed.fold(f64::INFINITY, f64::min)
    };
    match entry.op {
        Op::Conv => {
            let conv =
                Conv::new(isa, g, &weights, InputCodes::any(128), requantize).expect("valid");
            let us = best(&mut || conv.run(&input, 0..conv.pixels(), &mut output, &mut scratch));
            (conv.kernel(), us)
        }
        Op::Depthwise => {
            let conv =
                Depthwise::new(isa, g, &weights, InputCodes::any(128), requantize).expect("valid");
            let us = best(&mut || conv.run(&input, 0..conv.rows(), &mut output, &mut scratch));
            (conv.kernel(), us)
        }
        Op::Linear => {
            let out = LinearOutput::Quantized(requantize);
            let linear = Linear::new(isa, g.in_c, g.out_c, &weights, InputCodes::any(128), out)
                .expect("valid");
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
