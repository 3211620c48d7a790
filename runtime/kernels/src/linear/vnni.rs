//! Fully connected layer for AVX-512 with VNNI: four outputs at a time, 16 features a step.
//!
//! A step's weights are one vector, an output in each quarter, and the features the same 16 bytes in all four:
//! `vpdpbusd` multiplies them as they lie in memory, exactly, and the layer takes as long as its weights take to come.

use std::arch::x86_64::*;
use std::ops::Range;

use super::LinearOutput;
use super::packed::{Packed, ROWS, STEP};
use crate::Scratch;
use crate::isa::Avx512Vnni;
use crate::scratch::as_bytes_mut;

/// Accumulators: as many instructions are under way until the first one's sum is there.
const SUMS: usize = 4;
/// How far ahead of their use weights are asked for, bytes.
const AHEAD: usize = 2048;

pub(super) struct Kernel {
    /// Proves that the function below may be called.
    _token: Avx512Vnni,
    weights: Packed,
}

impl Kernel {
    /// Weights fit `i8`.
    pub(super) fn new(
        token: Avx512Vnni,
        in_features: usize,
        weights: &[i16],
        input_zero_point: u8,
        output: &LinearOutput,
    ) -> Kernel {
        let zero_point = i32::from(input_zero_point);
        let weights = Packed::new(in_features, weights, zero_point, output, false);
        Kernel { _token: token, weights }
    }

    /// Accumulators of outputs `range` with the bias added.
    pub(super) fn run<'s>(
        &self,
        input: &[u8],
        range: Range<usize>,
        scratch: &'s mut Scratch,
    ) -> &'s [i32] {
        let prepare =
            |values: &mut [i16]| as_bytes_mut(values)[..input.len()].copy_from_slice(input);
        // SAFETY: the token proves AVX-512 with VNNI; the sizes are those that `Packed::run` promises.
        let dot = |values: *const i16, weights: *const i16, steps: usize| unsafe {
            dot_vnni(values.cast(), weights.cast(), steps)
        };
        // SAFETY: `dot_vnni` reads no more than it asks for.
        unsafe { self.weights.run(range, size_of::<u8>(), scratch, prepare, dot) }
    }
}

/// # Safety
/// `values` holds `steps * STEP` values and `weights` `steps * ROWS * STEP` weights.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn dot_vnni(values: *const u8, weights: *const i8, steps: usize) -> [i32; ROWS] {
    let mut sums = [_mm512_setzero_si512(); SUMS];
    let step = |step: usize, sum: &mut __m512i| {
        // SAFETY: passed on, for each step below `steps`.
        let (x, w) = unsafe {
            let x = _mm_loadu_si128(values.add(step * STEP).cast());
            let w = weights.add(step * ROWS * STEP);
            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD));
            (_mm512_broadcast_i32x4(x), _mm512_loadu_si512(w.cast()))
        };
        *sum = _mm512_dpbusd_epi32(*sum, x, w);
    };
    let whole = steps / SUMS * SUMS;
    for first in (0..whole).step_by(SUMS) {
        for (i, sum) in sums.iter_mut().enumerate() {
            step(first + i, sum);
        }
    }
    for (at, sum) in (whole..steps).zip(&mut sums) {
        step(at, sum);
    }
    let [a, b, c, d] = sums;
    let sum = _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
    // Within each quarter: halves, then neighbours.
    let sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32::<0b01_00_11_10>(sum));
    let sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32::<0b10_11_00_01>(sum));
    let quarters = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let sum = _mm512_castsi512_si128(_mm512_permutexvar_epi32(quarters, sum));
    let mut out = [0; ROWS];
    // SAFETY: the array holds four values.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sum) };
    out
}
