//! Times the blocks of EfficientNet-Lite0 one after the other on one thread, as an engine runs
//! them: layer by layer, and with expansion and depthwise convolution in one; residuals in the
//! projections: `cargo run --release -p kinglet-kernels --example lite0_fused [isa] [repetitions]
//! [bits]`, where `bits` says how wide a range a block's input codes span (8 or 7).
#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use kinglet_kernels::catalogue::{Entry, Layer, Op, SEVEN_BITS, efficientnet_lite0_blocks};
use kinglet_kernels::{InputCodes, Isa};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next();
    let named = |isa: &Isa| name.as_deref().is_none_or(|name| name == isa.name());
    let isa = Isa::available().into_iter().rfind(named).expect("it is available");
    let repetitions = arguments.next().map_or(50, |n| n.parse().expect("repetitions"));
    let codes = match arguments.next().as_deref() {
        Some("7") => SEVEN_BITS,
        _ => InputCodes::any(128),
    };
    let mut sums = [0.0; 2];
    for block in efficientnet_lite0_blocks() {
        let single = |op, geometry| {
            let entry = Entry { name: String::new(), op, geometry, adds: false, count: 1 };
            Layer::new(isa, &entry, codes).expect("it is available")
        };
        let project =
            |blocked| Layer::projection(isa, &block, blocked, codes).expect("it is available");
        let pair = Layer::pair(isa, &block, codes).expect("it is available");
        let expand = single(Op::Conv, block.expand);
        let mut layers = vec![expand, single(Op::Depthwise, block.depthwise), project(false)];
        let apart = best(&mut layers, repetitions);
        let kernel = pair.as_ref().map_or("none", Layer::kernel);
        let fused =
            pair.map_or(f64::INFINITY, |pair| best(&mut [pair, project(true)], repetitions));
        let g = &block.depthwise;
        println!("{:3} -> {:4} {kernel:40} {apart:8.1} {fused:8.1} us", g.in_h, g.in_c);
        sums = [sums[0] + apart, sums[1] + fused.min(apart)];
    }
    println!("{}: {:.3} ms, fused {:.3} ms", isa.name(), sums[0] / 1e3, sums[1] / 1e3);
}

/// The best time of all layers one after the other, in microseconds.
fn best(layers: &mut [Layer], repetitions: usize) -> f64 {
    layers.iter_mut().for_each(Layer::run);
    let timed = (0..repetitions).map(|_| {
        let start = Instant::now();
        layers.iter_mut().for_each(Layer::run);
        start.elapsed().as_secs_f64() * 1e6
    });
    timed.fold(f64::INFINITY, f64::min)
}
