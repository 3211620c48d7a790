//! Dense convolution for NEON: packing, blocking and the loop over tiles. The inner loops are in
//! `neon_tile.rs`, one for each [`Form`].
//!
//! The input's zero point is folded into the bias, and so is the offset of 128 that makes
//! activations signed bytes: `sum((x - z) * w) = sum((x - 128) * w) + (128 - z) * sum(w)`.

use std::ops::Range;

use super::neon_tile::{Form, Panel, Rows, run_panel};
use super::{ConvOptions, Layer, im2col};
use crate::arm::{Clamp, to_signed, widen};
use crate::isa::Neon;
use crate::requantize::Reach;
use crate::scratch::{as_bytes, as_bytes_mut};
use crate::{ConvGeometry, Scratch};

/// Bytes of packed activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;

pub(super) struct Kernel {
    form: Form,
    geometry: ConvGeometry,
    input_zero_point: u8,
    /// `kernel_h * kernel_w * in_c`.
    depth: usize,
    /// Bytes from one packed row to the next.
    stride: usize,
    /// Pixels per block.
    block: usize,
    panels: Vec<Panel>,
    clamp: Clamp,
}

impl Kernel {
    /// Chooses the fastest exact form: two products of bytes fit 16 bits unless a weight is -128,
    /// and weights beyond `i8` need 16-bit products whatever the CPU.
    pub(super) fn new(neon: Neon, layer: &Layer<'_>, reach: Reach) -> Kernel {
        let form = match neon {
            _ if reach.weights_fit_i8 && !layer.weights.contains(&-128) => Form::Narrow(neon),
            _ => Form::Wide(neon),
        };
        let g = layer.geometry;
        let depth = g.taps() * g.in_c;
        let stride = depth.next_multiple_of(16) * form.value_bytes();
        Kernel {
            form,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            depth,
            stride,
            block: (BLOCK_BYTES / stride / 12 * 12).max(12),
            panels: Panel::pack(form, layer, depth),
            clamp: Clamp::new(layer.output.zero_point, layer.output.min, layer.output.max),
        }
    }

    /// Whether this kernel computes the layer.
    pub(super) fn takes(layer: &Layer<'_>, reach: Reach) -> bool {
        reach.converts_exactly && layer.options == ConvOptions::default()
    }

    pub(super) fn name(&self) -> &'static str {
        match (self.form, self.geometry.is_pointwise()) {
            (Form::Narrow(_), true) => "pointwise_u8s8_neon_4x4",
            (Form::Narrow(_), false) => "conv_u8s8_neon_4x4",
            (Form::Wide(_), true) => "pointwise_u8s16_neon_4x8",
            (Form::Wide(_), false) => "conv_u8s16_neon_4x8",
        }
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        range: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let out_c = self.geometry.out_c;
        for (index, out) in output.chunks_mut(self.block * out_c).enumerate() {
            let start = range.start + index * self.block;
            let pixels = start..start + out.len() / out_c;
            let rows = self.pack_rows(input, pixels, scratch);
            for panel in &self.panels {
                run_panel(self.form, rows, panel, &self.clamp, out, out_c);
            }
        }
    }

    /// The rows of one block as the form wants them. What pads a row meets zero weights.
    fn pack_rows<'s>(
        &self,
        input: &[u8],
        pixels: Range<usize>,
        scratch: &'s mut Scratch,
    ) -> Rows<'s> {
        let (count, depth) = (pixels.len(), self.depth);
        let pointwise = self.geometry.is_pointwise();
        let gathered_len = if pointwise { 0 } else { self.block * depth };
        let values_len = self.block * self.stride / size_of::<i16>();
        let (gathered, values) = scratch.bytes_and_i16s(gathered_len, values_len);
        let source = if pointwise {
            &input[pixels.start * depth..][..count * depth]
        } else {
            let g = &self.geometry;
            im2col::gather(g, input, self.input_zero_point, pixels, gathered, depth);
            &gathered[..count * depth]
        };
        let values = &mut values[..count * self.stride / size_of::<i16>()];
        match self.form {
            Form::Wide(_) => {
                let rows = values.chunks_exact_mut(self.stride / size_of::<i16>());
                for (from, to) in source.chunks_exact(depth).zip(rows) {
                    // SAFETY: the token in `form` proves NEON.
                    unsafe { widen(from, &mut to[..depth]) };
                }
            }
            // SAFETY: the token in `form` proves NEON.
            _ if depth == self.stride => unsafe { to_signed(source, as_bytes_mut(values)) },
            _ => {
                let rows = as_bytes_mut(values).chunks_exact_mut(self.stride);
                for (from, to) in source.chunks_exact(depth).zip(rows) {
                    // SAFETY: the token in `form` proves NEON.
                    unsafe { to_signed(from, &mut to[..depth]) };
                }
            }
        }
        Rows::new(as_bytes(values), self.stride)
    }
}
