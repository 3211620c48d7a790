//! Fully connected layer: the specification. Clear, never tuned.

use std::ops::Range;

use super::LinearOutput;

pub(super) struct Kernel {
    in_features: usize,
    weights: Vec<i16>,
    bias: Vec<i32>,
    input_zero_point: u8,
}

impl Kernel {
    pub(super) fn new(
        in_features: usize,
        weights: &[i16],
        input_zero_point: u8,
        output: &LinearOutput,
    ) -> Kernel {
        let (weights, bias) = (weights.to_vec(), output.bias().to_vec());
        Kernel { in_features, weights, bias, input_zero_point }
    }

    /// Accumulators of outputs `range` with the bias added.
    pub(super) fn run(&self, input: &[u8], range: Range<usize>, sums: &mut [i32]) {
        let rows = self.weights.chunks_exact(self.in_features).zip(&self.bias);
        for (sum, (row, &bias)) in sums.iter_mut().zip(rows.skip(range.start)) {
            *sum = bias;
            for (&x, &w) in input.iter().zip(row) {
                *sum += (i32::from(x) - i32::from(self.input_zero_point)) * i32::from(w);
            }
        }
    }
}
