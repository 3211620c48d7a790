//! Dense convolution for AVX2: packing, blocking and the loop over tiles.
//!
//! There are two ways to multiply, both exact: activations as they are ([`bytes`]), or widened to
//! `i16` once per block of pixels ([`wide`]). Bytes are what activations of seven bits are
//! multiplied as, and others where the layer's weights make it cheaper: the choice is made once,
//! from the range of the input and the weights, unless a [`Form`] is asked for. The input's zero point is folded into the bias:
//! `sum((x - z) * w) = sum(x * w) - z * sum(w)`.

pub(crate) mod bytes;
pub(crate) mod panel;
pub(crate) mod tile;
pub(crate) mod wide;

use std::ops::Range;

use super::{BLOCK_CHANNELS, Form, Layer, blocks, im2col};
use crate::isa::Avx2;
use crate::requantize::Reach;
use crate::x86::{widen, widen_runs};
use crate::{ConvGeometry, InputCodes, Scratch};
use bytes::Bytes;
use panel::{Depth, Panel};
use tile::{End, Rows};
use wide::Wide;

/// Bytes of activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;

pub(super) struct Kernel {
    token: Avx2,
    geometry: ConvGeometry,
    blocked: bool,
    input_zero_point: u8,
    /// Pixels per block; the last one of a run may have more.
    block: usize,
    body: Body,
    end: End,
}

enum Body {
    Wide {
        panels: Vec<Panel<Wide>>,
        /// Values from one widened pixel to the next.
        stride: usize,
    },
    Bytes {
        panels: Vec<Panel<Bytes>>,
        /// Bytes from one pixel to the next.
        stride: usize,
        in_place: bool,
        /// What is subtracted from every activation.
        origin: u8,
        seven_bits: bool,
    },
}

/// What to subtract from activations that are multiplied as bytes: nothing, unless it makes them
/// fit seven bits.
pub(crate) fn origin(input: InputCodes) -> u8 {
    if input.max > 127 && input.max - input.min <= 127 { input.min } else { 0 }
}

/// Whether activations fit seven bits, less their [`origin`].
pub(crate) fn fits_seven_bits(input: InputCodes) -> bool {
    input.max - origin(input) <= 127
}

/// Whether these panels multiply faster than widened activations would.
pub(crate) fn cheap(panels: &[Panel<Bytes>]) -> bool {
    let costs = panels.iter().map(|panel| panel.weights.cost(panel.vectors) * panel.vectors);
    let wide = panels.iter().map(|panel| panel.weights.steps() * 24 * panel.vectors);
    costs.sum::<usize>() <= wide.sum()
}

impl Body {
    fn new(layer: &Layer<'_>, reach: Reach) -> Body {
        let (g, blocked) = (&layer.geometry, layer.options.blocked_input);
        let k = g.taps() * g.in_c;
        let (origin, seven_bits) = (origin(layer.input), fits_seven_bits(layer.input));
        let form = layer.options.form;
        if reach.weights_fit_i8 && form != Form::Wide {
            let in_place =
                g.is_pointwise() && origin == 0 && (blocked || k.is_multiple_of(bytes::STEP));
            let (stride, depth) = if in_place && blocked {
                let stride = g.in_h * g.in_w * BLOCK_CHANNELS;
                (BLOCK_CHANNELS, Depth::in_runs(k, BLOCK_CHANNELS, stride))
            } else {
                (k.next_multiple_of(bytes::STEP), Depth::flat(k))
            };
            let panels = Panel::split(layer, depth, origin);
            if seven_bits || form == Form::Bytes || cheap(&panels) {
                return Body::Bytes { panels, stride, in_place, origin, seven_bits };
            }
        }
        let stride = k.next_multiple_of(if blocked { BLOCK_CHANNELS } else { 2 });
        Body::Wide { panels: Panel::split(layer, Depth::flat(k), 0), stride }
    }
}

