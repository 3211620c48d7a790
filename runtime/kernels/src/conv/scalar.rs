//! Dense convolution: the specification. Clear, never tuned.

use std::ops::Range;

use super::{BLOCK_CHANNELS, ConvOptions, Layer};
use crate::{ConvGeometry, Requantize};

pub(super) struct Kernel {
    geometry: ConvGeometry,
    weights: Vec<i16>,
    input_zero_point: u8,
    output: Requantize,
    options: ConvOptions,
}

impl Kernel {
    pub(super) fn new(layer: Layer<'_>) -> Kernel {
        Kernel {
            geometry: layer.geometry,
            weights: layer.weights.to_vec(),
            input_zero_point: layer.input.zero_point,
            output: layer.output,
            options: layer.options,
        }
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        range: Range<usize>,
        output: &mut [u8],
    ) {
        let g = &self.geometry;
        for (i, p) in range.enumerate() {
            for n in 0..g.out_c {
                let acc = self.accumulate(input, p / g.out_w, p % g.out_w, n);
                let at = i * g.out_c + n;
                let residual = residual.zip(self.options.residual);
                let residual = residual.map_or(0.0, |(codes, residual)| residual.value(codes[at]));
                output[at] = self.output.apply_plus(n, acc, residual);
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
                let weights = &self.weights[((n * g.kernel_h + i) * g.kernel_w + j) * g.in_c..];
                for (c, &w) in weights[..g.in_c].iter().enumerate() {
                    let x = input[self.index(row * g.in_w + col, c)];
                    acc += (i32::from(x) - i32::from(self.input_zero_point)) * i32::from(w);
                }
            }
        }
        acc
    }

    /// Where channel `c` of an input pixel lies.
    fn index(&self, pixel: usize, c: usize) -> usize {
        let g = &self.geometry;
        if self.options.blocked_input {
            let block = c / BLOCK_CHANNELS;
            (block * g.in_h * g.in_w + pixel) * BLOCK_CHANNELS + c % BLOCK_CHANNELS
        } else {
            pixel * g.in_c + c
        }
    }
}
