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

/// Channels in one step.
pub(super) const STEP: usize = 16;

/// Multiplies channels `first..first + STEP` of each pixel of `a` (`[pixels][factors.len()]`).
///
/// # Panics
/// If the lengths do not agree.
pub(super) fn run_step(
    _token: Neon,
    p: &MulParams,
    a: &[u8],
    factors: &[u8],
    first: usize,
    out: &mut [u8],
) {
    assert!(a.len() == out.len() && a.len().is_multiple_of(factors.len()));
    assert!(first + STEP <= factors.len());
    // SAFETY: the token proves NEON; the sizes were just checked.
    unsafe { run_step_neon(p, a, factors, first, out) }
}

/// # Safety
/// The channels exist in `factors` and in each pixel of `a` and `out`.
#[target_feature(enable = "neon")]
unsafe fn run_step_neon(p: &MulParams, a: &[u8], factors: &[u8], first: usize, out: &mut [u8]) {
    let clamp = Clamp::new(p.zero_point, p.min, p.max).vectors();
    let (a_zero, b_zero) =
        (vdupq_n_f32(f32::from(p.a_zero_point)), vdupq_n_f32(f32::from(p.b_zero_point)));
    let scale = vdupq_n_f32(p.multiplier);
    // SAFETY: passed on.
    let mut by = to_f32(unsafe { vld1q_u8(factors.as_ptr().add(first)) });
    for by in &mut by {
        *by = vsubq_f32(*by, b_zero);
    }
    for at in (first..a.len()).step_by(factors.len()) {
        // SAFETY: passed on: a pixel's channels.
        let x = to_f32(unsafe { vld1q_u8(a.as_ptr().add(at)) });
        let mut values = [vdupq_n_s32(0); STEP / 4];
        for (i, value) in values.iter_mut().enumerate() {
            let product = vmulq_f32(vsubq_f32(x[i], a_zero), by[i]);
            *value = vcvtnq_s32_f32(vmulq_f32(product, scale));
        }
        // SAFETY: passed on.
        unsafe { vst1q_u8(out.as_mut_ptr().add(at), clamp.sixteen(values)) };
    }
}
