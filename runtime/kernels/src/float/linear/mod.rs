//! Fully connected layer of one vector.
//!
//! ```text
//! out[n] = activation(bias[n] + sum over k of x[k] * w[n, k])
//! ```
//!
//! Start with `scalar.rs`.

mod packed;
mod scalar;

pub use packed::Build;

use std::ops::Range;

use super::{Activation, Element, check_length};
use crate::{ConvGeometry, Isa, KernelError};

/// Outputs of a piece of work are best a multiple of this: whole registers of every instruction set.
pub const LINEAR_GROUP: usize = 64;

/// What every instruction set builds its kernel from; checked by [`Linear::new`].
#[derive(Clone, Copy)]
struct Layer<'a> {
    in_features: usize,
    out_features: usize,
    /// `[out_features][in_features]`
    weights: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
}

/// A fully connected layer with its weights packed for one instruction set.
pub struct Linear<T: Element> {
    in_features: usize,
    out_features: usize,
    body: Box<dyn Body<T>>,
}

/// A fully connected layer for one instruction set. The slices' lengths were checked by
/// [`Linear::run`] and [`Linear::run_f32`].
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    fn run(&self, input: &[T], range: Range<usize>, output: &mut [T]);

    fn run_f32(&self, input: &[T], range: Range<usize>, output: &mut [f32]);
}

impl<T: Element> Linear<T> {
    /// Packs a fully connected layer.
    ///
    /// `weights` are `[out_features][in_features]`, `bias` is `[out_features]`; with `T = f16`
    /// both are rounded to it.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`, [`KernelError::Geometry`] if a size
    /// is zero or too large, [`KernelError::Length`] if a slice does not fit,
    /// [`KernelError::ActivationRange`] for bounds that are reversed or not numbers.
    pub fn new(
        isa: Isa,
        in_features: usize,
        out_features: usize,
        weights: &[f32],
        bias: &[f32],
        activation: Activation,
    ) -> Result<Linear<T>, KernelError> {
        isa.check()?;
        ConvGeometry::pointwise(1, 1, in_features, out_features).check()?;
        check_length("weights", in_features * out_features, weights.len())?;
        check_length("bias", out_features, bias.len())?;
        activation.check()?;
        let layer = Layer { in_features, out_features, weights, bias, activation };
        Ok(Linear { in_features, out_features, body: T::linear(isa, Build(layer)) })
    }

    /// The kernel's name, `linear_{type}_{isa}_{tile}`; `tile` is 1 x outputs.
    pub fn kernel(&self) -> &'static str {
        self.body.name()
    }

    /// Values of the input.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Values of the whole output: the upper end of the ranges that `run` and `run_f32` take.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Bytes of weights that a run reads.
    pub fn weight_bytes(&self) -> usize {
        self.in_features * self.out_features * size_of::<T>()
    }

    /// Computes the outputs `range`; `output` is `[range.len()]`.
    /// The result does not depend on how the outputs are split into ranges.
    ///
    /// # Panics
    /// If `input` or `output` has another length, or `range` is reversed or ends beyond
    /// [`Linear::out_features`].
    pub fn run(&self, input: &[T], range: Range<usize>, output: &mut [T]) {
        self.check(input.len(), &range, output.len());
        self.body.run(input, range, output);
    }

    /// As [`Linear::run`], with results that are not rounded to the element type: scores.
    ///
    /// # Panics
    /// As [`Linear::run`].
    pub fn run_f32(&self, input: &[T], range: Range<usize>, output: &mut [f32]) {
        self.check(input.len(), &range, output.len());
        self.body.run_f32(input, range, output);
    }

    fn check(&self, input: usize, range: &Range<usize>, output: usize) {
        assert_eq!(input, self.in_features, "input length");
        assert!(range.start <= range.end && range.end <= self.out_features, "range {range:?}");
        assert_eq!(output, range.len(), "output length");
    }
}
