//! NCHW to NHWC and back: the specification.

use super::Body;
use crate::float::Element;

pub(super) struct Kernel;

impl<T: Element> Body<T> for Kernel {
    fn name(&self) -> &'static str {
        if T::NAME == "f32" { "layout_f32_scalar" } else { "layout_f16_scalar" }
    }

    fn to_nhwc(&self, channels: usize, input: &[f32], output: &mut [T]) {
        let pixels = input.len() / channels;
        for (c, plane) in input.chunks_exact(pixels).enumerate() {
            for (&x, out) in plane.iter().zip(output[c..].iter_mut().step_by(channels)) {
                *out = T::from_f32(x);
            }
        }
    }

    fn to_nchw(&self, channels: usize, input: &[T], output: &mut [f32]) {
        let pixels = input.len() / channels;
        for (c, plane) in output.chunks_exact_mut(pixels).enumerate() {
            for (out, x) in plane.iter_mut().zip(input[c..].iter().step_by(channels)) {
                *out = x.to_f32();
            }
        }
    }
}
