//! Float depthwise convolution: every available instruction set stays within the stated bound of
//! the exact result; however an image is split, the bits are the same.
#![allow(missing_docs)]

mod float_common;

use float_common::{
    ACTIVATIONS, Arithmetic, Guarded, Random, accumulate, activate, bits, bound, is_of,
};
use half::f16;
use kinglet_kernels::float::{Activation, Depthwise, Element};
use kinglet_kernels::{ConvGeometry, Isa, KernelError};

fn check<T: Element>(g: ConvGeometry, seed: u64) {
    let mut random = Random::new(seed);
    let exact = |values: Vec<T>| values.into_iter().map(T::to_f32).collect::<Vec<f32>>();
    let data: Vec<T> = random.values(g.input_len(), 1.0);
    let weights = exact(random.values(g.in_c * g.kernel_h * g.kernel_w, 0.5));
    let bias = exact(random.values(g.in_c, 0.5));
    let activation = ACTIVATIONS[random.below(ACTIVATIONS.len())];
    for isa in Isa::available() {
        let conv = Depthwise::<T>::new(isa, g, &weights, &bias, activation).unwrap();
        // Fewer channels than a vector has are left to scalar code.
        let few = g.in_c < 16 && conv.kernel().ends_with("scalar");
        assert!(few || is_of(conv.kernel(), isa), "{} on {}", conv.kernel(), isa.name());
        let what = format!("{} {g:?} {activation:?}", conv.kernel());
        let run = |range: std::ops::Range<usize>, offset| {
            let input = Guarded::of(&data, offset);
            let mut out = Guarded::unwritten(range.len() * g.out_w * g.out_c, offset);
            conv.run(input.get(), range, out.get_mut());
            out.check(&what);
            out.get().to_vec()
        };
        let whole = run(0..g.out_h, 0);
        let split = g.out_h / 2;
        let parts = [run(0..split, 1), run(split..g.out_h, 3)].concat();
        assert_eq!(bits(&parts), bits(&whole), "{what}: parts differ");
        for (at, &value) in whole.iter().enumerate() {
            let (p, n) = (at / g.out_c, at % g.out_c);
            let weight = |i: usize, j: usize, c: usize| weights[(i * g.kernel_w + j) * g.in_c + c];
            let place = (p / g.out_w, p % g.out_w);
            let sum = accumulate(&g, &data, f64::from(bias[n]), place, n..n + 1, weight);
            let result = activate(activation, sum.sum);
            let error = (f64::from(value.to_f32()) - result).abs();
            let allowed = bound(Arithmetic::of(conv.kernel()), sum, result);
            assert!(
                error <= allowed,
                "{what}: element {at} is {value:?}, expected {result}: error {error:e} > {allowed:e}"
            );
        }
    }
}

#[test]
fn the_shapes_of_classifiers_around_every_tile_edge() {
    let mut seed = 0;
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)] {
        for width in [1, 2, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 23, 33] {
            for channels in [3, 4, 8, 15, 16, 17, 24, 33, 64] {
                seed += 1;
                let out = |size: usize| size.div_ceil(stride);
                let g = ConvGeometry {
                    in_h: 5,
                    in_w: width,
                    in_c: channels,
                    out_h: out(5),
                    out_w: out(width),
                    out_c: channels,
                    kernel_h: kernel,
                    kernel_w: kernel,
                    stride_h: stride,
                    stride_w: stride,
                    dilation_h: 1,
                    dilation_w: 1,
                    pad_top: kernel / 2,
                    pad_left: (kernel / 2) - (seed as usize + 1) % 2 * (stride - 1),
                };
                check::<f32>(g, seed);
                check::<f16>(g, seed);
            }
        }
    }
}

#[test]
fn any_windows_strides_dilations_and_paddings() {
    let mut random = Random::new(12);
    let mut done = 0;
    while done < 250 {
        let mut below = |n: usize| random.below(n);
        let channels = 1 + below(40);
        let g = ConvGeometry {
            in_h: 1 + below(9),
            in_w: 1 + below(30),
            in_c: channels,
            out_h: 1 + below(9),
            out_w: 1 + below(30),
            out_c: channels,
            kernel_h: 1 + below(5),
            kernel_w: 1 + below(5),
            stride_h: 1 + below(3),
            stride_w: 1 + below(3),
            dilation_h: 1 + below(2),
            dilation_w: 1 + below(4) / 3,
            pad_top: below(4),
            pad_left: below(4),
        };
        let weights = vec![0.0; channels * g.kernel_h * g.kernel_w];
        let bias = vec![0.0; channels];
        // Sizes that contradict each other are refused; the others are tested.
        if Depthwise::<f32>::new(Isa::Scalar, g, &weights, &bias, Activation::None).is_ok() {
            done += 1;
            check::<f32>(g, done);
            check::<f16>(g, done);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let g = ConvGeometry::pointwise(3, 3, 8, 8);
    let none = Activation::None;
    let new = |g, weights: usize| {
        Depthwise::<f32>::new(Isa::Scalar, g, &vec![0.0; weights], &[0.0; 8], none).err()
    };
    assert!(matches!(new(g, 7), Some(KernelError::Length { what: "weights", .. })));
    assert!(matches!(new(ConvGeometry { out_c: 9, ..g }, 8), Some(KernelError::Geometry(_))));
    assert_eq!(new(g, 8), None);
}
