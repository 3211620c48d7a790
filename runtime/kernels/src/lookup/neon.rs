//! Table look-up for NEON: the table as four groups of 64 bytes (`tbl`, `tbx`), 16 elements a
//! step.

use std::arch::aarch64::*;

use crate::arm::map2;
use crate::isa::Neon;

pub(super) fn run(_token: Neon, table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    // SAFETY: the token proves NEON.
    unsafe { run_neon(table, input, output) }
}

#[target_feature(enable = "neon")]
fn run_neon(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    // SAFETY: part `i < 4` of 64 bytes.
    let part = |i: usize| unsafe { vld1q_u8_x4(table.as_ptr().add(64 * i)) };
    let parts = [part(0), part(1), part(2), part(3)];
    map2(input, input, output, |x, _| {
        // An index beyond its 64 bytes yields 0 in the first part and leaves `found` in the others.
        let mut found = vqtbl4q_u8(parts[0], x);
        for (i, &part) in parts.iter().enumerate().skip(1) {
            found = vqtbx4q_u8(found, part, vsubq_u8(x, vdupq_n_u8(64 * i as u8)));
        }
        found
    });
}
