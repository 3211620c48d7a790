//! From a 32-bit accumulator to an activation: the rule all integer kernels end with, and the
//! proofs that let vector code apply it without special cases.

use crate::{InputCodes, KernelError};

/// How accumulators become `u8` activations; one multiplier and one bias per output channel.
///
/// `out[n] = clamp(round_half_even((acc + bias[n]) as f32 * multiplier[n]) + zero_point, min, max)`
///
/// `acc + bias[n]` is an `i32` sum (constructors refuse layers in which it could overflow); the
/// conversion to `f32` rounds to nearest even; the product is one `f32` multiplication.
#[derive(Clone, PartialEq, Debug)]
pub struct Requantize {
    /// `s_in * s_weight[n] / s_out`, finite, not negative.
    pub multiplier: Vec<f32>,
    /// Bias in units of `s_in * s_weight[n]`.
    pub bias: Vec<i32>,
    /// The output's zero point.
    pub zero_point: u8,
    /// Smallest output (a fused activation raises it above 0).
    pub min: u8,
    /// Largest output (a fused activation lowers it below 255).
    pub max: u8,
}

impl Requantize {
    /// Checks lengths and ranges for `channels` output channels.
    pub(crate) fn check(&self, channels: usize) -> Result<(), KernelError> {
        check_range(self.min, self.max)?;
        check_multipliers(&self.multiplier, channels)?;
        check_len("bias", channels, self.bias.len())
    }

    /// The specification: one accumulator of channel `n` to its activation.
    pub(crate) fn apply(&self, n: usize, acc: i32) -> u8 {
        self.apply_plus(n, acc, 0.0)
    }

    /// The same with a residual, in units of the output.
    pub(crate) fn apply_plus(&self, n: usize, acc: i32, residual: f32) -> u8 {
        let value = (acc + self.bias[n]) as f32 * self.multiplier[n] + residual;
        finish(value, self.zero_point, self.min, self.max)
    }
}

/// A second input of a layer, added in real numbers before the one rounding:
///
/// `out[n] = clamp(round_half_even((acc + bias[n]) as f32 * multiplier[n]
///     + (r - zero_point) as f32 * residual.multiplier) + zero_point, min, max)`
///
/// in `f32`, each product rounded before the sum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Residual {
    /// Zero point of the residual's codes.
    pub zero_point: u8,
    /// `s_residual / s_out`, finite, not negative.
    pub multiplier: f32,
}

impl Residual {
    /// The residual's part of an output, in units of the output.
    pub(crate) fn value(self, code: u8) -> f32 {
        (i32::from(code) - i32::from(self.zero_point)) as f32 * self.multiplier
    }
}

/// `clamp(round_half_even(value) + zero_point, min, max)`, whatever the size of `value`.
pub(crate) fn finish(value: f32, zero_point: u8, min: u8, max: u8) -> u8 {
    // The cast saturates, so an infinite or huge value ends at the bound it points to.
    let rounded = value.round_ties_even() as i32;
    rounded.saturating_add(i32::from(zero_point)).clamp(i32::from(min), i32::from(max)) as u8
}

/// Whether `|value| <= bound` keeps the conversion from `f32` to `i32` in range, so that vector
/// conversions (which do not saturate alike) agree with [`finish`].
pub(crate) fn converts_exactly(bound: f64) -> bool {
    bound <= f64::from(1 << 30)
}

/// Refuses an empty output range.
pub(crate) fn check_range(min: u8, max: u8) -> Result<(), KernelError> {
    if min > max { Err(KernelError::ClampRange { min, max }) } else { Ok(()) }
}

/// Refuses a slice of the wrong length.
pub(crate) fn check_len(
    what: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), KernelError> {
    if expected == actual { Ok(()) } else { Err(KernelError::Length { what, expected, actual }) }
}

/// Refuses multipliers that are not finite or negative (zero is a channel without weights).
pub(crate) fn check_multipliers(values: &[f32], channels: usize) -> Result<(), KernelError> {
    check_len("multiplier", channels, values.len())?;
    match values.iter().position(|m| !m.is_finite() || *m < 0.0) {
        None => Ok(()),
        Some(index) => {
            Err(KernelError::Multiplier { what: "multiplier", index, value: values[index] })
        }
    }
}

/// Refuses one multiplier that is not finite or negative.
pub(crate) fn check_multiplier(what: &'static str, value: f32) -> Result<(), KernelError> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(KernelError::Multiplier { what, index: 0, value })
    }
}

/// Refuses a scale that is not finite and positive.
pub(crate) fn check_scale(value: f32) -> Result<(), KernelError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(KernelError::Multiplier { what: "scale", index: 0, value })
    }
}

/// Refuses weights outside -255..=255.
pub(crate) fn check_weights(weights: &[i16], expected: usize) -> Result<(), KernelError> {
    check_len("weights", expected, weights.len())?;
    // Whole first: without an early exit it is vector code.
    if weights.iter().fold(true, |fit, w| fit & (-255..=255).contains(w)) {
        return Ok(());
    }
    match weights.iter().position(|w| !(-255..=255).contains(w)) {
        None => Ok(()),
        Some(index) => Err(KernelError::Weight { index, value: weights[index] }),
    }
}

