//! Depthwise convolution: the specification. Clear, never tuned.

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
        for (y, row) in range.zip(output.chunks_exact_mut(g.out_w * g.out_c)) {
            for (x, pixel) in row.chunks_exact_mut(g.out_c).enumerate() {
                for (c, out) in pixel.iter_mut().enumerate() {
                    *out = self.output.apply(c, self.accumulate(input, y, x, c));
                }
            }
        }
    }

    /// The sum of channel `c` at output pixel (`y`, `x`).
    fn accumulate(&self, input: &[u8], y: usize, x: usize, c: usize) -> i32 {
        let g = &self.geometry;
        let mut acc = 0;
        for i in 0..g.kernel_h {
            for j in 0..g.kernel_w {
                // Outside the image the input is its zero point, which adds nothing.
                let (Some(row), Some(col)) = (g.input_row(y, i), g.input_col(x, j)) else {
                    continue;
                };
                let x = input[(row * g.in_w + col) * g.in_c + c];
                let w = self.weights[(i * g.kernel_w + j) * g.in_c + c];
                acc += (i32::from(x) - i32::from(self.input_zero_point)) * i32::from(w);
            }
        }
        acc
    }
}
