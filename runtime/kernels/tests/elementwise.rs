//! Addition, product, look-up, pooling, and the borders of integer regions: every available
//! instruction set gives the values of the formula.
#![allow(missing_docs)]

mod common;

use common::{Guarded, Random, ZERO_POINTS, assert_same, finish, is_of};
use kinglet_kernels::add::{Add, AddParams};
use kinglet_kernels::lookup::Lookup;
use kinglet_kernels::mul::{Mul, MulParams};
use kinglet_kernels::pool::{GlobalAveragePool, PoolParams};
use kinglet_kernels::quantize::{Dequantize, Quantize};
use kinglet_kernels::{Isa, Scratch};

fn lengths() -> impl Iterator<Item = usize> {
    (0..=70).chain([95, 96, 97, 300])
}

fn difference(x: u8, zero_point: u8) -> i32 {
    i32::from(x) - i32::from(zero_point)
}

#[test]
fn add_at_all_lengths_and_zero_points() {
    for n in lengths() {
        let mut random = Random::new(n as u64);
        for (a_multiplier, b_multiplier) in [(0.7, 1.3), (0.5, 0.5), (0.0, 1.0), (300.0, 0.01)] {
            let (x, y) = (random.next() as u8, random.next() as u8);
            let p = AddParams {
                a_zero_point: random.pick(&ZERO_POINTS),
                b_zero_point: random.pick(&ZERO_POINTS),
                a_multiplier,
                b_multiplier,
                zero_point: random.pick(&ZERO_POINTS),
                min: x.min(y),
                max: x.max(y),
            };
            let (a, b) = (random.bytes(n), random.bytes(n));
            let expected: Vec<u8> = a
                .iter()
                .zip(&b)
                .map(|(&a, &b)| {
                    let a = difference(a, p.a_zero_point) as f32 * p.a_multiplier;
                    let b = difference(b, p.b_zero_point) as f32 * p.b_multiplier;
                    finish(a + b, p.zero_point, p.min, p.max)
                })
                .collect();
            for isa in Isa::available() {
                let add = Add::new(isa, p).unwrap();
                assert!(is_of(add.kernel(), isa));
                let (a, b) = (Guarded::of(&a, 1), Guarded::of(&b, 3));
                let mut out = Guarded::zeros(n, 5);
                add.run(a.get(), b.get(), out.get_mut());
                out.check(add.kernel());
                assert_same(out.get(), &expected, &format!("{} {p:?}", add.kernel()));
            }
        }
    }
}

#[test]
fn add_of_all_pairs_with_ties() {
    let a: Vec<u8> = (0..65536).map(|i| (i / 256) as u8).collect();
    let b: Vec<u8> = (0..65536).map(|i| i as u8).collect();
    let p = AddParams {
        a_zero_point: 128,
        b_zero_point: 100,
        a_multiplier: 0.5,
        b_multiplier: 0.25,
        zero_point: 128,
        min: 0,
        max: 255,
    };
    let mut expected = vec![0; a.len()];
    Add::new(Isa::Scalar, p).unwrap().run(&a, &b, &mut expected);
    // 129: (1 * 0.5 + 0 * 0.25) = 0.5, a tie, to 0; 131: 1.5 to 2.
    assert_eq!((expected[129 * 256 + 100], expected[131 * 256 + 100]), (128, 130));
    for isa in Isa::available() {
        let mut out = vec![0; a.len()];
        Add::new(isa, p).unwrap().run(&a, &b, &mut out);
        assert_same(&out, &expected, isa.name());
    }
}

#[test]
fn huge_multipliers_use_the_scalar_kernel() {
    let p = AddParams {
        a_zero_point: 1,
        b_zero_point: 1,
        a_multiplier: f32::MAX,
        b_multiplier: 1e20,
        zero_point: 7,
        min: 2,
        max: 250,
    };
    for isa in Isa::available() {
        let add = Add::new(isa, p).unwrap();
        assert_eq!(add.kernel(), "add_u8_scalar");
        let mut out = [0; 3];
        add.run(&[255, 0, 1], &[1, 1, 1], &mut out);
        assert_eq!(out, [250, 2, 7]);
    }
}

