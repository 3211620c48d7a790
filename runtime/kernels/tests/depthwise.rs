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
    zero_point: u8,
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
            zero_point: random.pick(&ZERO_POINTS),
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
            self.zero_point,
            &self.q,
            0..rows,
        );
        for isa in Isa::available() {
            let conv = Depthwise::new(
                isa,
                self.g,
                &self.weights,
                InputCodes::any(self.zero_point),
                self.q.clone(),
            )
            .unwrap();
            let narrow = self.g.in_c < 16 && conv.kernel().ends_with("_scalar");
            assert!(narrow || is_of(conv.kernel(), isa), "{} on {}", conv.kernel(), isa.name());
            let mut scratch = Scratch::new();
            let split = rows / 2;
            for (offset, ranges) in [(0, [0..rows, rows..rows]), (1, [0..split, split..rows])] {
                let input = Guarded::of(&self.input, offset);
                for range in ranges {
                    let what =
                        format!("{} {:?} {range:?} zp {}", conv.kernel(), self.g, self.zero_point);
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
                Case { g, input, weights, zero_point, q }.check();
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
    Case { g, input, weights: vec![1; 16], zero_point: 128, q }.check();
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