/// `bias - zero_point * sum(weights)`: with it, kernels multiply activations as they are, or less
/// a constant that `zero_point` is then relative to.
///
/// Wrapping is exact in the end: `sum(x * w)` wraps alike, and the complete sum fits an `i32`
/// (see [`check_accumulators`]).
pub(crate) fn folded_bias<'a>(
    weights: impl IntoIterator<Item = &'a i16>,
    zero_point: i32,
    bias: i32,
) -> i32 {
    let sum = weights.into_iter().fold(0i32, |sum, &w| sum.wrapping_add(i32::from(w)));
    bias.wrapping_sub(sum.wrapping_mul(zero_point))
}

/// What the weights and biases of one layer can reach, proven when it is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Vector conversion to `i32` is exact in every channel.
    pub(crate) converts_exactly: bool,
    /// Every weight lies in -128..=127.
    pub(crate) weights_fit_i8: bool,
    /// Rounded results with any zero point added fit an `i16` in every channel, for all inputs in
    /// the promised range.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    pub(crate) results_fit_i16: bool,
}

/// Largest magnitude of `(acc + bias) * multiplier` with which [`Reach::results_fit_i16`] holds.
pub(crate) const I16_RESULTS: f64 = 32_000.0;

/// Bounds the accumulators of a layer; `channel(n)` yields the weights of output channel `n`.
///
/// `|sum((x - zero_point) * w) + bias| <= max(zero_point, 255 - zero_point) * sum(|w|) + |bias|`,
/// whatever range of codes was promised: nothing overflows even if the promise is broken.
pub(crate) fn check_accumulators<'a, I: Iterator<Item = &'a i16>>(
    channel: impl Fn(usize) -> I,
    input: InputCodes,
    multiplier: &[f32],
    bias: &[i32],
) -> Result<Reach, KernelError> {
    let largest_input = i64::from(input.zero_point.max(255 - input.zero_point));
    let promised = input.including_zero_point();
    let above = i64::from(promised.max) - i64::from(promised.zero_point);
    let below = i64::from(promised.zero_point) - i64::from(promised.min);
    let mut reach = Reach { converts_exactly: true, weights_fit_i8: true, results_fit_i16: true };
    for (n, (&multiplier, &bias)) in multiplier.iter().zip(bias).enumerate() {
        let (mut positive, mut negative) = (0i64, 0i64);
        for &w in channel(n) {
            positive += i64::from(w.max(0));
            negative += i64::from(w.min(0).unsigned_abs());
            reach.weights_fit_i8 &= (-128..=127).contains(&w);
        }
        let sum = positive + negative;
        let bound = largest_input * sum + i64::from(bias).abs();
        if bound > i64::from(i32::MAX) {
            return Err(KernelError::AccumulatorOverflow { channel: n, bound });
        }
        reach.converts_exactly &= converts_exactly(bound as f64 * f64::from(multiplier));
        let most = above * positive + below * negative + i64::from(bias);
        let least = i64::from(bias) - above * negative - below * positive;
        let furthest = most.unsigned_abs().max(least.unsigned_abs()) as f64;
        reach.results_fit_i16 &= furthest * f64::from(multiplier) <= I16_RESULTS;
    }
    Ok(reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_and_ends_saturate() {
        let cases = [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (254.5, 254), (255.5, 255)];
        for (value, expected) in cases {
            assert_eq!(finish(value, 0, 0, 255), expected, "{value}");
        }
        assert_eq!(finish(-1.5, 10, 0, 255), 8);
        assert_eq!(finish(f32::MAX, 255, 3, 250), 250);
        assert_eq!(finish(f32::NEG_INFINITY, 255, 3, 250), 3);
        assert_eq!(finish(3e9, 0, 0, 255), 255);
        assert_eq!(finish(-3e9, 0, 0, 255), 0);
    }

    #[test]
    fn bounds_are_per_channel() {
        let weights = [1i16, -2, 255, -255];
        let channel = |n: usize| weights[2 * n..2 * n + 2].iter();
        let reach =
            check_accumulators(channel, InputCodes::any(0), &[1.0, 1.0], &[5, -5]).expect("small");
        assert!(reach.converts_exactly);
        assert!(!reach.weights_fit_i8);
        let error =
            check_accumulators(channel, InputCodes::any(0), &[1.0, 1.0], &[0, i32::MIN + 1]);
        let bound = 255 * 510 + i64::from(i32::MAX);
        assert_eq!(error.err(), Some(KernelError::AccumulatorOverflow { channel: 1, bound }));
        let reach =
            check_accumulators(channel, InputCodes::any(0), &[1e9, 1.0], &[0, 0]).expect("fits");
        assert!(!reach.converts_exactly);
    }

    #[test]
    fn results_fit_16_bits_up_to_the_bound() {
        let weights = [100i16, -28];
        let fits = |zero_point, min, max, multiplier| {
            let input = InputCodes { zero_point, min, max };
            let reach = check_accumulators(|_| weights.iter(), input, &[multiplier], &[0]);
            reach.expect("small").results_fit_i16
        };
        // At zero point 0 the sum reaches 255 * 100, and 127 * 100 when the input is 7 bits.
        assert!(fits(0, 0, 255, 1.25) && !fits(0, 0, 255, 1.26));
        assert!(fits(0, 0, 127, 2.5) && !fits(0, 0, 127, 2.6));
        // In the middle, 127 * 100 + 128 * 28 = 16284; 128 * 100 + 127 * 28 = 16356 the other way.
        assert!(fits(128, 0, 255, 1.95) && !fits(128, 0, 255, 1.96));
    }
}