#[test]
fn mul_at_all_lengths_and_zero_points() {
    for n in lengths() {
        let mut random = Random::new(n as u64 + 1);
        for multiplier in [0.01, 0.5, 0.003, 0.0, 900.0] {
            let (x, y) = (random.next() as u8, random.next() as u8);
            let p = MulParams {
                a_zero_point: random.pick(&ZERO_POINTS),
                b_zero_point: random.pick(&ZERO_POINTS),
                multiplier,
                zero_point: random.pick(&ZERO_POINTS),
                min: x.min(y),
                max: x.max(y),
            };
            let (a, b) = (random.bytes(n), random.bytes(n));
            let one = |a: u8, b: u8| {
                let product = difference(a, p.a_zero_point) * difference(b, p.b_zero_point);
                finish(product as f32 * p.multiplier, p.zero_point, p.min, p.max)
            };
            let expected: Vec<u8> = a.iter().zip(&b).map(|(&a, &b)| one(a, b)).collect();
            for isa in Isa::available() {
                let mul = Mul::new(isa, p).unwrap();
                assert!(is_of(mul.kernel(), isa));
                let (a, b) = (Guarded::of(&a, 1), Guarded::of(&b, 3));
                let mut out = Guarded::zeros(n, 5);
                mul.run(a.get(), b.get(), out.get_mut());
                out.check(mul.kernel());
                assert_same(out.get(), &expected, &format!("{} {p:?}", mul.kernel()));
                if n == 0 {
                    continue;
                }
                let pixels = [a.get(), b.get(), a.get()].concat();
                let mut out = Guarded::zeros(3 * n, 1);
                mul.run_channels(&pixels, b.get(), out.get_mut());
                out.check(mul.kernel());
                let each = pixels.iter().zip(b.get().iter().cycle());
                let expected: Vec<u8> = each.map(|(&a, &b)| one(a, b)).collect();
                assert_same(out.get(), &expected, &format!("{} by channel", mul.kernel()));
            }
        }
    }
}

#[test]
fn lookup_at_all_lengths() {
    let mut random = Random::new(5);
    let table: [u8; 256] = std::array::from_fn(|_| random.next() as u8);
    let every: Vec<u8> = (0..=255).collect();
    let inputs = lengths().map(|n| random.bytes(n)).chain([every]);
    for input in inputs.collect::<Vec<_>>() {
        let expected: Vec<u8> = input.iter().map(|&x| table[usize::from(x)]).collect();
        for isa in Isa::available() {
            let lookup = Lookup::new(isa, table).unwrap();
            assert!(is_of(lookup.kernel(), isa));
            let mut out = Guarded::zeros(input.len(), 3);
            lookup.run(Guarded::of(&input, 1).get(), out.get_mut());
            out.check(lookup.kernel());
            assert_same(out.get(), &expected, lookup.kernel());
            let mut codes = Guarded::of(&input, 3);
            lookup.run_in_place(codes.get_mut());
            codes.check(lookup.kernel());
            assert_same(codes.get(), &expected, lookup.kernel());
        }
    }
}

