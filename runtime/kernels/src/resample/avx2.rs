//! The passes for AVX2: eight 32-bit sums a register.

use std::arch::x86_64::*;

use super::{HALF, Layout, PRECISION_BITS, ROWS, Taps, Turned, scalar};
use crate::isa::Avx2;

/// Sums that a step of the vertical pass keeps in registers: this many times eight.
const TILE: usize = 8;

pub(super) fn vertical(_: Avx2, rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    // SAFETY: the token proves AVX2; the caller has checked that all rows have `to`'s length.
    unsafe { vertical_avx2(rows, stride, weights, to) }
}

/// # Safety
/// For each weight a row of `to.len()` bytes lies in `rows`, one every `stride`.
#[target_feature(enable = "avx2")]
unsafe fn vertical_avx2(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    let mut at = 0;
    while at + 8 * TILE <= to.len() {
        // SAFETY: passed on; the step ends within the row.
        unsafe { vertical_step::<TILE>(rows.as_ptr().add(at), stride, weights, &mut to[at..]) };
        at += 8 * TILE;
    }
    while at + 8 <= to.len() {
        // SAFETY: as above.
        unsafe { vertical_step::<1>(rows.as_ptr().add(at), stride, weights, &mut to[at..]) };
        at += 8;
    }
    scalar::vertical_from(rows, stride, weights, to, at);
}

/// # Safety
/// For each weight `8 * N` bytes are readable, one run of them every `stride` bytes.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn vertical_step<const N: usize>(
    rows: *const u8,
    stride: usize,
    weights: &[i32],
    to: &mut [u8],
) {
    let mut sums = [_mm256_set1_epi32(HALF); N];
    for (tap, &weight) in weights.iter().enumerate() {
        let weight = _mm256_set1_epi32(weight);
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let samples = unsafe { load_eight(rows.add(tap * stride + 8 * i)) };
            *sum = _mm256_add_epi32(*sum, _mm256_mullo_epi32(samples, weight));
        }
    }
    for (sum, to) in sums.into_iter().zip(to.as_chunks_mut::<8>().0) {
        store_eight(finish(sum), to);
    }
}

/// # Safety
/// Eight bytes are readable.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_eight(from: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(from.cast()) })
}

/// Eight sums as samples, in the low half.
#[target_feature(enable = "avx2")]
#[inline]
fn finish(sums: __m256i) -> __m128i {
    let values = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(sums);
    let words =
        _mm_packs_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    _mm_packus_epi16(words, words)
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_eight(samples: __m128i, to: &mut [u8; 8]) {
    // SAFETY: a store of eight bytes.
    unsafe { _mm_storel_epi64(to.as_mut_ptr().cast(), samples) };
}

pub(super) fn horizontal(_: Avx2, from: &[Turned], layout: Layout, taps: &Taps, to: &mut [Turned]) {
    // SAFETY: the token proves AVX2; the caller has checked that no output reads beyond the block.
    unsafe {
        if layout.channels == 3 {
            horizontal_avx2::<3>(from, layout, taps, to);
        } else {
            horizontal_avx2::<1>(from, layout, taps, to);
        }
    }
}

/// # Safety
/// No output reads beyond the block.
#[target_feature(enable = "avx2")]
unsafe fn horizontal_avx2<const C: usize>(
    from: &[Turned],
    layout: Layout,
    taps: &Taps,
    to: &mut [Turned],
) {
    let step = layout.step * ROWS;
    for (output, to) in to.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        let (start, weights) = taps.of(output);
        let mut sums = [_mm256_set1_epi32(HALF); C];
        let first = (layout.first + start * layout.step) * ROWS;
        for (tap, &weight) in weights.iter().enumerate() {
            let weight = _mm256_set1_epi32(weight);
            for (channel, sum) in sums.iter_mut().enumerate() {
                let at = first + tap * step + channel * ROWS;
                // SAFETY: the caller's promise.
                let samples = unsafe { load_eight(from.as_ptr().cast::<u8>().add(at)) };
                *sum = _mm256_add_epi32(*sum, _mm256_mullo_epi32(samples, weight));
            }
        }
        for (sum, to) in sums.into_iter().zip(to) {
            store_eight(finish(sum), to);
        }
    }
}

