//! Depthwise convolution: every available instruction set gives the bytes of the reference.
#![allow(missing_docs)]

mod common;

use common::{
    BYTES, Guarded, Random, SYMMETRIC, WIDE, WeightRange, ZERO_POINTS, assert_same, is_of,
};
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, KernelError, Requantize, Scratch};
use proptest::prelude::*;

struct Case {
    g: ConvGeometry,
    input: Vec<u8>,
    weights: Vec<i16>,
    codes: InputCodes,
    q: Requantize,
}

impl Case {
    fn random(g: ConvGeometry, range: WeightRange, seed: u64) -> Case {
        let mut random = Random::new(seed);
        let taps = g.kernel_h * g.kernel_w;
        Case {
            g,
            input: random.bytes(g.input_len()),
            weights: random.weights(taps * g.in_c, range),
            codes: InputCodes::any(random.pick(&ZERO_POINTS)),
            q: random.requantize(g.in_c, taps),
        }
    }

    /// All instruction sets, whole and in parts, misaligned.
    fn check(&self) {
        let rows = self.g.out_h;
        let row = self.g.out_w * self.g.out_c;
        let expected = common::depthwise(
            &self.g,
            &self.input,
            &self.weights,
            self.codes.zero_point,
            &self.q,
            0..rows,
        );
        for isa in Isa::available() {
            let conv =
                Depthwise::new(isa, self.g, &self.weights, self.codes, self.q.clone()).unwrap();
            let narrow = self.g.in_c < 16 && conv.kernel().ends_with("_scalar");
            assert!(narrow || is_of(conv.kernel(), isa), "{} on {}", conv.kernel(), isa.name());
            let mut scratch = Scratch::new();
            let split = rows / 2;
            for (offset, ranges) in [(0, [0..rows, rows..rows]), (1, [0..split, split..rows])] {
                let input = Guarded::of(&self.input, offset);
                for range in ranges {
                    let what = format!(
                        "{} {:?} {range:?} zp {}",
                        conv.kernel(),
                        self.g,
                        self.codes.zero_point
                    );
                    let mut out = Guarded::zeros(range.len() * row, offset);
                    conv.run(input.get(), range.clone(), out.get_mut(), &mut scratch);
                    out.check(&what);
                    assert_same(out.get(), &expected[range.start * row..range.end * row], &what);
                }
            }
        }
    }
}

/// A square filter with symmetric padding.
fn square(size: (usize, usize), kernel: usize, stride: usize, channels: usize) -> ConvGeometry {
    let out = |size: usize| (size + kernel / 2 * 2 - kernel) / stride + 1;
    ConvGeometry {
        in_h: size.0,
        in_w: size.1,
        in_c: channels,
        out_h: out(size.0),
        out_w: out(size.1),
        out_c: channels,
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: kernel / 2,
        pad_left: kernel / 2,
    }
}

#[test]
fn channels_around_the_vectors() {
    let mut seed = 0;
    for channels in (1..=50).chain([63, 64, 65, 96, 144]) {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)] {
            seed += 1;
            Case::random(square((7, 9), kernel, stride, channels), SYMMETRIC, seed).check();
        }
    }
}

#[test]
fn widths_around_the_tiles() {
    for width in 1..=34 {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1), (2, 2)] {
            let seed = (width * 100 + kernel) as u64;
            Case::random(square((4, width), kernel, stride, 19), BYTES, seed).check();
        }
    }
}

#[test]
fn the_kernel_depends_on_the_weights_and_the_shape() {
    let name = |isa, g: ConvGeometry, range, seed| {
        let case = Case::random(g, range, seed);
        Depthwise::new(isa, g, &case.weights, case.codes, case.q).unwrap().kernel()
    };
    for isa in Isa::available() {
        let (bytes, pairs) = match isa {
            Isa::Neon32 => {
                let name = name(isa, square((7, 7), 3, 1, 16), WIDE, 1);
                assert_eq!(name, "depthwise_u8s16_neon32_1x16");
                continue;
            }
            Isa::Neon => ("depthwise_u8s8_neon_k5s1_2x16", "depthwise_u8s8_neon_k3s2_2x16"),
            Isa::NeonDot => {
                ("depthwise_u8s8_neondot_k5s1_2x4x8", "depthwise_u8s8_neondot_k3s2_1x4x8")
            }
            _ => continue,
        };
        assert_eq!(name(isa, square((7, 7), 5, 1, 32), SYMMETRIC, 1), bytes);
        assert_eq!(name(isa, square((7, 7), 3, 2, 16), SYMMETRIC, 1), pairs);
        // Other filters, few channels, and wide weights.
        let any = "depthwise_u8s16_neon_8x8";
        assert_eq!(name(isa, square((7, 7), 7, 1, 32), SYMMETRIC, 1), any);
        let wide = "depthwise_u8s16_neon_k3s1_8x8";
        assert_eq!(name(isa, square((7, 7), 3, 1, 15), SYMMETRIC, 1), wide);
        assert_eq!(name(isa, square((7, 7), 3, 1, 32), WIDE, 1), wide);
    }
}

