//! Float addition, product, activation, mean, fully connected layer and layouts: every available
//! instruction set within the stated bound of the exact result, at lengths around the vectors, and
//! for special values.
#![allow(missing_docs)]

mod float_common;

use float_common::{ACTIVATIONS, Arithmetic, Exact, Guarded, Random, activate, bits, bound, is_of};
use half::f16;
use kinglet_kernels::float::{
    Activate, Activation, Add, Element, GlobalAveragePool, Linear, Mul, ToNchw, ToNhwc,
};
use kinglet_kernels::{Isa, Scratch};

const LENGTHS: [usize; 16] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 1000];

fn close<T: Element>(value: T, exact: Exact, result: f64, kernel: &str, what: &str) {
    let error = (f64::from(value.to_f32()) - result).abs();
    let allowed = bound(Arithmetic::of(kernel), exact, result);
    assert!(
        error <= allowed,
        "{kernel} {what}: {value:?}, expected {result}: error {error:e} > {allowed:e}"
    );
}

fn sums_and_products<T: Element>() {
    for isa in Isa::available() {
        for (index, len) in LENGTHS.into_iter().enumerate() {
            let mut random = Random::new(index as u64);
            let (a, b) = (random.values::<T>(len, 2.0), random.values::<T>(len, 2.0));
            let (a, b) = (Guarded::of(&a, 1), Guarded::of(&b, 2));
            let (a, b) = (a.get(), b.get());
            let pairs =
                || a.iter().zip(b).map(|(a, b)| (f64::from(a.to_f32()), f64::from(b.to_f32())));
            let mut out = Guarded::unwritten(len, 3);
            for activation in ACTIVATIONS {
                let add = Add::<T>::new(isa, activation).unwrap();
                assert!(is_of(add.kernel(), isa), "{}", add.kernel());
                add.run(a, b, out.get_mut());
                out.check(add.kernel());
                for (&value, (a, b)) in out.get().iter().zip(pairs()) {
                    let mut exact = Exact::new(a);
                    exact.add(b);
                    close(value, exact, activate(activation, a + b), add.kernel(), "sum");
                }
            }
            let mul = Mul::<T>::new(isa).unwrap();
            assert!(is_of(mul.kernel(), isa), "{}", mul.kernel());
            mul.run(a, b, out.get_mut());
            out.check(mul.kernel());
            for (&value, (a, b)) in out.get().iter().zip(pairs()) {
                close(value, Exact::new(a * b), a * b, mul.kernel(), "product");
            }
            if len > 0 {
                let pixels: Vec<T> = random.values(3 * len, 1.0);
                let mut gated = Guarded::unwritten(3 * len, 1);
                mul.run_channels(&pixels, b, gated.get_mut());
                gated.check(mul.kernel());
                for (p, &value) in gated.get().iter().enumerate() {
                    let product = f64::from(pixels[p].to_f32()) * f64::from(b[p % len].to_f32());
                    close(value, Exact::new(product), product, mul.kernel(), "gate");
                }
            }
        }
    }
}

#[test]
fn sums_and_products_at_all_lengths() {
    sums_and_products::<f32>();
    sums_and_products::<f16>();
}

/// Runs an activation over values and hands value and result on.
fn run_activation<T: Element>(isa: Isa, activation: Activation, x: &[T]) -> (&'static str, Vec<T>) {
    let kernel = Activate::<T>::new(isa, activation).unwrap();
    assert!(is_of(kernel.kernel(), isa), "{}", kernel.kernel());
    let mut out = Guarded::unwritten(x.len(), 1);
    kernel.run(x, out.get_mut());
    out.check(kernel.kernel());
    (kernel.kernel(), out.get().to_vec())
}

/// Relative error allowed of a function of an exact argument, in units of 2^-24 of the result.
const UNITS: f64 = 8.0;

#[test]
fn activations_over_the_whole_range_of_f32() {
    // Every 4099th bit pattern: both signs, denormals, infinities, not a number.
    let x: Vec<f32> = (0..u32::MAX / 4099).map(|i| f32::from_bits(i * 4099)).collect();
    for isa in Isa::available() {
        for activation in ACTIVATIONS {
            let (kernel, out) = run_activation(isa, activation, &x);
            for (&x, &value) in x.iter().zip(&out) {
                if x.is_nan() {
                    assert!(value.is_nan(), "{kernel} {activation:?}({x}) = {value}");
                    continue;
                }
                let result = activate(activation, f64::from(x));
                // `x / 6 + 1/2` cancels; what is lost is relative to 1/2.
                let size = match activation {
                    Activation::HardSigmoid => result.abs().max(1.0),
                    Activation::HardSwish => result.abs().max(3.0),
                    _ => result.abs(),
                };
                let allowed = size * UNITS * 2f64.powi(-24) + 1e-44;
                let same = f64::from(value) == result || value == result as f32;
                let error = (f64::from(value) - result).abs();
                assert!(
                    same || error <= allowed,
                    "{kernel} {activation:?}({x:e}) = {value:e}, expected {result:e}"
                );
            }
        }
    }
}

