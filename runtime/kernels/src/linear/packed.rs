//! What the vector kernels of the fully connected layer share: weights in groups of four outputs
//! times 16 features, and the loop over the groups.

use std::ops::Range;

use super::{GROUP, LinearOutput};
use crate::Scratch;
use crate::requantize::folded_bias;
use crate::scratch::{Packed16, as_bytes_mut, as_i32s_mut};

/// Features in one step.
pub(super) const STEP: usize = 16;
/// Outputs computed together.
pub(super) const ROWS: usize = GROUP;

/// Weights of one layer.
pub(super) struct Packed {
    steps: usize,
    /// `[out / ROWS][step][ROWS][STEP]`, of `i8` (two a value) or of `i16`.
    weights: Packed16,
    wide: bool,
    bias: Vec<i32>,
}

impl Packed {
    /// `zero_point` is that of the activations as the kernel will see them; `wide` stores `i16`.
    pub(super) fn new(
        in_features: usize,
        weights: &[i16],
        zero_point: i32,
        output: &LinearOutput,
        wide: bool,
    ) -> Packed {
        let steps = in_features.div_ceil(STEP);
        let rows = weights.chunks_exact(in_features);
        let slots = rows.len().div_ceil(ROWS) * steps * ROWS * STEP;
        let packed = Packed16::new(if wide { slots } else { slots / 2 }, |packed| {
            for (n, row) in rows.clone().enumerate() {
                for (step, values) in row.chunks(STEP).enumerate() {
                    let slot = ((n / ROWS * steps + step) * ROWS + n % ROWS) * STEP;
                    if wide {
                        packed[slot..][..values.len()].copy_from_slice(values);
                    } else {
                        let bytes = &mut as_bytes_mut(packed)[slot..];
                        bytes.iter_mut().zip(values).for_each(|(byte, &w)| *byte = w as i8 as u8);
                    }
                }
            }
        });
        let biases = rows.zip(output.bias());
        let bias = biases.map(|(row, &bias)| folded_bias(row, zero_point, bias)).collect();
        Packed { steps, weights: packed, wide, bias }
    }

    /// Accumulators of outputs `range`, which begins at a multiple of [`ROWS`], with the bias added.
    ///
    /// `prepare` turns the features into `steps * STEP` values of `value_bytes` (what pads them
    /// meets zero weights); `dot` multiplies them by one group of weights.
    ///
    /// # Safety
    /// `dot` reads at most `steps * STEP` values, and `steps * ROWS * STEP` weights.
    pub(super) unsafe fn run<'s>(
        &self,
        range: Range<usize>,
        value_bytes: usize,
        scratch: &'s mut Scratch,
        prepare: impl FnOnce(&mut [i16]),
        dot: impl Fn(*const i16, *const i16, usize) -> [i32; ROWS],
    ) -> &'s [i32] {
        let values_len = self.steps * STEP * value_bytes / size_of::<i16>();
        let (sums, values) = scratch.bytes_and_i16s(range.len() * size_of::<i32>(), values_len);
        prepare(values);
        let sums = as_i32s_mut(sums);
        let group = self.steps * ROWS * STEP / if self.wide { 1 } else { 2 };
        let groups = self.weights.values().chunks_exact(group).skip(range.start / ROWS);
        let targets = sums.chunks_mut(ROWS).zip(self.bias[range].chunks(ROWS));
        for (weights, (sums, bias)) in groups.zip(targets) {
            let four = dot(values.as_ptr(), weights.as_ptr(), self.steps);
            for ((sum, &bias), dot) in sums.iter_mut().zip(bias).zip(four) {
                *sum = bias.wrapping_add(dot);
            }
        }
        sums
    }
}
