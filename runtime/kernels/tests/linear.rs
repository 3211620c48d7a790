//! Fully connected layer: every available instruction set gives the values of the reference.
#![allow(missing_docs)]

mod common;

use common::{Guarded, Random, WEIGHT_RANGES, ZERO_POINTS, assert_same, is_of};
use kinglet_kernels::linear::{GROUP, Linear, LinearOutput};
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, Requantize, Scratch};

fn check(k: usize, n: usize, input: &[u8], weights: &[i16], zero_point: u8, q: &Requantize) {
    let g = ConvGeometry::pointwise(1, 1, k, n);
    let expected = common::conv(&g, input, weights, zero_point, q, 0..1);
    for isa in Isa::available() {
        let output = LinearOutput::Quantized(q.clone());
        let linear = Linear::new(isa, k, n, weights, InputCodes::any(zero_point), output).unwrap();
        assert!(is_of(linear.kernel(), isa), "{} on {}", linear.kernel(), isa.name());
        let mut scratch = Scratch::new();
        for offset in [0, 1] {
            let what = format!("{} {k} to {n}, zp {zero_point}", linear.kernel());
            let input = Guarded::of(input, offset);
            let mut out = Guarded::zeros(n, offset);
            linear.run_u8(input.get(), 0..n, out.get_mut(), &mut scratch);
            out.check(&what);
            assert_same(out.get(), &expected, &what);
            let middle = n / 2 / GROUP * GROUP..n - n / 3;
            let mut part = Guarded::zeros(middle.len(), offset);
            linear.run_u8(input.get(), middle.clone(), part.get_mut(), &mut scratch);
            part.check(&what);
            assert_same(part.get(), &expected[middle], &what);
        }

        let float = LinearOutput::Float { multiplier: q.multiplier.clone(), bias: q.bias.clone() };
        let linear = Linear::new(isa, k, n, weights, InputCodes::any(zero_point), float).unwrap();
        let mut out = vec![0.0; n];
        linear.run_f32(input, 0..n, &mut out, &mut scratch);
        for (i, &out) in out.iter().enumerate() {
            let products = input.iter().zip(&weights[i * k..]).take(k);
            let acc: i32 = products
                .map(|(&x, &w)| (i32::from(x) - i32::from(zero_point)) * i32::from(w))
                .sum();
            let exact = (acc + q.bias[i]) as f32 * q.multiplier[i];
            assert_eq!(out.to_bits(), exact.to_bits(), "{} output {i}", linear.kernel());
        }
    }
}

#[test]
fn sizes_around_the_tiles() {
    for k in (1..=50).chain([63, 64, 65, 127, 320]) {
        for n in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33] {
            let mut random = Random::new((k * 64 + n) as u64);
            for range in WEIGHT_RANGES {
                let weights = random.weights(k * n, range);
                let (input, q) = (random.bytes(k), random.requantize(n, k));
                check(k, n, &input, &weights, random.pick(&ZERO_POINTS), &q);
            }
        }
    }
}

#[test]
fn extreme_values_at_all_zero_points() {
    for zero_point in ZERO_POINTS {
        for x in [0, 255] {
            for w in [-255, -128, -127, 127, 255] {
                let q = Requantize {
                    multiplier: vec![1.0 / 100_000.0; 9],
                    bias: vec![77; 9],
                    zero_point: 128,
                    min: 0,
                    max: 255,
                };
                check(130, 9, &[x; 130], &[w; 130 * 9], zero_point, &q);
            }
        }
    }
}

#[test]
#[should_panic(expected = "float output")]
fn the_output_type_is_that_of_the_constructor() {
    let float = LinearOutput::Float { multiplier: vec![1.0], bias: vec![0] };
    let linear = Linear::new(Isa::Scalar, 1, 1, &[1], InputCodes::any(0), float).unwrap();
    linear.run_u8(&[1], 0..1, &mut [0], &mut Scratch::new());
}
