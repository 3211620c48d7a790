//! Table look-up for NEON: the table as four groups of 64 bytes (`tbl`, `tbx`), 16 elements a
//! step.

use std::arch::aarch64::*;

use super::scalar;
use crate::isa::Neon;

/// Elements in one step.
const STEP: usize = 16;

/// # Safety
/// As for the scalar kernel.
pub(super) unsafe fn run(
    _token: Neon,
    table: &[u8; 256],
    from: *const u8,
    to: *mut u8,
    len: usize,
) {
    let whole = len / STEP * STEP;
    // SAFETY: the token proves NEON; whole steps lie within `len`, and the rest follows them.
    unsafe {
        run_neon(table, from, to, whole);
        scalar::run(table, from.add(whole), to.add(whole), len - whole);
    }
}

/// # Safety
/// As for the scalar kernel; `len` is a whole number of steps.
#[target_feature(enable = "neon")]
unsafe fn run_neon(table: &[u8; 256], from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: part `i < 4` of 64 bytes.
    let part = |i: usize| unsafe { vld1q_u8_x4(table.as_ptr().add(64 * i)) };
    let parts = [part(0), part(1), part(2), part(3)];
    for at in (0..len).step_by(STEP) {
        // SAFETY: passed on; all of a step is read before it is written.
        let x = unsafe { vld1q_u8(from.add(at)) };
        // An index beyond its 64 bytes yields 0 in the first part and leaves `found` in the others.
        let mut found = vqtbl4q_u8(parts[0], x);
        for (i, &part) in parts.iter().enumerate().skip(1) {
            found = vqtbx4q_u8(found, part, vsubq_u8(x, vdupq_n_u8(64 * i as u8)));
        }
        // SAFETY: passed on.
        unsafe { vst1q_u8(to.add(at), found) };
    }
}
