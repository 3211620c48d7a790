//! NEON with half-precision arithmetic, in `f16`.

// The intrinsics are inlined all the same, once all is in `run`, which has their features.
#![allow(unknown_lints, inline_always_mismatching_target_features)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::math;
use super::neon_depthwise::{self, depthwise_3s1, depthwise_3s2, depthwise_5s1, depthwise_5s2};
use super::neon_loop::multiply_7x3;
use super::neon_tiles::{Job, tiles_7x3, tiles_8x2};
use super::{DepthwiseRow, Io, Simd, Vectorized, Whole};
use crate::float::F16_BLOCK;
use crate::isa::NeonFp16;

#[target_feature(enable = "neon,fp16")]
#[inline(never)]
fn run<F: Vectorized>(f: F) -> F::Output {
    f.call()
}

impl NeonFp16 {
    /// The two halves of a register, widened.
    #[inline(always)]
    fn widen(self, x: float16x8_t) -> [float32x4_t; 2] {
        // SAFETY: the token proves the instructions.
        unsafe { [vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x)] }
    }

    /// Two registers, rounded into one.
    #[inline(always)]
    fn narrow(self, [low, high]: [float32x4_t; 2]) -> float16x8_t {
        // SAFETY: the token proves the instructions.
        unsafe { vcvt_high_f16_f32(vcvt_f16_f32(low), high) }
    }
}

impl Simd for NeonFp16 {
    type C = f16;
    type V = float16x8_t;
    type A = float16x8_t;

    const NAME: &'static str = "neonfp16";
    const LANES: usize = 8;
    const DEPTH: usize = 8;
    const PANEL: usize = 3;
    const ROWS: [usize; 3] = [8, 8, 7];
    const BLOCK: usize = F16_BLOCK;
    const DEPTHWISE_VECTORS: usize = 2;

