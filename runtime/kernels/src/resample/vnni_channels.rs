//! The horizontal pass for AVX-512 VNNI: four samples of eight rows in one multiplication (`quads.rs`).

use std::arch::x86_64::*;

use super::channels::{Packing, ROW_STEP, Weights};
use super::quads::{MOST, QUAD, Quads};
use super::{PRECISION_BITS, ROWS, Turned};
use crate::isa::Avx512Vnni;

/// All channels; arguments as for [`super::Resample::channels`], which has checked them.
pub(super) fn channels(
    _: Avx512Vnni,
    rows: &[u8],
    stride: usize,
    packing: Packing,
    axes: &[&Weights],
    block: &mut [Turned],
    to: &mut [&mut [Turned]],
) {
    let count = rows.len() / stride;
    let starts = std::array::from_fn(|row: usize| row.min(count - 1) * stride);
    let block = block.as_flattened_mut();
    let steps = stride / ROW_STEP;
    // SAFETY: the token proves the features; the block has as many bytes as eight rows, and each row has
    // whole steps.
    unsafe { take_apart(rows, starts, steps, packing, block) };
    // SAFETY: as above; no output reads beyond the row, whose quads these are.
    packing.each_axis(steps, axes, block, to, |quads, axis, to| unsafe {
        match to {
            [to] => pass(quads, axis, to),
            [blue, red] => pass_of_two(quads, axis, blue, red),
            _ => unreachable!("one channel or two"),
        }
    });
}

/// # Safety
/// `steps` times 16 bytes lie in `rows` from each start on, and eight times as many in `block`.
#[target_feature(enable = "avx2")]
unsafe fn take_apart(
    rows: &[u8],
    starts: [usize; ROWS],
    steps: usize,
    packing: Packing,
    block: &mut [u8],
) {
    // SAFETY: a load of 16 bytes from 16.
    let order = unsafe { _mm_loadu_si128(packing.order().as_ptr().cast()) };
    let order = _mm256_broadcastsi128_si256(order);
    let mut places = packing.quads(steps);
    for step in 0..steps {
        let load = |row: usize| {
            // SAFETY: the caller's promise.
            unsafe { _mm_loadu_si128(rows.as_ptr().add(starts[row] + step * ROW_STEP).cast()) }
        };
        let both = |row| {
            let both = _mm256_set_m128i(load(row + 4), load(row));
            _mm256_shuffle_epi8(both, order)
        };
        let [a, b, c, d] = [both(0), both(1), both(2), both(3)];
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        let quads = [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ];
        for (quad, (place, next)) in quads.into_iter().zip(&mut places) {
            // SAFETY: the places are those of four quads a step, each its own.
            unsafe { _mm256_storeu_si256(block.as_mut_ptr().add(*place).cast(), quad) };
            *place += *next;
        }
    }
}

/// # Safety
/// No output reads beyond `from`.
unsafe fn pass(from: &[u8], quads: &Quads, to: &mut [Turned]) {
    // SAFETY: passed on. How many quads an output reads is the same for all: the loop over them is none.
    unsafe {
        match quads.most() {
            1 => pass_by::<1>(from, quads, to),
            2 => pass_by::<2>(from, quads, to),
            3 => pass_by::<3>(from, quads, to),
            4 => pass_by::<4>(from, quads, to),
            5 => pass_by::<5>(from, quads, to),
            6 => pass_by::<6>(from, quads, to),
            7 => pass_by::<7>(from, quads, to),
            _ => pass_by::<MOST>(from, quads, to),
        }
    }
}

/// # Safety
/// No output reads beyond `from`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pass_by<const N: usize>(from: &[u8], quads: &Quads, to: &mut [Turned]) {
    for ((first, digits, begin), to) in quads.outputs_by::<N>().zip(to) {
        let mut sums = [_mm256_set1_epi32(begin), _mm256_setzero_si256(), _mm256_setzero_si256()];
        for (at, digits) in digits.iter().enumerate() {
            // Few outputs read as many as the one that reads most.
            if at + 1 == N && *digits == [0; 3] {
                break;
            }
            let place = (first + at) * QUAD;
            // SAFETY: the caller's promise.
            let samples = unsafe { _mm256_loadu_si256(from.as_ptr().add(place).cast()) };
            for (sum, digit) in sums.iter_mut().zip(digits) {
                *sum = _mm256_dpbusd_epi32(*sum, samples, _mm256_set1_epi32(*digit));
            }
        }
        let [low, middle, high] = sums;
        let upper = _mm256_add_epi32(_mm256_slli_epi32::<8>(high), middle);
        let sum = _mm256_add_epi32(_mm256_slli_epi32::<8>(upper), low);
        let whole = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(sum);
        let bytes = _mm256_cvtusepi32_epi8(_mm256_max_epi32(whole, _mm256_setzero_si256()));
        // SAFETY: a store of eight bytes.
        unsafe { _mm_storel_epi64(to.as_mut_ptr().cast(), bytes) };
    }
}

/// # Safety
/// No output reads beyond `from`.
unsafe fn pass_of_two(from: &[u8], quads: &Quads, blue: &mut [Turned], red: &mut [Turned]) {
    // SAFETY: passed on.
    unsafe {
        match quads.most() {
            1 => pass_of_two_by::<1>(from, quads, blue, red),
            2 => pass_of_two_by::<2>(from, quads, blue, red),
            3 => pass_of_two_by::<3>(from, quads, blue, red),
            4 => pass_of_two_by::<4>(from, quads, blue, red),
            5 => pass_of_two_by::<5>(from, quads, blue, red),
            6 => pass_of_two_by::<6>(from, quads, blue, red),
            7 => pass_of_two_by::<7>(from, quads, blue, red),
            _ => pass_of_two_by::<MOST>(from, quads, blue, red),
        }
    }
}

/// # Safety
/// No output reads beyond `from`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pass_of_two_by<const N: usize>(
    from: &[u8],
    quads: &Quads,
    blue: &mut [Turned],
    red: &mut [Turned],
) {
    let outputs = quads.outputs_by::<N>().zip(blue.iter_mut().zip(red));
    for ((first, digits, begin), (blue, red)) in outputs {
        let mut sums = [_mm512_set1_epi32(begin), _mm512_setzero_si512(), _mm512_setzero_si512()];
        for (at, digits) in digits.iter().enumerate() {
            if at + 1 == N && *digits == [0; 3] {
                break;
            }
            let place = (first + at) * 2 * QUAD;
            // SAFETY: the caller's promise.
            let samples = unsafe { _mm512_loadu_si512(from.as_ptr().add(place).cast()) };
            for (sum, digit) in sums.iter_mut().zip(digits) {
                *sum = _mm512_dpbusd_epi32(*sum, samples, _mm512_set1_epi32(*digit));
            }
        }
        let [low, middle, high] = sums;
        let upper = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), middle);
        let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(upper), low);
        let whole = _mm512_srai_epi32::<{ PRECISION_BITS }>(sum);
        let bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole, _mm512_setzero_si512()));
        // SAFETY: two stores of eight bytes.
        unsafe {
            _mm_storel_epi64(blue.as_mut_ptr().cast(), bytes);
            _mm_storeh_pd(red.as_mut_ptr().cast(), _mm_castsi128_pd(bytes));
        }
    }
}
