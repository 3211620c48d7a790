//! Activation functions: the formulas, and the scalar code that is their specification.

use crate::KernelError;

/// A function of one value, applied to the `f32` sum before it is rounded to the element type.
///
/// Every one gives "not a number" for "not a number".
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, min), max)`; ReLU6 is `0..6`.
    Clamp {
        /// Lower bound; may be minus infinity.
        min: f32,
        /// Upper bound; may be infinity.
        max: f32,
    },
    /// `x * sigmoid(x)`; where `x` is below -87, `-87 * sigmoid(-87)`, about -1.4e-36.
    Silu,
    /// `1 / (1 + exp(-x))`; where `x` is below -87, `sigmoid(-87)`, about 1.6e-38.
    Sigmoid,
    /// `x * min(max(x / 6 + 1/2, 0), 1)`, and 0 for minus infinity.
    HardSwish,
    /// `min(max(x / 6 + 1/2, 0), 1)`: PyTorch's slope. (ONNX's default slope, 0.2, is another.)
    HardSigmoid,
}

/// Below this the sigmoid and all that is made of it no longer change: `exp(87)` is finite.
pub(super) const SIGMOID_MIN: f32 = -87.0;

impl Activation {
    /// The function's value, by its formula.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::None => x,
            // `f32::max` and `clamp` differ in what they do with NaN.
            Activation::Relu => x.clamp(0.0, f32::INFINITY),
            Activation::Clamp { min, max } => x.clamp(min, max),
            Activation::Silu => {
                let x = x.clamp(SIGMOID_MIN, f32::INFINITY);
                x / (1.0 + (-x).exp())
            }
            Activation::Sigmoid => {
                let x = x.clamp(SIGMOID_MIN, f32::INFINITY);
                1.0 / (1.0 + (-x).exp())
            }
            Activation::HardSwish => {
                let x = x.clamp(-3.0, f32::INFINITY);
                x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)
            }
            Activation::HardSigmoid => (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0),
        }
    }

    /// Refuses bounds that are not numbers or are reversed.
    pub(super) fn check(self) -> Result<(), KernelError> {
        match self {
            Activation::Clamp { min, max } if min > max || min.is_nan() || max.is_nan() => {
                Err(KernelError::ActivationRange { min, max })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 7] = [
        Activation::None,
        Activation::Relu,
        Activation::Clamp { min: -1.0, max: 6.0 },
        Activation::Silu,
        Activation::Sigmoid,
        Activation::HardSwish,
        Activation::HardSigmoid,
    ];

    #[test]
    fn known_values_and_limits() {
        let expected = [
            (f32::NEG_INFINITY, [f32::NEG_INFINITY, 0.0, -1.0, -1.4e-36, 1.7e-38, 0.0, 0.0]),
            (-2.0, [-2.0, 0.0, -1.0, -0.23840584, 0.11920292, -1.0 / 3.0, 1.0 / 6.0]),
            (0.0, [0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.5]),
            (7.0, [7.0, 7.0, 6.0, 6.993_623, 0.999_089, 7.0, 1.0]),
            (
                f32::INFINITY,
                [f32::INFINITY, f32::INFINITY, 6.0, f32::INFINITY, 1.0, f32::INFINITY, 1.0],
            ),
        ];
        for (x, values) in expected {
            for (activation, value) in ALL.into_iter().zip(values) {
                let got = activation.apply(x);
                assert!(got == value || (got - value).abs() < 1e-6, "{activation:?}({x}) = {got}");
            }
        }
    }

    #[test]
    fn not_a_number_passes_through() {
        for activation in ALL {
            assert!(activation.apply(f32::NAN).is_nan(), "{activation:?}");
        }
    }

    #[test]
    fn reversed_and_unordered_bounds_are_refused() {
        for (min, max) in [(1.0, 0.0), (f32::NAN, 0.0), (0.0, f32::NAN)] {
            assert!(Activation::Clamp { min, max }.check().is_err(), "{min} {max}");
        }
        assert!(Activation::Clamp { min: 0.0, max: 0.0 }.check().is_ok());
    }
}
