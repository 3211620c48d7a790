//! Quantization and its inverse for NEON. Images of 1 and 3 channels are interleaved in
//! registers, 16 pixels a step; other layouts move bytes one by one.

use std::arch::aarch64::*;

use super::{Border, scalar};
use crate::arm::{Clamp, load_f32, load_u8, to_f32};
use crate::isa::Neon;

/// Pixels in one step.
const STEP: usize = 16;

pub(super) fn quantize(_token: Neon, b: &Border, nchw: &[f32], nhwc: &mut [u8]) {
    // SAFETY: the token proves NEON.
    unsafe { quantize_neon(b, nchw, nhwc) }
}

#[target_feature(enable = "neon")]
fn quantize_neon(b: &Border, nchw: &[f32], nhwc: &mut [u8]) {
    // One pixel is the same in both layouts, so its channels can be treated as pixels.
    let (channels, pixels) = if b.pixels == 1 { (1, b.channels) } else { (b.channels, b.pixels) };
    let whole = pixels / STEP * STEP;
    let sixteen =
        |channel: usize, p: usize| quantize_sixteen(b, &nchw[channel * pixels + p..][..STEP]);
    for p in (0..whole).step_by(STEP) {
        let to = &mut nhwc[p * channels..][..STEP * channels];
        match channels {
            // SAFETY: `to` is 16 bytes.
            1 => unsafe { vst1q_u8(to.as_mut_ptr(), sixteen(0, p)) },
            3 => {
                let planes = uint8x16x3_t(sixteen(0, p), sixteen(1, p), sixteen(2, p));
                // SAFETY: `to` is 48 bytes.
                unsafe { vst3q_u8(to.as_mut_ptr(), planes) };
            }
            _ => {
                for channel in 0..channels {
                    let mut values = [0u8; STEP];
                    // SAFETY: the array is 16 bytes.
                    unsafe { vst1q_u8(values.as_mut_ptr(), sixteen(channel, p)) };
                    for (pixel, value) in to.chunks_exact_mut(channels).zip(values) {
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

/// Sixteen values. The conversion saturates, and turns NaN into 0, as the scalar one does.
#[target_feature(enable = "neon")]
#[inline]
fn quantize_sixteen(b: &Border, from: &[f32]) -> uint8x16_t {
    let (parts, _) = from.as_chunks::<4>();
    let scale = vdupq_n_f32(b.scale);
    let four = |i: usize| vcvtnq_s32_f32(vdivq_f32(load_f32(&parts[i]), scale));
    Clamp::new(b.zero_point, 0, 255).vectors().sixteen([four(0), four(1), four(2), four(3)])
}

pub(super) fn dequantize(_token: Neon, b: &Border, nhwc: &[u8], nchw: &mut [f32]) {
    // SAFETY: the token proves NEON.
    unsafe { dequantize_neon(b, nhwc, nchw) }
}

#[target_feature(enable = "neon")]
fn dequantize_neon(b: &Border, nhwc: &[u8], nchw: &mut [f32]) {
    if b.pixels > 1 && b.channels > 1 {
        return super::dequantize_planes(b, nhwc, nchw);
    }
    let (zero, scale) = (vdupq_n_f32(f32::from(b.zero_point)), vdupq_n_f32(b.scale));
    let (from, from_tail) = nhwc.as_chunks::<16>();
    let (to, to_tail) = nchw.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        for (i, q) in to_f32(load_u8(from)).into_iter().enumerate() {
            // SAFETY: part `i < 4` of sixteen values.
            unsafe { vst1q_f32(to.as_mut_ptr().add(4 * i), vmulq_f32(vsubq_f32(q, zero), scale)) };
        }
    }
    for (x, &q) in to_tail.iter_mut().zip(from_tail) {
        *x = scalar::dequantize_one(b, q);
    }
}
