//! What several AVX2 kernels share: widening activations and the end of requantization.

use std::arch::x86_64::*;

use crate::Requantize;
use crate::isa::Avx2;

/// The last steps from rounded `i32` values to activations.
///
/// Each step saturates towards a bound that clamping to `min..=max` reaches anyway, so the result
/// equals `clamp(value + zero_point, min, max)` for every `i32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clamp {
    zero_point: i16,
    min: u8,
    max: u8,
}

impl Clamp {
    pub(crate) fn new(output: &Requantize) -> Clamp {
        Clamp::from_parts(output.zero_point, output.min, output.max)
    }

    pub(crate) fn from_parts(zero_point: u8, min: u8, max: u8) -> Clamp {
        Clamp { zero_point: i16::from(zero_point), min, max }
    }

    /// Adds the zero point to 16 values.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn offset(&self, values: __m256i) -> __m256i {
        _mm256_adds_epi16(values, _mm256_set1_epi16(self.zero_point))
    }

    /// Clamps 32 values, packed within 128-bit halves: `low` and `high` alternate by eights.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn pack(&self, low: __m256i, high: __m256i) -> __m256i {
        let bytes = _mm256_packus_epi16(low, high);
        let bytes = _mm256_max_epu8(bytes, _mm256_set1_epi8(self.min as i8));
        _mm256_min_epu8(bytes, _mm256_set1_epi8(self.max as i8))
    }
}

/// Zero-extends bytes.
///
/// # Panics
/// If the slices differ in length.
pub(crate) fn widen(_token: Avx2, from: &[u8], to: &mut [i16]) {
    assert_eq!(from.len(), to.len());
    // SAFETY: the token proves AVX2.
    unsafe { widen_avx2(from, to) }
}

#[target_feature(enable = "avx2")]
fn widen_avx2(from: &[u8], to: &mut [i16]) {
    let (from_vectors, from_tail) = from.as_chunks::<16>();
    let (to_vectors, to_tail) = to.as_chunks_mut::<16>();
    for (from, to) in from_vectors.iter().zip(to_vectors) {
        // SAFETY: a load of the 16 bytes of `from`, a store to the 16 values of `to`.
        unsafe {
            let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.as_ptr().cast()));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), wide);
        }
    }
    for (&from, to) in from_tail.iter().zip(to_tail) {
        *to = i16::from(from);
    }
}

/// Zero-extends runs of 32 bytes; run `i` goes to `to[i * stride..]`.
///
/// # Panics
/// If `from` is not a whole number of runs, or `to` too short for them.
pub(crate) fn widen_runs(_token: Avx2, from: &[u8], to: &mut [i16], stride: usize) {
    let (runs, rest) = from.as_chunks::<32>();
    assert!(rest.is_empty() && !runs.is_empty());
    assert!((runs.len() - 1) * stride + 32 <= to.len());
    // SAFETY: the token proves AVX2; the last run was just checked.
    unsafe { widen_runs_avx2(runs, to.as_mut_ptr(), stride) }
}

/// # Safety
/// 32 values can be written at `to + i * stride` for each run `i`.
#[target_feature(enable = "avx2")]
unsafe fn widen_runs_avx2(runs: &[[u8; 32]], to: *mut i16, stride: usize) {
    for (i, run) in runs.iter().enumerate() {
        // SAFETY: loads of the two halves of the run; passed on for the stores.
        unsafe {
            let low = _mm256_cvtepu8_epi16(_mm_loadu_si128(run.as_ptr().cast()));
            let high = _mm256_cvtepu8_epi16(_mm_loadu_si128(run.as_ptr().add(16).cast()));
            _mm256_storeu_si256(to.add(i * stride).cast(), low);
            _mm256_storeu_si256(to.add(i * stride + 16).cast(), high);
        }
    }
}

/// Widens and interleaves 16 channels of two rows: `to[column][channel] = (a, b)`, channels 0 to 3
/// and 8 to 11 before the others.
///
/// Column `i` of `a` starts at `a[i * a_step]`; a step of 0 repeats one column.
///
/// # Panics
/// If `to` is not a whole number of columns, or a row is too short for them.
pub(crate) fn interleave(
    _token: Avx2,
    a: &[u8],
    a_step: usize,
    b: &[u8],
    b_step: usize,
    to: &mut [i16],
) {
    let (columns, rest) = to.as_chunks_mut::<32>();
    assert!(rest.is_empty() && !columns.is_empty());
    let last = columns.len() - 1;
    assert!(last * a_step + 16 <= a.len() && last * b_step + 16 <= b.len());
    // SAFETY: the token proves AVX2; the last column of both rows was just checked.
    unsafe { interleave_avx2(a.as_ptr(), a_step, b.as_ptr(), b_step, columns) }
}

