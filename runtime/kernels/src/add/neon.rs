//! Addition for NEON, 16 elements a step.

use std::arch::aarch64::*;

use super::AddParams;
use crate::arm::{Clamp, Ending, map2};
use crate::isa::Neon;
use crate::requantize::I16_RESULTS;

pub(super) fn run(_token: Neon, p: &AddParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    // No sum is beyond this many codes; see `Reach::results_fit_i16`.
    let reach = 255.0 * (f64::from(p.a_multiplier) + f64::from(p.b_multiplier));
    // SAFETY: the token proves NEON.
    unsafe {
        if reach <= I16_RESULTS {
            run_neon::<{ Ending::FITTING }>(p, a, b, out)
        } else {
            run_neon::<{ Ending::SATURATING }>(p, a, b, out)
        }
    }
}

#[target_feature(enable = "neon")]
fn run_neon<const END: u8>(p: &AddParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    let clamp = Clamp::new(p.zero_point, p.min, p.max).vectors();
    let (a_zero, b_zero) = (vdup_n_u8(p.a_zero_point), vdup_n_u8(p.b_zero_point));
    let (a_scale, b_scale) = (vdupq_n_f32(p.a_multiplier), vdupq_n_f32(p.b_multiplier));
    // Differences of codes as `f32`: they are exact.
    let differences = |x: uint8x16_t, zero: uint8x8_t| {
        let low = vreinterpretq_s16_u16(vsubl_u8(vget_low_u8(x), zero));
        let high = vreinterpretq_s16_u16(vsubl_u8(vget_high_u8(x), zero));
        [
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
            vcvtq_f32_s32(vmovl_high_s16(low)),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
            vcvtq_f32_s32(vmovl_high_s16(high)),
        ]
    };
    map2(a, b, out, |a, b| {
        let (a, b) = (differences(a, a_zero), differences(b, b_zero));
        let four = |i: usize| {
            vcvtnq_s32_f32(vaddq_f32(vmulq_f32(a[i], a_scale), vmulq_f32(b[i], b_scale)))
        };
        clamp.end_sixteen::<END>([four(0), four(1), four(2), four(3)])
    });
}
