//! Dense convolution: every available instruction set gives the bytes of the reference, at sizes
//! around the tiles, for all zero points, extreme values, strides, dilations and paddings, and
//! however an image is split.
#![allow(missing_docs)]

mod common;

use common::{
    BYTES, Guarded, Random, SYMMETRIC, WEIGHT_RANGES, WIDE, WeightRange, ZERO_POINTS, assert_same,
    is_of,
};
use kinglet_kernels::conv::{Conv, ConvOptions, Form};
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, KernelError, Requantize, Scratch};
use proptest::prelude::*;

struct Case {
    g: ConvGeometry,
    input: Vec<u8>,
    weights: Vec<i16>,
    codes: InputCodes,
    q: Requantize,
}

/// Ranges of at most seven bits, here and there.
const NARROW: [(u8, u8); 5] = [(0, 127), (128, 255), (64, 191), (0, 90), (250, 255)];

impl Case {
    fn random(g: ConvGeometry, range: WeightRange, seed: u64) -> Case {
        let mut random = Random::new(seed);
        let depth = g.kernel_h * g.kernel_w * g.in_c;
        Case {
            g,
            input: random.bytes(g.input_len()),
            weights: random.weights(depth * g.out_c, range),
            codes: InputCodes::any(random.pick(&ZERO_POINTS)),
            q: random.requantize(g.out_c, depth),
        }
    }

    /// The same with codes of a narrow range.
    fn narrow(g: ConvGeometry, range: WeightRange, seed: u64) -> Case {
        let mut case = Case::random(g, range, seed);
        let (min, max) = NARROW[seed as usize % NARROW.len()];
        for code in &mut case.input {
            *code = min + *code % (max - min).saturating_add(1);
        }
        let zero_point = case.codes.zero_point.clamp(min, max);
        case.codes = InputCodes { zero_point, min, max };
        case
    }

    /// All instruction sets in all forms, whole and in parts, misaligned.
    fn check(&self) {
        let pixels = self.g.out_h * self.g.out_w;
        let expected = common::conv(
            &self.g,
            &self.input,
            &self.weights,
            self.codes.zero_point,
            &self.q,
            0..pixels,
        );
        let sets = Isa::available().into_iter();
        for (isa, &form) in sets.flat_map(|isa| Form::of(isa).iter().map(move |form| (isa, form))) {
            let options = ConvOptions { form, ..ConvOptions::default() };
            let (g, q) = (self.g, self.q.clone());
            let conv = Conv::with_options(isa, g, &self.weights, self.codes, q, options).unwrap();
            assert!(is_of(conv.kernel(), isa), "{} on {}", conv.kernel(), isa.name());
            let mut scratch = Scratch::new();
            let split = pixels / 3;
            for (offset, ranges) in [
                (0, [0..pixels, pixels..pixels]),
                (1, [0..split, split..pixels]),
                (3, [0..0, 0..pixels]),
            ] {
                let input = Guarded::of(&self.input, offset);
                for range in ranges {
                    let what = format!(
                        "{} {:?} {range:?} zp {}",
                        conv.kernel(),
                        self.g,
                        self.codes.zero_point
                    );
                    let mut out = Guarded::zeros(range.len() * self.g.out_c, offset);
                    conv.run(input.get(), range.clone(), out.get_mut(), &mut scratch);
                    out.check(&what);
                    let part = range.start * self.g.out_c..range.end * self.g.out_c;
                    assert_same(out.get(), &expected[part], &what);
                }
            }
        }
    }
}

#[test]
fn pointwise_around_every_tile_edge() {
    let depths = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 50, 64, 65];
    let mut seed = 0;
    for n in 1..=50 {
        for m in [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17, 25] {
            let k = depths[seed as usize % depths.len()];
            seed += 1;
            let range = WEIGHT_RANGES[seed as usize % 3];
            let g = ConvGeometry::pointwise(1, m, k, n);
            Case::random(g, range, seed).check();
            Case::narrow(g, range, seed).check();
        }
    }
}

#[test]
fn pointwise_with_many_blocks_and_deep_sums() {
    for (m, k, n) in [(600, 16, 24), (70, 1152, 17), (49, 320, 72), (401, 31, 40), (30, 2049, 9)] {
        for range in WEIGHT_RANGES {
            let g = ConvGeometry::pointwise(m, 1, k, n);
            Case::random(g, range, (m + k) as u64).check();
            Case::narrow(g, range, (m + k) as u64).check();
        }
    }
}

