//! Times every layer shape of EfficientNet-Lite0 in `f32` and `f16` on each available instruction
//! set: `cargo run --release -p kinglet-kernels --example lite0_float [isa|all] [f32|f16|all]
//! [repetitions]`.
//!
//! With `network` in place of the element type, all layers run one after the other, each with
//! weights of its own, in `f32`; what is printed is the least and the median time, as JSON.
//!
//! With repetitions 0 every layer shape runs once, after a first run, and marks its begin and end by a
//! system call that fails and does nothing (`sched_get_priority_max`), for an emulator's plugin
//! that counts instructions.
#![allow(clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::time::Instant;

use half::f16;
use kinglet_kernels::catalogue::{Entry, Op, efficientnet_lite0};
use kinglet_kernels::float::{
    Activation, Add, Conv, Depthwise, Element, GlobalAveragePool, Linear,
};
use kinglet_kernels::{Isa, Scratch};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut only = || arguments.next().filter(|name| name != "all");
    let (isa, element, repetitions) = (only(), only(), only());
    let repetitions = repetitions.map_or(30, |n| n.parse().expect("repetitions"));
    for available in Isa::available() {
        if isa.as_deref().is_none_or(|name| name == available.name()) {
            if element.as_deref() == Some("network") {
                in_sequence(available, repetitions);
                continue;
            }
            if element.as_deref() != Some("f16") {
                network::<f32>(available, repetitions);
            }
            if element.as_deref() != Some("f32") {
                network::<f16>(available, repetitions);
            }
        }
    }
}

fn network<T: Element>(isa: Isa, repetitions: usize) {
    let mut sums = BTreeMap::<String, f64>::new();
    for entry in efficientnet_lite0() {
        let (kernel, us) = layer::<T>(isa, &entry, repetitions);
        let rate = entry.macs() as f64 / us / 1e3;
        println!("{:32} x{} {kernel:32} {us:9.1} us  {rate:6.1} GMAC/s", entry.name, entry.count);
        let op = entry.name.split(['_', '3', '5']).next().unwrap_or_default().to_owned();
        *sums.entry(op).or_default() += us * entry.count as f64 / 1e3;
    }
    println!("{} {}: {:.3} ms; {sums:.3?}\n", isa.name(), T::NAME, sums.values().sum::<f64>());
}

