//! Sum of two tensors of the same shape.

mod packed;
mod scalar;

pub use packed::Build;

use super::{Activation, Element};
use crate::{Isa, KernelError};

/// `out[i] = activation(a[i] + b[i])`, for one instruction set.
pub struct Add<T: Element> {
    body: Box<dyn Body<T>>,
}

/// An addition for one instruction set. The slices' lengths were checked by [`Add::run`].
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    fn run(&self, a: &[T], b: &[T], output: &mut [T]);
}

impl<T: Element> Add<T> {
    /// Chooses the kernel.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`, [`KernelError::ActivationRange`]
    /// for bounds that are reversed or not numbers.
    pub fn new(isa: Isa, activation: Activation) -> Result<Add<T>, KernelError> {
        isa.check()?;
        activation.check()?;
        Ok(Add { body: T::add(isa, Build(activation)) })
    }

    /// The kernel's name, `add_{type}_{isa}_{lanes}`.
    pub fn kernel(&self) -> &'static str {
        self.body.name()
    }

    /// Computes the sum; the three slices have the same length.
    ///
    /// # Panics
    /// If they have not.
    pub fn run(&self, a: &[T], b: &[T], output: &mut [T]) {
        assert_eq!(a.len(), output.len(), "length of a");
        assert_eq!(b.len(), output.len(), "length of b");
        self.body.run(a, b, output);
    }
}
