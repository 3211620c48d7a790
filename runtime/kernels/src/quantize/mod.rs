//! The borders of an integer region: `f32` in NCHW to `u8` in NHWC and back, one image.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
use crate::isa::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
use crate::requantize::check_scale;
use crate::{ConvGeometry, Isa, KernelError};

/// `f32` `[channels][pixels]` to `u8` `[pixels][channels]`:
///
/// `q = clamp(round_half_even(x / scale) + zero_point, 0, 255)`
///
/// with a true `f32` division. NaN gives `zero_point`; infinities saturate.
pub struct Quantize {
    border: Border,
    body: Body,
}

/// `u8` `[pixels][channels]` to `f32` `[channels][pixels]`:
///
/// `x = (q - zero_point) as f32 * scale`
pub struct Dequantize {
    border: Border,
    body: Body,
}

/// What both directions share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Border {
    pub(crate) channels: usize,
    pub(crate) pixels: usize,
    pub(crate) scale: f32,
    pub(crate) zero_point: u8,
}

enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Body {
    fn new(isa: Isa) -> Body {
        match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => Avx2::detect().map_or(Body::Scalar, Body::Avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => Neon::detect().map_or(Body::Scalar, Body::Neon),
            _ => Body::Scalar,
        }
    }
}

impl Border {
    fn new(
        isa: Isa,
        channels: usize,
        pixels: usize,
        scale: f32,
        zero_point: u8,
    ) -> Result<Border, KernelError> {
        isa.check()?;
        ConvGeometry::pointwise(pixels, 1, channels, channels.min(1)).check()?;
        check_scale(scale)?;
        Ok(Border { channels, pixels, scale, zero_point })
    }

    fn len(&self) -> usize {
        self.channels * self.pixels
    }
}

impl Quantize {
    /// Checks the parameters; `scale` is finite and positive.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; [`KernelError::Geometry`] if a size
    /// is zero or too large; [`KernelError::Multiplier`] for another scale.
    pub fn new(
        isa: Isa,
        channels: usize,
        pixels: usize,
        scale: f32,
        zero_point: u8,
    ) -> Result<Quantize, KernelError> {
        let border = Border::new(isa, channels, pixels, scale, zero_point)?;
        Ok(Quantize { border, body: Body::new(isa) })
    }

    /// The kernel's name, `quantize_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "quantize_f32u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "quantize_f32u8_avx2_16",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "quantize_f32u8_neon_16",
        }
    }

    /// Quantizes one image.
    ///
    /// # Panics
    /// If a slice does not have `channels * pixels` elements.
    pub fn run(&self, nchw: &[f32], nhwc: &mut [u8]) {
        assert_eq!(nchw.len(), self.border.len(), "input length");
        assert_eq!(nhwc.len(), self.border.len(), "output length");
        match self.body {
            Body::Scalar => scalar::quantize(&self.border, nchw, nhwc),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::quantize(token, &self.border, nchw, nhwc),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::quantize(token, &self.border, nchw, nhwc),
        }
    }
}

impl Dequantize {
    /// Checks the parameters; `scale` is finite and positive.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; [`KernelError::Geometry`] if a size
    /// is zero or too large; [`KernelError::Multiplier`] for another scale.
    pub fn new(
        isa: Isa,
        channels: usize,
        pixels: usize,
        scale: f32,
        zero_point: u8,
    ) -> Result<Dequantize, KernelError> {
        let border = Border::new(isa, channels, pixels, scale, zero_point)?;
        Ok(Dequantize { border, body: Body::new(isa) })
    }

    /// The kernel's name, `dequantize_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "dequantize_u8f32_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "dequantize_u8f32_avx2_8",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "dequantize_u8f32_neon_16",
        }
    }

    /// Dequantizes one image.
    ///
    /// # Panics
    /// If a slice does not have `channels * pixels` elements.
    pub fn run(&self, nhwc: &[u8], nchw: &mut [f32]) {
        assert_eq!(nhwc.len(), self.border.len(), "input length");
        assert_eq!(nchw.len(), self.border.len(), "output length");
        match self.body {
            Body::Scalar => scalar::dequantize(&self.border, nhwc, nchw),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::dequantize(token, &self.border, nhwc, nchw),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::dequantize(token, &self.border, nhwc, nchw),
        }
    }
}

/// Several channels of several pixels: blocks small enough to stay in the cache while each
/// channel walks through them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn dequantize_planes(b: &Border, nhwc: &[u8], nchw: &mut [f32]) {
    let table: [f32; 256] = std::array::from_fn(|q| scalar::dequantize_one(b, q as u8));
    let block = (16 * 1024 / b.channels).max(8);
    for first in (0..b.pixels).step_by(block) {
        let pixels = block.min(b.pixels - first);
        let from = &nhwc[first * b.channels..][..pixels * b.channels];
        for channel in 0..b.channels {
            let to = &mut nchw[channel * b.pixels + first..][..pixels];
            for (x, &q) in to.iter_mut().zip(from[channel..].iter().step_by(b.channels)) {
                *x = table[usize::from(q)];
            }
        }
    }
}
