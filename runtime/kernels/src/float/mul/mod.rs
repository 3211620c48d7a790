//! Product of two tensors, or of a tensor and a gate for each channel.

mod packed;
mod scalar;

pub use packed::Build;

use super::Element;
use crate::{Isa, KernelError};

/// `out[i] = a[i] * b[i]`, or `out[p, c] = a[p, c] * gate[c]` (squeeze and excitation), for one
/// instruction set.
pub struct Mul<T: Element> {
    body: Box<dyn Body<T>>,
}

/// A product for one instruction set. The slices' lengths were checked by [`Mul::run`] and
/// [`Mul::run_channels`].
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    fn run(&self, a: &[T], b: &[T], output: &mut [T]);

    fn run_channels(&self, a: &[T], gate: &[T], output: &mut [T]);
}

impl<T: Element> Mul<T> {
    /// Chooses the kernel.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn new(isa: Isa) -> Result<Mul<T>, KernelError> {
        isa.check()?;
        Ok(Mul { body: T::mul(isa, Build) })
    }

    /// The kernel's name, `mul_{type}_{isa}_{lanes}`.
    pub fn kernel(&self) -> &'static str {
        self.body.name()
    }

    /// Computes the product; the three slices have the same length.
    ///
    /// # Panics
    /// If they have not.
    pub fn run(&self, a: &[T], b: &[T], output: &mut [T]) {
        assert_eq!(a.len(), output.len(), "length of a");
        assert_eq!(b.len(), output.len(), "length of b");
        self.body.run(a, b, output);
    }

    /// Multiplies each pixel of `a` (`[pixels][channels]`) by `gate` (`[channels]`).
    ///
    /// # Panics
    /// If `a` and `output` differ in length, or it is not a multiple of `gate`'s, or `gate` is
    /// empty.
    pub fn run_channels(&self, a: &[T], gate: &[T], output: &mut [T]) {
        assert_eq!(a.len(), output.len(), "length of a");
        assert!(!gate.is_empty() && a.len().is_multiple_of(gate.len()), "length of the gate");
        self.body.run_channels(a, gate, output);
    }
}