#[test]
fn results_beyond_16_bits_saturate() {
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        for multiplier in [0.1, 10.0, 300.0] {
            let mut case = Case::random(square((7, 9), kernel, stride, 35), SYMMETRIC, 6);
            case.q.multiplier = vec![multiplier; 35];
            for (zero_point, min, max) in [(0, 0, 255), (3, 3, 250), (255, 0, 255)] {
                (case.q.zero_point, case.q.min, case.q.max) = (zero_point, min, max);
                case.check();
            }
        }
    }
}

#[test]
fn images_wider_than_one_tile() {
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        Case::random(square((5, 230), kernel, stride, 80), BYTES, 9).check();
    }
}

#[test]
fn weights_wider_than_eight_bits() {
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 2)] {
        Case::random(square((8, 8), kernel, stride, 33), WIDE, 8).check();
    }
}

#[test]
fn extreme_values_at_all_zero_points() {
    for zero_point in ZERO_POINTS {
        for x in [0u8, 255] {
            for w in [-255i16, -128, -127, 127, 255] {
                let g = square((5, 8), 5, 1, 18);
                let q = Requantize {
                    multiplier: vec![128.0 / (255.0 * 255.0 * 25.0); 18],
                    bias: vec![5; 18],
                    zero_point: 128,
                    min: 1,
                    max: 254,
                };
                let input = vec![x; g.input_len()];
                let weights = vec![w; 25 * 18];
                Case { g, input, weights, codes: InputCodes::any(zero_point), q }.check();
            }
        }
    }
}

#[test]
fn sums_in_16_bits_reach_their_bounds() {
    // Runs of 2, 3 and 5 products fit 16 bits up to 127, 85 and 51 with codes 128 from the middle,
    // and 5 up to 102 with codes 64 from it.
    for (kernel, stride) in [(3, 1), (5, 2)] {
        let g = square((5, 7), kernel, stride, 19);
        let taps = kernel * kernel;
        for (min, max) in [(0u8, 255u8), (0, 254), (1, 255), (0, 127), (128, 255), (9, 30)] {
            for zero_point in [min, max, 0, 128, 255] {
                for w in [51i16, 52, 85, 86, 102, 103, 127, 128] {
                    for pattern in 0..3 {
                        let sign =
                            |tap: usize| if pattern == 0 || tap.is_multiple_of(2) { -1 } else { 1 };
                        let q = Requantize {
                            multiplier: vec![1.0 / 3000.0; 19],
                            bias: vec![-2; 19],
                            zero_point: 128,
                            min: 0,
                            max: 255,
                        };
                        let weights = (0..taps * 19).map(|i| (w * sign(i / 19)).min(127)).collect();
                        // One code, or the two ends in turn.
                        let code = |i: usize| match (pattern, i / 19 % 2) {
                            (0, _) | (1, 0) | (2, 1) => min,
                            _ => max,
                        };
                        let input = (0..g.input_len()).map(code).collect();
                        let codes = InputCodes { zero_point, min, max };
                        Case { g, input, weights, codes, q }.check();
                    }
                }
            }
        }
    }
}

#[test]
fn ties_round_to_even() {
    let g = square((16, 16), 1, 1, 16);
    let q = Requantize {
        multiplier: vec![0.5; 16],
        bias: (0..16).collect(),
        zero_point: 100,
        min: 0,
        max: 255,
    };
    let input = (0..16 * 256).map(|i| (i / 16) as u8).collect();
    Case { g, input, weights: vec![1; 16], codes: InputCodes::any(128), q }.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_geometry(
        kernel in (1usize..=7, 1usize..=7),
        stride in (1usize..=3, 1usize..=3),
        dilation in (1usize..=3, 1usize..=3),
        out in (1usize..=7, 1usize..=20),
        channels in 1usize..=40,
        pads in any::<[u16; 2]>(),
        extra in (0usize..=3, 0usize..=3),
        seed in any::<u32>(),
    ) {
        let reach = ((kernel.0 - 1) * dilation.0, (kernel.1 - 1) * dilation.1);
        let pad = (usize::from(pads[0]) % (reach.0 + 1), usize::from(pads[1]) % (reach.1 + 1));
        let least = |out: usize, stride: usize, pad: usize| {
            ((out - 1) * stride + 1).saturating_sub(pad).max(1)
        };
        let g = ConvGeometry {
            in_h: least(out.0, stride.0, pad.0) + extra.0,
            in_w: least(out.1, stride.1, pad.1) + extra.1,
            in_c: channels,
            out_h: out.0,
            out_w: out.1,
            out_c: channels,
            kernel_h: kernel.0,
            kernel_w: kernel.1,
            stride_h: stride.0,
            stride_w: stride.1,
            dilation_h: dilation.0,
            dilation_w: dilation.1,
            pad_top: pad.0,
            pad_left: pad.1,
        };
        Case::random(g, BYTES, u64::from(seed)).check();
    }
}

#[test]
fn a_change_of_channels_is_refused() {
    let g = ConvGeometry { out_c: 5, ..square((4, 4), 3, 1, 4) };
    let q = Random::new(1).requantize(5, 9);
    let result = Depthwise::new(Isa::Scalar, g, &[0; 36], InputCodes::any(0), q).map(|_| ());
    assert!(matches!(result, Err(KernelError::Geometry(_))), "{result:?}");
}
