//! Table of 256 bytes for AVX-512 with VBMI: two permutations of 128 bytes, one chosen by the top
//! bit.

use std::arch::x86_64::*;

use crate::isa::Avx512Vbmi;

/// Elements in one step.
const STEP: usize = 64;

/// # Safety
/// As for the scalar kernel.
pub(super) unsafe fn run(
    _token: Avx512Vbmi,
    table: &[u8; 256],
    from: *const u8,
    to: *mut u8,
    len: usize,
) {
    // SAFETY: the token proves the instruction set; the rest is passed on.
    unsafe { run_vbmi(table, from, to, len) }
}

/// # Safety
/// As for the scalar kernel.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn run_vbmi(table: &[u8; 256], from: *const u8, to: *mut u8, len: usize) {
    let mut quarters = [_mm512_setzero_si512(); 4];
    for (quarter, bytes) in quarters.iter_mut().zip(table.as_chunks::<64>().0) {
        // SAFETY: a load of 64 bytes.
        *quarter = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    }
    let [a, b, c, d] = quarters;
    let found = |x: __m512i| {
        let low = _mm512_permutex2var_epi8(a, x, b);
        let high = _mm512_permutex2var_epi8(c, x, d);
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high)
    };
    let whole = len / STEP * STEP;
    for at in (0..whole).step_by(STEP) {
        // SAFETY: passed on; all of a step is read before it is written.
        unsafe {
            let x = _mm512_loadu_si512(from.add(at).cast());
            _mm512_storeu_si512(to.add(at).cast(), found(x));
        }
    }
    if whole < len {
        let mask = u64::MAX >> (STEP - (len - whole));
        // SAFETY: `mask` covers what is left.
        unsafe {
            let x = _mm512_maskz_loadu_epi8(mask, from.add(whole).cast());
            _mm512_mask_storeu_epi8(to.add(whole).cast(), mask, found(x));
        }
    }
}
