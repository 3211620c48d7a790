//! Float dense convolution: every available instruction set stays within the stated bound of the
//! exact result, at sizes around the tiles, for strides, dilations, paddings, activations and
//! residuals; however an image is split, the bits are the same.
#![allow(missing_docs)]

mod float_common;

use float_common::{
    ACTIVATIONS, Arithmetic, Guarded, Random, accumulate, activate, bits, bound, is_of,
};
use half::f16;
use kinglet_kernels::float::{Activation, Conv, Element};
use kinglet_kernels::{ConvGeometry, Isa, KernelError, Scratch};

struct Case<T> {
    g: ConvGeometry,
    input: Vec<T>,
    /// Representable in `T`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Option<Vec<T>>,
    activation: Activation,
}

impl<T: Element> Case<T> {
    fn random(g: ConvGeometry, seed: u64) -> Case<T> {
        let mut random = Random::new(seed);
        let depth = g.kernel_h * g.kernel_w * g.in_c;
        let exact = |values: Vec<T>| values.into_iter().map(T::to_f32).collect::<Vec<f32>>();
        let input = random.values(g.input_len(), 1.0);
        let scale = 2.0 / (depth as f32).sqrt();
        let weights = exact(random.values(g.out_c * depth, scale));
        let bias = exact(random.values(g.out_c, 0.5));
        let residual = (random.below(2) == 0).then(|| random.values(g.output_len(), 1.0));
        let activation = ACTIVATIONS[random.below(ACTIVATIONS.len())];
        Case { g, input, weights, bias, residual, activation }
    }

    /// All instruction sets, whole and in parts, misaligned.
    fn check(&self) {
        let g = &self.g;
        let pixels = g.out_h * g.out_w;
        for isa in Isa::available() {
            let conv = Conv::<T>::new(isa, *g, &self.weights, &self.bias, self.activation).unwrap();
            assert!(is_of(conv.kernel(), isa), "{} on {}", conv.kernel(), isa.name());
            let what = format!("{} {g:?} {:?}", conv.kernel(), self.activation);
            let mut scratch = Scratch::new();
            let whole = self.run(&conv, 0..pixels, 0, &mut scratch, &what);
            self.compare(&whole, Arithmetic::of(conv.kernel()), &what);
            let split = pixels / 3;
            for (offset, range) in [(1, 0..split), (3, split..pixels), (2, split..split)] {
                let part = self.run(&conv, range.clone(), offset, &mut scratch, &what);
                let expected = &whole[range.start * g.out_c..range.end * g.out_c];
                assert_eq!(bits(&part), bits(expected), "{what}: {range:?} differs");
            }
        }
    }

    fn run(
        &self,
        conv: &Conv<T>,
        range: std::ops::Range<usize>,
        offset: usize,
        scratch: &mut Scratch,
        what: &str,
    ) -> Vec<T> {
        let input = Guarded::of(&self.input, offset);
        let part = range.start * self.g.out_c..range.end * self.g.out_c;
        let residual = self.residual.as_ref().map(|r| Guarded::of(&r[part.clone()], offset));
        let residual = residual.as_ref().map(Guarded::get);
        let mut out = Guarded::unwritten(part.len(), offset);
        conv.run(input.get(), residual, range, out.get_mut(), scratch);
        out.check(what);
        out.get().to_vec()
    }

    fn compare(&self, out: &[T], arithmetic: Arithmetic, what: &str) {
        let g = &self.g;
        for (at, &value) in out.iter().enumerate() {
            let (p, n) = (at / g.out_c, at % g.out_c);
            let weight = |i: usize, j: usize, c: usize| {
                self.weights[((n * g.kernel_h + i) * g.kernel_w + j) * g.in_c + c]
            };
            let place = (p / g.out_w, p % g.out_w);
            let bias = f64::from(self.bias[n]);
            let mut exact = accumulate(g, &self.input, bias, place, 0..g.in_c, weight);
            let added = self.residual.as_ref().map_or(0.0, |r| f64::from(r[at].to_f32()));
            let result = activate(self.activation, exact.sum) + added;
            exact.size += added.abs();
            let error = (f64::from(value.to_f32()) - result).abs();
            let allowed = bound(arithmetic, exact, result);
            assert!(
                error <= allowed,
                "{what}: element {at} is {value:?}, expected {result}: error {error:e} > {allowed:e}"
            );
        }
    }
}

fn check_both(g: ConvGeometry, seed: u64) {
    Case::<f32>::random(g, seed).check();
    Case::<f16>::random(g, seed).check();
}

#[test]
fn pointwise_around_every_tile_edge() {
    let depths = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33, 40];
    let mut seed = 0;
    for n in (1..=50).chain([63, 64, 65, 96, 97, 112, 144]) {
        for m in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 25] {
            seed += 1;
            check_both(
                ConvGeometry::pointwise(1, m, depths[seed as usize % depths.len()], n),
                seed,
            );
        }
    }
}

