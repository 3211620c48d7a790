//! Mean over all pixels, channel by channel.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
use crate::isa::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
use crate::requantize::{check_multiplier, check_range, finish};
use crate::{ConvGeometry, Isa, KernelError, Scratch};

/// Global average pooling:
///
/// ```text
/// sum[c] = sum over pixels of x[pixel, c] - pixels * input_zero_point
/// out[c] = clamp(round_half_even(sum[c] as f32 * multiplier) + zero_point, min, max)
/// ```
pub struct GlobalAveragePool {
    pixels: usize,
    channels: usize,
    params: PoolParams,
    body: Body,
}

/// Parameters of a quantized mean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PoolParams {
    /// Zero point of the input.
    pub input_zero_point: u8,
    /// `s_in / (s_out * pixels)`, finite, not negative.
    pub multiplier: f32,
    /// The output's zero point.
    pub zero_point: u8,
    /// Smallest output.
    pub min: u8,
    /// Largest output.
    pub max: u8,
}

enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl GlobalAveragePool {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; [`KernelError::Geometry`] if a size
    /// is zero or the tensor has more than 2147483647 / 255 pixels;
    /// [`KernelError::Multiplier`] or [`KernelError::ClampRange`] for parameters out of range.
    pub fn new(
        isa: Isa,
        pixels: usize,
        channels: usize,
        params: PoolParams,
    ) -> Result<GlobalAveragePool, KernelError> {
        isa.check()?;
        ConvGeometry::pointwise(pixels, 1, channels, channels.min(1)).check()?;
        if pixels > i32::MAX as usize / 255 {
            return Err(KernelError::Geometry(format!(
                "the sum of {pixels} pixels does not fit 32 bits"
            )));
        }
        check_range(params.min, params.max)?;
        check_multiplier("multiplier", params.multiplier)?;
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => Avx2::detect().map_or(Body::Scalar, Body::Avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => Neon::detect().map_or(Body::Scalar, Body::Neon),
            _ => Body::Scalar,
        };
        Ok(GlobalAveragePool { pixels, channels, params, body })
    }

    /// The kernel's name, `pool_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "pool_u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "pool_u8_avx2_32",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "pool_u8_neon_16",
        }
    }

    /// Averages `input` (`[pixels][channels]`) into `output` (`[channels]`).
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn run(&self, input: &[u8], output: &mut [u8], scratch: &mut Scratch) {
        assert_eq!(input.len(), self.pixels * self.channels, "input length");
        assert_eq!(output.len(), self.channels, "output length");
        let sums = scratch.i32s(self.channels);
        match self.body {
            Body::Scalar => scalar::run(input, sums),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::run(token, input, sums),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::run(token, input, sums),
        }
        let PoolParams { input_zero_point, multiplier, zero_point, min, max } = self.params;
        let offset = self.pixels as i32 * i32::from(input_zero_point);
        for (out, &sum) in output.iter_mut().zip(&*sums) {
            let value = (sum - offset) as f32 * multiplier;
            *out = finish(value, zero_point, min, max);
        }
    }
}
