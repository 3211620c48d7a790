//! The steps for AVX2: a row of eight 32-bit values a register.

use std::arch::x86_64::*;

use super::scalar::{self, Lanes, first_pass, second_pass};
use super::{Block, Spread};
use crate::isa::Avx2;

/// Eight values. Made only by [`inverse_avx2`], which needs AVX2.
#[derive(Clone, Copy)]
struct Eight(__m256i);

// SAFETY (of every block below): values exist only under the token that proves AVX2.
impl Lanes for Eight {
    #[inline(always)]
    fn splat(value: i32) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_set1_epi32(value) })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, by: i32) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_mullo_epi32(self.0, _mm256_set1_epi32(by)) })
    }
    #[inline(always)]
    fn shift_left<const N: i32>(self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_slli_epi32::<N>(self.0) })
    }
    #[inline(always)]
    fn shift_right<const N: i32>(self) -> Self {
        // SAFETY: see above.
        Eight(unsafe { _mm256_srai_epi32::<N>(self.0) })
    }
}

pub(super) fn inverse(_: Avx2, block: &Block, to: &mut [u8], stride: usize) {
    // SAFETY: the token proves AVX2; the caller has checked the rows.
    unsafe { inverse_avx2(block, to, stride) }
}

/// # Safety
/// Eight bytes are writable at `to` every `stride` bytes, eight times.
#[target_feature(enable = "avx2")]
unsafe fn inverse_avx2(block: &Block, to: &mut [u8], stride: usize) {
    let mut rows = [Eight(_mm256_setzero_si256()); 8];
    for (row, from) in rows.iter_mut().zip(block.as_chunks::<8>().0) {
        // SAFETY: a load of eight values.
        row.0 = _mm256_cvtepi16_epi32(unsafe { _mm_loadu_si128(from.as_ptr().cast()) });
    }
    let rows = transpose(second_pass(transpose(first_pass(rows))));
    let bias = _mm_set1_epi16(128);
    for (i, pair) in rows.as_chunks::<2>().0.iter().enumerate() {
        // Within 128-bit halves: four of the first row, four of the second.
        let words = _mm256_packs_epi32(pair[0].0, pair[1].0);
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let first = _mm_adds_epi16(_mm256_castsi256_si128(words), bias);
        let second = _mm_adds_epi16(_mm256_extracti128_si256(words, 1), bias);
        let bytes = _mm_packus_epi16(first, second);
        // SAFETY: the caller's promise.
        unsafe {
            _mm_storel_epi64(to.as_mut_ptr().add(2 * i * stride).cast(), bytes);
            let second = to.as_mut_ptr().add((2 * i + 1) * stride);
            _mm_storel_epi64(second.cast(), _mm_srli_si128::<8>(bytes));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn transpose(x: [Eight; 8]) -> [Eight; 8] {
    let [a, b, c, d, e, f, g, h] = x.map(|row| row.0);
    let two = |x, y| (_mm256_unpacklo_epi32(x, y), _mm256_unpackhi_epi32(x, y));
    let four = |x: (__m256i, __m256i), y: (__m256i, __m256i)| {
        [
            _mm256_unpacklo_epi64(x.0, y.0),
            _mm256_unpackhi_epi64(x.0, y.0),
            _mm256_unpacklo_epi64(x.1, y.1),
            _mm256_unpackhi_epi64(x.1, y.1),
        ]
    };
    let (upper, lower) = (four(two(a, b), two(c, d)), four(two(e, f), two(g, h)));
    let left = |i: usize| Eight(_mm256_permute2x128_si256::<0x20>(upper[i], lower[i]));
    let right = |i: usize| Eight(_mm256_permute2x128_si256::<0x31>(upper[i], lower[i]));
    [left(0), left(1), left(2), left(3), right(0), right(1), right(2), right(3)]
}

pub(super) fn sums(_: Avx2, near: &[u8], far: &[u8], to: &mut [u16]) {
    // SAFETY: the token proves AVX2.
    unsafe { sums_avx2(near, far, to) }
}

#[target_feature(enable = "avx2")]
fn sums_avx2(near: &[u8], far: &[u8], to: &mut [u16]) {
    scalar::sums(near, far, to);
}

pub(super) fn spread(_: Avx2, how: Spread, from: &[u16], to: &mut [u8]) {
    // SAFETY: the token proves AVX2.
    unsafe { spread_avx2(how, from, to) }
}

#[target_feature(enable = "avx2")]
fn spread_avx2(how: Spread, from: &[u16], to: &mut [u8]) {
    scalar::spread(how, from, to);
}
