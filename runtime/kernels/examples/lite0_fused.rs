//! Times the blocks of EfficientNet-Lite0 one after the other on one thread, as an engine runs
//! them: layer by layer, and with expansion and depthwise convolution in one and the residual in
//! the projection: `cargo run --release -p kinglet-kernels --example lite0_fused [isa]
//! [repetitions] [bits]`, where `bits` says how wide a range all codes span (8 or 7).
#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use kinglet_kernels::catalogue::{Block, SEVEN_BITS, efficientnet_lite0_blocks};
use kinglet_kernels::conv::{BLOCK_CHANNELS, Conv, ConvOptions};
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::expand_depthwise::{ExpandDepthwise, Part};
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, Requantize, Residual, Scratch};

/// One block both ways.
struct Both {
    expand: Conv,
    depthwise: Depthwise,
    fused: Option<ExpandDepthwise>,
    /// The projection of NHWC and of blocks.
    project: [Conv; 2],
}

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
        let both = Both::new(isa, &block, codes);
        let input = vec![codes.zero_point; block.expand.input_len()];
        let time = |fused| time(&both, &block, &input, fused, repetitions);
        let us = [time(false), time(true)];
        let name = both.fused.as_ref().map_or("none", ExpandDepthwise::kernel);
        let g = &block.depthwise;
        println!(
            "{:3} -> {:4} {name:40} {:8.1} {:8.1} us  {}",
            g.in_h,
            g.in_c,
            us[0],
            us[1],
            both.project[1].kernel()
        );
        sums = [sums[0] + us[0], sums[1] + us[1].min(us[0])];
    }
    println!("{}: {:.3} ms, fused {:.3} ms", isa.name(), sums[0] / 1e3, sums[1] / 1e3);
}

impl Both {
    fn new(isa: Isa, block: &Block, codes: InputCodes) -> Both {
        let (expand, depthwise) = (weights(&block.expand, 0), weights(&block.depthwise, 1));
        let part = |geometry: ConvGeometry, weights| Part {
            geometry,
            weights,
            input: codes,
            output: requantize(geometry.out_c, codes),
        };
        let first = || part(block.expand, &expand);
        let second = || part(block.depthwise, &depthwise);
        let residual = Residual { zero_point: codes.zero_point, multiplier: 0.9 };
        let project = |blocked_input| {
            let g = block.project;
            let options = ConvOptions { residual: block.adds.then_some(residual), blocked_input };
            let output = requantize(g.out_c, codes);
            Conv::with_options(isa, g, &weights(&g, 2), codes, output, options).expect("it fits")
        };
        let (a, b) = (first(), second());
        Both {
            expand: Conv::new(isa, a.geometry, a.weights, a.input, a.output).expect("it fits"),
            depthwise: Depthwise::new(isa, b.geometry, b.weights, b.input, b.output)
                .expect("it fits"),
            fused: ExpandDepthwise::new(isa, 1, first(), second()).expect("it fits"),
            project: [project(false), project(true)],
        }
    }
}

/// The best time in microseconds.
fn time(both: &Both, block: &Block, input: &[u8], fused: bool, repetitions: usize) -> f64 {
    let mut scratch = Scratch::new();
    let mut wide = vec![0; block.expand.output_len()];
    let d = &block.depthwise;
    let mut between = vec![0; d.out_h * d.out_w * d.out_c.next_multiple_of(BLOCK_CHANNELS)];
    let mut output = vec![0; block.project.output_len()];
    let residual = block.adds.then_some(input);
    let mut run = || {
        let project = match &both.fused {
            Some(pair) if fused => {
                let mut rest = &mut between[..];
                let mut start = 0;
                for (unit, &end) in pair.unit_ends().iter().enumerate() {
                    let (part, next) = rest.split_at_mut(end - start);
                    pair.run(input, unit, part, &mut scratch);
                    (rest, start) = (next, end);
                }
                &both.project[1]
            }
            _ => {
                both.expand.run(input, 0..both.expand.pixels(), &mut wide, &mut scratch);
                let between = &mut between[..d.output_len()];
                both.depthwise.run(&wide, 0..both.depthwise.rows(), between, &mut scratch);
                &both.project[0]
            }
        };
        let between = &between[..project.input_len()];
        project.run_adding(between, residual, 0..project.pixels(), &mut output, &mut scratch);
    };
    run();
    let timed = (0..repetitions).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e6
    });
    timed.fold(f64::INFINITY, f64::min)
}

/// Weights of -127 to 127, most of them small.
fn weights(g: &ConvGeometry, seed: u64) -> Vec<i16> {
    let depthwise = g.in_c == g.out_c && g.kernel_h > 1;
    let depth = g.kernel_h * g.kernel_w * if depthwise { 1 } else { g.in_c };
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut weight = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[..4].iter().map(|&b| i16::from(b.max(1)) - 128).sum::<i16>() / 4
    };
    (0..depth * g.out_c).map(|_| weight()).collect()
}

fn requantize(channels: usize, codes: InputCodes) -> Requantize {
    Requantize {
        multiplier: vec![0.001; channels],
        bias: vec![100; channels],
        zero_point: codes.zero_point,
        min: codes.min,
        max: codes.max,
    }
}