impl Kernel {
    pub(super) fn new(token: Avx2, layer: &Layer<'_>, reach: Reach) -> Kernel {
        let body = Body::new(layer, reach);
        let g = layer.geometry;
        let row_bytes = match &body {
            Body::Wide { stride, .. } => stride * size_of::<i16>(),
            Body::Bytes { .. } => g.taps() * g.in_c,
        };
        Kernel {
            token,
            geometry: g,
            blocked: layer.options.blocked_input,
            input_zero_point: layer.input.zero_point,
            block: (BLOCK_BYTES / row_bytes / 12 * 12).max(12),
            body,
            end: End::new(layer),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        let pointwise = self.geometry.is_pointwise();
        match &self.body {
            Body::Wide { panels, .. } => match (pointwise, panels[0].vectors) {
                (true, 2) => "pointwise_u8s16_avx2_6x16",
                (true, _) => "pointwise_u8s16_avx2_3x24",
                (false, 2) => "conv_u8s16_avx2_6x16",
                (false, _) => "conv_u8s16_avx2_3x24",
            },
            Body::Bytes { panels, seven_bits, .. } => {
                match (pointwise, seven_bits, panels[0].vectors) {
                    (true, true, 2) => "pointwise_u7s8_avx2_4x16",
                    (true, true, _) => "pointwise_u7s8_avx2_3x24",
                    (true, false, 2) => "pointwise_u8s8_avx2_4x16",
                    (true, false, _) => "pointwise_u8s8_avx2_3x24",
                    (false, true, 2) => "conv_u7s8_avx2_4x16",
                    (false, true, _) => "conv_u7s8_avx2_3x24",
                    (false, false, 2) => "conv_u8s8_avx2_4x16",
                    (false, false, _) => "conv_u8s8_avx2_3x24",
                }
            }
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
        let (end, out_c) = (&self.end, self.geometry.out_c);
        for pixels in blocks(range.clone(), self.block) {
            let start = pixels.start;
            let place = (start - range.start) * out_c..(pixels.end - range.start) * out_c;
            let out = &mut output[place.clone()];
            let residual = residual.map(|all| &all[place]);
            match &self.body {
                Body::Wide { panels, stride } => {
                    let rows = self.widened(input, pixels, *stride, scratch);
                    for panel in panels {
                        tile::run(self.token, rows, panel, end, residual, out, out_c);
                    }
                }
                Body::Bytes { panels, stride, in_place, origin, .. } => {
                    let rows = if *in_place {
                        Rows::new(input, start * stride, *stride, pixels.len())
                    } else {
                        let values = scratch.bytes(pixels.len() * stride);
                        self.gather(input, pixels.clone(), *stride, values);
                        values.iter_mut().for_each(|value| *value = value.wrapping_sub(*origin));
                        Rows::new(values, 0, *stride, pixels.len())
                    };
                    for panel in panels {
                        tile::run(self.token, rows, panel, end, residual, out, out_c);
                    }
                }
            }
        }
    }

    /// The depth of some pixels, each padded to `stride` with whatever lay there: it meets zero
    /// weights.
    fn gather(&self, input: &[u8], pixels: Range<usize>, stride: usize, rows: &mut [u8]) {
        let g = &self.geometry;
        if self.blocked {
            let from = |block: usize| &input[block * g.in_h * g.in_w * BLOCK_CHANNELS..];
            for first in (0..g.in_c).step_by(BLOCK_CHANNELS) {
                let run = BLOCK_CHANNELS.min(g.in_c - first);
                let source = from(first / BLOCK_CHANNELS).chunks_exact(BLOCK_CHANNELS);
                let source = source.skip(pixels.start);
                for (from, to) in source.zip(rows.chunks_exact_mut(stride)) {
                    to[first..first + run].copy_from_slice(&from[..run]);
                }
            }
        } else if g.is_pointwise() {
            let source = input[pixels.start * g.in_c..].chunks_exact(g.in_c);
            for (from, to) in source.zip(rows.chunks_exact_mut(stride)) {
                to[..g.in_c].copy_from_slice(from);
            }
        } else {
            im2col::gather(g, input, self.input_zero_point, pixels, rows, stride);
        }
    }

    /// The rows of one block, widened.
    fn widened<'s>(
        &self,
        input: &[u8],
        pixels: Range<usize>,
        stride: usize,
        scratch: &'s mut Scratch,
    ) -> Rows<'s, i16> {
        let (g, count) = (&self.geometry, pixels.len());
        let in_place = g.is_pointwise() && (self.blocked || g.in_c == stride);
        let gathered_len = if in_place { 0 } else { count * stride };
        let (gathered, values) = scratch.bytes_and_i16s(gathered_len, count * stride);
        if !in_place {
            self.gather(input, pixels, stride, gathered);
            widen(self.token, gathered, values);
        } else if self.blocked {
            let block_bytes = g.in_h * g.in_w * BLOCK_CHANNELS;
            for (block, first) in (0..stride).step_by(BLOCK_CHANNELS).enumerate() {
                let from = &input[block * block_bytes + pixels.start * BLOCK_CHANNELS..];
                let from = &from[..count * BLOCK_CHANNELS];
                widen_runs(self.token, from, &mut values[first..], stride);
            }
        } else {
            widen(self.token, &input[pixels.start * stride..][..count * stride], values);
        }
        Rows::new(values, 0, stride, count)
    }
}
