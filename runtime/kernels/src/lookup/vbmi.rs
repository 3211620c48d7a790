//! Table of 256 bytes for AVX-512 with VBMI: two permutations of 128 bytes, one chosen by the top
//! bit.

use std::arch::x86_64::*;

use crate::isa::Avx512Vbmi;

pub(super) fn run(_token: Avx512Vbmi, table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    // SAFETY: the token proves the instruction set.
    unsafe { run_vbmi(table, input, output) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn run_vbmi(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    assert_eq!(input.len(), output.len());
    let mut quarters = [_mm512_setzero_si512(); 4];
    for (quarter, bytes) in quarters.iter_mut().zip(table.as_chunks::<64>().0) {
        // SAFETY: a load of 64 bytes.
        *quarter = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    }
    let [a, b, c, d] = quarters;
    for (from, to) in input.chunks(64).zip(output.chunks_mut(64)) {
        let mask = u64::MAX >> (64 - from.len());
        // SAFETY: `mask` covers the bytes of `from`, and `to` is as long.
        unsafe {
            let x = _mm512_maskz_loadu_epi8(mask, from.as_ptr().cast());
            let low = _mm512_permutex2var_epi8(a, x, b);
            let high = _mm512_permutex2var_epi8(c, x, d);
            let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
            if from.len() == 64 {
                _mm512_storeu_si512(to.as_mut_ptr().cast(), found);
            } else {
                _mm512_mask_storeu_epi8(to.as_mut_ptr().cast(), mask, found);
            }
        }
    }
}
