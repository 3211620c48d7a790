//! Product of two tensors: the specification.

use super::Body;
use crate::float::Element;

pub(super) struct Kernel;

impl<T: Element> Body<T> for Kernel {
    fn name(&self) -> &'static str {
        if T::NAME == "f32" { "mul_f32_scalar" } else { "mul_f16_scalar" }
    }

    fn run(&self, a: &[T], b: &[T], output: &mut [T]) {
        for ((a, b), out) in a.iter().zip(b).zip(output) {
            *out = T::from_f32(a.to_f32() * b.to_f32());
        }
    }

    fn run_channels(&self, a: &[T], gate: &[T], output: &mut [T]) {
        for (a, out) in a.chunks_exact(gate.len()).zip(output.chunks_exact_mut(gate.len())) {
            Body::<T>::run(self, a, gate, out);
        }
    }
}
