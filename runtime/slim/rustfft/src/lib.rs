//! The part of the crate `rustfft` that tract uses, in its stead.
//!
//! tract has Fourier transforms among its operators, so every program that reads ONNX carries their
//! library: 0.7 MB of routines for processors and lengths, a twentieth of what goes onto a board. Image
//! classifiers have no such operator. This crate keeps it working, by one algorithm for every length:
//! a power of two is transformed in place, by halves; any other length as a convolution of such a one
//! (Bluestein, "A linear filtering approach to the computation of discrete Fourier transform", 1970).
//! So the work for `n` values grows as `n log n` whatever `n` a model names.
//!
//! Factors are computed in `f64` and rounded once.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

pub use num_complex;
pub use num_traits;

use num_complex::Complex;
use num_traits::{FromPrimitive, Signed};

/// A real type that can be transformed.
pub trait FftNum: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static {}

impl<T> FftNum for T where T: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static {}

/// The sign of the exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FftDirection {
    /// `X[k] = sum of x[j] * exp(-2 pi i j k / n)`
    Forward,
    /// `X[k] = sum of x[j] * exp(+2 pi i j k / n)`, not divided by `n`
    Inverse,
}

/// A transform of one length in one direction.
pub trait Fft<T: FftNum>: Sync + Send {
    /// Transforms each `n` values of `buffer` in place.
    ///
    /// # Panics
    /// If the buffer's length is no multiple of `n`.
    fn process(&self, buffer: &mut [Complex<T>]);
}

/// Makes transforms.
#[derive(Debug)]
pub struct FftPlanner<T>(PhantomData<T>);

impl<T: FftNum> Default for FftPlanner<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: FftNum> FftPlanner<T> {
    /// A planner; it keeps nothing.
    pub fn new() -> Self {
        Self(PhantomData)
    }

    /// A transform of `len` values.
    pub fn plan_fft(&mut self, len: usize, direction: FftDirection) -> Arc<dyn Fft<T>> {
        if len.is_power_of_two() || len == 0 {
            Arc::new(Halves::new(len, direction))
        } else {
            Arc::new(Chirp::new(len, direction))
        }
    }

    /// A forward transform of `len` values.
    pub fn plan_fft_forward(&mut self, len: usize) -> Arc<dyn Fft<T>> {
        self.plan_fft(len, FftDirection::Forward)
    }

    /// An inverse transform of `len` values, not divided by `len`.
    pub fn plan_fft_inverse(&mut self, len: usize) -> Arc<dyn Fft<T>> {
        self.plan_fft(len, FftDirection::Inverse)
    }
}

/// `exp(∓ 2 pi i k / n)`, for a `k` below `n`.
fn root<T: FftNum>(k: usize, n: usize, direction: FftDirection) -> Complex<T> {
    let (sin, cos) = (std::f64::consts::TAU * k as f64 / n as f64).sin_cos();
    let sin = if direction == FftDirection::Forward { -sin } else { sin };
    Complex::new(real(cos), real(sin))
}

/// `value` in the type of the transform, which holds numbers of magnitude 1 in every type there is.
fn real<T: FftNum>(value: f64) -> T {
    T::from_f64(value).unwrap_or_else(T::zero)
}

/// A length that is a power of two (Cooley and Tukey's algorithm, decimation in time), or 0.
struct Halves<T> {
    len: usize,
    /// The first half of the roots of unity.
    roots: Vec<Complex<T>>,
}

impl<T: FftNum> Halves<T> {
    fn new(len: usize, direction: FftDirection) -> Self {
        Self { len, roots: (0..len / 2).map(|k| root(k, len, direction)).collect() }
    }
}

impl<T: FftNum> Fft<T> for Halves<T> {
    fn process(&self, buffer: &mut [Complex<T>]) {
        for values in pieces(buffer, self.len) {
            let bits = self.len.trailing_zeros();
            for at in 1..self.len {
                let mirrored = at.reverse_bits() >> (usize::BITS - bits);
                if at < mirrored {
                    values.swap(at, mirrored);
                }
            }
            let mut half = 1;
            while half < self.len {
                let step = self.len / (2 * half);
                for pair in values.chunks_exact_mut(2 * half) {
                    let (low, high) = pair.split_at_mut(half);
                    for ((low, high), root) in
                        low.iter_mut().zip(high).zip(self.roots.iter().step_by(step))
                    {
                        let turned = *high * *root;
                        (*low, *high) = (*low + turned, *low - turned);
                    }
                }
                half *= 2;
            }
        }
    }
}

/// Any length: `j k = (j² + k² - (k - j)²) / 2` makes of the transform a product with a chirp, a
/// convolution with the opposite one, and a product with it again.
struct Chirp<T> {
    chirp: Vec<Complex<T>>,
    /// The convolution's other operand, transformed and divided by its length.
    filter: Vec<Complex<T>>,
    forward: Halves<T>,
    inverse: Halves<T>,
}

