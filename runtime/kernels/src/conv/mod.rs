//! Dense two-dimensional convolution of one NHWC image, pointwise (1x1) included.
//!
//! ```text
//! acc[p, n] = sum over taps (i, j) and channels c of
//!             (x[pixel(p, i, j), c] - input.zero_point) * w[n, i, j, c]
//! ```
//!
//! then [`Requantize`]. Start with `scalar.rs`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
mod form;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
mod im2col;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "arm")]
mod neon32;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_lines;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_tile;
#[cfg(target_arch = "aarch64")]
mod neon_wide;
#[cfg(target_arch = "aarch64")]
mod neon_wide_tile;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neondot;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neondot_tile;
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(crate) mod pixels;
mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vnni;

pub use form::Form;

use std::ops::Range;

#[cfg(target_arch = "arm")]
use crate::isa::Neon32;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use crate::isa::{Neon, NeonDot};
use crate::requantize::{
    Reach, check_accumulators, check_multiplier, check_weights, converts_exactly,
};
use crate::{ConvGeometry, InputCodes, Isa, KernelError, Requantize, Residual, Scratch};

/// Channels of one block of a blocked image: `[block][pixel][BLOCK_CHANNELS]`, the last block
/// filled up.
pub const BLOCK_CHANNELS: usize = 32;

/// What a convolution may do besides multiplying; the default is nothing.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct ConvOptions {
    /// A second input, of the output's shape, is added before rounding.
    pub residual: Option<Residual>,
    /// The input is `[block][pixel][BLOCK_CHANNELS]` instead of NHWC, as
    /// [`crate::expand_depthwise::ExpandDepthwise`] writes it; pointwise layers only.
    pub blocked_input: bool,
    /// Which of several ways to compute is taken; changes no result.
    pub form: Form,
}

/// What every instruction set builds its kernel from; checked by [`Layer::new`].
pub(crate) struct Layer<'a> {
    pub(crate) geometry: ConvGeometry,
    /// `[out_c][kernel_h][kernel_w][in_c]`
    pub(crate) weights: &'a [i16],
    /// With the zero point inside the range.
    pub(crate) input: InputCodes,
    pub(crate) output: Requantize,
    pub(crate) options: ConvOptions,
}

impl<'a> Layer<'a> {
    /// Checks everything that [`Conv::with_options`] promises to check but the instruction set.
    pub(crate) fn new(
        geometry: ConvGeometry,
        weights: &'a [i16],
        input: InputCodes,
        output: Requantize,
        options: ConvOptions,
    ) -> Result<(Layer<'a>, Reach), KernelError> {
        geometry.check()?;
        let depth = geometry.taps() * geometry.in_c;
        check_weights(weights, geometry.out_c * depth)?;
        output.check(geometry.out_c)?;
        let channel = |n: usize| weights[n * depth..(n + 1) * depth].iter();
        let mut reach = check_accumulators(channel, input, &output.multiplier, &output.bias)?;
        if let Some(residual) = options.residual {
            check_multiplier("residual multiplier", residual.multiplier)?;
            reach.converts_exactly &= converts_exactly(255.0 * f64::from(residual.multiplier));
        }
        if options.blocked_input && !geometry.is_pointwise() {
            let why = "only a pointwise layer reads blocks of channels";
            return Err(KernelError::Geometry(format!("{why}: {geometry:?}")));
        }
        let input = input.including_zero_point();
        Ok((Layer { geometry, weights, input, output, options }, reach))
    }
}

