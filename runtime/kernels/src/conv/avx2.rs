//! Dense convolution for AVX2: packing, blocking and the loop over tiles.
//!
//! Activations are widened to `i16` once per block of pixels; weights are stored as `i16` pairs
//! of consecutive depth, so that `vpmaddwd` multiplies and adds two of them at once. That
//! instruction cannot saturate here (two products of at most 255 * 255), unlike `vpmaddubsw`.
//! The input's zero point is folded into the bias: `sum((x - z) * w) = sum(x * w) - z * sum(w)`.

use std::ops::Range;

use super::avx2_tile::{self, End, Panel, Rows};
use super::{Layer, im2col};
use crate::isa::Avx2;
use crate::requantize::Reach;
use crate::x86::widen;
use crate::{ConvGeometry, Scratch};

/// Bytes of widened activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;

pub(super) struct Kernel {
    token: Avx2,
    geometry: ConvGeometry,
    input_zero_point: u8,
    /// `kernel_h * kernel_w * in_c`.
    depth: usize,
    /// Pixels per block.
    block: usize,
    panels: Vec<Panel>,
    end: End,
}

impl Kernel {
    pub(super) fn new(token: Avx2, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let depth = g.taps() * g.in_c;
        let row_bytes = depth.next_multiple_of(2) * size_of::<i16>();
        Kernel {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            depth,
            block: (BLOCK_BYTES / row_bytes / 12 * 12).max(12),
            panels: Panel::pack(layer, depth),
            end: End::new(layer),
        }
    }

    /// Whether this kernel computes the layer.
    pub(super) fn takes(layer: &Layer<'_>, reach: Reach) -> bool {
        reach.converts_exactly && !layer.options.blocked_input
    }

    pub(super) fn name(&self) -> &'static str {
        match (self.geometry.is_pointwise(), self.panels[0].vectors()) {
            (true, 2) => "pointwise_u8s16_avx2_6x16",
            (true, _) => "pointwise_u8s16_avx2_3x24",
            (false, 2) => "conv_u8s16_avx2_6x16",
            (false, _) => "conv_u8s16_avx2_3x24",
        }
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        range: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let out_c = self.geometry.out_c;
        let stride = self.depth.next_multiple_of(2);
        for (index, out) in output.chunks_mut(self.block * out_c).enumerate() {
            let start = range.start + index * self.block;
            let pixels = start..start + out.len() / out_c;
            let residual = residual.map(|all| &all[index * self.block * out_c..][..out.len()]);
            let rows = self.widened(input, pixels, stride, scratch);
            for panel in &self.panels {
                avx2_tile::run(self.token, rows, panel, &self.end, residual, out, out_c);
            }
        }
    }

    /// The rows of one block, widened, each padded with a zero to an even length.
    fn widened<'s>(
        &self,
        input: &[u8],
        pixels: Range<usize>,
        stride: usize,
        scratch: &'s mut Scratch,
    ) -> Rows<'s> {
        let (count, depth) = (pixels.len(), self.depth);
        let pointwise = self.geometry.is_pointwise();
        let gathered_len = if pointwise { 0 } else { self.block * stride };
        let (gathered, values) = scratch.bytes_and_i16s(gathered_len, self.block * stride);
        let values = &mut values[..count * stride];
        if !pointwise {
            // What pads a row is whatever lay there: it meets zero weights.
            let gathered = &mut gathered[..count * stride];
            im2col::gather(&self.geometry, input, self.input_zero_point, pixels, gathered, stride);
            widen(self.token, gathered, values);
            return Rows::new(values, stride);
        }
        let source = &input[pixels.start * depth..][..count * depth];
        if depth == stride {
            widen(self.token, source, values);
        } else {
            for (from, to) in source.chunks_exact(depth).zip(values.chunks_exact_mut(stride)) {
                widen(self.token, from, &mut to[..depth]);
                to[depth] = 0;
            }
        }
        Rows::new(values, stride)
    }
}
