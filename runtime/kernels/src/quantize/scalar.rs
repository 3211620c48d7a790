//! Quantization and its inverse: the specification. Clear, never tuned.

use super::Border;
use crate::requantize::finish;

pub(super) fn quantize(b: &Border, nchw: &[f32], nhwc: &mut [u8]) {
    for (p, pixel) in nhwc.chunks_exact_mut(b.channels).enumerate() {
        for (c, q) in pixel.iter_mut().enumerate() {
            *q = quantize_one(b, nchw[c * b.pixels + p]);
        }
    }
}

/// One value; the cast inside `finish` turns NaN into 0.
pub(super) fn quantize_one(b: &Border, x: f32) -> u8 {
    finish(x / b.scale, b.zero_point, 0, 255)
}

pub(super) fn dequantize(b: &Border, nhwc: &[u8], nchw: &mut [f32]) {
    for (c, plane) in nchw.chunks_exact_mut(b.pixels).enumerate() {
        for (p, x) in plane.iter_mut().enumerate() {
            *x = dequantize_one(b, nhwc[p * b.channels + c]);
        }
    }
}

/// One value.
pub(super) fn dequantize_one(b: &Border, q: u8) -> f32 {
    (i32::from(q) - i32::from(b.zero_point)) as f32 * b.scale
}
