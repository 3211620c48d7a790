//! Sums over pixels for NEON, 16 channels a step.

use std::arch::aarch64::*;

use crate::arm::load_u8;
use crate::isa::Neon;

/// `sums[c]` becomes the sum of channel `c` over all pixels of `input` (`[pixels][channels]`).
pub(super) fn run(_token: Neon, input: &[u8], sums: &mut [i32]) {
    // SAFETY: the token proves NEON.
    unsafe { run_neon(input, sums) }
}

#[target_feature(enable = "neon")]
fn run_neon(input: &[u8], sums: &mut [i32]) {
    let channels = sums.len();
    let (steps, tail) = sums.as_chunks_mut::<16>();
    for (step, sums) in steps.iter_mut().enumerate() {
        let mut acc = [vdupq_n_u32(0); 4];
        for pixel in input.chunks_exact(channels) {
            let x = load_u8(&pixel.as_chunks::<16>().0[step]);
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
            acc[0] = vaddw_u16(acc[0], vget_low_u16(low));
            acc[1] = vaddw_high_u16(acc[1], low);
            acc[2] = vaddw_u16(acc[2], vget_low_u16(high));
            acc[3] = vaddw_high_u16(acc[3], high);
        }
        for (sums, acc) in sums.as_chunks_mut::<4>().0.iter_mut().zip(acc) {
            // SAFETY: four values.
            unsafe { vst1q_s32(sums.as_mut_ptr(), vreinterpretq_s32_u32(acc)) };
        }
    }
    let first = channels - tail.len();
    tail.fill(0);
    for pixel in input.chunks_exact(channels) {
        for (sum, &x) in tail.iter_mut().zip(&pixel[first..]) {
            *sum += i32::from(x);
        }
    }
}
