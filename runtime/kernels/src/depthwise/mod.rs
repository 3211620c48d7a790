//! Depthwise convolution of one NHWC image: each channel has its own filter.
//!
//! ```text
//! acc[p, c] = sum over taps (i, j) of (x[pixel(p, i, j), c] - input.zero_point) * w[i, j, c]
//! ```
//!
//! then [`Requantize`]. Start with `scalar.rs`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_tile;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "arm")]
mod neon32;
#[cfg(target_arch = "aarch64")]
mod neon_tile;
#[cfg(target_arch = "aarch64")]
mod neon_wide;
#[cfg(target_arch = "aarch64")]
mod neon_wide_tile;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neondot;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neondot_tile;
mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vnni;

use std::ops::Range;

#[cfg(target_arch = "arm")]
use crate::isa::Neon32;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use crate::isa::{Neon, NeonDot};
use crate::requantize::{Reach, check_accumulators, check_weights};
use crate::{ConvGeometry, InputCodes, Isa, KernelError, Requantize, Scratch};

/// What every instruction set builds its kernel from; checked by [`Layer::new`].
pub(crate) struct Layer<'a> {
    pub(crate) geometry: ConvGeometry,
    /// `[kernel_h][kernel_w][channels]`
    pub(crate) weights: &'a [i16],
    /// With the zero point inside the range.
    pub(crate) input: InputCodes,
    pub(crate) output: Requantize,
}

impl<'a> Layer<'a> {
    /// Checks everything that [`Depthwise::new`] promises to check but the instruction set.
    pub(crate) fn new(
        geometry: ConvGeometry,
        weights: &'a [i16],
        input: InputCodes,
        output: Requantize,
    ) -> Result<(Layer<'a>, Reach), KernelError> {
        geometry.check()?;
        if geometry.in_c != geometry.out_c {
            return Err(KernelError::Geometry(format!(
                "a depthwise convolution has as many outputs as inputs: {geometry:?}"
            )));
        }
        let channels = geometry.in_c;
        check_weights(weights, geometry.taps() * channels)?;
        output.check(channels)?;
        let channel = |n: usize| weights[n..].iter().step_by(channels);
        let reach = check_accumulators(channel, input, &output.multiplier, &output.bias)?;
        let input = input.including_zero_point();
        Ok((Layer { geometry, weights, input, output }, reach))
    }
}

/// A depthwise convolution with its weights packed for one instruction set.
pub struct Depthwise {
    geometry: ConvGeometry,
    body: Body,
}

enum Body {
    Scalar(scalar::Kernel),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Kernel),
    #[cfg(target_arch = "x86_64")]
    Vnni(vnni::Kernel),
    #[cfg(target_arch = "arm")]
    Neon32(neon32::Kernel),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Kernel),
    #[cfg(target_arch = "aarch64")]
    NeonWide(neon_wide::Kernel),
    #[cfg(target_arch = "aarch64")]
    NeonDot(neondot::Kernel),
}

