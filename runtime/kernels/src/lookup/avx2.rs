//! Table look-up for AVX2: the table as 16 registers of 16 bytes, 32 elements a step.

use std::arch::x86_64::*;

use super::scalar;
use crate::isa::Avx2;

/// Elements in one step.
const STEP: usize = 32;

/// # Safety
/// As for the scalar kernel.
pub(super) unsafe fn run(
    _token: Avx2,
    table: &[u8; 256],
    from: *const u8,
    to: *mut u8,
    len: usize,
) {
    let whole = len / STEP * STEP;
    // SAFETY: the token proves AVX2; whole steps lie within `len`, and the rest follows them.
    unsafe {
        run_avx2(table, from, to, whole);
        scalar::run(table, from.add(whole), to.add(whole), len - whole);
    }
}

/// # Safety
/// As for the scalar kernel; `len` is a whole number of steps.
#[target_feature(enable = "avx2")]
unsafe fn run_avx2(table: &[u8; 256], from: *const u8, to: *mut u8, len: usize) {
    for at in (0..len).step_by(STEP) {
        // SAFETY: passed on; all of a step is read before it is written.
        unsafe {
            let x = _mm256_loadu_si256(from.add(at).cast());
            _mm256_storeu_si256(to.add(at).cast(), look_up(table, x));
        }
    }
}

/// Looks up codes that lie as 16-bit values less `origin`, and leaves the results as such.
///
/// # Panics
/// If the values are not whole steps of 32.
pub(crate) fn run_wide(_token: Avx2, table: &[u8; 256], origin: u8, values: &mut [i16]) {
    // SAFETY: the token proves AVX2.
    unsafe { run_wide_avx2(table, origin, values) }
}

#[target_feature(enable = "avx2")]
fn run_wide_avx2(table: &[u8; 256], origin: u8, values: &mut [i16]) {
    let (steps, rest) = values.as_chunks_mut::<STEP>();
    assert!(rest.is_empty());
    let origin = _mm256_set1_epi16(i16::from(origin));
    for step in steps {
        let to = step.as_mut_ptr().cast::<__m256i>();
        // SAFETY: a step is two vectors of 16 values. Packing and unpacking both work within halves.
        unsafe {
            let a = _mm256_add_epi16(_mm256_loadu_si256(to), origin);
            let b = _mm256_add_epi16(_mm256_loadu_si256(to.add(1)), origin);
            let found = look_up(table, _mm256_packus_epi16(a, b));
            let zero = _mm256_setzero_si256();
            _mm256_storeu_si256(to, _mm256_unpacklo_epi8(found, zero));
            _mm256_storeu_si256(to.add(1), _mm256_unpackhi_epi8(found, zero));
        }
    }
}

/// The table's values at 32 indices.
#[target_feature(enable = "avx2")]
#[inline]
fn look_up(table: &[u8; 256], x: __m256i) -> __m256i {
    let mut found = _mm256_setzero_si256();
    for (high, part) in table.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: `part` is 16 bytes.
        let part = unsafe { _mm_loadu_si128(part.as_ptr().cast()) };
        let part = _mm256_broadcastsi128_si256(part);
        // Elements with this high nibble become 0x70..=0x7f, all others at least 0x80, for
        // which the shuffle yields zero.
        let index = _mm256_xor_si256(x, _mm256_set1_epi8((high << 4) as u8 as i8));
        let index = _mm256_adds_epu8(index, _mm256_set1_epi8(0x70));
        found = _mm256_or_si256(found, _mm256_shuffle_epi8(part, index));
    }
    found
}
