//! Dense convolution for AVX-512 with VNNI: packing, blocking and the loop over tiles.
//!
//! `vpdpbusd` multiplies four `u8` activations by four `i8` weights and adds the products to an
//! `i32` without saturating: exact for every input. Weights are packed
//! `[panel][step][vector][lane][4]`, a step being four values of depth. Pixels are read where they
//! lie (a pointwise layer copies nothing). The input's zero point is folded into the bias.

pub(crate) mod panel;
pub(crate) mod store;
pub(crate) mod tile;

use std::ops::Range;

use super::{BLOCK_CHANNELS, Layer, blocks, im2col};
use crate::isa::Avx512Vnni;
use crate::{ConvGeometry, Scratch};
use panel::{Depth, MAX_VECTORS, Panel, STEP};
use store::Finish;
use tile::Rows;

/// Bytes of activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;
/// Pixels of a block are a multiple of this where possible: whole tiles of every width.
const BLOCK_PIXELS: usize = 24;

pub(super) struct Kernel {
    token: Avx512Vnni,
    geometry: ConvGeometry,
    input_zero_point: u8,
    /// How the depth of a pixel lies in memory.
    depth: Depth,
    /// Bytes from one pixel's depth to the next one's.
    stride: usize,
    source: Source,
    /// Pixels per block; the last one of a run may have more.
    block: usize,
    panels: Vec<Panel>,
    finish: Finish,
}

/// Where the depth of a pixel comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The pixel itself, in NHWC or in blocks of channels.
    InPlace,
    /// Copied together first.
    Gathered,
}

impl Kernel {
    pub(super) fn new(token: Avx512Vnni, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let k = g.taps() * g.in_c;
        let (source, stride, depth) = if layer.options.blocked_input {
            let stride = g.in_h * g.in_w * BLOCK_CHANNELS;
            (Source::InPlace, BLOCK_CHANNELS, Depth::blocked(k, BLOCK_CHANNELS, stride))
        } else if g.is_pointwise() && k.is_multiple_of(STEP) {
            (Source::InPlace, k, Depth::flat(k))
        } else {
            (Source::Gathered, k.next_multiple_of(STEP), Depth::flat(k))
        };
        let row = depth.total_steps() * STEP;
        Kernel {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            depth,
            stride,
            source,
            block: (BLOCK_BYTES / row / BLOCK_PIXELS * BLOCK_PIXELS).max(BLOCK_PIXELS),
            panels: panel::split(g.out_c, layer.options.form.vectors(MAX_VECTORS))
                .map(|(first, vectors)| Panel::dense(layer, first, vectors))
                .collect(),
            finish: Finish::new(&layer.output, layer.options.residual),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match (self.geometry.is_pointwise(), self.panels[0].vectors()) {
            (true, 1) => "pointwise_u8s8_vnni_14x16",
            (true, 2) => "pointwise_u8s8_vnni_12x32",
            (true, 3) => "pointwise_u8s8_vnni_8x48",
            (true, _) => "pointwise_u8s8_vnni_6x64",
            (false, 1) => "conv_u8s8_vnni_14x16",
            (false, 2) => "conv_u8s8_vnni_12x32",
            (false, 3) => "conv_u8s8_vnni_8x48",
            (false, _) => "conv_u8s8_vnni_6x64",
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
        for pixels in blocks(range.clone(), self.block) {
            let start = pixels.start;
            let place = (start - range.start) * out_c..(pixels.end - range.start) * out_c;
            let out = &mut output[place.clone()];
            let residual = residual.map(|all| &all[place]);
            let rows = match self.source {
                Source::InPlace => Rows::new(input, start * self.stride, self.stride, pixels.len()),
                Source::Gathered => self.gathered(input, pixels, scratch),
            };
            for panel in &self.panels {
                let finish = &self.finish;
                tile::run(self.token, rows, &self.depth, panel, finish, residual, out, out_c);
            }
        }
    }

    /// The rows of one block, copied together, each padded to a whole step.
    fn gathered<'s>(
        &self,
        input: &[u8],
        pixels: Range<usize>,
        scratch: &'s mut Scratch,
    ) -> Rows<'s> {
        let (g, count) = (&self.geometry, pixels.len());
        // What pads a row is whatever lay there: it meets zero weights.
        let rows = scratch.bytes(count * self.stride);
        if g.is_pointwise() {
            let source = input[pixels.start * g.in_c..].chunks_exact(g.in_c);
            for (from, to) in source.zip(rows.chunks_exact_mut(self.stride)) {
                to[..g.in_c].copy_from_slice(from);
            }
        } else {
            im2col::gather(g, input, self.input_zero_point, pixels, rows, self.stride);
        }
        Rows::new(rows, 0, self.stride, count)
    }
}
