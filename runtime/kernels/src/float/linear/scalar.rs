//! Fully connected layer: the specification. Clear, never tuned.

use std::ops::Range;

use super::{Body, Layer};
use crate::float::{Activation, Element};

pub(super) struct Kernel<T> {
    depth: usize,
    weights: Vec<T>,
    bias: Vec<T>,
    activation: Activation,
}

impl<T: Element> Kernel<T> {
    pub(super) fn new(layer: &Layer<'_>) -> Kernel<T> {
        Kernel {
            depth: layer.in_features,
            weights: layer.weights.iter().map(|&w| T::from_f32(w)).collect(),
            bias: layer.bias.iter().map(|&b| T::from_f32(b)).collect(),
            activation: layer.activation,
        }
    }

    fn output(&self, input: &[T], n: usize) -> f32 {
        let mut acc = self.bias[n].to_f32();
        for (x, w) in input.iter().zip(&self.weights[n * self.depth..]) {
            acc += x.to_f32() * w.to_f32();
        }
        self.activation.apply(acc)
    }
}

impl<T: Element> Body<T> for Kernel<T> {
    fn name(&self) -> &'static str {
        if T::NAME == "f32" { "linear_f32_scalar" } else { "linear_f16_scalar" }
    }

    fn run(&self, input: &[T], range: Range<usize>, output: &mut [T]) {
        for (n, out) in range.zip(output) {
            *out = T::from_f32(self.output(input, n));
        }
    }

    fn run_f32(&self, input: &[T], range: Range<usize>, output: &mut [f32]) {
        for (n, out) in range.zip(output) {
            *out = self.output(input, n);
        }
    }
}
