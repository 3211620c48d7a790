//! The vertical pass of some outputs together for AVX-512 VNNI: rows that several of them read are
//! brought together by fours once (`quads.rs`).

use std::arch::x86_64::*;

use super::quads::{Band, Digits, GROUP, LEAST};
use super::vnni::{COLUMNS, finish, together};
use crate::isa::Avx512Vnni;

/// Most fours of rows that the outputs may read together: 8 KiB of samples for each step.
const FOURS: usize = 32;

/// Whether it could be done; arguments as for [`super::Resample::vertical_rows`], which has checked them.
pub(super) fn vertical(
    _: Avx512Vnni,
    from: (&[u8], usize),
    band: &Band<'_>,
    to: (&mut [u8], usize),
    length: usize,
) -> bool {
    let fits = length >= COLUMNS && band.quads.len() <= FOURS;
    if fits {
        // SAFETY: the token proves the features; rows and outputs have been checked.
        unsafe { vertical_vnni(from, band, to, length) };
    }
    fits
}

/// # Safety
/// `length` bytes lie in each of the band's rows, one every `stride` bytes, and at the place of each of
/// its outputs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn vertical_vnni(
    (from, stride): (&[u8], usize),
    band: &Band<'_>,
    (to, to_stride): (&mut [u8], usize),
    length: usize,
) {
    let mut fours = [[_mm512_setzero_si512(); GROUP]; FOURS + LEAST];
    // The last columns once more together with some before them.
    let steps = (0..length.div_ceil(COLUMNS)).map(|step| (step * COLUMNS).min(length - COLUMNS));
    for at in steps {
        for (four, quad) in fours.iter_mut().zip(band.quads.clone()) {
            // Rows behind the last have digits of zero: any row does.
            let row = |i: usize| (quad * GROUP + i).min(band.rows - 1) * stride + at;
            let rows = [0, 1, 2, 3].map(|i| from.as_ptr().wrapping_add(row(i)));
            // So many rows are more streams than the processor follows by itself. Loads are seldom aligned:
            // the end of the next one is not there yet.
            for row in rows {
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(2 * COLUMNS).cast());
            }
            // SAFETY: the caller's promise.
            *four = unsafe { together(rows) };
        }
        for (output, (quad, digits, begin)) in band.outputs().enumerate() {
            let samples = sum(&fours[quad..], digits, begin);
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.as_mut_ptr().add(output * to_stride + at);
                _mm512_storeu_si512(to.cast(), samples);
            }
        }
    }
}

/// 64 samples.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn sum(fours: &[[__m512i; GROUP]], digits: &[Digits], begin: i32) -> __m512i {
    let mut sums = [[_mm512_setzero_si512(); GROUP]; 3];
    for (samples, digits) in fours.iter().zip(digits) {
        for (sums, digit) in sums.iter_mut().zip(digits) {
            let digit = _mm512_set1_epi32(*digit);
            for (sum, samples) in sums.iter_mut().zip(samples) {
                *sum = _mm512_dpbusd_epi32(*sum, *samples, digit);
            }
        }
    }
    finish(sums, begin)
}