#[test]
fn activations_of_every_f16() {
    let x: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    for isa in Isa::available() {
        for activation in ACTIVATIONS {
            let (kernel, out) = run_activation(isa, activation, &x);
            for (&x, &value) in x.iter().zip(&out) {
                if x.is_nan() {
                    assert!(value.is_nan(), "{kernel} {activation:?}({x}) = {value}");
                    continue;
                }
                let result = activate(activation, f64::from(x.to_f32()));
                let half = 2f64.powi(-11);
                let allowed = match (activation, Arithmetic::of(kernel)) {
                    (Activation::HardSigmoid, Arithmetic::Half) => 2.0 * half,
                    (Activation::HardSwish, Arithmetic::Half) => {
                        6.0 * half + 2.0 * half * result.abs()
                    }
                    (_, Arithmetic::Half) => 2.0 * half * result.abs() + 2f64.powi(-24),
                    _ => 1.01 * half * result.abs() + 2f64.powi(-24),
                };
                let same = value.to_f32() == f16::from_f64(result).to_f32();
                let error = (f64::from(value.to_f32()) - result).abs();
                assert!(
                    same || error <= allowed,
                    "{kernel} {activation:?}({x:e}) = {value:e}, expected {result:e}"
                );
            }
        }
    }
}

fn means<T: Element>() {
    for isa in Isa::available() {
        for (index, channels) in LENGTHS.into_iter().skip(1).enumerate() {
            for pixels in [1, 2, 49] {
                let x: Vec<T> = Random::new(index as u64).values(pixels * channels, 3.0);
                let pool = GlobalAveragePool::<T>::new(isa, pixels, channels).unwrap();
                assert!(is_of(pool.kernel(), isa), "{}", pool.kernel());
                let mut out = Guarded::unwritten(channels, 1);
                pool.run(&x, out.get_mut(), &mut Scratch::new());
                out.check(pool.kernel());
                for (c, &value) in out.get().iter().enumerate() {
                    let mut exact = Exact::new(0.0);
                    for x in x[c..].iter().step_by(channels) {
                        exact.add(f64::from(x.to_f32()) / pixels as f64);
                    }
                    close(value, exact, exact.sum, pool.kernel(), "mean");
                }
            }
        }
    }
}

#[test]
fn means_are_summed_in_f32() {
    means::<f32>();
    means::<f16>();
    // 4096 + 1 is 4096 in `f16`.
    for isa in Isa::available() {
        let mut x = vec![f16::ONE; 4097 * 9];
        x[..9].fill(f16::from_f32(4096.0));
        let mut out = [f16::ZERO; 9];
        GlobalAveragePool::new(isa, 4097, 9).unwrap().run(&x, &mut out, &mut Scratch::new());
        assert_eq!(out, [f16::from_f32(8192.0 / 4097.0); 9], "{}", isa.name());
    }
}

fn linear<T: Element>() {
    for isa in Isa::available() {
        for (index, (k, n)) in [
            (1, 1),
            (3, 7),
            (8, 16),
            (17, 48),
            (40, 49),
            (129, 33),
            (1280, 100),
            (2049, 5),
            (4100, 30),
        ]
        .into_iter()
        .enumerate()
        {
            let mut random = Random::new(index as u64);
            let x: Vec<T> = random.values(k, 1.0);
            let exact = |values: Vec<T>| values.into_iter().map(T::to_f32).collect::<Vec<f32>>();
            let weights = exact(random.values(n * k, 0.1));
            let bias = exact(random.values(n, 0.5));
            let activation = ACTIVATIONS[index % ACTIVATIONS.len()];
            let layer = Linear::<T>::new(isa, k, n, &weights, &bias, activation).unwrap();
            assert!(is_of(layer.kernel(), isa), "{}", layer.kernel());
            let mut out = Guarded::unwritten(n, 1);
            let mut scores = Guarded::<f32>::unwritten(n, 1);
            layer.run(&x, 0..n, out.get_mut());
            layer.run_f32(&x, 0..n, scores.get_mut());
            out.check(layer.kernel());
            scores.check(layer.kernel());
            for i in 0..n {
                let mut sum = Exact::new(f64::from(bias[i]));
                for (x, w) in x.iter().zip(&weights[i * k..]) {
                    sum.add(f64::from(x.to_f32()) * f64::from(*w));
                }
                let result = activate(activation, sum.sum);
                close(out.get()[i], sum, result, layer.kernel(), "output");
                close(scores.get()[i], sum, result, layer.kernel(), "score");
            }
            let split = n / 3;
            let mut part = Guarded::unwritten(n - split, 2);
            layer.run(&x, split..n, part.get_mut());
            part.check(layer.kernel());
            assert_eq!(bits(part.get()), bits(&out.get()[split..]), "{}", layer.kernel());
        }
    }
}

#[test]
fn fully_connected_whole_and_in_parts() {
    linear::<f32>();
    linear::<f16>();
}

#[test]
fn layouts_are_transposed_exactly() {
    for isa in Isa::available() {
        for (channels, pixels) in [(1, 1), (3, 17), (4, 16), (5, 9), (32, 49), (3, 1000)] {
            let x: Vec<f32> = (0..channels * pixels).map(|i| (i % 2000) as f32).collect();
            let mut halves = Guarded::<f16>::unwritten(x.len(), 1);
            let mut singles = Guarded::<f32>::unwritten(x.len(), 1);
            ToNhwc::new(isa, channels, pixels).unwrap().run(&x, halves.get_mut());
            ToNhwc::new(isa, channels, pixels).unwrap().run(&x, singles.get_mut());
            halves.check("to nhwc");
            singles.check("to nhwc");
            for (i, &single) in singles.get().iter().enumerate() {
                assert_eq!(single, x[i % channels * pixels + i / channels]);
                assert_eq!(halves.get()[i].to_f32(), single);
            }
            let mut back = Guarded::<f32>::unwritten(x.len(), 1);
            ToNchw::new(isa, channels, pixels).unwrap().run(halves.get(), back.get_mut());
            back.check("to nchw");
            assert_eq!(back.get(), x);
            ToNchw::new(isa, channels, pixels).unwrap().run(singles.get(), back.get_mut());
            assert_eq!(back.get(), x);
        }
    }
}
