//! The inner loop of dense convolution for NEON with the dot-product extension. The intrinsic is
//! not stable, so `sdot` is written as inline assembly, one instruction at a time.

use std::arch::aarch64::*;

use crate::arm::sdot_lane;

/// The sums of `MR` pixels and `NV * 4` channels.
///
/// # Safety
/// `a` is `MR` rows of `stride` bytes, `w` a panel of `NV` vectors; both hold `depth` values
/// rounded up to a multiple of 16.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(super) unsafe fn sums<const MR: usize, const NV: usize>(
    a: *const u8,
    stride: usize,
    w: *const u8,
    depth: usize,
    bias: &[int32x4_t; NV],
) -> [[int32x4_t; NV]; MR] {
    let mut acc = [*bias; MR];
    let groups = depth.div_ceil(4);
    let (steps, rest) = (groups / 4, groups % 4);
    // SAFETY: passed on, for every step and each of its groups.
    unsafe {
        for step in 0..steps {
            let x = activations::<MR>(a.add(step * 16), stride);
            let w = w.add(step * 4 * NV * 16);
            group::<MR, NV, 0>(w, &x, &mut acc);
            group::<MR, NV, 1>(w, &x, &mut acc);
            group::<MR, NV, 2>(w, &x, &mut acc);
            group::<MR, NV, 3>(w, &x, &mut acc);
        }
        if rest > 0 {
            let x = activations::<MR>(a.add(steps * 16), stride);
            let w = w.add(steps * 4 * NV * 16);
            group::<MR, NV, 0>(w, &x, &mut acc);
            if rest > 1 {
                group::<MR, NV, 1>(w, &x, &mut acc);
            }
            if rest > 2 {
                group::<MR, NV, 2>(w, &x, &mut acc);
            }
        }
    }
    acc
}

/// 16 values of depth of each row.
///
/// # Safety
/// 16 bytes are readable in each of `MR` rows.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn activations<const MR: usize>(a: *const u8, stride: usize) -> [int8x16_t; MR] {
    let mut x = [vdupq_n_s8(0); MR];
    for (r, x) in x.iter_mut().enumerate() {
        // SAFETY: passed on.
        *x = unsafe { vld1q_s8(a.add(r * stride).cast()) };
    }
    x
}

/// Four values of depth, number `LANE` of a step.
///
/// # Safety
/// `w` is a step of a panel of `NV` vectors.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn group<const MR: usize, const NV: usize, const LANE: i32>(
    w: *const u8,
    x: &[int8x16_t; MR],
    acc: &mut [[int32x4_t; NV]; MR],
) {
    for v in 0..NV {
        // SAFETY: each of the four groups has `NV` vectors.
        let w = unsafe { vld1q_s8(w.add((LANE as usize * NV + v) * 16).cast()) };
        for (acc, &x) in acc.iter_mut().zip(x) {
            acc[v] = sdot_lane::<LANE>(acc[v], w, x);
        }
    }
}