/// A dense convolution with its weights packed for one instruction set.
pub struct Conv {
    geometry: ConvGeometry,
    options: ConvOptions,
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
            && reach.converts_exactly
            && reach.weights_fit_i8
            && let Some(token) = Avx512Vnni::detect()
        {
            return Body::Vnni(vnni::Kernel::new(token, &layer));
        }
        match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni if reach.converts_exactly => match Avx2::detect() {
                Some(token) => Body::Avx2(avx2::Kernel::new(token, &layer, reach)),
                None => Body::Scalar(scalar::Kernel::new(layer)),
            },
            #[cfg(target_arch = "arm")]
            Isa::Neon32 if reach.converts_exactly => match Neon32::detect() {
                Some(token) => Body::Neon32(neon32::Kernel::new(token, &layer)),
                None => Body::Scalar(scalar::Kernel::new(layer)),
            },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot if reach.converts_exactly => {
                let dot = NeonDot::detect().filter(|_| isa.for_integers() == Isa::NeonDot);
                match (Neon::detect(), dot) {
                    (Some(neon), Some(dot)) if reach.weights_fit_i8 => {
                        Body::NeonDot(neondot::Kernel::new(neon, dot, &layer, reach))
                    }
                    (Some(neon), _) if neon::Kernel::handles(&layer, reach) => {
                        Body::Neon(neon::Kernel::new(neon, &layer, reach))
                    }
                    (Some(neon), _) => Body::NeonWide(neon_wide::Kernel::new(neon, &layer)),
                    (None, _) => Body::Scalar(scalar::Kernel::new(layer)),
                }
            }
            _ => Body::Scalar(scalar::Kernel::new(layer)),
        }
    }
}