pub(super) fn turn(_: Avx2, from: &[u8], starts: [usize; ROWS], to: &mut [Turned]) {
    // SAFETY: the token proves AVX2; the caller has checked the rows.
    unsafe { turn_avx2(from, starts, to) }
}

/// # Safety
/// `to.len()` bytes lie in `from` from each start on.
#[target_feature(enable = "avx2")]
unsafe fn turn_avx2(from: &[u8], starts: [usize; ROWS], to: &mut [Turned]) {
    let (blocks, _) = to.as_chunks_mut::<16>();
    let whole = blocks.len() * 16;
    for (i, to) in blocks.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let [a, b, c, d, e, f, g, h] = starts
            .map(|start| unsafe { _mm_loadu_si128(from.as_ptr().add(start + i * 16).cast()) });
        let bytes = |x, y| (_mm_unpacklo_epi8(x, y), _mm_unpackhi_epi8(x, y));
        let (ab, cd, ef, gh) = (bytes(a, b), bytes(c, d), bytes(e, f), bytes(g, h));
        let words = |x, y| (_mm_unpacklo_epi16(x, y), _mm_unpackhi_epi16(x, y));
        let quarters =
            [(words(ab.0, cd.0), words(ef.0, gh.0)), (words(ab.1, cd.1), words(ef.1, gh.1))];
        let mut at = to.as_mut_ptr().cast::<__m128i>();
        for (left, right) in quarters {
            for (left, right) in [(left.0, right.0), (left.1, right.1)] {
                // SAFETY: eight stores of 16 bytes fill the 16 columns.
                unsafe {
                    _mm_storeu_si128(at, _mm_unpacklo_epi32(left, right));
                    _mm_storeu_si128(at.add(1), _mm_unpackhi_epi32(left, right));
                    at = at.add(2);
                }
            }
        }
    }
    scalar::turn(from, starts, whole, to);
}

pub(super) fn turn_back(_: Avx2, from: &[Turned], to: &mut [u8], rows: usize) {
    // SAFETY: the token proves AVX2.
    unsafe { turn_back_avx2(from, to, rows) }
}

#[target_feature(enable = "avx2")]
fn turn_back_avx2(from: &[Turned], to: &mut [u8], rows: usize) {
    let (width, (blocks, _)) = (from.len(), from.as_chunks::<8>());
    for (i, from) in blocks.iter().enumerate() {
        // SAFETY: four loads of 16 bytes from 64.
        let two = [0, 1, 2, 3]
            .map(|part| unsafe { _mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(part)) });
        let [ab, cd, ef, gh] = two.map(|x| _mm_unpacklo_epi8(x, _mm_srli_si128::<8>(x)));
        let words = |x, y| (_mm_unpacklo_epi16(x, y), _mm_unpackhi_epi16(x, y));
        let (left, right) = (words(ab, cd), words(ef, gh));
        let pairs = [
            _mm_unpacklo_epi32(left.0, right.0),
            _mm_unpackhi_epi32(left.0, right.0),
            _mm_unpacklo_epi32(left.1, right.1),
            _mm_unpackhi_epi32(left.1, right.1),
        ];
        for (row, to) in to.chunks_exact_mut(width).enumerate() {
            let pair = pairs[row / 2];
            let one = if row % 2 == 0 { pair } else { _mm_srli_si128::<8>(pair) };
            store_eight(one, &mut to.as_chunks_mut::<8>().0[i]);
        }
    }
    scalar::turn_back(from, to, rows, blocks.len() * 8);
}
