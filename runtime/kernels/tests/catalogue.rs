//! Every layer shape of EfficientNet-Lite0: every available instruction set gives the bytes of
//! the scalar kernel, on a few ranges of each image.
#![allow(missing_docs)]

mod common;

use common::{Random, SYMMETRIC, assert_same, is_of};
use kinglet_kernels::catalogue::{Op, efficientnet_lite0};
use kinglet_kernels::conv::Conv;
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::linear::{Linear, LinearOutput};
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, Scratch};

fn shapes(op: Op) -> Vec<ConvGeometry> {
    efficientnet_lite0().iter().filter(|e| e.op == op).map(|e| e.geometry).collect()
}

#[test]
fn convolutions() {
    let mut scratch = Scratch::new();
    for g in shapes(Op::Conv) {
        let mut random = Random::new(g.output_len() as u64);
        let depth = g.kernel_h * g.kernel_w * g.in_c;
        let weights = random.weights(depth * g.out_c, SYMMETRIC);
        let (input, q) = (random.bytes(g.input_len()), random.requantize(g.out_c, depth));
        let zero_point = random.next() as u8;
        let new =
            |isa| Conv::new(isa, g, &weights, InputCodes::any(zero_point), q.clone()).unwrap();
        let scalar = new(Isa::Scalar);
        let pixels = scalar.pixels();
        let ranges = [0..2, pixels / 3..pixels / 3 + 15, pixels - 3..pixels];
        let expected = ranges.clone().map(|range| {
            let mut out = vec![0; range.len() * g.out_c];
            scalar.run(&input, range, &mut out, &mut scratch);
            out
        });
        for isa in Isa::available() {
            let conv = new(isa);
            assert!(is_of(conv.kernel(), isa));
            let mut whole = vec![0; g.output_len()];
            conv.run(&input, 0..pixels, &mut whole, &mut scratch);
            for (range, expected) in ranges.iter().zip(&expected) {
                let what = format!("{} {g:?} {range:?}", conv.kernel());
                let mut out = vec![0; expected.len()];
                conv.run(&input, range.clone(), &mut out, &mut scratch);
                assert_same(&out, expected, &what);
                let part = &whole[range.start * g.out_c..range.end * g.out_c];
                assert_same(part, expected, &format!("{what} of the whole"));
            }
        }
    }
}

#[test]
fn depthwise_convolutions() {
    let mut scratch = Scratch::new();
    for g in shapes(Op::Depthwise) {
        let mut random = Random::new(g.output_len() as u64);
        let taps = g.kernel_h * g.kernel_w;
        let weights = random.weights(taps * g.in_c, SYMMETRIC);
        let (input, q) = (random.bytes(g.input_len()), random.requantize(g.out_c, taps));
        let zero_point = random.next() as u8;
        let new =
            |isa| Depthwise::new(isa, g, &weights, InputCodes::any(zero_point), q.clone()).unwrap();
        let scalar = new(Isa::Scalar);
        let row = g.out_w * g.out_c;
        let ranges = [0..1, g.out_h / 2..g.out_h / 2 + 2, g.out_h - 1..g.out_h];
        let expected = ranges.clone().map(|range| {
            let mut out = vec![0; range.len() * row];
            scalar.run(&input, range, &mut out, &mut scratch);
            out
        });
        for isa in Isa::available() {
            let conv = new(isa);
            assert!(is_of(conv.kernel(), isa));
            let mut whole = vec![0; g.output_len()];
            conv.run(&input, 0..g.out_h, &mut whole, &mut scratch);
            for (range, expected) in ranges.iter().zip(&expected) {
                let what = format!("{} {g:?} {range:?}", conv.kernel());
                let mut out = vec![0; expected.len()];
                conv.run(&input, range.clone(), &mut out, &mut scratch);
                assert_same(&out, expected, &what);
                let part = &whole[range.start * row..range.end * row];
                assert_same(part, expected, &format!("{what} of the whole"));
            }
        }
    }
}

#[test]
fn classifier() {
    let mut scratch = Scratch::new();
    for g in shapes(Op::Linear) {
        let mut random = Random::new(7);
        let weights = random.weights(g.in_c * g.out_c, SYMMETRIC);
        let (input, q) = (random.bytes(g.in_c), random.requantize(g.out_c, g.in_c));
        let mut run = |isa| {
            let output = LinearOutput::Quantized(q.clone());
            let linear =
                Linear::new(isa, g.in_c, g.out_c, &weights, InputCodes::any(3), output).unwrap();
            let mut out = vec![0; g.out_c];
            linear.run_u8(&input, 0..g.out_c, &mut out, &mut scratch);
            out
        };
        let expected = run(Isa::Scalar);
        for isa in Isa::available() {
            assert_same(&run(isa), &expected, isa.name());
        }
    }
}
