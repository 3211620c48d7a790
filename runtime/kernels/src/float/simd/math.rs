//! Activation functions of vectors.

use super::Simd;
use crate::float::activation::SIGMOID_MIN;
use crate::float::{Activation, Element};

/// What the exponential function needs beyond [`Simd`].
pub(super) trait Exp: Simd<C = f32> {
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number.
    fn round(self, x: Self::V) -> Self::V;
    /// `2^n` for whole `n` in -126..=127; anything for what is not a number.
    fn power_of_two(self, n: Self::V) -> Self::V;
}

/// `1 / (1 + exp(-x))` for `x` from -87, with at most 4 units in the last place of error;
/// constant below.
#[inline(always)]
pub(super) fn sigmoid<S: Exp>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp_of_negative(s, x)))
}

/// `x * sigmoid(x)`, with the smallest `x` -87 as there.
#[inline(always)]
pub(super) fn silu<S: Exp>(s: S, x: S::V) -> S::V {
    let x = s.max(x, s.splat(SIGMOID_MIN));
    s.mul(x, sigmoid(s, x))
}

/// `exp(-x)` for `x` in -87..=87, as at the ends beyond, with at most 2 units in the last place of
/// error.
///
/// Source: Cephes, `expf.c` (Moshier): `exp(y) = 2^n * exp(r)` with `|r| <= ln(2) / 2`, and a
/// polynomial for `exp(r)`.
#[inline(always)]
fn exp_of_negative<S: Exp>(s: S, x: S::V) -> S::V {
    let y = s.mul(x, s.splat(-1.0));
    let y = s.max(s.min(y, s.splat(-SIGMOID_MIN)), s.splat(SIGMOID_MIN));
    let n = s.round(s.mul(y, s.splat(std::f32::consts::LOG2_E)));
    // ln(2) in two parts, the first with few bits, so that their products are exact.
    let r = s.fma(y, n, s.splat(-0.693_359_4));
    let r = s.fma(r, n, s.splat(2.121_944_4e-4));
    let mut p = s.splat(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.fma(s.splat(coefficient), p, r);
    }
    let exp = s.add(s.fma(r, s.mul(r, r), p), s.splat(1.0));
    s.mul(exp, s.power_of_two(n))
}

/// An activation, prepared for one instruction set's arithmetic.
#[derive(Clone, Copy)]
pub(in crate::float) struct Epilogue<C> {
    activation: Activation,
    /// For activations that only bound: the bounds.
    pub(in crate::float) min: C,
    pub(in crate::float) max: C,
}

impl<C: Element> Epilogue<C> {
    pub(in crate::float) fn new(activation: Activation) -> Epilogue<C> {
        let (min, max) = match activation {
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Clamp { min, max } => (min, max),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        };
        Epilogue { activation, min: C::from_f32(min), max: C::from_f32(max) }
    }

    /// Whether there is nothing to do.
    pub(in crate::float) fn is_none(&self) -> bool {
        self.activation == Activation::None
    }

    /// Whether `min` and `max` are all there is to do.
    pub(in crate::float) fn only_bounds(&self) -> bool {
        matches!(self.activation, Activation::None | Activation::Relu | Activation::Clamp { .. })
    }

    /// The activation of a vector.
    #[inline(always)]
    pub(in crate::float) fn apply<S: Simd<C = C>>(&self, s: S, x: S::V) -> S::V {
        match self.activation {
            Activation::None => x,
            Activation::Relu | Activation::Clamp { .. } => {
                bound(s, x, s.splat(self.min), s.splat(self.max))
            }
            Activation::Silu => s.silu(x),
            Activation::Sigmoid => s.sigmoid(x),
            Activation::HardSwish => {
                let x = s.max(x, s.splat(C::from_f32(-3.0)));
                s.mul(x, ramp(s, x))
            }
            Activation::HardSigmoid => ramp(s, x),
        }
    }
}

/// `min(max(x, low), high)`
#[inline(always)]
fn bound<S: Simd>(s: S, x: S::V, low: S::V, high: S::V) -> S::V {
    s.min(s.max(x, low), high)
}

/// `min(max(x / 6 + 1/2, 0), 1)`
#[inline(always)]
fn ramp<S: Simd>(s: S, x: S::V) -> S::V {
    let line = s.fma(s.splat(S::C::from_f32(0.5)), x, s.splat(S::C::from_f32(1.0 / 6.0)));
    bound(s, line, s.splat(S::C::default()), s.splat(S::C::from_f32(1.0)))
}