impl<T: FftNum> Chirp<T> {
    fn new(len: usize, direction: FftDirection) -> Self {
        // k² grows beyond what a sine knows of: only its rest counts, since roots repeat after 2 n.
        let squared = |k: usize| (k as u128 * k as u128 % (2 * len as u128)) as usize;
        let chirp: Vec<_> = (0..len).map(|k| root(squared(k), 2 * len, direction)).collect();
        let padded = (2 * len - 1).next_power_of_two();
        let scale: T = real(1.0 / padded as f64);
        let mut filter = vec![Complex::new(T::zero(), T::zero()); padded];
        for (k, value) in chirp.iter().enumerate() {
            let value = value.conj() * scale;
            filter[k] = value;
            if k > 0 {
                filter[padded - k] = value;
            }
        }
        let forward = Halves::new(padded, FftDirection::Forward);
        forward.process(&mut filter);
        Self { chirp, filter, forward, inverse: Halves::new(padded, FftDirection::Inverse) }
    }
}

impl<T: FftNum> Fft<T> for Chirp<T> {
    fn process(&self, buffer: &mut [Complex<T>]) {
        let zero = Complex::new(T::zero(), T::zero());
        let mut padded = vec![zero; self.filter.len()];
        for values in pieces(buffer, self.chirp.len()) {
            padded.fill(zero);
            for ((padded, value), chirp) in padded.iter_mut().zip(&*values).zip(&self.chirp) {
                *padded = *value * *chirp;
            }
            self.forward.process(&mut padded);
            for (value, filter) in padded.iter_mut().zip(&self.filter) {
                *value = *value * *filter;
            }
            self.inverse.process(&mut padded);
            for ((value, padded), chirp) in values.iter_mut().zip(&padded).zip(&self.chirp) {
                *value = *padded * *chirp;
            }
        }
    }
}

/// The transforms that a buffer holds, each of `len` values.
fn pieces<T>(buffer: &mut [T], len: usize) -> impl Iterator<Item = &mut [T]> {
    let len = len.max(1);
    assert!(buffer.len().is_multiple_of(len), "{} values for transforms of {len}", buffer.len());
    buffer.chunks_exact_mut(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    type C = Complex<f64>;

    /// Values that a small generator makes, in -1..1.
    fn noise(len: usize) -> Vec<C> {
        let mut state = 0x9e37_79b9_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0
        };
        (0..len).map(|_| C::new(next(), next())).collect()
    }

    /// The definition.
    fn defined(values: &[C], direction: FftDirection) -> Vec<C> {
        let n = values.len();
        let sum = |k: usize| {
            values.iter().enumerate().map(|(j, v)| v * root::<f64>(j * k % n, n, direction)).sum()
        };
        (0..n).map(sum).collect()
    }

    fn distance(a: &[C], b: &[C]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max)
    }

    #[test]
    fn every_length_is_what_the_definition_says() {
        for n in (1..=70).chain([97, 127, 128, 210, 243, 255, 256, 257, 500, 509, 1000, 1024]) {
            for direction in [FftDirection::Forward, FftDirection::Inverse] {
                let values = noise(n);
                let mut got = values.clone();
                FftPlanner::new().plan_fft(n, direction).process(&mut got);
                let off = distance(&got, &defined(&values, direction));
                assert!(off < 1e-11 * n as f64, "{n} {direction:?}: {off}");
            }
        }
    }

    #[test]
    fn there_and_back_is_the_length_times_the_values() {
        for n in [1, 6, 64, 1009, 40_000, 65_536, 99_991] {
            let values = noise(n);
            let mut got = values.clone();
            let mut planner = FftPlanner::new();
            planner.plan_fft_forward(n).process(&mut got);
            planner.plan_fft_inverse(n).process(&mut got);
            let scaled: Vec<C> = got.iter().map(|v| v / n as f64).collect();
            let off = distance(&scaled, &values);
            assert!(off < 1e-11, "{n}: {off}");
        }
    }

    #[test]
    fn single_precision_loses_no_more_than_it_must() {
        for n in [7, 48, 400, 512, 1009] {
            let values = noise(n);
            let mut got: Vec<Complex<f32>> =
                values.iter().map(|v| Complex::new(v.re as f32, v.im as f32)).collect();
            FftPlanner::new().plan_fft_forward(n).process(&mut got);
            let got: Vec<C> = got.iter().map(|v| C::new(v.re.into(), v.im.into())).collect();
            let want = defined(&values, FftDirection::Forward);
            let size = want.iter().map(|v| v.norm()).fold(0.0, f64::max);
            let off = distance(&got, &want) / size;
            assert!(off < 2e-6, "{n}: {off}");
        }
    }

    #[test]
    fn a_buffer_holds_several_transforms() {
        for n in [5, 8] {
            let values = noise(3 * n);
            let mut got = values.clone();
            FftPlanner::new().plan_fft_forward(n).process(&mut got);
            let want: Vec<C> =
                values.chunks(n).flat_map(|v| defined(v, FftDirection::Forward)).collect();
            assert!(distance(&got, &want) < 1e-12);
        }
    }

    #[test]
    fn nothing_is_a_transform_of_nothing() {
        FftPlanner::<f32>::new().plan_fft_forward(0).process(&mut []);
    }

    #[test]
    #[should_panic(expected = "7 values for transforms of 5")]
    fn a_buffer_of_another_length_is_refused() {
        FftPlanner::new().plan_fft_forward(5).process(&mut noise(7));
    }
}
