//! Times every layer shape of EfficientNet-Lite0 on each available instruction set:
//! `cargo run --release -p kinglet-kernels --example lite0 [isa] [repetitions] [bits]`, where
//! `bits` says how wide a range the input's codes are promised to span (8 or 7). The same against
//! the CPU's peak is `kinglet-benches roofline`, instructions are counted by `benches/counts/count.sh`.
#![allow(clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::time::Instant;

use kinglet_kernels::catalogue::{Layer, SEVEN_BITS, efficientnet_lite0};
use kinglet_kernels::{InputCodes, Isa};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next().filter(|name| name != "all");
    let repetitions = arguments.next().map_or(30, |n| n.parse().expect("repetitions"));
    let codes = match arguments.next().as_deref() {
        Some("7") => SEVEN_BITS,
        _ => InputCodes::any(128),
    };
    for isa in Isa::available() {
        if only.as_deref().is_some_and(|name| name != isa.name()) {
            continue;
        }
        let mut sums = BTreeMap::<String, f64>::new();
        for entry in efficientnet_lite0() {
            let mut layer = Layer::new(isa, &entry, codes).expect("it is available");
            let us = time(&mut layer, repetitions);
            let rate = entry.macs() as f64 / us / 1e3;
            let total = us * entry.count as f64;
            println!(
                "{:32} x{} {:28} {us:9.1} us  {rate:6.1} GMAC/s",
                entry.name,
                entry.count,
                layer.kernel()
            );
            let op = entry.name.split(['_', '3', '5']).next().unwrap_or_default().to_owned();
            *sums.entry(op).or_default() += total / 1e3;
        }
        println!("{}: {:.3} ms; {sums:.3?}\n", isa.name(), sums.values().sum::<f64>());
    }
}

/// The best time in microseconds.
fn time(layer: &mut Layer, repetitions: usize) -> f64 {
    layer.run();
    let timed = (0..repetitions).map(|_| {
        let start = Instant::now();
        layer.run();
        start.elapsed().as_secs_f64() * 1e6
    });
    timed.fold(f64::INFINITY, f64::min)
}