    #[inline(always)]
    fn vectorize<F: Vectorized>(self, f: F) -> F::Output {
        // SAFETY: the token proves the features.
        unsafe { run(f) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f16) -> float16x8_t {
        // SAFETY: the caller vouches for `from`, the token for the instruction.
        unsafe { vreinterpretq_f16_u16(vld1q_u16(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f16, value: float16x8_t) {
        // SAFETY: the caller vouches for `to`, the token for the instruction.
        unsafe { vst1q_u16(to.cast(), vreinterpretq_u16_f16(value)) }
    }

    #[inline(always)]
    unsafe fn load_row(self, from: *const f16) -> float16x8_t {
        // SAFETY: the caller vouches for `from`.
        unsafe { self.load(from) }
    }

    #[inline(always)]
    unsafe fn multiply<const M: usize, const N: usize>(
        self,
        acc: &mut [[float16x8_t; N]; M],
        rows: &[float16x8_t; M],
        panel: *const f16,
    ) {
        macro_rules! lanes {
            ($($lane:literal)*) => {
                $(
                    let mut weights = [rows[0]; N];
                    for (n, weights) in weights.iter_mut().enumerate() {
                        // SAFETY: the caller vouches for `panel`.
                        *weights = unsafe { self.load(panel.add(($lane * N + n) * 8)) };
                    }
                    for (acc, &row) in acc.iter_mut().zip(rows) {
                        for (acc, &weights) in acc.iter_mut().zip(&weights) {
                            // SAFETY: the token proves the instruction.
                            *acc = unsafe { vfmaq_laneq_f16::<$lane>(*acc, weights, row) };
                        }
                    }
                )*
            };
        }
        lanes!(0 1 2 3 4 5 6 7);
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
        acc: &mut [[float16x8_t; N]; M],
        next: &mut [*const f16; M],
        mut panel: *const f16,
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
                let acc = &mut *(&raw mut *acc).cast::<[[uint16x8_t; 3]; 7]>();
                let next = &mut *(&raw mut *next).cast::<[*const f16; 7]>();
                multiply_7x3!(
                    "8h", "h", acc, next, panel, groups,
                    (0: 0, 0: 1, 0: 2, 1: 0)
                    (1: 1, 1: 2, 2: 0, 2: 1)
                    (2: 2, 3: 0, 3: 1, 3: 2)
                    (4: 0, 4: 1, 4: 2, 5: 0)
                    (5: 1, 5: 2, 6: 0, 6: 1)
                    (6: 2, 7: 0, 7: 1, 7: 2)
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
    unsafe fn whole_tiles<const M: usize, const N: usize>(self, whole: &Whole<'_, f16>) -> bool {
        if !matches!((M, N), (7, 3) | (8, 2)) {
            return false;
        }
        let Some(job) = Job::new::<Self>(whole) else { return false };
        let zero = self.splat(f16::default());
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
                    "8h", "h", job, first, total,
                    (0: 0, 0: 1, 0: 2, 1: 0)
                    (1: 1, 1: 2, 2: 0, 2: 1)
                    (2: 2, 3: 0, 3: 1, 3: 2)
                    (4: 0, 4: 1, 4: 2, 5: 0)
                    (5: 1, 5: 2, 6: 0, 6: 1)
                    (6: 2, 7: 0, 7: 1, 7: 2)
                );
            } else {
                tiles_8x2!(
                    "8h", "h", job, first, total,
                    (0: 0, 0: 1, 1: 0, 1: 1)
                    (2: 0, 2: 1, 3: 0, 3: 1)
                    (4: 0, 4: 1, 5: 0, 5: 1)
                    (6: 0, 6: 1, 7: 0, 7: 1)
                );
            }
        }
        true
    }

    #[inline(always)]
    unsafe fn depthwise_row<const VECTORS: usize, const KERNEL: usize, const STRIDE: usize>(
        self,
        row: &DepthwiseRow<'_, f16>,
    ) -> bool {
        if VECTORS != 2 {
            return false;
        }
        let Some(job) = neon_depthwise::Job::new::<f16, KERNEL, STRIDE>(row) else { return false };
        // SAFETY: the bias is two vectors.
        let bias: [Self::V; 2] =
            std::array::from_fn(|v| unsafe { self.load(row.bias.add(v * Self::LANES)) });
        let bias = [bias; 7];
        let (bias, bounds) = (bias.as_ptr(), row.bounds.as_ptr());
        // SAFETY: the caller vouches for what `row` describes, the token for the instructions.
        unsafe {
            match (KERNEL, STRIDE) {
                (3, 1) => depthwise_3s1!("8h", job, row, bias, bounds),
                (3, 2) => depthwise_3s2!("8h", job, row, bias, bounds),
                (5, 1) => depthwise_5s1!("8h", job, row, bias, bounds),
                (5, 2) => depthwise_5s2!("8h", job, row, bias, bounds),
                _ => return false,
            }
        }
        true
    }

    #[inline(always)]
    fn splat(self, value: f16) -> float16x8_t {
        // SAFETY: the token proves the instruction.
        unsafe { vreinterpretq_f16_u16(vdupq_n_u16(value.to_bits())) }
    }

    #[inline(always)]
    fn fma(self, acc: float16x8_t, a: float16x8_t, b: float16x8_t) -> float16x8_t {
        // SAFETY: the token proves the instruction.
        unsafe { vfmaq_f16(acc, a, b) }
    }

    #[inline(always)]
    fn add(self, a: float16x8_t, b: float16x8_t) -> float16x8_t {
        // SAFETY: the token proves the instruction.
        unsafe { vaddq_f16(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float16x8_t, b: float16x8_t) -> float16x8_t {
        // SAFETY: the token proves the instruction.
        unsafe { vmulq_f16(a, b) }
    }

    #[inline(always)]
    fn max(self, x: float16x8_t, bound: float16x8_t) -> float16x8_t {
        // SAFETY: the token proves the instruction.
        unsafe { vmaxq_f16(x, bound) }
    }

    #[inline(always)]
    fn min(self, x: float16x8_t, bound: float16x8_t) -> float16x8_t {
        // SAFETY: the token proves the instruction.
        unsafe { vminq_f16(x, bound) }
    }

    /// In `f32`, rounded once.
    #[inline(always)]
    fn sigmoid(self, x: float16x8_t) -> float16x8_t {
        let [low, high] = self.widen(x);
        let neon = self.neon();
        self.narrow([math::sigmoid(neon, low), math::sigmoid(neon, high)])
    }

    /// In `f32`, rounded once: the sigmoid alone would be a denormal below -9.7.
    #[inline(always)]
    fn silu(self, x: float16x8_t) -> float16x8_t {
        let [low, high] = self.widen(x);
        let neon = self.neon();
        self.narrow([math::silu(neon, low), math::silu(neon, high)])
    }
}

impl Io<f16> for NeonFp16 {
    const SAME: bool = true;

    #[inline(always)]
    unsafe fn read(self, from: *const f16) -> float16x8_t {
        // SAFETY: the caller vouches for `from`.
        unsafe { self.load(from) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f16, value: float16x8_t) {
        // SAFETY: the caller vouches for `to`.
        unsafe { self.store(to, value) }
    }
}

impl Io<f32> for NeonFp16 {
    const SAME: bool = false;

    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> float16x8_t {
        // SAFETY: the caller vouches for `from`, the token for the instruction.
        self.narrow(unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] })
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32, value: float16x8_t) {
        let [low, high] = self.widen(value);
        // SAFETY: the caller vouches for `to`, the token for the instruction.
        unsafe {
            vst1q_f32(to, low);
            vst1q_f32(to.add(4), high);
        }
    }
}