#[test]
fn the_kernel_depends_on_the_weights() {
    let g = ConvGeometry::pointwise(3, 3, 32, 32);
    for isa in Isa::available() {
        let name = |range| {
            let case = Case::random(g, range, 1);
            Conv::new(isa, g, &case.weights, InputCodes::any(0), case.q.clone()).unwrap().kernel()
        };
        let expected = match isa {
            Isa::Scalar => ["pointwise_u8s8_scalar"; 3],
            Isa::Avx2 => ["pointwise_u8s16_avx2_6x16"; 3],
            Isa::Avx512Vnni => [
                "pointwise_u8s8_vnni_12x32",
                "pointwise_u8s8_vnni_12x32",
                "pointwise_u8s16_avx2_6x16",
            ],
            Isa::Neon32 => ["pointwise_u8s16_neon32_4x8"; 3],
            Isa::Neon => {
                ["pointwise_u8s8_neon_4x16", "pointwise_u8s16_neon_4x8", "pointwise_u8s16_neon_4x8"]
            }
            _ => [
                "pointwise_u8s8_neondot_6x16",
                "pointwise_u8s8_neondot_6x16",
                "pointwise_u8s16_neon_4x8",
            ],
        };
        assert_eq!(WEIGHT_RANGES.map(name), expected);
    }
}

#[test]
fn extreme_values_at_all_zero_points() {
    for zero_point in ZERO_POINTS {
        for x in [0u8, 255] {
            for w in [-255i16, -128, -127, 0, 127, 255] {
                let g = ConvGeometry::pointwise(1, 9, 258, 25);
                let q = Requantize {
                    multiplier: vec![255.0 / (255.0 * 255.0 * 258.0); 25],
                    bias: vec![-17; 25],
                    zero_point: 128,
                    min: 0,
                    max: 255,
                };
                let input = vec![x; g.input_len()];
                let weights = vec![w; 258 * 25];
                Case { g, input, weights, codes: InputCodes::any(zero_point), q }.check();
            }
        }
    }
}

/// Ranges of codes that span 8, 7 and fewer bits, at the ends and in the middle.
const RANGES: [(u8, u8); 8] =
    [(0, 255), (0, 254), (1, 255), (0, 127), (128, 255), (64, 191), (3, 40), (77, 77)];

#[test]
fn sums_in_16_bits_reach_their_bounds() {
    // Four products of 64 with codes 128 below the middle are the first that do not fit 16 bits,
    // or four of 128 with codes 64 below; the values around them, with all signs alike or such
    // that every product is positive.
    let g = ConvGeometry::pointwise(1, 5, 83, 25);
    for (min, max) in RANGES {
        for zero_point in [min, max, 0, 128, 255] {
            for w in [63i16, 64, 65, 126, 127, 128] {
                for alike in [true, false] {
                    let sign = |k: usize| if alike || k.is_multiple_of(3) { -1 } else { 1 };
                    let weight = |i: usize| (w * sign(i % 83)).min(127);
                    let q = Requantize {
                        multiplier: vec![1.0 / 12_000.0; 25],
                        bias: vec![1; 25],
                        zero_point: 128,
                        min: 0,
                        max: 255,
                    };
                    // Pixels of one code, and pixels whose codes go with or against the signs.
                    let code = |p: usize, k: usize| match p {
                        0 => min,
                        1 => max,
                        2 => {
                            if sign(k) < 0 {
                                min
                            } else {
                                max
                            }
                        }
                        3 => {
                            if sign(k) < 0 {
                                max
                            } else {
                                min
                            }
                        }
                        _ => {
                            if k.is_multiple_of(2) {
                                min
                            } else {
                                max
                            }
                        }
                    };
                    let input = (0..5 * 83).map(|i| code(i / 83, i % 83)).collect();
                    let weights = (0..25 * 83).map(weight).collect();
                    let codes = InputCodes { zero_point, min, max };
                    Case { g, input, weights, codes, q }.check();
                }
            }
        }
    }
}

#[test]
fn narrow_ranges_of_codes() {
    let mut seed = 500;
    for (min, max) in RANGES {
        for (m, k, n) in [(9, 16, 16), (13, 24, 40), (7, 50, 17), (6, 3, 9)] {
            for range in WEIGHT_RANGES {
                seed += 1;
                let mut case = Case::random(ConvGeometry::pointwise(1, m, k, n), range, seed);
                let width = u16::from(max - min) + 1;
                for x in &mut case.input {
                    *x = min + (u16::from(*x) % width) as u8;
                }
                (case.codes.min, case.codes.max) = (min, max);
                case.check();
            }
        }
    }
}