/// # Safety
/// 16 bytes are readable at `a + i * a_step` and `b + i * b_step` for each column `i`.
#[target_feature(enable = "avx2")]
unsafe fn interleave_avx2(
    a: *const u8,
    a_step: usize,
    b: *const u8,
    b_step: usize,
    columns: &mut [[i16; 32]],
) {
    for (i, to) in columns.iter_mut().enumerate() {
        // SAFETY: passed on for the loads; the stores fill the 32 values of `to`.
        unsafe {
            let a = _mm_loadu_si128(a.add(i * a_step).cast());
            let b = _mm_loadu_si128(b.add(i * b_step).cast());
            let (a, b) = (_mm256_cvtepu8_epi16(a), _mm256_cvtepu8_epi16(b));
            let (low, high) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(to.as_mut_ptr().add(16).cast(), high);
        }
    }
}

/// Elements `8 * i..8 * i + 8` as `f32`.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn eight_f32(x: &[u8; 32], i: usize) -> __m256 {
    let (eights, _) = x.as_chunks::<8>();
    // SAFETY: a load of eight bytes.
    let bytes = unsafe { _mm_loadl_epi64(eights[i].as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
}

/// Four vectors of consecutive values to 32 activations in order.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn pack_ordered(clamp: &Clamp, values: [__m256i; 4]) -> __m256i {
    let low = clamp.offset(_mm256_packs_epi32(values[0], values[1]));
    let high = clamp.offset(_mm256_packs_epi32(values[2], values[3]));
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_permutevar8x32_epi32(clamp.pack(low, high), order)
}

/// Applies `f` to 32 elements of `a` and `b` at a time, the last ones padded with zeros.
///
/// # Panics
/// If the slices differ in length.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn map2(
    a: &[u8],
    b: &[u8],
    out: &mut [u8],
    f: impl Fn(&[u8; 32], &[u8; 32]) -> __m256i,
) {
    assert!(a.len() == out.len() && b.len() == out.len());
    let (a, a_tail) = a.as_chunks::<32>();
    let (b, b_tail) = b.as_chunks::<32>();
    let (out, out_tail) = out.as_chunks_mut::<32>();
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        // SAFETY: a store of 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), f(a, b)) };
    }
    if out_tail.is_empty() {
        return;
    }
    let (mut a_last, mut b_last, mut out_last) = ([0; 32], [0; 32], [0; 32]);
    a_last[..a_tail.len()].copy_from_slice(a_tail);
    b_last[..b_tail.len()].copy_from_slice(b_tail);
    // SAFETY: a store of 32 bytes.
    unsafe { _mm256_storeu_si256(out_last.as_mut_ptr().cast(), f(&a_last, &b_last)) };
    out_tail.copy_from_slice(&out_last[..out_tail.len()]);
}

/// Three planes of 16 values to 16 pixels.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn interleave_three(planes: [__m128i; 3], to: &mut [u8]) {
    for (part, to) in to.chunks_exact_mut(16).enumerate() {
        let mut all = _mm_setzero_si128();
        for (channel, &plane) in planes.iter().enumerate() {
            // SAFETY: the mask is 16 bytes.
            let mask = unsafe { _mm_loadu_si128(MASKS[part][channel].as_ptr().cast()) };
            all = _mm_or_si128(all, _mm_shuffle_epi8(plane, mask));
        }
        // SAFETY: the chunk is 16 bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), all) };
    }
}

/// `MASKS[part][channel]` picks the values of `channel` for bytes `16 * part..` of 16 pixels of
/// three channels; 0x80 yields zero.
const MASKS: [[[u8; 16]; 3]; 3] = {
    let mut masks = [[[0x80; 16]; 3]; 3];
    let mut byte = 0;
    while byte < 48 {
        masks[byte / 16][byte % 3][byte % 16] = (byte / 3) as u8;
        byte += 1;
    }
    masks
};
