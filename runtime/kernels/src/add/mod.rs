//! Sum of two tensors with different scales (a residual connection).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
use crate::isa::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
use crate::requantize::{check_multiplier, check_range, converts_exactly};
use crate::{Isa, KernelError};

/// Parameters of a quantized addition:
///
/// ```text
/// sum = (a - a_zero_point) as f32 * a_multiplier + (b - b_zero_point) as f32 * b_multiplier
/// out = clamp(round_half_even(sum) + zero_point, min, max)
/// ```
///
/// with two `f32` products and one `f32` sum, each rounded (no fused multiply-add).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AddParams {
    /// Zero point of `a`.
    pub a_zero_point: u8,
    /// Zero point of `b`.
    pub b_zero_point: u8,
    /// `s_a / s_out`, finite, not negative.
    pub a_multiplier: f32,
    /// `s_b / s_out`, finite, not negative.
    pub b_multiplier: f32,
    /// The output's zero point.
    pub zero_point: u8,
    /// Smallest output.
    pub min: u8,
    /// Largest output.
    pub max: u8,
}

/// A quantized addition.
pub struct Add {
    params: AddParams,
    body: Body,
}

enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Add {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; [`KernelError::Multiplier`] or
    /// [`KernelError::ClampRange`] for parameters out of range.
    pub fn new(isa: Isa, params: AddParams) -> Result<Add, KernelError> {
        isa.check()?;
        check_range(params.min, params.max)?;
        check_multiplier("a_multiplier", params.a_multiplier)?;
        check_multiplier("b_multiplier", params.b_multiplier)?;
        let exact = converts_exactly(
            255.0 * (f64::from(params.a_multiplier) + f64::from(params.b_multiplier)),
        );
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni if exact => Avx2::detect().map_or(Body::Scalar, Body::Avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot if exact => Neon::detect().map_or(Body::Scalar, Body::Neon),
            _ => Body::Scalar,
        };
        Ok(Add { params, body })
    }

    /// The kernel's name, `add_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "add_u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "add_u8_avx2_32",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "add_u8_neon_16",
        }
    }

    /// Adds element by element.
    ///
    /// # Panics
    /// If the three slices differ in length.
    pub fn run(&self, a: &[u8], b: &[u8], out: &mut [u8]) {
        assert_eq!(a.len(), out.len(), "length of a");
        assert_eq!(b.len(), out.len(), "length of b");
        match self.body {
            Body::Scalar => scalar::run(&self.params, a, b, out),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::run(token, &self.params, a, b, out),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::run(token, &self.params, a, b, out),
        }
    }
}
