//! Loops for 32-bit ARM with NEON; in assembly, `arm32/peak.s`.

use super::Loop;
use crate::isa::Neon32;

// SAFETY: both need NEON; the first at least one round, the second as many bytes, whole blocks of 64.
unsafe extern "C" {
    fn kinglet_peak_neon32(rounds: u32);
    fn kinglet_read_neon32(bytes: *const u8, len: usize);
}

/// Accumulators of the loop.
const ACCUMULATORS: u64 = 12;

/// # Safety
/// The CPU has NEON; at least one round.
unsafe fn vmlal_i16(rounds: u64) {
    let mut left = rounds;
    while left > 0 {
        let now = u32::try_from(left).unwrap_or(u32::MAX);
        // SAFETY: passed on.
        unsafe { kinglet_peak_neon32(now) };
        left -= u64::from(now);
    }
}

pub(super) fn loops() -> Vec<Loop> {
    let neon = Neon32::detect().is_some();
    Loop::there((neon, "i16_vmlal_neon32", 4, vmlal_i16), ACCUMULATORS).into_iter().collect()
}

pub(super) fn read(bytes: &[u8]) {
    if Neon32::detect().is_some() {
        // SAFETY: NEON is there; `super::read` gives whole blocks.
        unsafe { kinglet_read_neon32(bytes.as_ptr(), bytes.len()) };
    } else {
        std::hint::black_box(bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)));
    }
}
