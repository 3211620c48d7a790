//! Depthwise convolution of one NHWC image: each channel has its own filter.
//!
//! ```text
//! out[p, c] = activation(bias[c] + sum over taps (i, j) of x[pixel(p, i, j), c] * w[i, j, c])
//! ```
//!
//! Start with `scalar.rs`.

mod packed;
mod scalar;
mod tile;

pub use packed::Build;

use std::ops::Range;

use super::{Activation, Element, check_length};
use crate::{ConvGeometry, Isa, KernelError};

/// What every instruction set builds its kernel from; checked by [`Depthwise::new`].
#[derive(Clone, Copy)]
struct Layer<'a> {
    geometry: ConvGeometry,
    /// `[kernel_h][kernel_w][channels]`
    weights: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
}

/// A depthwise convolution with its weights packed for one instruction set.
pub struct Depthwise<T: Element> {
    geometry: ConvGeometry,
    body: Box<dyn Body<T>>,
}

/// A depthwise convolution for one instruction set. The slices' lengths were checked by
/// [`Depthwise::run`].
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    /// `input` lacks the first `above` rows of the image, which `rows` do not read.
    fn run(&self, input: &[T], above: usize, rows: Range<usize>, output: &mut [T]);
}

impl<T: Element> Depthwise<T> {
    /// Packs a depthwise convolution; `geometry.in_c` equals `geometry.out_c`.
    ///
    /// `weights` are `[kernel_h][kernel_w][channels]`, `bias` is `[channels]`; with `T = f16` both
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
    ) -> Result<Depthwise<T>, KernelError> {
        isa.check()?;
        geometry.check()?;
        if geometry.in_c != geometry.out_c {
            return Err(KernelError::Geometry(format!(
                "a depthwise convolution has as many outputs as inputs: {geometry:?}"
            )));
        }
        check_length("weights", geometry.taps() * geometry.in_c, weights.len())?;
        check_length("bias", geometry.in_c, bias.len())?;
        activation.check()?;
        let layer = Layer { geometry, weights, bias, activation };
        Ok(Depthwise { geometry, body: T::depthwise(isa, Build(layer)) })
    }

    /// The shape this convolution was built for.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// The kernel's name, `depthwise_{type}_{isa}_{tile}`; `tile` is columns x channels.
    pub fn kernel(&self) -> &'static str {
        self.body.name()
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
    pub fn run(&self, input: &[T], range: Range<usize>, output: &mut [T]) {
        assert_eq!(input.len(), self.geometry.input_len(), "input length");
        self.run_within(input, 0, range, output);
    }

    /// As [`Depthwise::run`], with only the rows of the image from `above` on as `input`: at least
    /// those of [`ConvGeometry::input_rows`].
    ///
    /// # Panics
    /// As [`Depthwise::run`], and if a row that `range` reads is not there.
    pub(super) fn run_within(
        &self,
        input: &[T],
        above: usize,
        range: Range<usize>,
        output: &mut [T],
    ) {
        let g = &self.geometry;
        assert!(range.start <= range.end && range.end <= self.rows(), "row range {range:?}");
        assert_eq!(output.len(), range.len() * g.out_w * g.out_c, "output length");
        if !range.is_empty() {
            let read = g.input_rows(range.clone());
            let there = above..above + input.len() / (g.in_w * g.in_c);
            let all = read.is_empty() || (there.start <= read.start && read.end <= there.end);
            assert!(all, "rows {there:?} are given, {read:?} are read");
            self.body.run(input, above, range, output);
        }
    }
}
