//! What one core can do at most: loops of nothing but multiply-accumulates, and of nothing but
//! loads. For the roofline that kernels are held against (`kinglet-benches roofline`); no kernel
//! uses it, and timing is the caller's.
//!
//! A [`Loop`] does what the inner loop of a kernel does for one kind of arithmetic, on registers
//! alone, with enough independent accumulators that only the rate of the instructions counts.
//! Where an instruction leaves 16-bit or unadded products, the instructions that add them up to
//! 32 bits belong to the loop. All operands are zero.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "arm")]
mod neon32;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
use neon as native;
#[cfg(target_arch = "arm")]
use neon32 as native;
#[cfg(target_arch = "x86_64")]
use x86 as native;

/// Stands in where no loops are written for the architecture.
#[cfg(not(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64")))]
mod native {
    pub(super) fn loops() -> Vec<super::Loop> {
        Vec::new()
    }

    pub(super) fn read(bytes: &[u8]) {
        std::hint::black_box(bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)));
    }
}

/// A loop of multiply-accumulates of one kind, which this CPU can run.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    name: &'static str,
    macs_per_round: u64,
    /// # Safety
    /// The CPU has the instructions (checked where the loop is made); at least one round.
    body: unsafe fn(rounds: u64),
}

/// Whether this CPU has the instructions, name, multiply-accumulates of each accumulator a round
/// (lanes of the vector by products of a lane), and the loop itself.
#[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64"))]
type Candidate = (bool, &'static str, u64, unsafe fn(u64));

impl Loop {
    /// The loop, if this CPU can run it.
    #[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64"))]
    fn there((there, name, macs, body): Candidate, accumulators: u64) -> Option<Loop> {
        there.then_some(Loop { name, macs_per_round: accumulators * macs, body })
    }

    /// Every loop that this CPU can run.
    pub fn available() -> Vec<Loop> {
        native::loops()
    }

    /// Type, instruction and instruction set, for example `i8_vpdpbusd_avx512`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the loop `rounds` times; returns how many multiply-accumulates that were.
    pub fn run(&self, rounds: u32) -> u64 {
        let rounds = u64::from(rounds);
        if rounds > 0 {
            // SAFETY: `available` makes only loops whose instructions the CPU has; rounds > 0.
            unsafe { (self.body)(rounds) };
        }
        rounds * self.macs_per_round
    }
}

/// Bytes that [`read`] takes at a time.
pub const READ_BLOCK: usize = 512;

/// Loads every byte once, in order, by the widest loads there are.
///
/// # Panics
/// If the length is not a multiple of [`READ_BLOCK`].
pub fn read(bytes: &[u8]) {
    assert_eq!(bytes.len() % READ_BLOCK, 0, "whole blocks");
    if !bytes.is_empty() {
        native::read(bytes);
    }
}

/// The name of the loop that bounds a kernel: what [`Loop::name`] says of the arithmetic that the
/// kernel called `kernel` does. `None` for kernels that hardly multiply, and for scalar ones.
pub fn bound_of(kernel: &str) -> Option<&'static str> {
    /// Parts of a kernel's name, all of which it must have, and the loop. The first match counts.
    const RULES: [(&[&str], &str); 16] = [
        (&["_u8s8_", "_vnni_"], "i8_vpdpbusd_avx512"),
        (&["_u8s16_", "_vnni_"], "i16_vpdpwssd_avx512"),
        (&["linear_u8s8_avx2_"], "i16_vpmaddwd_avx2"),
        (&["_u7s8_", "_avx2_"], "i8_vpmaddubsw_twice_avx2"),
        (&["_u8s8_", "_avx2_"], "i8_vpmaddubsw_twice_avx2"),
        (&["_u8s16_", "_avx2_"], "i16_vpmaddwd_avx2"),
        (&["_u8s8_", "_neondot_"], "i8_sdot_neon"),
        (&["_u8s8_", "_neon_"], "i8_smlal_neon"),
        (&["_u8s16_", "_neon_"], "i16_smlal_neon"),
        (&["_u8s16_", "_neon32_"], "i16_vmlal_neon32"),
        (&["_f16_", "_neonfp16_"], "f16_fmla_neon"),
        (&["_f32_", "_avx512_"], "f32_fma_avx512"),
        (&["_f32_", "_avx2_"], "f32_fma_avx2"),
        (&["_f16_", "_avx2_"], "f32_fma_avx2"),
        (&["_f32_", "_neon_"], "f32_fmla_neon"),
        (&["_f16_", "_neon_"], "f32_fmla_neon"),
    ];
    let multiplies = ["conv", "pointwise", "depthwise", "linear", "expand"];
    let first = kernel.split('_').next()?;
    let rule = RULES.iter().find(|(parts, _)| parts.iter().all(|part| kernel.contains(part)))?;
    multiplies.contains(&first).then_some(rule.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Layer, Op, SEVEN_BITS, efficientnet_lite0};
    use crate::{InputCodes, Isa};

    #[test]
    fn loops_run_and_count() {
        for one in Loop::available() {
            assert_eq!(one.run(0), 0);
            assert_eq!(one.run(3), 3 * one.run(1), "{}", one.name());
        }
        read(&[]);
        read(&[1; 3 * READ_BLOCK]);
    }

    #[test]
    #[should_panic(expected = "whole blocks")]
    fn reading_part_of_a_block_is_refused() {
        read(&[1; READ_BLOCK + 1]);
    }

    #[test]
    fn every_multiplying_kernel_of_this_cpu_has_a_bound_that_can_be_measured() {
        let loops: Vec<_> = Loop::available().iter().map(Loop::name).collect();
        for isa in Isa::available() {
            let ranges = [InputCodes::any(128), SEVEN_BITS];
            let all = efficientnet_lite0().into_iter();
            for (entry, codes) in all.flat_map(|e| ranges.map(|codes| (e.clone(), codes))) {
                let layer = Layer::new(isa, &entry, codes).expect("available");
                let bound = bound_of(layer.kernel());
                if layer.kernel().ends_with("_scalar") || matches!(entry.op, Op::Add | Op::Pool) {
                    assert_eq!(bound, None, "{}", layer.kernel());
                } else {
                    let bound = bound.unwrap_or_else(|| panic!("no bound of {}", layer.kernel()));
                    assert!(loops.contains(&bound), "{bound} of {}", layer.kernel());
                }
            }
        }
    }
}
