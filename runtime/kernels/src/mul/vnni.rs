//! Product for AVX-512: each pixel by one factor per channel, 64 channels or 32 a step.

use std::arch::x86_64::*;

use super::MulParams;
use crate::isa::Avx512Vnni;

/// Channels of a vector of accumulators.
const LANES: usize = 16;

/// Multiplies each pixel of `a` (`[pixels][factors.len()]`), channels in whole 32s.
///
/// # Panics
/// If the lengths do not agree.
pub(super) fn run(_token: Avx512Vnni, p: &MulParams, a: &[u8], factors: &[u8], out: &mut [u8]) {
    let channels = factors.len();
    assert!(a.len() == out.len() && channels > 0 && a.len().is_multiple_of(channels));
    assert!(channels.is_multiple_of(2 * LANES));
    if let Ok(factors) = <[u8; 2 * LANES]>::try_from(factors) {
        // Two pixels side by side are as many channels as fill the vectors.
        let twice: [u8; 4 * LANES] = std::array::from_fn(|c| factors[c % (2 * LANES)]);
        let (a, last) = a.split_at(a.len() / (4 * LANES) * (4 * LANES));
        let (out, last_out) = out.split_at_mut(a.len());
        // SAFETY: the token proves the instruction set; whole pairs of pixels, and the last one.
        unsafe {
            run_step::<4>(p, a, &twice, 0, out);
            run_step::<2>(p, last, &factors, 0, last_out);
        }
        return;
    }
    // SAFETY: the token proves the instruction set; the sizes were just checked.
    unsafe {
        let mut first = 0;
        while first + 4 * LANES <= channels {
            run_step::<4>(p, a, factors, first, out);
            first += 4 * LANES;
        }
        if first < channels {
            run_step::<2>(p, a, factors, first, out);
        }
    }
}

/// `V * 16` channels of all pixels, from `first` on.
///
/// # Safety
/// The channels exist, in `factors` and in each pixel of `a` and `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn run_step<const V: usize>(
    p: &MulParams,
    a: &[u8],
    factors: &[u8],
    first: usize,
    out: &mut [u8],
) {
    let channels = factors.len();
    let scale = _mm512_set1_ps(p.multiplier);
    let a_zero = _mm512_set1_ps(f32::from(p.a_zero_point));
    let b_zero = _mm512_set1_epi32(i32::from(p.b_zero_point));
    let mut by = [_mm512_setzero_ps(); V];
    for (v, by) in by.iter_mut().enumerate() {
        // SAFETY: passed on: 16 factors.
        let b = unsafe { _mm_loadu_si128(factors.as_ptr().add(first + v * LANES).cast()) };
        *by = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(b), b_zero));
    }
    let zero_point = _mm512_set1_epi16(i16::from(p.zero_point));
    let (min, max) = (_mm512_set1_epi8(p.min as i8), _mm512_set1_epi8(p.max as i8));
    // From 32-bit elements packed by fours within quarters to the order of channels.
    let order = if V == 4 {
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
    } else {
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0)
    };
    for at in (first..a.len()).step_by(channels) {
        let mut values = [_mm512_setzero_si512(); 4];
        for v in 0..V {
            // SAFETY: passed on: 16 channels of a pixel.
            let x = unsafe { _mm_loadu_si128(a.as_ptr().add(at + v * LANES).cast()) };
            let x = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x));
            // Differences and products of small integers are exact in f32 (below 2^24).
            let product = _mm512_mul_ps(_mm512_sub_ps(x, a_zero), by[v]);
            values[v] = _mm512_cvtps_epi32(_mm512_mul_ps(product, scale));
        }
        // Narrowing saturates towards a bound that clamping reaches anyway.
        let low = _mm512_adds_epi16(_mm512_packs_epi32(values[0], values[1]), zero_point);
        let high = _mm512_adds_epi16(_mm512_packs_epi32(values[2], values[3]), zero_point);
        let bytes = _mm512_packus_epi16(low, high);
        let bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, min), max);
        let bytes = _mm512_permutexvar_epi32(order, bytes);
        // SAFETY: passed on: the channels of a pixel.
        unsafe {
            let to = out.as_mut_ptr().add(at);
            if V == 4 {
                _mm512_storeu_si512(to.cast(), bytes);
            } else {
                _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(bytes));
            }
        }
    }
}
