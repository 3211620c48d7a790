//! The steps for NEON: a row of eight 32-bit values in two registers.

use std::arch::aarch64::*;

use super::scalar::{self, Lanes, first_pass, second_pass};
use super::{Block, Spread};
use crate::isa::Neon;

/// Eight values. Made only by [`inverse_neon`], which needs NEON.
#[derive(Clone, Copy)]
struct Eight(int32x4_t, int32x4_t);

// SAFETY (of every block below): values exist only under the token that proves NEON.
impl Lanes for Eight {
    #[inline(always)]
    fn splat(value: i32) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vdupq_n_s32(value), vdupq_n_s32(value)) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vaddq_s32(self.0, other.0), vaddq_s32(self.1, other.1)) }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vsubq_s32(self.0, other.0), vsubq_s32(self.1, other.1)) }
    }
    #[inline(always)]
    fn mul(self, by: i32) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vmulq_n_s32(self.0, by), vmulq_n_s32(self.1, by)) }
    }
    #[inline(always)]
    fn shift_left<const N: i32>(self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vshlq_n_s32::<N>(self.0), vshlq_n_s32::<N>(self.1)) }
    }
    #[inline(always)]
    fn shift_right<const N: i32>(self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vshrq_n_s32::<N>(self.0), vshrq_n_s32::<N>(self.1)) }
    }
}

pub(super) fn inverse(_: Neon, block: &Block, to: &mut [u8], stride: usize) {
    // SAFETY: the token proves NEON; the caller has checked the rows.
    unsafe { inverse_neon(block, to, stride) }
}

/// # Safety
/// Eight bytes are writable at `to` every `stride` bytes, eight times.
#[target_feature(enable = "neon")]
unsafe fn inverse_neon(block: &Block, to: &mut [u8], stride: usize) {
    let mut rows = [Eight(vdupq_n_s32(0), vdupq_n_s32(0)); 8];
    for (row, from) in rows.iter_mut().zip(block.as_chunks::<8>().0) {
        // SAFETY: a load of eight values.
        let words = unsafe { vld1q_s16(from.as_ptr()) };
        *row = Eight(vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words));
    }
    let rows = transpose(second_pass(transpose(first_pass(rows))));
    for (i, row) in rows.into_iter().enumerate() {
        let words = vcombine_s16(vqmovn_s32(row.0), vqmovn_s32(row.1));
        let bytes = vqmovun_s16(vqaddq_s16(words, vdupq_n_s16(128)));
        // SAFETY: the caller's promise.
        unsafe { vst1_u8(to.as_mut_ptr().add(i * stride), bytes) };
    }
}

/// Transposes four by four values.
#[target_feature(enable = "neon")]
#[inline]
fn quarter(x: [int32x4_t; 4]) -> [int32x4_t; 4] {
    let [a, b, c, d] = x;
    let wide = vreinterpretq_s64_s32;
    let (ab0, ab1) = (wide(vtrn1q_s32(a, b)), wide(vtrn2q_s32(a, b)));
    let (cd0, cd1) = (wide(vtrn1q_s32(c, d)), wide(vtrn2q_s32(c, d)));
    [vtrn1q_s64(ab0, cd0), vtrn1q_s64(ab1, cd1), vtrn2q_s64(ab0, cd0), vtrn2q_s64(ab1, cd1)]
        .map(|x| vreinterpretq_s32_s64(x))
}

#[target_feature(enable = "neon")]
#[inline]
fn transpose(x: [Eight; 8]) -> [Eight; 8] {
    let [a, b, c, d, e, f, g, h] = x;
    let upper = (quarter([a.0, b.0, c.0, d.0]), quarter([a.1, b.1, c.1, d.1]));
    let lower = (quarter([e.0, f.0, g.0, h.0]), quarter([e.1, f.1, g.1, h.1]));
    std::array::from_fn(|i| {
        if i < 4 { Eight(upper.0[i], lower.0[i]) } else { Eight(upper.1[i - 4], lower.1[i - 4]) }
    })
}

pub(super) fn sums(_: Neon, near: &[u8], far: &[u8], to: &mut [u16]) {
    // SAFETY: the token proves NEON.
    unsafe { sums_neon(near, far, to) }
}

#[target_feature(enable = "neon")]
fn sums_neon(near: &[u8], far: &[u8], to: &mut [u16]) {
    scalar::sums(near, far, to);
}

pub(super) fn spread(_: Neon, how: Spread, from: &[u16], to: &mut [u8]) {
    // SAFETY: the token proves NEON.
    unsafe { spread_neon(how, from, to) }
}

#[target_feature(enable = "neon")]
fn spread_neon(how: Spread, from: &[u16], to: &mut [u8]) {
    scalar::spread(how, from, to);
}