/// All layers one after the other, from one buffer into another and back.
fn in_sequence(isa: Isa, repetitions: usize) {
    let mut layers = Vec::new();
    let mut longest = 0;
    for entry in efficientnet_lite0() {
        longest = longest.max(entry.geometry.input_len()).max(entry.geometry.output_len());
        // The residuals are added by the projections.
        if entry.op != Op::Add {
            layers.extend((0..entry.count).map(|_| any_layer(isa, &entry)));
        }
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let (mut from, mut to) = (aligned(&mut a, longest), aligned(&mut b, longest));
    from.fill(0.5);
    to.fill(0.5);
    let mut scratch = Scratch::new();
    let mut times = Vec::new();
    for _ in 0..=repetitions {
        let start = Instant::now();
        for layer in &layers {
            layer(from, to, &mut scratch);
            std::mem::swap(&mut from, &mut to);
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{{\"min\": {:.3}, \"median\": {:.3}}}", times[0], times[times.len() / 2]);
}

type Layer = Box<dyn Fn(&[f32], &mut [f32], &mut Scratch)>;

/// A layer with weights of its own, on the beginnings of two buffers.
fn any_layer(isa: Isa, entry: &Entry) -> Layer {
    let g = entry.geometry;
    let depth = g.kernel_h * g.kernel_w * if entry.op == Op::Depthwise { 1 } else { g.in_c };
    let weights = vec![0.5 / depth as f32; depth * g.out_c];
    let bias = vec![0.1; g.out_c];
    let relu6 = Activation::Clamp { min: 0.0, max: 6.0 };
    let (input, output) = (g.input_len(), g.output_len());
    match entry.op {
        Op::Conv => {
            let activation = if g.out_c > g.in_c { relu6 } else { Activation::None };
            let conv = Conv::<f32>::new(isa, g, &weights, &bias, activation).expect("valid");
            Box::new(move |from, to, scratch| {
                conv.run(&from[..input], None, 0..conv.pixels(), &mut to[..output], scratch);
            })
        }
        Op::Depthwise => {
            let conv = Depthwise::<f32>::new(isa, g, &weights, &bias, relu6).expect("valid");
            Box::new(move |from, to, scratch| {
                conv.run(&from[..input], 0..conv.rows(), &mut to[..output], scratch);
            })
        }
        Op::Linear => {
            let linear =
                Linear::<f32>::new(isa, g.in_c, g.out_c, &weights, &bias, Activation::None)
                    .expect("valid");
            Box::new(move |from, to, _| linear.run(&from[..input], 0..output, &mut to[..output]))
        }
        Op::Pool => {
            let pool = GlobalAveragePool::<f32>::new(isa, g.in_h * g.in_w, g.in_c).expect("valid");
            Box::new(move |from, to, scratch| {
                pool.run(&from[..input], &mut to[..g.in_c], scratch);
            })
        }
        Op::Add => unreachable!("left out"),
    }
}

/// The kernel's name and its best time in microseconds.
fn layer<T: Element>(isa: Isa, entry: &Entry, repetitions: usize) -> (&'static str, f64) {
    let g = entry.geometry;
    let mut seed = 1u32;
    let mut random = || {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let depth = match entry.op {
        Op::Depthwise => g.kernel_h * g.kernel_w,
        _ => g.kernel_h * g.kernel_w * g.in_c,
    };
    let weights: Vec<f32> = match entry.op {
        Op::Add | Op::Pool => Vec::new(),
        _ => (0..g.out_c * depth).map(|_| random() / depth as f32).collect(),
    };
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let input = aligned(&mut input, g.input_len());
    input.fill_with(|| T::from_f32(random()));
    let input = &*input;
    let output = aligned(&mut output, g.output_len());
    let bias = vec![0.1; g.out_c];
    let mut scratch = Scratch::new();
    let relu6 = Activation::Clamp { min: 0.0, max: 6.0 };
    match entry.op {
        Op::Conv => {
            // An expansion and the two outermost convolutions are bounded, a projection is not.
            let bounded = g.out_c > g.in_c;
            let activation = if bounded { relu6 } else { Activation::None };
            let conv = Conv::<T>::new(isa, g, &weights, &bias, activation).expect("valid");
            let us = best(repetitions, &mut || {
                conv.run(input, None, 0..conv.pixels(), output, &mut scratch);
            });
            (conv.kernel(), us)
        }
        Op::Depthwise => {
            let conv = Depthwise::<T>::new(isa, g, &weights, &bias, relu6).expect("valid");
            let us = best(repetitions, &mut || {
                conv.run(input, 0..conv.rows(), output, &mut scratch);
            });
            (conv.kernel(), us)
        }
        Op::Linear => {
            let none = Activation::None;
            let linear =
                Linear::<T>::new(isa, g.in_c, g.out_c, &weights, &bias, none).expect("valid");
            let mut scores = vec![0.0; g.out_c];
            let us = best(repetitions, &mut || linear.run_f32(input, 0..g.out_c, &mut scores));
            (linear.kernel(), us)
        }
        Op::Add => {
            let add = Add::<T>::new(isa, Activation::None).expect("valid");
            let us = best(repetitions, &mut || add.run(input, input, output));
            (add.kernel(), us)
        }
        Op::Pool => {
            let pixels = g.in_h * g.in_w;
            let pool = GlobalAveragePool::<T>::new(isa, pixels, g.in_c).expect("valid");
            let us = best(repetitions, &mut || {
                pool.run(input, &mut output[..g.in_c], &mut scratch);
            });
            (pool.kernel(), us)
        }
    }
}

/// `len` values that begin on a cache line, as an engine's arena has them.
fn aligned<T: Element>(store: &mut Vec<T>, len: usize) -> &mut [T] {
    const LINE: usize = 64;
    store.resize(len + LINE / size_of::<T>(), T::default());
    let start = store.as_ptr().align_offset(LINE);
    &mut store[start..start + len]
}

/// The best time of some runs after a first one, in microseconds.
fn best(repetitions: usize, run: &mut dyn FnMut()) -> f64 {
    run();
    if repetitions == 0 {
        mark(1);
        run();
        mark(2);
        return f64::NAN;
    }
    let timed = (0..repetitions).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e6
    });
    timed.fold(f64::INFINITY, f64::min)
}

/// Tells an emulator's plugin where a layer begins (1) and ends (2).
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
fn mark(what: i32) {
    unsafe extern "C" {
        safe fn sched_get_priority_max(policy: i32) -> i32;
    }
    sched_get_priority_max(0x5150_0000 + what);
}

/// Elsewhere nobody counts.
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
fn mark(_what: i32) {}
