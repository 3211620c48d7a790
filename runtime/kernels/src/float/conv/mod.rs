//! Dense two-dimensional convolution of one NHWC image, pointwise (1x1) included.
//!
//! ```text
//! sum[p, n] = bias[n] + sum over taps (i, j) and channels c of x[pixel(p, i, j), c] * w[n, i, j, c]
//! out[p, n] = activation(sum[p, n]) + residual[p, n]
//! ```
//!
//! Start with `scalar.rs`.

mod gather;
mod packed;
mod scalar;

pub use packed::Build;

use std::ops::Range;

use super::{Activation, Element, check_length};
use crate::{ConvGeometry, Isa, KernelError, Scratch};

/// What every instruction set builds its kernel from; checked by [`Conv::new`].
#[derive(Clone, Copy)]
struct Layer<'a> {
    geometry: ConvGeometry,
    /// `[out_c][kernel_h][kernel_w][in_c]`
    weights: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
}

/// A dense convolution with its weights packed for one instruction set.
pub struct Conv<T: Element> {
    geometry: ConvGeometry,
    body: Box<dyn Body<T>>,
}

/// A convolution for one instruction set. The slices' lengths were checked by [`Conv::run`].
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    fn run(
        &self,
        input: &[T],
        residual: Option<&[T]>,
        range: Range<usize>,
        output: &mut [T],
        scratch: &mut Scratch,
    );
}

impl<T: Element> Conv<T> {
    /// Packs a convolution.
    ///
    /// `weights` are `[out_c][kernel_h][kernel_w][in_c]`, `bias` is `[out_c]`; with `T = f16` both
    /// are rounded to it. Reading outside the image yields 0.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`, [`KernelError::Geometry`] if the
    /// geometry is inconsistent, [`KernelError::Length`] if a slice does not fit it,
    /// [`KernelError::ActivationRange`] for bounds that are reversed or not numbers.
    pub fn new(
        isa: Isa,
        geometry: ConvGeometry,
        weights: &[f32],
        bias: &[f32],
        activation: Activation,
    ) -> Result<Conv<T>, KernelError> {
        isa.check()?;
        geometry.check()?;
        check_length("weights", geometry.out_c * geometry.taps() * geometry.in_c, weights.len())?;
        check_length("bias", geometry.out_c, bias.len())?;
        activation.check()?;
        let layer = Layer { geometry, weights, bias, activation };
        Ok(Conv { geometry, body: T::conv(isa, Build(layer)) })
    }

    /// The shape this convolution was built for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// The kernel's name, `{op}_{type}_{isa}_{tile}`; `op` is `pointwise` or `conv`, `tile` is
    /// pixels x channels.
    pub fn kernel(&self) -> &'static str {
        self.body.name()
    }

    /// Output pixels, `out_h * out_w`: the upper end of the ranges `run` takes.
    pub fn pixels(&self) -> usize {
        self.geometry.out_h * self.geometry.out_w
    }

    /// Computes the output pixels `range` (row-major over `out_h * out_w`).
    ///
    /// `input` is the whole image `[in_h][in_w][in_c]`; `output` is `[range.len()][out_c]`, and
    /// `residual`, of the same shape, is added after the activation.
    /// The result does not depend on how an image is split into ranges.
    ///
    /// # Panics
    /// If `input`, `residual` or `output` has another length, or `range` is reversed or ends
    /// beyond [`Conv::pixels`].
    pub fn run(
        &self,
        input: &[T],
        residual: Option<&[T]>,
        range: Range<usize>,
        output: &mut [T],
        scratch: &mut Scratch,
    ) {
        assert_eq!(input.len(), self.geometry.input_len(), "input length");
        assert!(range.start <= range.end && range.end <= self.pixels(), "pixel range {range:?}");
        assert_eq!(output.len(), range.len() * self.geometry.out_c, "output length");
        if let Some(residual) = residual {
            assert_eq!(residual.len(), output.len(), "residual length");
        }
        if !range.is_empty() {
            self.body.run(input, residual, range, output, scratch);
        }
    }
}
