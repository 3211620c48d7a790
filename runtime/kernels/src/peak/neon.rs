//! The loops for aarch64.

use std::arch::asm;
use std::arch::is_aarch64_feature_detected as has;

use super::{Candidate, Loop, READ_BLOCK};

/// Accumulators of each loop: registers 0 to 9. Two units of latency 4 need eight.
const ACCUMULATORS: u64 = 10;

/// Runs each line for all accumulators, then again until the rounds are over. In the lines `\a` is
/// the accumulator's number and `1\a` that of a free register of its own; 30 and 31 are operands.
macro_rules! repeated {
    ($name:ident, $features:literal: $($line:literal),+) => {
        /// # Safety
        /// The CPU has the instructions; `rounds` is not 0.
        #[target_feature(enable = $features)]
        unsafe fn $name(rounds: u64) {
            // SAFETY: the caller has checked the CPU; the code touches only registers named here.
            unsafe {
                asm!(
                    ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
                    r"movi v\a\().16b, #0",
                    ".endr",
                    "movi v30.16b, #0",
                    "movi v31.16b, #0",
                    "2:",
                    $(
                        ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
                        $line,
                        ".endr",
                    )+
                    "subs {rounds}, {rounds}, #1",
                    "b.ne 2b",
                    rounds = inout(reg) rounds => _,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _,
                    out("v5") _, out("v6") _, out("v7") _, out("v8") _, out("v9") _,
                    out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                    out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v30") _, out("v31") _,
                    options(nomem, nostack),
                );
            }
        }
    };
}

repeated!(fmla_f32, "neon": r"fmla v\a\().4s, v30.4s, v31.4s");
repeated!(fmla_f16, "neon,fp16": r"fmla v\a\().8h, v30.8h, v31.8h");
repeated!(smlal_i16, "neon":
    r"smlal v\a\().4s, v30.4h, v31.4h",
    r"smlal2 v\a\().4s, v30.8h, v31.8h");
repeated!(smlal_i8, "neon":
    r"smull v1\a\().8h, v30.8b, v31.8b",
    r"smlal2 v1\a\().8h, v30.16b, v31.16b",
    r"sadalp v\a\().4s, v1\a\().8h");
repeated!(sdot, "neon,dotprod": r"sdot v\a\().4s, v30.16b, v31.16b");

pub(super) fn loops() -> Vec<Loop> {
    let neon = has!("neon");
    let table: [Candidate; 5] = [
        (neon, "f32_fmla_neon", 4, fmla_f32),
        (neon && has!("fp16"), "f16_fmla_neon", 8, fmla_f16),
        (neon, "i16_smlal_neon", 8, smlal_i16),
        (neon, "i8_smlal_neon", 16, smlal_i8),
        (neon && has!("dotprod"), "i8_sdot_neon", 16, sdot),
    ];
    table.into_iter().filter_map(|one| Loop::there(one, ACCUMULATORS)).collect()
}

/// `bytes` is not empty and has whole blocks.
pub(super) fn read(bytes: &[u8]) {
    let blocks = bytes.len() / READ_BLOCK;
    // SAFETY: the loop reads `blocks` blocks, at least one, from the slice's start: its length. NEON
    // is part of the aarch64 baseline; only registers named here are written.
    unsafe {
        asm!(
            "2:",
            ".rept 4",
            "ldp q0, q1, [{from}]",
            "ldp q2, q3, [{from}, #32]",
            "ldp q4, q5, [{from}, #64]",
            "ldp q6, q7, [{from}, #96]",
            "add {from}, {from}, #128",
            ".endr",
            "subs {blocks}, {blocks}, #1",
            "b.ne 2b",
            from = inout(reg) bytes.as_ptr() => _,
            blocks = inout(reg) blocks => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            options(readonly, nostack),
        );
    }
}
