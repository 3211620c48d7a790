//! Product for AVX2, 32 elements a step.

use std::arch::x86_64::*;

use super::MulParams;
use crate::isa::Avx2;
use crate::x86::{Clamp, eight_f32, map2, pack_ordered};

pub(super) fn run(_token: Avx2, p: &MulParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    // SAFETY: the token proves AVX2.
    unsafe { run_avx2(p, a, b, out) }
}

#[target_feature(enable = "avx2")]
fn run_avx2(p: &MulParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    let clamp = Clamp::from_parts(p.zero_point, p.min, p.max);
    let (a_zero, b_zero) =
        (_mm256_set1_ps(f32::from(p.a_zero_point)), _mm256_set1_ps(f32::from(p.b_zero_point)));
    let scale = _mm256_set1_ps(p.multiplier);
    map2(a, b, out, |a, b| {
        // Differences and products of small integers are exact in f32 (below 2^24).
        let eight = |i: usize| {
            let a = _mm256_sub_ps(eight_f32(a, i), a_zero);
            let b = _mm256_sub_ps(eight_f32(b, i), b_zero);
            _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_mul_ps(a, b), scale))
        };
        pack_ordered(&clamp, [eight(0), eight(1), eight(2), eight(3)])
    });
}

/// Channels in one step.
pub(super) const STEP: usize = 32;

/// Multiplies channels `first..first + STEP` of each pixel of `a` (`[pixels][factors.len()]`).
///
/// # Panics
/// If the lengths do not agree.
pub(super) fn run_step(
    _token: Avx2,
    p: &MulParams,
    a: &[u8],
    factors: &[u8],
    first: usize,
    out: &mut [u8],
) {
    assert!(a.len() == out.len() && a.len().is_multiple_of(factors.len()));
    assert!(first + STEP <= factors.len());
    // SAFETY: the token proves AVX2; the sizes were just checked.
    unsafe { run_step_avx2(p, a, factors, first, out) }
}

/// # Safety
/// The channels exist in `factors` and in each pixel of `a` and `out`.
#[target_feature(enable = "avx2")]
unsafe fn run_step_avx2(p: &MulParams, a: &[u8], factors: &[u8], first: usize, out: &mut [u8]) {
    let clamp = Clamp::from_parts(p.zero_point, p.min, p.max);
    let (a_zero, b_zero) =
        (_mm256_set1_ps(f32::from(p.a_zero_point)), _mm256_set1_ps(f32::from(p.b_zero_point)));
    let scale = _mm256_set1_ps(p.multiplier);
    // SAFETY: passed on.
    let b = unsafe { &*factors.as_ptr().add(first).cast::<[u8; STEP]>() };
    let mut by = [_mm256_setzero_ps(); STEP / 8];
    for (i, by) in by.iter_mut().enumerate() {
        *by = _mm256_sub_ps(eight_f32(b, i), b_zero);
    }
    for at in (first..a.len()).step_by(factors.len()) {
        // SAFETY: passed on: a pixel's channels.
        let x = unsafe { &*a.as_ptr().add(at).cast::<[u8; STEP]>() };
        let mut values = [_mm256_setzero_si256(); STEP / 8];
        for (i, value) in values.iter_mut().enumerate() {
            let product = _mm256_mul_ps(_mm256_sub_ps(eight_f32(x, i), a_zero), by[i]);
            *value = _mm256_cvtps_epi32(_mm256_mul_ps(product, scale));
        }
        // SAFETY: passed on.
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), pack_ordered(&clamp, values));
        }
    }
}
