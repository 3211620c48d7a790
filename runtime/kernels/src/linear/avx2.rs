//! Fully connected layer for AVX2: four outputs at a time, 16 features a step.
//!
//! Weights stay `i8` in memory, which a single vector times a matrix is bound by, and are widened
//! on the way; weights that do not fit `i8` are stored as `i16`.

use std::arch::x86_64::*;

use super::LinearOutput;
use crate::Scratch;
use crate::isa::Avx2;
use crate::requantize::folded_bias;
use crate::scratch::Packed16;
use crate::x86::widen;

/// Features in one step.
const STEP: usize = 16;
/// Outputs computed together.
const ROWS: usize = 4;

pub(super) struct Kernel {
    token: Avx2,
    steps: usize,
    wide: bool,
    /// `[out / ROWS][step][ROWS][STEP]`, of `i8` (two a value) or of `i16`.
    weights: Packed16,
    bias: Vec<i32>,
}

impl Kernel {
    pub(super) fn new(
        token: Avx2,
        in_features: usize,
        weights: &[i16],
        input_zero_point: u8,
        output: &LinearOutput,
        wide: bool,
    ) -> Kernel {
        let steps = in_features.div_ceil(STEP);
        let rows = weights.chunks_exact(in_features);
        let blocks = rows.len().div_ceil(ROWS);
        let slot = |n: usize, k: usize| {
            ((n / ROWS * steps + k / STEP) * ROWS + n % ROWS) * STEP + k % STEP
        };
        let slots = blocks * steps * ROWS * STEP;
        let packed = Packed16::new(if wide { slots } else { slots / 2 }, |packed| {
            for (n, row) in rows.clone().enumerate() {
                for (k, &w) in row.iter().enumerate() {
                    let slot = slot(n, k);
                    if wide {
                        packed[slot] = w;
                    } else {
                        let mut pair = packed[slot / 2].to_ne_bytes();
                        pair[slot % 2] = w as i8 as u8;
                        packed[slot / 2] = i16::from_ne_bytes(pair);
                    }
                }
            }
        });
        let bias = rows
            .zip(output.bias())
            .map(|(row, &bias)| folded_bias(row, i32::from(input_zero_point), bias))
            .collect();
        Kernel { token, steps, wide, weights: packed, bias }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.wide { "linear_u8s16_avx2_4x16" } else { "linear_u8s8_avx2_4x16" }
    }

    /// Accumulators with the bias added.
    pub(super) fn run<'s>(&self, input: &[u8], scratch: &'s mut Scratch) -> &'s [i32] {
        let outputs = self.bias.len();
        let sums_bytes = outputs * size_of::<i32>();
        let (sums, values) = scratch.bytes_and_i16s(sums_bytes, self.steps * STEP);
        let (head, tail) = values.split_at_mut(input.len());
        widen(self.token, input, head);
        tail.fill(0);
        // SAFETY: scratch bytes are aligned to 64, `outputs` values long, and any bit pattern is
        // a valid i32.
        let sums =
            unsafe { std::slice::from_raw_parts_mut(sums.as_mut_ptr().cast::<i32>(), outputs) };
        let per_value = if self.wide { 1 } else { 2 };
        let blocks = outputs.div_ceil(ROWS);
        assert_eq!(self.weights.values().len() * per_value, blocks * self.steps * ROWS * STEP);
        for (block, (sums, bias)) in sums.chunks_mut(ROWS).zip(self.bias.chunks(ROWS)).enumerate() {
            let first = block * self.steps * ROWS * STEP / per_value;
            let weights = self.weights.values()[first..].as_ptr();
            // SAFETY: the token proves AVX2; the weights' length was just checked, and `values`
            // is `steps * STEP` long.
            let four = unsafe {
                if self.wide {
                    dot_avx2::<true>(values.as_ptr(), weights, self.steps)
                } else {
                    dot_avx2::<false>(values.as_ptr(), weights, self.steps)
                }
            };
            for ((sum, &bias), dot) in sums.iter_mut().zip(bias).zip(four) {
                *sum = bias.wrapping_add(dot);
            }
        }
        sums
    }
}

/// # Safety
/// `values` holds `steps * STEP` values and `weights` `steps * ROWS * STEP` weights.
#[target_feature(enable = "avx2")]
unsafe fn dot_avx2<const WIDE: bool>(
    values: *const i16,
    weights: *const i16,
    steps: usize,
) -> [i32; ROWS] {
    let mut acc = [_mm256_setzero_si256(); ROWS];
    for step in 0..steps {
        // SAFETY: passed on.
        let x = unsafe { _mm256_loadu_si256(values.add(step * STEP).cast()) };
        for (r, acc) in acc.iter_mut().enumerate() {
            let slot = (step * ROWS + r) * STEP;
            // SAFETY: passed on; `i8` weights take half of a value.
            let w = unsafe {
                if WIDE {
                    _mm256_loadu_si256(weights.add(slot).cast())
                } else {
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(slot / 2).cast()))
                }
            };
            *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, w));
        }
    }
    let ab = _mm256_hadd_epi32(acc[0], acc[1]);
    let cd = _mm256_hadd_epi32(acc[2], acc[3]);
    let abcd = _mm256_hadd_epi32(ab, cd);
    let sum = _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256::<1>(abcd));
    let mut out = [0; ROWS];
    // SAFETY: the array holds four values.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sum) };
    out
}
