//! Dense convolution for NEON with weights that bytes do not hold: packing, blocking and the loop
//! over tiles. The inner loop is in `neon_wide_tile.rs`.
//!
//! The input's zero point is folded into the bias: `sum((x - z) * w) = sum(x * w) - z * sum(w)`.

use std::ops::Range;

use super::neon_wide_tile::{Panel, Rows, run_panel};
use super::pixels::Pixels;
use super::{Layer, im2col};
use crate::arm::{Clamp, widen};
use crate::isa::Neon;
use crate::{ConvGeometry, Residual, Scratch};

/// Bytes of packed activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;

pub(super) struct Kernel {
    token: Neon,
    geometry: ConvGeometry,
    input_zero_point: u8,
    blocked_input: bool,
    /// `kernel_h * kernel_w * in_c`.
    depth: usize,
    /// Values from one packed row to the next.
    stride: usize,
    /// Pixels per block.
    block: usize,
    panels: Vec<Panel>,
    clamp: Clamp,
    residual: Option<Residual>,
}

impl Kernel {
    pub(super) fn new(token: Neon, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let depth = g.taps() * g.in_c;
        let stride = depth.next_multiple_of(8);
        Kernel {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            blocked_input: layer.options.blocked_input,
            depth,
            stride,
            block: (BLOCK_BYTES / (stride * size_of::<i16>()) / 12 * 12).max(12),
            panels: Panel::pack(layer, depth),
            clamp: Clamp::new(layer.output.zero_point, layer.output.min, layer.output.max),
            residual: layer.options.residual,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.geometry.is_pointwise() {
            "pointwise_u8s16_neon_4x8"
        } else {
            "conv_u8s16_neon_4x8"
        }
    }

    /// A residual is copied to the output first: the ending of a tile finds it there.
    pub(super) fn run(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        range: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let out_c = self.geometry.out_c;
        for (index, out) in output.chunks_mut(self.block * out_c).enumerate() {
            let start = range.start + index * self.block;
            let pixels = start..start + out.len() / out_c;
            if let Some(residual) = residual {
                out.copy_from_slice(&residual[index * self.block * out_c..][..out.len()]);
            }
            let rows = self.pack_rows(input, pixels, scratch);
            for panel in &self.panels {
                run_panel(self.token, rows, panel, (&self.clamp, self.residual), out, out_c);
            }
        }
    }

    /// The widened rows of one block.
    fn pack_rows<'s>(
        &self,
        input: &[u8],
        pixels: Range<usize>,
        scratch: &'s mut Scratch,
    ) -> Rows<'s> {
        let (count, depth) = (pixels.len(), self.depth);
        let pointwise = self.geometry.is_pointwise();
        let gathered_len = if pointwise && !self.blocked_input { 0 } else { self.block * depth };
        let values_len = self.block * self.stride;
        let (gathered, values) = scratch.bytes_and_i16s(gathered_len, values_len);
        let source = if self.blocked_input {
            let from = Pixels::blocks(input, depth);
            for (p, to) in pixels.zip(gathered.chunks_exact_mut(depth)) {
                from.copy(p, to);
            }
            &gathered[..count * depth]
        } else if pointwise {
            &input[pixels.start * depth..][..count * depth]
        } else {
            let g = &self.geometry;
            im2col::gather(g, input, self.input_zero_point, pixels, gathered, depth);
            &gathered[..count * depth]
        };
        let values = &mut values[..count * self.stride];
        let rows = values.chunks_exact_mut(self.stride);
        for (from, to) in source.chunks_exact(depth).zip(rows) {
            // SAFETY: the token proves NEON.
            unsafe { widen(from, &mut to[..depth]) };
        }
        Rows::new(values, self.stride)
    }
}
