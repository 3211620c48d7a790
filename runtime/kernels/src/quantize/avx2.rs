//! Quantization and its inverse for AVX2. Images of 1 and 3 channels are interleaved in
//! registers, 16 pixels a step; other layouts move bytes one by one.

use std::arch::x86_64::*;

use super::{Border, scalar};
use crate::isa::Avx2;
use crate::x86::{Clamp, interleave_three};

/// Pixels in one step.
const STEP: usize = 16;

pub(super) fn quantize(_token: Avx2, b: &Border, nchw: &[f32], nhwc: &mut [u8]) {
    // SAFETY: the token proves AVX2.
    unsafe { quantize_avx2(b, nchw, nhwc) }
}

#[target_feature(enable = "avx2")]
fn quantize_avx2(b: &Border, nchw: &[f32], nhwc: &mut [u8]) {
    // One pixel is the same in both layouts, so its channels can be treated as pixels.
    let (channels, pixels) = if b.pixels == 1 { (1, b.channels) } else { (b.channels, b.pixels) };
    let whole = pixels / STEP * STEP;
    let sixteen = |channel: usize, p: usize| {
        let from = &nchw[channel * pixels + p..][..STEP];
        let bytes = quantize_sixteen(b, from);
        let mut values = [0u8; STEP];
        // SAFETY: the array is 16 bytes.
        unsafe { _mm_storeu_si128(values.as_mut_ptr().cast(), bytes) };
        (bytes, values)
    };
    for p in (0..whole).step_by(STEP) {
        let to = &mut nhwc[p * channels..][..STEP * channels];
        match channels {
            1 => to.copy_from_slice(&sixteen(0, p).1),
            3 => interleave_three([sixteen(0, p).0, sixteen(1, p).0, sixteen(2, p).0], to),
            _ => {
                for channel in 0..channels {
                    let pixels = to.chunks_exact_mut(channels);
                    for (pixel, value) in pixels.zip(sixteen(channel, p).1) {
                        pixel[channel] = value;
                    }
                }
            }
        }
    }
    for p in whole..pixels {
        for channel in 0..channels {
            nhwc[p * channels + channel] = scalar::quantize_one(b, nchw[channel * pixels + p]);
        }
    }
}

/// Sixteen values.
#[target_feature(enable = "avx2")]
#[inline]
fn quantize_sixteen(b: &Border, from: &[f32]) -> __m128i {
    let clamp = Clamp::from_parts(b.zero_point, 0, 255);
    let scale = _mm256_set1_ps(b.scale);
    let eight = |from: &[f32; 8]| {
        // SAFETY: eight values.
        let x = _mm256_div_ps(unsafe { _mm256_loadu_ps(from.as_ptr()) }, scale);
        let x = _mm256_and_ps(x, _mm256_cmp_ps::<_CMP_ORD_Q>(x, x));
        // Beyond +-512 the result is 0 or 255 whatever the zero point.
        let x = _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(512.0)), _mm256_set1_ps(-512.0));
        _mm256_cvtps_epi32(x)
    };
    let (parts, _) = from.as_chunks::<8>();
    let words = clamp.offset(_mm256_packs_epi32(eight(&parts[0]), eight(&parts[1])));
    let bytes = clamp.pack(words, words);
    let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    _mm256_castsi256_si128(bytes)
}

pub(super) fn dequantize(_token: Avx2, b: &Border, nhwc: &[u8], nchw: &mut [f32]) {
    // SAFETY: the token proves AVX2.
    unsafe { dequantize_avx2(b, nhwc, nchw) }
}

#[target_feature(enable = "avx2")]
fn dequantize_avx2(b: &Border, nhwc: &[u8], nchw: &mut [f32]) {
    if b.pixels > 1 && b.channels > 1 {
        return super::dequantize_planes(b, nhwc, nchw);
    }
    let (zero, scale) = (_mm256_set1_ps(f32::from(b.zero_point)), _mm256_set1_ps(b.scale));
    let (from, from_tail) = nhwc.as_chunks::<8>();
    let (to, to_tail) = nchw.as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: eight bytes in, eight values out.
        unsafe {
            let q = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.as_ptr().cast()));
            let x = _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(q), zero), scale);
            _mm256_storeu_ps(to.as_mut_ptr(), x);
        }
    }
    for (x, &q) in to_tail.iter_mut().zip(from_tail) {
        *x = scalar::dequantize_one(b, q);
    }
}
