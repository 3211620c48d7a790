//! AVX2 with FMA, and AVX-512.

use std::arch::x86_64::*;

use half::f16;

use super::math::{self, Exp};
use super::{Io, Simd, Vectorized};

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub struct Avx2Fma(());

impl Avx2Fma {
    pub(super) fn detect() -> Option<Avx2Fma> {
        (std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c"))
        .then_some(Avx2Fma(()))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline(never)]
    fn run<F: Vectorized>(f: F) -> F::Output {
        f.call()
    }
}

/// Proof that this CPU has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Avx512> {
        (std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c"))
        .then_some(Avx512(()))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    #[inline(never)]
    fn run<F: Vectorized>(f: F) -> F::Output {
        f.call()
    }
}

/// What both sets do alike, by other intrinsics.
macro_rules! simd {
    (
        $token:ty, $vector:ty, $name:literal, lanes $lanes:literal, panel $panel:literal, rows $rows:expr,
        depthwise $depthwise:literal, ahead $ahead:literal,
        $loadu:ident, $storeu:ident, $set1:ident, $fmadd:ident, $add:ident, $mul:ident, $max:ident, $min:ident
    ) => {
        impl Simd for $token {
            type C = f32;
            type V = $vector;
            type A = $vector;

            const NAME: &'static str = $name;
            const LANES: usize = $lanes;
            const DEPTH: usize = 1;
            const PANEL: usize = $panel;
            const ROWS: [usize; 3] = $rows;
            const BLOCK: usize = usize::MAX;
            const DEPTHWISE_VECTORS: usize = $depthwise;

            #[inline(always)]
            fn vectorize<F: Vectorized>(self, f: F) -> F::Output {
                // SAFETY: the token proves the features.
                unsafe { Self::run(f) }
            }

            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> $vector {
                // SAFETY: the caller vouches for `from`, the token for the instruction.
                unsafe { $loadu(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32, value: $vector) {
                // SAFETY: the caller vouches for `to`, the token for the instruction.
                unsafe { $storeu(to, value) }
            }

            #[inline(always)]
            unsafe fn load_row(self, from: *const f32) -> $vector {
                // SAFETY: the caller vouches for `from`, the token for the instruction.
                unsafe { $set1(*from) }
            }

            #[inline(always)]
            unsafe fn multiply<const M: usize, const N: usize>(
                self,
                acc: &mut [[$vector; N]; M],
                rows: &[$vector; M],
                panel: *const f32,
            ) {
                let mut weights = [self.splat(0.0); N];
                for (n, weights) in weights.iter_mut().enumerate() {
                    // SAFETY: the caller vouches for `panel`.
                    *weights = unsafe { self.load(panel.add(n * $lanes)) };
                    if $ahead > 0 {
                        let ahead = panel.wrapping_byte_add($ahead + n * $lanes * size_of::<f32>());
                        // SAFETY: a hint, which reads nothing; every such CPU has it.
                        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) };
                    }
                }
                for (acc, &row) in acc.iter_mut().zip(rows) {
                    for (acc, &weights) in acc.iter_mut().zip(&weights) {
                        *acc = self.fma(*acc, row, weights);
                    }
                }
            }

            #[inline(always)]
            fn splat(self, value: f32) -> $vector {
                // SAFETY: the token proves the instruction.
                unsafe { $set1(value) }
            }

            #[inline(always)]
            fn fma(self, acc: $vector, a: $vector, b: $vector) -> $vector {
                // SAFETY: the token proves the instruction.
                unsafe { $fmadd(a, b, acc) }
            }

            #[inline(always)]
            fn add(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: the token proves the instruction.
                unsafe { $add(a, b) }
            }

            #[inline(always)]
            fn mul(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: the token proves the instruction.
                unsafe { $mul(a, b) }
            }

            #[inline(always)]
            fn max(self, x: $vector, bound: $vector) -> $vector {
                // The instruction gives its second operand where one is not a number.
                // SAFETY: the token proves the instruction.
                unsafe { $max(bound, x) }
            }

            #[inline(always)]
            fn min(self, x: $vector, bound: $vector) -> $vector {
                // SAFETY: the token proves the instruction.
                unsafe { $min(bound, x) }
            }

            #[inline(always)]
            fn sigmoid(self, x: $vector) -> $vector {
                math::sigmoid(self, x)
            }

            #[inline(always)]
            fn silu(self, x: $vector) -> $vector {
                math::silu(self, x)
            }
        }
    };
}

simd!(
    Avx2Fma, __m256, "avx2", lanes 8, panel 2, rows [8, 6, 0], depthwise 1, ahead 0,
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_mul_ps,
    _mm256_max_ps, _mm256_min_ps
);
simd!(
    Avx512, __m512, "avx512", lanes 16, panel 3, rows [8, 8, 8], depthwise 1, ahead 4096,
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_mul_ps,
    _mm512_max_ps, _mm512_min_ps
);

impl Exp for Avx2Fma {
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the instruction.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: the token proves the instruction.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn power_of_two(self, n: __m256) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
}

impl Exp for Avx512 {
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the instruction.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: the token proves the instruction.
        unsafe { _mm512_roundscale_ps::<0>(x) }
    }

    #[inline(always)]
    fn power_of_two(self, n: __m512) -> __m512 {
        // SAFETY: the token proves the instructions.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
}

impl Io<f32> for Avx2Fma {
    const SAME: bool = true;

    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> __m256 {
        // SAFETY: the caller vouches for `from`, the token for the instruction.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32, value: __m256) {
        // SAFETY: the caller vouches for `to`, the token for the instruction.
        unsafe { _mm256_storeu_ps(to, value) }
    }
}

impl Io<f16> for Avx2Fma {
    const SAME: bool = false;

    #[inline(always)]
    unsafe fn read(self, from: *const f16) -> __m256 {
        // SAFETY: the caller vouches for `from`, the token for the instructions.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f16, value: __m256) {
        // SAFETY: the caller vouches for `to`, the token for the instructions.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value);
            _mm_storeu_si128(to.cast(), halves);
        }
    }
}

impl Io<f32> for Avx512 {
    const SAME: bool = true;

    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> __m512 {
        // SAFETY: the caller vouches for `from`, the token for the instruction.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32, value: __m512) {
        // SAFETY: the caller vouches for `to`, the token for the instruction.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn read_part(self, from: *const f32, count: usize) -> __m512 {
        let mask = ((1u32 << count) - 1) as __mmask16;
        // SAFETY: the mask keeps to the `count` values that the caller vouches for.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    #[inline(always)]
    unsafe fn write_part(self, to: *mut f32, count: usize, value: __m512) {
        let mask = ((1u32 << count) - 1) as __mmask16;
        // SAFETY: the mask keeps to the `count` values that the caller vouches for.
        unsafe { _mm512_mask_storeu_ps(to, mask, value) }
    }
}

impl Io<f16> for Avx512 {
    const SAME: bool = false;

    #[inline(always)]
    unsafe fn read(self, from: *const f16) -> __m512 {
        // SAFETY: the caller vouches for `from`, the token for the instructions.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f16, value: __m512) {
        // SAFETY: the caller vouches for `to`, the token for the instructions.
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value);
            _mm256_storeu_si256(to.cast(), halves);
        }
    }
}
