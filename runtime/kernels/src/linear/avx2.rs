//! Fully connected layer for AVX2: four outputs at a time, 16 features a step.
//!
//! Weights stay `i8` in memory, whose bandwidth bounds one vector times a matrix, and are widened
//! on the way; weights that do not fit `i8` are stored as `i16`.

use std::arch::x86_64::*;
use std::ops::Range;

use super::LinearOutput;
use super::packed::{Packed, ROWS, STEP};
use crate::Scratch;
use crate::isa::Avx2;
use crate::x86::widen;

pub(super) struct Kernel {
    token: Avx2,
    wide: bool,
    weights: Packed,
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
        let zero_point = i32::from(input_zero_point);
        let weights = Packed::new(in_features, weights, zero_point, output, wide);
        Kernel { token, wide, weights }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.wide { "linear_u8s16_avx2_4x16" } else { "linear_u8s8_avx2_4x16" }
    }

    /// Accumulators of outputs `range` with the bias added.
    pub(super) fn run<'s>(
        &self,
        input: &[u8],
        range: Range<usize>,
        scratch: &'s mut Scratch,
    ) -> &'s [i32] {
        let prepare = |values: &mut [i16]| {
            let (head, tail) = values.split_at_mut(input.len());
            widen(self.token, input, head);
            tail.fill(0);
        };
        // SAFETY: the token proves AVX2; the sizes are those that `Packed::run` promises.
        let dot = |values: *const i16, weights: *const i16, steps: usize| unsafe {
            if self.wide {
                dot_avx2::<true>(values, weights, steps)
            } else {
                dot_avx2::<false>(values, weights, steps)
            }
        };
        // SAFETY: `dot_avx2` reads no more than it asks for.
        unsafe { self.weights.run(range, size_of::<i16>(), scratch, prepare, dot) }
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
