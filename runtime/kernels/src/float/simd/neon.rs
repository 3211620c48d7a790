//! NEON, in `f32`.

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::math::{self, Exp};
use super::neon_depthwise::{self, depthwise_3s1, depthwise_3s2, depthwise_5s1, depthwise_5s2};
use super::neon_loop::multiply_7x3;
use super::neon_tiles::{Job, tiles_7x3, tiles_8x2};
use super::{DepthwiseRow, Io, Simd, Vectorized, Whole};
use crate::isa::Neon;

#[target_feature(enable = "neon")]
#[inline(never)]
fn run<F: Vectorized>(f: F) -> F::Output {
    f.call()
}

impl Simd for Neon {
    type C = f32;
    type V = float32x4_t;
    type A = float32x4_t;

    const NAME: &'static str = "neon";
    const LANES: usize = 4;
    const DEPTH: usize = 4;
    const PANEL: usize = 3;
    const ROWS: [usize; 3] = [8, 8, 7];
    const BLOCK: usize = usize::MAX;
    const DEPTHWISE_VECTORS: usize = 2;

    #[inline(always)]
    fn vectorize<F: Vectorized>(self, f: F) -> F::Output {
        // SAFETY: the token proves the feature.
        unsafe { run(f) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for `from`, the token for the instruction.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4_t) {
        // SAFETY: the caller vouches for `to`, the token for the instruction.
        unsafe { vst1q_f32(to, value) }
    }

    #[inline(always)]
    unsafe fn load_row(self, from: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for `from`, the token for the instruction.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn multiply<const M: usize, const N: usize>(
        self,
        acc: &mut [[float32x4_t; N]; M],
        rows: &[float32x4_t; M],
        panel: *const f32,
    ) {
        macro_rules! lanes {
            ($($lane:literal)*) => {
                $(
                    let mut weights = [self.splat(0.0); N];
                    for (n, weights) in weights.iter_mut().enumerate() {
                        // SAFETY: the caller vouches for `panel`.
                        *weights = unsafe { vld1q_f32(panel.add(($lane * N + n) * 4)) };
                    }
                    for (acc, &row) in acc.iter_mut().zip(rows) {
                        for (acc, &weights) in acc.iter_mut().zip(&weights) {
                            // SAFETY: the token proves the instruction.
                            *acc = unsafe { vfmaq_laneq_f32::<$lane>(*acc, weights, row) };
                        }
                    }
                )*
            };
        }
        lanes!(0 1 2 3);
    }

    #[inline(always)]
    fn apart<P>(self, mut from: *const P) -> *const P {
        // SAFETY: no instruction.
        unsafe {
            asm!("/* {0} */", inout(reg) from, options(pure, nomem, nostack, preserves_flags));
        }
        from
    }

    #[inline(always)]
    unsafe fn multiply_all<const M: usize, const N: usize>(
        self,
        acc: &mut [[float32x4_t; N]; M],
        next: &mut [*const f32; M],
        mut panel: *const f32,
        groups: usize,
    ) {
        if M == 7 && N == 3 {
            if groups == 0 {
                return;
            }
            // SAFETY: the arrays have these lengths, as just seen, and both kinds of registers are
            // 16 bytes of anything; the caller vouches for rows and panel, the token for the
            // instructions.
            unsafe {
                let acc = &mut *(&raw mut *acc).cast::<[[float32x4_t; 3]; 7]>();
                let next = &mut *(&raw mut *next).cast::<[*const f32; 7]>();
                multiply_7x3!(
                    "4s", "s", acc, next, panel, groups,
                    (0: 0, 0: 1, 0: 2, 1: 0)
                    (1: 1, 1: 2, 2: 0, 2: 1)
                    (2: 2, 3: 0, 3: 1, 3: 2)
                );
            }
            return;
        }
        for _ in 0..groups {
            // SAFETY: the caller vouches for rows and panel.
            unsafe {
                let mut rows = [self.load_row(next[0]); M];
                for m in 1..M {
                    rows[m] = self.load_row(next[m]);
                }
                self.multiply(acc, &rows, panel);
            }
            for next in next.iter_mut() {
                *next = next.wrapping_add(Self::DEPTH);
            }
            panel = panel.wrapping_add(Self::DEPTH * N * Self::LANES);
        }
    }

    #[inline(always)]
    unsafe fn whole_tiles<const M: usize, const N: usize>(self, whole: &Whole<'_, f32>) -> bool {
        if !matches!((M, N), (7, 3) | (8, 2)) {
            return false;
        }
        let Some(job) = Job::new::<Self>(whole) else { return false };
        let zero = self.splat(f32::default());
        // SAFETY: the bias is as wide as the panel.
        let bias: [Self::V; N] =
            std::array::from_fn(|n| unsafe { self.load(whole.bias.add(n * Self::LANES)) });
        let first = [[bias; M], [[zero; N]; M]];
        let mut total = [[zero; N]; M];
        let (first, total) = (first.as_ptr(), total.as_mut_ptr());
        // SAFETY: the caller vouches for what `whole` describes, the arrays are as large as tiles of
        // this shape, and the token proves the instructions.
        unsafe {
            if N == 3 {
                tiles_7x3!(
                    "4s", "s", job, first, total,
                    (0: 0, 0: 1, 0: 2, 1: 0)
                    (1: 1, 1: 2, 2: 0, 2: 1)
                    (2: 2, 3: 0, 3: 1, 3: 2)
                );
            } else {
                tiles_8x2!(
                    "4s", "s", job, first, total,
                    (0: 0, 0: 1, 1: 0, 1: 1)
                    (2: 0, 2: 1, 3: 0, 3: 1)
                );
            }
        }
        true
    }

    #[inline(always)]
    unsafe fn depthwise_row<const VECTORS: usize, const KERNEL: usize, const STRIDE: usize>(
        self,
        row: &DepthwiseRow<'_, f32>,
    ) -> bool {
        if VECTORS != 2 {
            return false;
        }
        let Some(job) = neon_depthwise::Job::new::<f32, KERNEL, STRIDE>(row) else { return false };
        // SAFETY: the bias is two vectors.
        let bias: [Self::V; 2] =
            std::array::from_fn(|v| unsafe { self.load(row.bias.add(v * Self::LANES)) });
        let bias = [bias; 7];
        let (bias, bounds) = (bias.as_ptr(), row.bounds.as_ptr());
        // SAFETY: the caller vouches for what `row` describes, the token for the instructions.
        unsafe {
            match (KERNEL, STRIDE) {
                (3, 1) => depthwise_3s1!("4s", job, row, bias, bounds),
                (3, 2) => depthwise_3s2!("4s", job, row, bias, bounds),
                (5, 1) => depthwise_5s1!("4s", job, row, bias, bounds),
                (5, 2) => depthwise_5s2!("4s", job, row, bias, bounds),
                _ => return false,
            }
        }
        true
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    fn fma(self, acc: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vfmaq_f32(acc, a, b) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn max(self, x: float32x4_t, bound: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vmaxq_f32(x, bound) }
    }

    #[inline(always)]
    fn min(self, x: float32x4_t, bound: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vminq_f32(x, bound) }
    }

    #[inline(always)]
    fn sigmoid(self, x: float32x4_t) -> float32x4_t {
        math::sigmoid(self, x)
    }

    #[inline(always)]
    fn silu(self, x: float32x4_t) -> float32x4_t {
        math::silu(self, x)
    }
}

impl Exp for Neon {
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn round(self, x: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instruction.
        unsafe { vrndnq_f32(x) }
    }

    #[inline(always)]
    fn power_of_two(self, n: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves the instructions.
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }
    }
}

impl Io<f32> for Neon {
    const SAME: bool = true;

    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for `from`, the token for the instruction.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32, value: float32x4_t) {
        // SAFETY: the caller vouches for `to`, the token for the instruction.
        unsafe { vst1q_f32(to, value) }
    }
}

impl Io<f16> for Neon {
    const SAME: bool = false;

    #[inline(always)]
    unsafe fn read(self, from: *const f16) -> float32x4_t {
        // SAFETY: the caller vouches for `from`, the token for the instructions.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f16, value: float32x4_t) {
        // SAFETY: the caller vouches for `to`, the token for the instructions.
        unsafe { vst1_u16(to.cast(), vreinterpret_u16_f16(vcvt_f16_f32(value))) }
    }
}
