//! Times every layer shape of EfficientNet-Lite0 in `f32` and `f16` on each available instruction
//! set: `cargo run --release -p kinglet-kernels --example lite0_float [isa|all] [f32|f16|all]
//! [repetitions]`. Projections add their residuals, as in an engine; instructions are counted by
//! `benches/counts/count.sh`.
#![allow(clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::time::Instant;

use half::f16;
use kinglet_kernels::Isa;
use kinglet_kernels::catalogue::{Layer, efficientnet_lite0_adding};
use kinglet_kernels::float::Element;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut only = || arguments.next().filter(|name| name != "all");
    let (isa, element, repetitions) = (only(), only(), only());
    let repetitions = repetitions.map_or(30, |n| n.parse().expect("repetitions"));
    for available in Isa::available() {
        if isa.as_deref().is_none_or(|name| name == available.name()) {
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
    for entry in efficientnet_lite0_adding() {
        let mut layer = Layer::<T>::float(isa, &entry).expect("it is available");
        let us = best(&mut layer, repetitions);
        let (rate, kernel) = (entry.macs() as f64 / us / 1e3, layer.kernel());
        println!("{:32} x{} {kernel:32} {us:9.1} us  {rate:6.1} GMAC/s", entry.name, entry.count);
        let op = entry.name.split(['_', '3', '5']).next().unwrap_or_default().to_owned();
        *sums.entry(op).or_default() += us * entry.count as f64 / 1e3;
    }
    println!("{} {}: {:.3} ms; {sums:.3?}\n", isa.name(), T::NAME, sums.values().sum::<f64>());
}

/// The best time of some runs after a first one, in microseconds.
fn best<T>(layer: &mut Layer<T>, repetitions: usize) -> f64 {
    layer.run();
    let timed = (0..repetitions).map(|_| {
        let start = Instant::now();
        layer.run();
        start.elapsed().as_secs_f64() * 1e6
    });
    timed.fold(f64::INFINITY, f64::min)
}
