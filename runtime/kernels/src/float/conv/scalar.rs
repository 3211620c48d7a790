//! Dense convolution: the specification. Clear, never tuned.

use std::ops::Range;

use super::{Body, Layer};
use crate::float::{Activation, Element};
use crate::{ConvGeometry, Scratch};

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

    /// Bias and products of channel `n` at output pixel (`y`, `x`).
    fn accumulate(&self, input: &[T], y: usize, x: usize, n: usize) -> f32 {
        let g = &self.geometry;
        let mut acc = self.bias[n].to_f32();
        for i in 0..g.kernel_h {
            for j in 0..g.kernel_w {
                // Outside the image the input is 0, which adds nothing.
                let (Some(row), Some(col)) = (g.input_row(y, i), g.input_col(x, j)) else {
                    continue;
                };
                let pixel = &input[(row * g.in_w + col) * g.in_c..][..g.in_c];
                let weights = &self.weights[((n * g.kernel_h + i) * g.kernel_w + j) * g.in_c..];
                for (x, w) in pixel.iter().zip(weights) {
                    acc += x.to_f32() * w.to_f32();
                }
            }
        }
        acc
    }
}

impl<T: Element> Body<T> for Kernel<T> {
    fn name(&self) -> &'static str {
        match (self.geometry.is_pointwise(), T::NAME) {
            (true, "f32") => "pointwise_f32_scalar",
            (true, _) => "pointwise_f16_scalar",
            (false, "f32") => "conv_f32_scalar",
            (false, _) => "conv_f16_scalar",
        }
    }

    fn run(
        &self,
        input: &[T],
        residual: Option<&[T]>,
        range: Range<usize>,
        output: &mut [T],
        _scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        for (m, p) in range.enumerate() {
            for n in 0..g.out_c {
                let sum = self.accumulate(input, p / g.out_w, p % g.out_w, n);
                let at = m * g.out_c + n;
                let added = residual.map_or(0.0, |residual| residual[at].to_f32());
                output[at] = T::from_f32(self.activation.apply(sum) + added);
            }
        }
    }
}
