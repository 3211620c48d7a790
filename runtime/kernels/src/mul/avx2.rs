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
