//! Sums over pixels for AVX2, 32 channels a step.

use std::arch::x86_64::*;

use crate::isa::Avx2;

/// Channels in one step.
const STEP: usize = 32;

/// `sums[c]` becomes the sum of channel `c` over all pixels of `input` (`[pixels][channels]`).
///
/// # Panics
/// If `input` is not a whole number of pixels.
pub(super) fn run(_token: Avx2, input: &[u8], sums: &mut [i32]) {
    assert_eq!(input.len() % sums.len(), 0);
    // SAFETY: the token proves AVX2; the length was just checked.
    unsafe { run_avx2(input, sums) }
}

/// # Safety
/// `input` is a whole number of pixels of `sums.len()` channels.
#[target_feature(enable = "avx2")]
unsafe fn run_avx2(input: &[u8], sums: &mut [i32]) {
    let channels = sums.len();
    let whole = channels / STEP * STEP;
    for c in (0..whole).step_by(STEP) {
        let mut acc = [_mm256_setzero_si256(); STEP / 8];
        for pixel in input.chunks_exact(channels) {
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: `c + STEP <= channels`, the length of a pixel.
                let x = unsafe { _mm_loadl_epi64(pixel.as_ptr().add(c + i * 8).cast()) };
                *acc = _mm256_add_epi32(*acc, _mm256_cvtepu8_epi32(x));
            }
        }
        for (sums, acc) in sums[c..c + STEP].chunks_exact_mut(8).zip(acc) {
            // SAFETY: the chunk is eight values.
            unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), acc) };
        }
    }
    sums[whole..].fill(0);
    for pixel in input.chunks_exact(channels) {
        for (sum, &x) in sums[whole..].iter_mut().zip(&pixel[whole..]) {
            *sum += i32::from(x);
        }
    }
}
