//! From luma and chroma to RGB, 8-bit samples, in 16-bit fixed point.
//!
//! `R = clamp((luma * (Y - black) + red * (V - 128) + 2^15) >> 16, 0, 255)`, and likewise
//! `G` with `green_u * (U - 128) + green_v * (V - 128)` and `B` with `blue * (U - 128)`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
use crate::isa::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
use crate::resample::Turned;
use crate::{Isa, KernelError};

/// What the formula multiplies by, in units of 2^-16, each less than 2^18 in size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coefficients {
    /// The luma of black.
    pub black: i32,
    /// Luma's share of each colour.
    pub luma: i32,
    /// V's share of red.
    pub red: i32,
    /// U's share of green.
    pub green_u: i32,
    /// V's share of green.
    pub green_v: i32,
    /// U's share of blue.
    pub blue: i32,
}

/// The conversion on one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct YuvToRgb {
    coefficients: Coefficients,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl YuvToRgb {
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    ///
    /// # Panics
    /// If a coefficient is out of its range.
    pub fn new(isa: Isa, coefficients: Coefficients) -> Result<YuvToRgb, KernelError> {
        isa.check()?;
        let Coefficients { black, luma, red, green_u, green_v, blue } = coefficients;
        for value in [luma, red, green_u, green_v, blue] {
            assert!(value.unsigned_abs() < 1 << 18, "coefficient {value}");
        }
        assert!((0..=255).contains(&black), "black {black}");
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => Avx2::detect().map_or(Body::Scalar, Body::Avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => Neon::detect().map_or(Body::Scalar, Body::Neon),
            _ => Body::Scalar,
        };
        Ok(YuvToRgb { coefficients, body })
    }

    /// The kernel's name, `yuv_to_rgb_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "yuv_to_rgb_u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "yuv_to_rgb_u8_avx2_16",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "yuv_to_rgb_u8_neon_16",
        }
    }

    /// Rows of samples to a row of RGB.
    ///
    /// # Panics
    /// If the lengths differ (`rgb`: three times as long).
    pub fn row(&self, y: &[u8], u: &[u8], v: &[u8], rgb: &mut [u8]) {
        let lengths = [u.len(), v.len(), rgb.len() / 3, rgb.len().div_ceil(3)];
        assert_eq!(lengths, [y.len(); 4], "lengths");
        match self.body {
            Body::Scalar => scalar::row(&self.coefficients, [y, u, v], rgb, 0),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::row(token, &self.coefficients, [y, u, v], rgb),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::row(token, &self.coefficients, [y, u, v], rgb),
        }
    }

    /// Turned rows of samples (see [`crate::resample`]) to turned rows of RGB.
    ///
    /// # Panics
    /// If the lengths differ (`rgb`: three times as long).
    pub fn turned(&self, y: &[Turned], u: &[Turned], v: &[Turned], rgb: &mut [Turned]) {
        let lengths = [u.len(), v.len(), rgb.len() / 3, rgb.len().div_ceil(3)];
        assert_eq!(lengths, [y.len(); 4], "lengths");
        match self.body {
            Body::Scalar => scalar::turned(&self.coefficients, [y, u, v], rgb),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::turned(token, &self.coefficients, [y, u, v], rgb),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::turned(token, &self.coefficients, [y, u, v], rgb),
        }
    }
}