impl Conv {
    /// Packs a convolution.
    ///
    /// `weights` are `[out_c][kernel_h][kernel_w][in_c]`, each in -255..=255 with the weights'
    /// zero point already subtracted. Reading outside the image yields `input.zero_point`.
    /// A layer whose results could leave the range of an `i32` before clamping gets the scalar
    /// kernel whatever `isa` says; [`Conv::kernel`] tells.
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
    ) -> Result<Conv, KernelError> {
        Conv::with_options(isa, geometry, weights, input, output, ConvOptions::default())
    }

    /// [`Conv::new`] with a residual or a blocked input.
    ///
    /// # Errors
    /// As [`Conv::new`]; also if the residual's multiplier is negative or not finite, or a layer
    /// with a blocked input is not pointwise.
    pub fn with_options(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[i16],
        input: InputCodes,
        output: Requantize,
        options: ConvOptions,
    ) -> Result<Conv, KernelError> {
        isa.check()?;
        let (layer, reach) = Layer::new(geometry, weights, input, output, options)?;
        Ok(Conv { geometry, options, body: Body::new(isa, layer, reach) })
    }

    /// The shape this convolution was built for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// The kernel's name, `{op}_{types}_{isa}_{tile}`; `op` is `pointwise` or `conv`.
    pub fn kernel(&self) -> &'static str {
        match &self.body {
            Body::Scalar(_) if self.geometry.is_pointwise() => "pointwise_u8s8_scalar",
            Body::Scalar(_) => "conv_u8s8_scalar",
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

    /// Output pixels, `out_h * out_w`: the upper end of the ranges `run` takes.
    pub fn pixels(&self) -> usize {
        self.geometry.out_h * self.geometry.out_w
    }

    /// Whether the layer has a residual.
    pub fn adds(&self) -> bool {
        self.options.residual.is_some()
    }

    /// Elements of the input: `in_h * in_w * in_c`, the channels rounded up to whole blocks where
    /// the input is blocked.
    pub fn input_len(&self) -> usize {
        let g = &self.geometry;
        if self.options.blocked_input {
            g.in_h * g.in_w * g.in_c.next_multiple_of(BLOCK_CHANNELS)
        } else {
            g.input_len()
        }
    }

    /// Computes the output pixels `range` (row-major over `out_h * out_w`) of a layer without
    /// residual.
    ///
    /// `input` is the whole image `[in_h][in_w][in_c]`; `output` is `[range.len()][out_c]`.
    /// The result does not depend on how an image is split into ranges.
    ///
    /// # Panics
    /// If `input` or `output` has another length, `range` is reversed or ends beyond
    /// [`Conv::pixels`], or the layer has a residual.
    pub fn run(&self, input: &[u8], range: Range<usize>, output: &mut [u8], scratch: &mut Scratch) {
        self.run_adding(input, None, range, output, scratch);
    }

    /// [`Conv::run`] with the residual `[range.len()][out_c]`, which a layer with a residual needs
    /// and no other takes.
    ///
    /// # Panics
    /// As [`Conv::run`]; also if there is a residual and should not be, or the reverse, or its
    /// length is not the output's.
    pub fn run_adding(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        range: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        assert_eq!(input.len(), self.input_len(), "input length");
        assert!(range.start <= range.end && range.end <= self.pixels(), "pixel range {range:?}");
        assert_eq!(output.len(), range.len() * self.geometry.out_c, "output length");
        assert_eq!(residual.is_some(), self.options.residual.is_some(), "residual");
        assert!(residual.is_none_or(|r| r.len() == output.len()), "residual length");
        self.dispatch(input, residual, range, output, scratch);
    }

    /// [`Conv::run_adding`] of a pointwise layer on as many pixels as there are, at most
    /// [`Conv::pixels`]: `input` is `[pixels][in_c]`, `output` (and the residual) `[pixels][out_c]`.
    ///
    /// # Panics
    /// If the lengths do not agree, the layer is not pointwise or reads blocks of channels, or there
    /// is a residual and should not be, or the reverse.
    pub fn run_pixels(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        assert!(g.is_pointwise() && !self.options.blocked_input, "a pointwise layer");
        let pixels = output.len() / g.out_c;
        assert!(pixels <= self.pixels(), "{pixels} pixels");
        assert_eq!(output.len(), pixels * g.out_c, "output length");
        assert_eq!(input.len(), pixels * g.in_c, "input length");
        assert_eq!(residual.is_some(), self.options.residual.is_some(), "residual");
        assert!(residual.is_none_or(|r| r.len() == output.len()), "residual length");
        self.dispatch(input, residual, 0..pixels, output, scratch);
    }

    /// Lengths are checked.
    fn dispatch(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        range: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        if range.is_empty() {
            return;
        }
        match &self.body {
            Body::Scalar(kernel) => kernel.run(input, residual, range, output),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.run(input, residual, range, output, scratch),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(kernel) => kernel.run(input, residual, range, output, scratch),
            #[cfg(target_arch = "arm")]
            Body::Neon32(kernel) => kernel.run(input, residual, range, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(kernel) => kernel.run(input, residual, range, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::NeonWide(kernel) => kernel.run(input, residual, range, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::NeonDot(kernel) => kernel.run(input, residual, range, output, scratch),
        }
    }
}
/// Divides pixels into blocks of `block`. A small rest belongs to the last one: alone it would read all
/// weights for few pixels.
#[cfg(target_arch = "x86_64")]
fn blocks(pixels: Range<usize>, block: usize) -> impl Iterator<Item = Range<usize>> {
    let Range { mut start, end } = pixels;
    std::iter::from_fn(move || {
        let from = start;
        let left = end - from;
        start += if left <= block + block / 4 { left } else { block };
        (from < end).then_some(from..start)
    })
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_one_another_and_none_is_small_beside_others() {
        for (pixels, block) in [(0..49, 24), (7..7, 24), (3..4, 24), (0..3136, 48), (5..35, 24)] {
            let all: Vec<_> = blocks(pixels.clone(), block).collect();
            assert_eq!(all.iter().map(Range::len).sum::<usize>(), pixels.len());
            assert!(all.windows(2).all(|two| two[0].end == two[1].start));
            assert!(all.len() < 2 || all.iter().all(|b| b.len() > block / 4), "{all:?}");
        }
        assert_eq!(blocks(0..49, 24).collect::<Vec<_>>(), [0..24, 24..49]);
    }
}
