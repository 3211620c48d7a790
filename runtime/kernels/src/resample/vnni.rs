//! The vertical pass for AVX-512 VNNI: four rows in one multiplication.
//!
//! Weights are three digits (`quads.rs`); those that need more go to AVX2.

use std::arch::x86_64::*;

use super::quads::{Digits, GROUP, split};
use super::{HALF, PRECISION_BITS, avx2, scalar};
use crate::isa::{Avx2, Avx512Vnni};

/// Most groups of taps whose digits are kept: 64 taps shrink a picture to a tenth and less.
const GROUPS: usize = 16;
/// Columns of a step.
pub(super) const COLUMNS: usize = 64;

pub(super) fn vertical(
    _: Avx512Vnni,
    avx2: Avx2,
    rows: &[u8],
    stride: usize,
    weights: &[i32],
    to: &mut [u8],
) {
    let mut digits = [[0; 3]; GROUPS];
    let Some(digits) = split(weights, &mut digits) else {
        return avx2::vertical(avx2, rows, stride, weights, to);
    };
    // SAFETY: the first token proves the features; the caller has checked that all rows have `to`'s length.
    unsafe { vertical_vnni(rows, stride, weights, digits, to) }
}

/// # Safety
/// For each weight a row of `to.len()` bytes lies in `rows`, one every `stride`; `digits` are the weights'.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn vertical_vnni(
    rows: &[u8],
    stride: usize,
    weights: &[i32],
    digits: &[Digits],
    to: &mut [u8],
) {
    let mut at = 0;
    while at + COLUMNS <= to.len() {
        // SAFETY: passed on; the step ends within the row.
        unsafe {
            let sums = columns(rows.as_ptr().add(at), stride, weights.len(), digits);
            _mm512_storeu_si512(to.as_mut_ptr().add(at).cast(), sums);
        }
        at += COLUMNS;
    }
    // The last columns once more together with some before them, if there are so many.
    if at < to.len() && to.len() >= COLUMNS {
        let last = to.len() - COLUMNS;
        // SAFETY: as above.
        unsafe {
            let sums = columns(rows.as_ptr().add(last), stride, weights.len(), digits);
            _mm512_storeu_si512(to.as_mut_ptr().add(last).cast(), sums);
        }
        at = to.len();
    }
    scalar::vertical_from(rows, stride, weights, to, at);
}

/// 64 samples.
///
/// # Safety
/// `COLUMNS` bytes are readable from `rows` on in each of `taps` rows, one every `stride` bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn columns(rows: *const u8, stride: usize, taps: usize, digits: &[Digits]) -> __m512i {
    // By digit; of each 16 bytes of a row four dwords in each of four registers.
    let mut sums = [[_mm512_setzero_si512(); GROUP]; 3];
    for (group, digits) in digits.iter().enumerate() {
        // Rows beyond the last have digits of zero: any row does.
        let row = |i: usize| {
            let tap = (group * GROUP + i).min(taps - 1);
            // SAFETY: the caller's promise.
            unsafe { rows.add(tap * stride) }
        };
        // SAFETY: as above.
        let samples = unsafe { together([row(0), row(1), row(2), row(3)]) };
        for (sums, digit) in sums.iter_mut().zip(digits) {
            let digit = _mm512_set1_epi32(*digit);
            for (sum, samples) in sums.iter_mut().zip(samples) {
                *sum = _mm512_dpbusd_epi32(*sum, samples, digit);
            }
        }
    }
    finish(sums, HALF)
}

/// 64 columns of four rows: a dword a column, of each 16 columns four in each of four registers.
///
/// # Safety
/// `COLUMNS` bytes are readable from each row on.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) unsafe fn together(rows: [*const u8; GROUP]) -> [__m512i; GROUP] {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = rows.map(|row| unsafe { _mm512_loadu_si512(row.cast()) });
    let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(ab, cd),
        _mm512_unpackhi_epi16(ab, cd),
        _mm512_unpacklo_epi16(ab_high, cd_high),
        _mm512_unpackhi_epi16(ab_high, cd_high),
    ]
}

/// The sums of the three digits, and what they begin with, as samples, in the order of the columns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn finish([low, middle, high]: [[__m512i; GROUP]; 3], begin: i32) -> __m512i {
    let whole: [__m512i; GROUP] = std::array::from_fn(|i| {
        let upper = _mm512_add_epi32(_mm512_slli_epi32::<8>(high[i]), middle[i]);
        let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(upper), low[i]);
        _mm512_srai_epi32::<{ PRECISION_BITS }>(_mm512_add_epi32(sum, _mm512_set1_epi32(begin)))
    });
    _mm512_packus_epi16(
        _mm512_packs_epi32(whole[0], whole[1]),
        _mm512_packs_epi32(whole[2], whole[3]),
    )
}