#[test]
fn extreme_values_of_narrow_ranges_at_all_zero_points() {
    let g = ConvGeometry::pointwise(1, 9, 260, 25);
    for (min, max) in NARROW {
        for zero_point in [min, max, min.midpoint(max)] {
            for x in [[min, min], [max, max], [min, max]] {
                for w in [[-128i16, -128], [-127, -127], [127, 127], [-128, 127], [64, 65]] {
                    let q = Requantize {
                        multiplier: vec![255.0 / (128.0 * 128.0 * 260.0); 25],
                        bias: vec![-17; 25],
                        zero_point: 128,
                        min: 0,
                        max: 255,
                    };
                    let input = x.into_iter().cycle().take(g.input_len()).collect();
                    let weights = w.into_iter().cycle().take(260 * 25).collect();
                    let codes = InputCodes { zero_point, min, max };
                    Case { g, input, weights, codes, q }.check();
                }
            }
        }
    }
}

/// Where products are added in 16 bits, the sums that just fit and those that just do not.
#[test]
fn sums_of_products_around_the_ends_of_16_bits() {
    for (codes, four) in [
        (InputCodes { zero_point: 0, min: 0, max: 127 }, 258),
        (InputCodes { zero_point: 128, min: 128, max: 255 }, 258),
        (InputCodes { zero_point: 0, min: 0, max: 126 }, 260),
        (InputCodes::any(0), 128),
    ] {
        for sum in four - 2..=four + 2 {
            for sign in [1, -1] {
                for spread in [4, 3, 2] {
                    // The values that meet in one lane: 0, 1, 4, 5 of each eight.
                    let mut weights = vec![0i16; 16 * 17];
                    for (n, row) in weights.chunks_exact_mut(16).enumerate() {
                        // The other lane's and some channels' sums are small.
                        row.fill(if n % 2 == 0 { 1 } else { -1 });
                        let lane = [0, 1, 4, 5].map(|at| at + n % 3 * 2);
                        if n % 5 == 3 {
                            for (i, at) in lane.into_iter().take(spread).enumerate() {
                                let i = i as i16;
                                row[at] = sign * ((sum + i) / spread as i16).min(127);
                            }
                        }
                    }
                    for x in [codes.max, codes.min] {
                        let g = ConvGeometry::pointwise(1, 5, 16, 17);
                        let q = Requantize {
                            multiplier: vec![100.0 / 33_000.0; 17],
                            bias: vec![0; 17],
                            zero_point: 128,
                            min: 0,
                            max: 255,
                        };
                        let input = vec![x; g.input_len()];
                        Case { g, input, weights: weights.clone(), codes, q }.check();
                    }
                }
            }
        }
    }
}

#[test]
fn avx2_multiplies_bytes_where_range_and_weights_allow_it() {
    let g = ConvGeometry::pointwise(3, 3, 32, 32);
    let name = |codes, range| {
        let case = Case::random(g, range, 1);
        Conv::new(Isa::Avx2, g, &case.weights, codes, case.q).map(|conv| conv.kernel())
    };
    if !Isa::available().contains(&Isa::Avx2) {
        return;
    }
    let seven = |zero_point, min, max| InputCodes { zero_point, min, max };
    let (wide, u8s8, u7s8) =
        ("pointwise_u8s16_avx2_6x16", "pointwise_u8s8_avx2_4x16", "pointwise_u7s8_avx2_4x16");
    for (codes, range, expected) in [
        (InputCodes::any(3), BYTES, wide),
        (InputCodes::any(3), (-60, 60), u8s8),
        (seven(3, 0, 127), BYTES, u7s8),
        (seven(3, 0, 128), BYTES, u8s8),
        (seven(200, 128, 255), BYTES, u7s8),
        // The zero point is part of the range.
        (seven(127, 128, 255), BYTES, wide),
        (seven(3, 0, 127), WIDE, wide),
    ] {
        assert_eq!(name(codes, range), Ok(expected), "{codes:?} {range:?}");
    }
}

