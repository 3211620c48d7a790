//! Table look-up for AVX2: the table as 16 registers of 16 bytes, 32 elements a step.

use std::arch::x86_64::*;

use crate::isa::Avx2;
use crate::x86::map2;

pub(super) fn run(_token: Avx2, table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    // SAFETY: the token proves AVX2.
    unsafe { run_avx2(table, input, output) }
}

#[target_feature(enable = "avx2")]
fn run_avx2(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    let (parts, _) = table.as_chunks::<16>();
    map2(input, input, output, |x, _| {
        // SAFETY: `x` is 32 bytes.
        let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        let mut found = _mm256_setzero_si256();
        for (high, part) in parts.iter().enumerate() {
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
    });
}
