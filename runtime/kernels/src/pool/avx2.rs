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
    sums[..whole].fill(0);
    let zero = _mm256_setzero_si256();
    for c in (0..whole).step_by(STEP) {
        // So many bytes add up to no more than 16 bits.
        for pixels in input.chunks(257 * channels) {
            let (mut low, mut high) = (zero, zero);
            for at in (c..pixels.len()).step_by(channels) {
                // SAFETY: `c + STEP <= channels`, the length of a pixel.
                let x = unsafe { _mm256_loadu_si256(pixels.as_ptr().add(at).cast()) };
                low = _mm256_add_epi16(low, _mm256_unpacklo_epi8(x, zero));
                high = _mm256_add_epi16(high, _mm256_unpackhi_epi8(x, zero));
            }
            // Unpacking went by halves of 128 bits: channels 0..8 and 16..24, then the others.
            let parts = [
                _mm256_castsi256_si128(low),
                _mm256_castsi256_si128(high),
                _mm256_extracti128_si256::<1>(low),
                _mm256_extracti128_si256::<1>(high),
            ];
            for (sums, part) in sums[c..c + STEP].chunks_exact_mut(8).zip(parts) {
                let to = sums.as_mut_ptr().cast();
                // SAFETY: the chunk is eight values.
                unsafe {
                    let sum = _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_cvtepu16_epi32(part));
                    _mm256_storeu_si256(to, sum);
                }
            }
        }
    }
    sums[whole..].fill(0);
    for pixel in input.chunks_exact(channels) {
        for (sum, &x) in sums[whole..].iter_mut().zip(&pixel[whole..]) {
            *sum += i32::from(x);
        }
    }
}
