//! Product of two tensors, or of a tensor and one factor per channel (squeeze-and-excitation).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512Vnni};
use crate::requantize::{check_multiplier, check_range, converts_exactly};
use crate::{Isa, KernelError};

/// Parameters of a quantized product:
///
/// ```text
/// product = (a - a_zero_point) * (b - b_zero_point)
/// out = clamp(round_half_even(product as f32 * multiplier) + zero_point, min, max)
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MulParams {
    /// Zero point of `a`.
    pub a_zero_point: u8,
    /// Zero point of `b`.
    pub b_zero_point: u8,
    /// `s_a * s_b / s_out`, finite, not negative.
    pub multiplier: f32,
    /// The output's zero point.
    pub zero_point: u8,
    /// Smallest output.
    pub min: u8,
    /// Largest output.
    pub max: u8,
}

/// A quantized product.
pub struct Mul {
    params: MulParams,
    body: Body,
}

enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Where each pixel is multiplied by factors per channel; else as AVX2.
    #[cfg(target_arch = "x86_64")]
    Vnni(Avx2, Avx512Vnni),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Mul {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; [`KernelError::Multiplier`] or
    /// [`KernelError::ClampRange`] for parameters out of range.
    pub fn new(isa: Isa, params: MulParams) -> Result<Mul, KernelError> {
        isa.check()?;
        check_range(params.min, params.max)?;
        check_multiplier("multiplier", params.multiplier)?;
        let exact = converts_exactly(255.0 * 255.0 * f64::from(params.multiplier));
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni if exact => match (Avx2::detect(), Avx512Vnni::detect()) {
                (Some(avx2), Some(vnni)) if isa == Isa::Avx512Vnni => Body::Vnni(avx2, vnni),
                (avx2, _) => avx2.map_or(Body::Scalar, Body::Avx2),
            },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot if exact => Neon::detect().map_or(Body::Scalar, Body::Neon),
            _ => Body::Scalar,
        };
        Ok(Mul { params, body })
    }

    /// The kernel's name, `mul_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "mul_u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "mul_u8_avx2_32",
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(..) => "mul_u8_vnni_64",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "mul_u8_neon_16",
        }
    }

    /// Multiplies element by element.
    ///
    /// # Panics
    /// If the three slices differ in length.
    pub fn run(&self, a: &[u8], b: &[u8], out: &mut [u8]) {
        assert_eq!(a.len(), out.len(), "length of a");
        assert_eq!(b.len(), out.len(), "length of b");
        match self.body {
            Body::Scalar => scalar::run(&self.params, a, b, out),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) | Body::Vnni(token, _) => {
                avx2::run(token, &self.params, a, b, out);
            }
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::run(token, &self.params, a, b, out),
        }
    }

    /// Multiplies each pixel of `a` (`[pixels][channels]`) by `b` (`[channels]`).
    ///
    /// # Panics
    /// If `a` and `out` differ in length, or `b` is empty or its length does not divide theirs.
    pub fn run_channels(&self, a: &[u8], b: &[u8], out: &mut [u8]) {
        assert_eq!(a.len(), out.len(), "length of a");
        assert!(!b.is_empty() && a.len().is_multiple_of(b.len()), "length of b");
        let whole = match self.body {
            Body::Scalar => 0,
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(_, token) if b.len().is_multiple_of(avx2::STEP) => {
                return vnni::run(token, &self.params, a, b, out);
            }
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) | Body::Vnni(token, _) => {
                let whole = b.len() / avx2::STEP * avx2::STEP;
                for first in (0..whole).step_by(avx2::STEP) {
                    avx2::run_step(token, &self.params, a, b, first, out);
                }
                whole
            }
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => {
                let whole = b.len() / neon::STEP * neon::STEP;
                for first in (0..whole).step_by(neon::STEP) {
                    neon::run_step(token, &self.params, a, b, first, out);
                }
                whole
            }
        };
        if whole < b.len() {
            for (a, out) in a.chunks_exact(b.len()).zip(out.chunks_exact_mut(b.len())) {
                self.run(&a[whole..], &b[whole..], &mut out[whole..]);
            }
        }
    }
}
