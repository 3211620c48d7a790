//! The loops for x86-64.

use std::arch::asm;
use std::arch::is_x86_feature_detected as has;

use super::{Candidate, Loop, READ_BLOCK};

/// Accumulators of each loop: registers 0 to 11. Two FMA units of latency 4 need eight.
const ACCUMULATORS: u64 = 12;

/// Runs the lines once for each accumulator, then again until the rounds are over. In the lines
/// `\a` is the accumulator's number; 12 and 13 are free, 14 and 15 are operands.
macro_rules! repeated {
    ($name:ident: $($line:literal),+) => {
        /// # Safety
        /// The CPU has AVX and the instructions; `rounds` is not 0.
        unsafe fn $name(rounds: u64) {
            // SAFETY: the caller has checked the CPU; the code touches only registers named here.
            unsafe {
                asm!(
                    "vzeroall",
                    "2:",
                    ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                    $($line,)+
                    ".endr",
                    "dec {rounds}",
                    "jnz 2b",
                    "vzeroupper",
                    rounds = inout(reg) rounds => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    options(nomem, nostack),
                );
            }
        }
    };
}

repeated!(fma_256: r"vfmadd231ps ymm\a, ymm14, ymm15");
repeated!(fma_512: r"vfmadd231ps zmm\a, zmm14, zmm15");
repeated!(maddwd_256: "vpmaddwd ymm13, ymm14, ymm15", r"vpaddd ymm\a, ymm\a, ymm13");
repeated!(maddwd_512: "vpmaddwd zmm13, zmm14, zmm15", r"vpaddd zmm\a, zmm\a, zmm13");
repeated!(maddubsw_256:
    "vpmaddubsw ymm13, ymm14, ymm15",
    "vpmaddwd ymm13, ymm13, ymm15",
    r"vpaddd ymm\a, ymm\a, ymm13");
repeated!(maddubsw_twice_256:
    "vpmaddubsw ymm12, ymm14, ymm15",
    "vpmaddubsw ymm13, ymm14, ymm15",
    "vpaddw ymm13, ymm12, ymm13",
    "vpmaddwd ymm13, ymm13, ymm15",
    r"vpaddd ymm\a, ymm\a, ymm13");
repeated!(maddubsw_512:
    "vpmaddubsw zmm13, zmm14, zmm15",
    "vpmaddwd zmm13, zmm13, zmm15",
    r"vpaddd zmm\a, zmm\a, zmm13");
repeated!(dpbusd_vex: r"{{vex}} vpdpbusd ymm\a, ymm14, ymm15");
repeated!(dpbusd_512: r"vpdpbusd zmm\a, zmm14, zmm15");
repeated!(dpwssd_512: r"vpdpwssd zmm\a, zmm14, zmm15");

pub(super) fn loops() -> Vec<Loop> {
    let avx2 = has!("avx2");
    let fma = avx2 && has!("fma");
    let avx512 = avx2 && has!("avx512f");
    let avx512bw = avx512 && has!("avx512bw");
    let vnni = avx512 && has!("avx512vnni");
    let table: [Candidate; 10] = [
        (fma, "f32_fma_avx2", 8, fma_256),
        (avx512, "f32_fma_avx512", 16, fma_512),
        (avx2, "i16_vpmaddwd_avx2", 16, maddwd_256),
        (avx512bw, "i16_vpmaddwd_avx512", 32, maddwd_512),
        (vnni, "i16_vpdpwssd_avx512", 32, dpwssd_512),
        (avx2, "i8_vpmaddubsw_avx2", 32, maddubsw_256),
        (avx2, "i8_vpmaddubsw_twice_avx2", 64, maddubsw_twice_256),
        (avx512bw, "i8_vpmaddubsw_avx512", 64, maddubsw_512),
        (avx2 && has!("avxvnni"), "i8_vpdpbusd_avxvnni", 32, dpbusd_vex),
        (vnni, "i8_vpdpbusd_avx512", 64, dpbusd_512),
    ];
    table.into_iter().filter_map(|one| Loop::there(one, ACCUMULATORS)).collect()
}

/// `bytes` is not empty and has whole blocks.
pub(super) fn read(bytes: &[u8]) {
    let blocks = bytes.len() / READ_BLOCK;
    // SAFETY: the loop reads `blocks` blocks from the slice's start, which is its length; each
    // branch needs the instructions whose presence was just seen (SSE2 is always there).
    unsafe {
        if has!("avx512f") {
            read_by_64(bytes.as_ptr(), blocks);
        } else if has!("avx") {
            read_by_32(bytes.as_ptr(), blocks);
        } else {
            read_by_16(bytes.as_ptr(), blocks);
        }
    }
}

/// Loads at the given offsets, which are one block, then goes on to the next.
macro_rules! reader {
    ($name:ident: $count:literal, $load:literal, $end:literal) => {
        /// # Safety
        /// The CPU has the instruction; `blocks` blocks, at least one, can be read from `from`.
        unsafe fn $name(from: *const u8, blocks: usize) {
            // SAFETY: the caller's promise; the code writes only registers named here.
            unsafe {
                asm!(
                    "2:",
                    concat!(".rept ", $count),
                    $load,
                    ".endr",
                    "dec {blocks}",
                    "jnz 2b",
                    $end,
                    from = inout(reg) from => _,
                    blocks = inout(reg) blocks => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    options(readonly, nostack),
                );
            }
        }
    };
}

reader!(read_by_64: 2, "vmovups zmm0, [{from}]
    vmovups zmm1, [{from} + 64]
    vmovups zmm2, [{from} + 128]
    vmovups zmm3, [{from} + 192]
    add {from}, 256", "vzeroupper");
reader!(read_by_32: 4, "vmovups ymm0, [{from}]
    vmovups ymm1, [{from} + 32]
    vmovups ymm2, [{from} + 64]
    vmovups ymm3, [{from} + 96]
    add {from}, 128", "vzeroupper");
reader!(read_by_16: 8, "movups xmm0, [{from}]
    movups xmm1, [{from} + 16]
    movups xmm2, [{from} + 32]
    movups xmm3, [{from} + 48]
    add {from}, 64", "");
