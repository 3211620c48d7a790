//! An activation on its own, where no kernel before it can take it in.

mod packed;
mod scalar;

pub use packed::Build;

use super::{Activation, Element};
use crate::{Isa, KernelError};

/// `out[i] = activation(x[i])`, for one instruction set.
pub struct Activate<T: Element> {
    body: Box<dyn Body<T>>,
}

/// An activation for one instruction set. The slices' lengths were checked by [`Activate::run`].
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    fn run(&self, input: &[T], output: &mut [T]);
}

impl<T: Element> Activate<T> {
    /// Chooses the kernel.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`, [`KernelError::ActivationRange`]
    /// for bounds that are reversed or not numbers.
    pub fn new(isa: Isa, activation: Activation) -> Result<Activate<T>, KernelError> {
        isa.check()?;
        activation.check()?;
        Ok(Activate { body: T::activate(isa, Build(activation)) })
    }

    /// The kernel's name, `activate_{type}_{isa}_{lanes}`.
    pub fn kernel(&self) -> &'static str {
        self.body.name()
    }

    /// Applies the function; the two slices have the same length.
    ///
    /// # Panics
    /// If they have not.
    pub fn run(&self, input: &[T], output: &mut [T]) {
        assert_eq!(input.len(), output.len(), "length");
        self.body.run(input, output);
    }
}
