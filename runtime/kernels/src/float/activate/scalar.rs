//! An activation on its own: the specification.

use super::Body;
use crate::float::{Activation, Element};

pub(super) struct Kernel {
    pub(super) activation: Activation,
}

impl<T: Element> Body<T> for Kernel {
    fn name(&self) -> &'static str {
        if T::NAME == "f32" { "activate_f32_scalar" } else { "activate_f16_scalar" }
    }

    fn run(&self, input: &[T], output: &mut [T]) {
        for (x, out) in input.iter().zip(output) {
            *out = T::from_f32(self.activation.apply(x.to_f32()));
        }
    }
}