#[test]
fn ties_round_to_even() {
    // acc = x - 128, times one half: every odd sum is a tie.
    let g = ConvGeometry::pointwise(16, 16, 1, 24);
    let q = Requantize {
        multiplier: (0..24).map(|n| if n % 2 == 0 { 0.5 } else { 0.25 }).collect(),
        bias: (0..24).collect(),
        zero_point: 100,
        min: 0,
        max: 255,
    };
    let input: Vec<u8> = (0..=255).collect();
    let case = Case { g, input, weights: vec![1; 24], codes: InputCodes::any(128), q };
    case.check();
    // The reference itself: (129 - 128 + 0) / 2 = 0.5 rounds to 0, (131 - 128) / 2 to 2.
    let out =
        common::conv(&case.g, &case.input, &case.weights, case.codes.zero_point, &case.q, 0..256);
    assert_eq!((out[129 * 24], out[131 * 24], out[127 * 24]), (100, 102, 100));
}

#[test]
fn values_beyond_the_output_range_saturate() {
    for pixels in [5, 17] {
        let g = ConvGeometry::pointwise(1, pixels, 64, 24);
        for multiplier in [0.02, 1.0, 100.0, 500.0] {
            for zero_point in ZERO_POINTS {
                let mut case = Case::random(g, SYMMETRIC, 3);
                case.q.multiplier = vec![multiplier; 24];
                case.q.zero_point = zero_point;
                for (min, max) in [(3, 250), (0, 255)] {
                    (case.q.min, case.q.max) = (min, max);
                    case.check();
                }
            }
        }
    }
}

#[test]
fn conversions_that_could_overflow_use_the_scalar_kernel() {
    let g = ConvGeometry::pointwise(1, 5, 64, 24);
    let mut case = Case::random(g, BYTES, 4);
    case.q.multiplier[7] = 1e9;
    let pixels = 5;
    let expected =
        common::conv(&g, &case.input, &case.weights, case.codes.zero_point, &case.q, 0..pixels);
    for isa in Isa::available() {
        let conv = Conv::new(isa, g, &case.weights, case.codes, case.q.clone()).unwrap();
        assert_eq!(conv.kernel(), "pointwise_u8s8_scalar");
        let mut out = vec![0; expected.len()];
        conv.run(&case.input, 0..pixels, &mut out, &mut Scratch::new());
        assert_same(&out, &expected, "saturated");
    }
}

