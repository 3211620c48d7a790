//! Product for NEON, 16 elements a step.

use std::arch::aarch64::*;

use super::MulParams;
use crate::arm::{Clamp, map2, to_f32};
use crate::isa::Neon;

pub(super) fn run(_token: Neon, p: &MulParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    // SAFETY: the token proves NEON.
    unsafe { run_neon(p, a, b, out) }
}

#[target_feature(enable = "neon")]
fn run_neon(p: &MulParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    let clamp = Clamp::new(p.zero_point, p.min, p.max).vectors();
    let (a_zero, b_zero) =
        (vdupq_n_f32(f32::from(p.a_zero_point)), vdupq_n_f32(f32::from(p.b_zero_point)));
    let scale = vdupq_n_f32(p.multiplier);
    map2(a, b, out, |a, b| {
        let (a, b) = (to_f32(a), to_f32(b));
        // Differences and products of small integers are exact in f32 (below 2^24).
        let four = |i: usize| {
            let product = vmulq_f32(vsubq_f32(a[i], a_zero), vsubq_f32(b[i], b_zero));
            vcvtnq_s32_f32(vmulq_f32(product, scale))
        };
        clamp.sixteen([four(0), four(1), four(2), four(3)])
    });
}
