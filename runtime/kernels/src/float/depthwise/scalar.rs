//! Depthwise convolution: the specification. Clear, never tuned.

use std::ops::Range;

use super::{Body, Layer};
use crate::ConvGeometry;
use crate::float::{Activation, Element};

pub(super) struct Kernel<T> {
    geometry: ConvGeometry,
    weights: Vec<T>,
    bias: Vec<T>,
    activation: Activation,
}

impl<T: Element> Kernel<T> {
    pub(super) fn new(layer: &Layer<'_>) -> Kernel<T> {
        Kernel {
            geometry: layer.geometry,
            weights: layer.weights.iter().map(|&w| T::from_f32(w)).collect(),
            bias: layer.bias.iter().map(|&b| T::from_f32(b)).collect(),
            activation: layer.activation,
        }
    }

    /// Bias and products of channel `c` at output pixel (`y`, `x`).
    fn accumulate(&self, input: &[T], above: usize, [y, x, c]: [usize; 3]) -> f32 {
        let g = &self.geometry;
        let mut acc = self.bias[c].to_f32();
        for i in 0..g.kernel_h {
            for j in 0..g.kernel_w {
                // Outside the image the input is 0, which adds nothing.
                if let (Some(row), Some(col)) = (g.input_row(y, i), g.input_col(x, j)) {
                    let x = input[((row - above) * g.in_w + col) * g.in_c + c];
                    acc += x.to_f32() * self.weights[(i * g.kernel_w + j) * g.in_c + c].to_f32();
                }
            }
        }
        acc
    }
}

impl<T: Element> Body<T> for Kernel<T> {
    fn name(&self) -> &'static str {
        if T::NAME == "f32" { "depthwise_f32_scalar" } else { "depthwise_f16_scalar" }
    }

    fn run(&self, input: &[T], above: usize, rows: Range<usize>, output: &mut [T]) {
        let g = &self.geometry;
        let first = rows.start * g.out_w;
        for (p, out) in output.chunks_exact_mut(g.out_c).enumerate() {
            let (y, x) = ((first + p) / g.out_w, (first + p) % g.out_w);
            for (c, out) in out.iter_mut().enumerate() {
                let sum = self.accumulate(input, above, [y, x, c]);
                *out = T::from_f32(self.activation.apply(sum));
            }
        }
    }
}