/// A geometry that is consistent by construction.
fn geometry() -> impl Strategy<Value = ConvGeometry> {
    let axis = (1usize..=3, prop::sample::select(vec![1usize, 2, 3, 5, 7]), 1usize..=2, 1usize..=9);
    (axis.clone(), axis, 1usize..=20, 1usize..=50, any::<[u16; 2]>()).prop_map(
        |(h, w, in_c, out_c, pads)| {
            let resolve = |(dilation, kernel, stride, out): (usize, usize, usize, usize), pad| {
                let reach = (kernel - 1) * dilation;
                let pad = usize::from(pad) % (reach + 1);
                // The smallest image that the last window still touches, or one with no padding.
                let last = (out - 1) * stride;
                let input = (last + 1 + reach / 2).saturating_sub(pad).max(1);
                (input.max((last + 1).saturating_sub(pad)), out, kernel, stride, dilation, pad)
            };
            let h = resolve(h, pads[0]);
            let w = resolve(w, pads[1]);
            ConvGeometry {
                in_h: h.0,
                in_w: w.0,
                in_c,
                out_h: h.1,
                out_w: w.1,
                out_c,
                kernel_h: h.2,
                kernel_w: w.2,
                stride_h: h.3,
                stride_w: w.3,
                dilation_h: h.4,
                dilation_w: w.4,
                pad_top: h.5,
                pad_left: w.5,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_geometry(g in geometry(), range in prop::sample::select(WEIGHT_RANGES.to_vec()), seed in any::<u32>()) {
        Case::random(g, range, u64::from(seed)).check();
        Case::narrow(g, range, u64::from(seed)).check();
    }
}

#[test]
fn kernels_strides_and_paddings() {
    let mut seed = 100;
    for kernel in [1, 2, 3, 5, 7] {
        for stride in [1, 2] {
            for dilation in [1, 2] {
                for (pad_top, pad_left) in [(0, 0), (kernel / 2, 0), (0, kernel / 2)] {
                    let out = |size: usize, pad: usize| (size + pad - 1) / stride + 1;
                    let (h, w) = (9, 11);
                    let g = ConvGeometry {
                        in_h: h,
                        in_w: w,
                        in_c: 3,
                        out_h: out(h, pad_top) - 1,
                        out_w: out(w, pad_left) - 1,
                        out_c: 20,
                        kernel_h: kernel,
                        kernel_w: kernel,
                        stride_h: stride,
                        stride_w: stride,
                        dilation_h: dilation,
                        dilation_w: dilation,
                        pad_top,
                        pad_left,
                    };
                    seed += 1;
                    Case::random(g, WEIGHT_RANGES[seed as usize % 3], seed).check();
                    Case::narrow(g, WEIGHT_RANGES[seed as usize % 3], seed).check();
                }
            }
        }
    }
}

#[test]
fn rows_of_taps_of_every_short_length() {
    for in_c in 1..=20 {
        for kernel_w in [1, 2] {
            let g = ConvGeometry {
                in_h: 4,
                in_w: 9,
                kernel_w,
                stride_h: 2,
                stride_w: 2,
                ..ConvGeometry::pointwise(2, 4, in_c, 8)
            };
            Case::random(g, SYMMETRIC, in_c as u64).check();
        }
    }
}

#[test]
fn constructors_refuse_what_does_not_fit() {
    let g = ConvGeometry::pointwise(2, 2, 3, 4);
    let q = Random::new(1).requantize(4, 3);
    let good = vec![1i16; 12];
    let new = |g, w: &[i16], q| Conv::new(Isa::Scalar, g, w, InputCodes::any(0), q).map(|_| ());
    assert_eq!(new(g, &good, q.clone()), Ok(()));
    let length = |what, expected, actual| Err(KernelError::Length { what, expected, actual });
    assert_eq!(new(g, &good[1..], q.clone()), length("weights", 12, 11));
    let short = Requantize { bias: vec![0; 3], ..q.clone() };
    assert_eq!(new(g, &good, short), length("bias", 4, 3));
    let mut bad = good.clone();
    bad[5] = 256;
    assert_eq!(new(g, &bad, q.clone()), Err(KernelError::Weight { index: 5, value: 256 }));
    for m in [f32::INFINITY, -1.0] {
        let q = Requantize { multiplier: vec![1.0, 1.0, m, 1.0], ..q.clone() };
        let what = "multiplier";
        assert_eq!(new(g, &good, q), Err(KernelError::Multiplier { what, index: 2, value: m }));
    }
    let q_nan = Requantize { multiplier: vec![f32::NAN; 4], ..q.clone() };
    assert!(matches!(new(g, &good, q_nan), Err(KernelError::Multiplier { index: 0, .. })));
    let empty = Requantize { min: 9, max: 8, ..q.clone() };
    assert_eq!(new(g, &good, empty), Err(KernelError::ClampRange { min: 9, max: 8 }));
    let huge = Requantize { bias: vec![0, i32::MAX, 0, 0], ..q.clone() };
    assert!(matches!(
        new(g, &good, huge),
        Err(KernelError::AccumulatorOverflow { channel: 1, .. })
    ));
    let stretched = ConvGeometry { out_h: 3, ..g };
    assert!(matches!(new(stretched, &good, q), Err(KernelError::Geometry(_))));
}

#[test]
fn an_instruction_set_of_another_architecture_is_refused() {
    let g = ConvGeometry::pointwise(2, 2, 3, 4);
    let q = Random::new(1).requantize(4, 3);
    let foreign = if cfg!(target_arch = "x86_64") { Isa::Neon } else { Isa::Avx2 };
    let error = Conv::new(foreign, g, &[1; 12], InputCodes::any(0), q).map(|_| ()).unwrap_err();
    assert_eq!(error, KernelError::Unavailable { isa: foreign, available: Isa::available() });
}

#[test]
fn slices_of_the_wrong_length_panic() {
    let g = ConvGeometry::pointwise(2, 2, 3, 4);
    let q = Random::new(1).requantize(4, 3);
    let conv = Conv::new(Isa::best(), g, &[1; 12], InputCodes::any(0), q).unwrap();
    let run = |input: usize, range: std::ops::Range<usize>, output: usize| {
        let conv = std::panic::AssertUnwindSafe(&conv);
        std::panic::catch_unwind(move || {
            conv.run(&vec![0; input], range, &mut vec![0; output], &mut Scratch::new());
        })
    };
    assert!(run(12, 0..4, 16).is_ok());
    assert!(run(12, 2..2, 0).is_ok());
    assert!(run(11, 0..4, 16).is_err());
    assert!(run(12, 0..5, 20).is_err());
    assert!(run(12, 0..3, 16).is_err());
}