#[test]
fn pool_at_all_widths_and_zero_points() {
    // One for all: each run finds what the one before left.
    let mut scratch = Scratch::new();
    for channels in (1..=70).chain([96, 320]) {
        for pixels in [1, 2, 3, 15, 49, 257, 600] {
            let mut random = Random::new((channels * 512 + pixels) as u64);
            for extreme in [None, Some(0u8), Some(255)] {
                let input = match extreme {
                    None => random.bytes(pixels * channels),
                    Some(x) => vec![x; pixels * channels],
                };
                let (zero_in, zero_out) = (random.pick(&ZERO_POINTS), random.pick(&ZERO_POINTS));
                // Half of the true mean: ties occur.
                let multiplier = 0.5 / pixels as f32;
                let expected: Vec<u8> = (0..channels)
                    .map(|c| {
                        let values = input[c..].iter().step_by(channels);
                        let sum: i32 = values.map(|&x| difference(x, zero_in)).sum();
                        finish(sum as f32 * multiplier, zero_out, 2, 253)
                    })
                    .collect();
                for isa in Isa::available() {
                    let params = PoolParams {
                        input_zero_point: zero_in,
                        multiplier,
                        zero_point: zero_out,
                        min: 2,
                        max: 253,
                    };
                    let pool = GlobalAveragePool::new(isa, pixels, channels, params).unwrap();
                    assert!(is_of(pool.kernel(), isa));
                    let mut out = Guarded::zeros(channels, 1);
                    let input = Guarded::of(&input, 3);
                    pool.run(input.get(), out.get_mut(), &mut scratch);
                    out.check(pool.kernel());
                    assert_same(out.get(), &expected, pool.kernel());
                }
            }
        }
    }
}

/// Values around every rounding boundary, and the ones that are not numbers.
fn floats(n: usize, scale: f32, random: &mut Random) -> Vec<f32> {
    let special = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, 3e38, -3e38];
    (0..n)
        .map(|_| match random.below(8) {
            0 => random.pick(&special),
            1..=3 => (random.below(600) as f32 - 300.0) * 0.5 * scale,
            _ => (random.below(1 << 20) as f32 / 1024.0 - 512.0) * scale,
        })
        .collect()
}

#[test]
fn quantize_and_dequantize_in_all_layouts() {
    for channels in [1, 2, 3, 4, 5, 17, 40] {
        for pixels in [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 50] {
            let mut random = Random::new((channels * 64 + pixels) as u64);
            for scale in [1.0, 0.0125, 3.7, 1e-38] {
                let zero_point = random.pick(&ZERO_POINTS);
                let n = channels * pixels;
                let nchw = floats(n, scale, &mut random);
                let mut expected = vec![0; n];
                for (i, &x) in nchw.iter().enumerate() {
                    let x = if x.is_nan() { 0.0 } else { x / scale };
                    let x = if x.is_finite() { x } else { 1e9 * x.signum() };
                    expected[i % pixels * channels + i / pixels] = finish(x, zero_point, 0, 255);
                }
                for isa in Isa::available() {
                    let quantize = Quantize::new(isa, channels, pixels, scale, zero_point).unwrap();
                    assert!(is_of(quantize.kernel(), isa));
                    let mut out = Guarded::zeros(n, 1);
                    quantize.run(&nchw, out.get_mut());
                    out.check(quantize.kernel());
                    let what = format!("{} {channels}x{pixels} / {scale}", quantize.kernel());
                    assert_same(out.get(), &expected, &what);

                    let back = Dequantize::new(isa, channels, pixels, scale, zero_point).unwrap();
                    assert!(is_of(back.kernel(), isa));
                    let input = Guarded::of(&expected, 1);
                    let mut out = vec![f32::NAN; n + 1];
                    back.run(input.get(), &mut out[1..]);
                    assert!(out[0].is_nan());
                    for (i, &x) in out[1..].iter().enumerate() {
                        let q = expected[i % pixels * channels + i / pixels];
                        let exact = difference(q, zero_point) as f32 * scale;
                        assert_eq!(x.to_bits(), exact.to_bits(), "{} value {i}", back.kernel());
                    }
                }
            }
        }
    }
}

#[test]
fn scales_must_be_positive_numbers() {
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(Quantize::new(Isa::Scalar, 3, 4, scale, 0).is_err());
        assert!(Dequantize::new(Isa::Scalar, 3, 4, scale, 0).is_err());
    }
    assert!(Quantize::new(Isa::Scalar, 0, 4, 1.0, 0).is_err());
    let params =
        PoolParams { input_zero_point: 0, multiplier: 1.0, zero_point: 0, min: 0, max: 255 };
    assert!(GlobalAveragePool::new(Isa::Scalar, 1 << 24, 1, params).is_err());
    assert!(GlobalAveragePool::new(Isa::Scalar, 4, 0, params).is_err());
}