impl Body {
    fn new(isa: Isa, layer: Layer<'_>, reach: Reach) -> Body {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512Vnni
            && vnni::Rows::takes(&layer, reach)
            && let Some(token) = Avx512Vnni::detect()
        {
            return Body::Vnni(vnni::Kernel::new(token, &layer));
        }
        match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni
                if reach.converts_exactly && layer.geometry.in_c >= avx2::Kernel::MIN_CHANNELS =>
            {
                match Avx2::detect() {
                    Some(token) => Body::Avx2(avx2::Kernel::new(token, &layer)),
                    None => Body::Scalar(scalar::Kernel::new(layer)),
                }
            }
            #[cfg(target_arch = "arm")]
            Isa::Neon32 if reach.converts_exactly && neon32::Kernel::handles(&layer) => {
                match Neon32::detect() {
                    Some(token) => Body::Neon32(neon32::Kernel::new(token, &layer)),
                    None => Body::Scalar(scalar::Kernel::new(layer)),
                }
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot if reach.converts_exactly => {
                let g = &layer.geometry;
                let dot = NeonDot::detect().filter(|_| isa.for_integers() == Isa::NeonDot);
                match (Neon::detect(), dot) {
                    (Some(_), Some(token)) if neondot::Kernel::handles(&layer, reach) => {
                        Body::NeonDot(neondot::Kernel::new(token, &layer, reach))
                    }
                    (Some(token), _) if neon::Kernel::handles(&layer, reach) => {
                        Body::Neon(neon::Kernel::new(token, &layer, reach))
                    }
                    (Some(token), _) if g.in_c >= neon_wide::Kernel::MIN_CHANNELS => {
                        Body::NeonWide(neon_wide::Kernel::new(token, &layer))
                    }
                    _ => Body::Scalar(scalar::Kernel::new(layer)),
                }
            }
            _ => Body::Scalar(scalar::Kernel::new(layer)),
        }
    }
}

impl Depthwise {
    /// Packs a depthwise convolution; `geometry.in_c` equals `geometry.out_c`.
    ///
    /// `weights` are `[kernel_h][kernel_w][channels]`, each in -255..=255 with the weights' zero
    /// point already subtracted. Reading outside the image yields `input.zero_point`.
    /// A layer whose results could leave the range of an `i32` before clamping gets the scalar
    /// kernel whatever `isa` says; [`Depthwise::kernel`] tells.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if the geometry is
    /// inconsistent, a length or a value does not fit it, or an accumulator could overflow.
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[i16],
        input: InputCodes,
        output: Requantize,
    ) -> Result<Depthwise, KernelError> {
        isa.check()?;
        let (layer, reach) = Layer::new(geometry, weights, input, output)?;
        Ok(Depthwise { geometry, body: Body::new(isa, layer, reach) })
    }

    /// The shape this convolution was built for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// The kernel's name, `depthwise_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match &self.body {
            Body::Scalar(_) => "depthwise_u8s8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.name(),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(kernel) => kernel.name(),
            #[cfg(target_arch = "arm")]
            Body::Neon32(kernel) => kernel.name(),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(kernel) => kernel.name(),
            #[cfg(target_arch = "aarch64")]
            Body::NeonWide(kernel) => kernel.name(),
            #[cfg(target_arch = "aarch64")]
            Body::NeonDot(kernel) => kernel.name(),
        }
    }

    /// Output rows, `out_h`: the upper end of the ranges `run` takes.
    pub fn rows(&self) -> usize {
        self.geometry.out_h
    }

    /// Computes the output rows `range`.
    ///
    /// `input` is the whole image `[in_h][in_w][channels]`; `output` is
    /// `[range.len()][out_w][channels]`.
    /// The result does not depend on how an image is split into ranges.
    ///
    /// # Panics
    /// If `input` or `output` has another length, or `range` is reversed or ends beyond
    /// [`Depthwise::rows`].
    pub fn run(&self, input: &[u8], range: Range<usize>, output: &mut [u8], scratch: &mut Scratch) {
        assert_eq!(input.len(), self.geometry.input_len(), "input length");
        assert!(range.start <= range.end && range.end <= self.rows(), "row range {range:?}");
        let row = self.geometry.out_w * self.geometry.out_c;
        assert_eq!(output.len(), range.len() * row, "output length");
        if range.is_empty() {
            return;
        }
        match &self.body {
            Body::Scalar(kernel) => kernel.run(input, range, output),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.run(input, range, output, scratch),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(kernel) => kernel.run(input, range, output, scratch),
            #[cfg(target_arch = "arm")]
            Body::Neon32(kernel) => kernel.run(input, range, output),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(kernel) => kernel.run(input, range, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::NeonWide(kernel) => kernel.run(input, range, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::NeonDot(kernel) => kernel.run(input, range, output, scratch),
        }
    }
}