#[test]
fn pointwise_with_many_blocks_and_deep_sums() {
    let shapes = [(600, 16, 24), (70, 1152, 17), (49, 320, 72), (401, 31, 40), (30, 2049, 9)];
    for (m, k, n) in
        shapes.into_iter().chain([(9, 127, 48), (9, 128, 48), (9, 129, 48), (9, 256, 8)])
    {
        check_both(ConvGeometry::pointwise(m, 1, k, n), (m + k) as u64);
    }
    check_both(ConvGeometry::pointwise(100, 70, 24, 33), 5);
}

#[test]
fn windows_strides_dilations_and_paddings() {
    let mut random = Random::new(11);
    let mut done = 0;
    while done < 250 {
        let mut below = |n: usize| random.below(n);
        let g = ConvGeometry {
            in_h: 1 + below(9),
            in_w: 1 + below(30),
            in_c: 1 + below(10),
            out_h: 1 + below(9),
            out_w: 1 + below(30),
            out_c: 1 + below(40),
            kernel_h: 1 + below(5),
            kernel_w: 1 + below(5),
            stride_h: 1 + below(3),
            stride_w: 1 + below(3),
            dilation_h: 1 + below(2),
            dilation_w: 1 + below(4) / 3,
            pad_top: below(4),
            pad_left: below(4),
        };
        let zeros = |n: usize| vec![0.0; n];
        let weights = zeros(g.out_c * g.kernel_h * g.kernel_w * g.in_c);
        // Sizes that contradict each other are refused; the others are tested.
        if Conv::<f32>::new(Isa::Scalar, g, &weights, &zeros(g.out_c), Activation::None).is_ok() {
            done += 1;
            check_both(g, done);
        }
    }
}

#[test]
fn deep_sums_in_f16_lose_little() {
    let g = ConvGeometry::pointwise(64, 1, 1152, 48);
    let mut case = Case::<f16>::random(g, 3);
    case.activation = Activation::None;
    case.residual = None;
    for isa in Isa::available() {
        let conv = Conv::<f16>::new(isa, g, &case.weights, &case.bias, Activation::None).unwrap();
        let out = case.run(&conv, 0..64, 0, &mut Scratch::new(), conv.kernel());
        let (mut errors, mut values) = (0.0, 0.0);
        for (at, value) in out.iter().enumerate() {
            let n = at % 48;
            let exact = accumulate(
                &g,
                &case.input,
                f64::from(case.bias[n]),
                (at / 48, 0),
                0..1152,
                |_, _, c| case.weights[n * 1152 + c],
            );
            errors += (f64::from(value.to_f32()) - exact.sum).powi(2);
            values += exact.sum.powi(2);
        }
        let relative = (errors / values).sqrt();
        let allowed = match Arithmetic::of(conv.kernel()) {
            Arithmetic::Half => 0.0022,
            _ => 0.00025,
        };
        assert!(relative < allowed, "{}: {relative}", conv.kernel());
    }
}

#[test]
fn not_a_number_and_infinity_stay_where_they_are() {
    let g = ConvGeometry::pointwise(1, 9, 5, 33);
    for isa in Isa::available() {
        for activation in ACTIVATIONS {
            let conv = Conv::<f32>::new(isa, g, &[1.0; 165], &[0.0; 33], activation).unwrap();
            let mut input = vec![0.5; 45];
            input[3 * 5] = f32::NAN;
            input[7 * 5 + 4] = f32::INFINITY;
            let mut out = vec![0.0; 9 * 33];
            conv.run(&input, None, 0..9, &mut out, &mut Scratch::new());
            for (p, out) in out.chunks_exact(33).enumerate() {
                for &value in out {
                    let what = format!("{} {activation:?}: pixel {p} is {value}", conv.kernel());
                    match p {
                        3 => assert!(value.is_nan(), "{what}"),
                        7 => assert!(value == activation.apply(f32::INFINITY), "{what}"),
                        _ => assert!((value - activation.apply(2.5)).abs() < 1e-6, "{what}"),
                    }
                }
            }
        }
    }
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let g = ConvGeometry::pointwise(2, 2, 3, 4);
    let new = |weights: usize, bias: usize, activation| {
        Conv::<f32>::new(Isa::Scalar, g, &vec![0.0; weights], &vec![0.0; bias], activation).err()
    };
    let none = Activation::None;
    assert!(matches!(new(11, 4, none), Some(KernelError::Length { what: "weights", .. })));
    assert!(matches!(new(12, 3, none), Some(KernelError::Length { what: "bias", .. })));
    let reversed = Activation::Clamp { min: 1.0, max: 0.0 };
    assert!(matches!(new(12, 4, reversed), Some(KernelError::ActivationRange { .. })));
    assert_eq!(new(12, 4, none), None);
}
