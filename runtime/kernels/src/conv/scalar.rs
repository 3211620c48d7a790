//! Dense convolution: the specification. Clear, never tuned.

use std::ops::Range;

use super::Layer;
use crate::{ConvGeometry, Requantize};

pub(super) struct Kernel {
    geometry: ConvGeometry,
    weights: Vec<i16>,
    input_zero_point: u8,
    output: Requantize,
}

impl Kernel {
    pub(super) fn new(layer: Layer<'_>) -> Kernel {
        Kernel {
            geometry: layer.geometry,
            weights: layer.weights.to_vec(),
            input_zero_point: layer.input.zero_point,
            output: layer.output,
        }
    }

    pub(super) fn run(&self, input: &[u8], range: Range<usize>, output: &mut [u8]) {
        let g = &self.geometry;
        for (p, out) in range.zip(output.chunks_exact_mut(g.out_c)) {
            for (n, out) in out.iter_mut().enumerate() {
                *out = self.output.apply(n, self.accumulate(input, p / g.out_w, p % g.out_w, n));
            }
        }
    }

    /// The sum of channel `n` at output pixel (`y`, `x`).
    fn accumulate(&self, input: &[u8], y: usize, x: usize, n: usize) -> i32 {
        let g = &self.geometry;
        let mut acc = 0;
        for i in 0..g.kernel_h {
            for j in 0..g.kernel_w {
                // Outside the image the input is its zero point, which adds nothing.
                let (Some(row), Some(col)) = (g.input_row(y, i), g.input_col(x, j)) else {
                    continue;
                };
                let pixel = &input[(row * g.in_w + col) * g.in_c..][..g.in_c];
                let weights = &self.weights[((n * g.kernel_h + i) * g.kernel_w + j) * g.in_c..];
                for (&x, &w) in pixel.iter().zip(weights) {
                    acc += (i32::from(x) - i32::from(self.input_zero_point)) * i32::from(w);
                }
            }
        }
        acc
    }
}
