//! Dense convolution for 32-bit ARM with NEON: packing, blocking and the loop over panels. The inner loop is
//! in `arm32/conv.s`: 4 pixels times 8 channels.
//!
//! Activations are widened as they are loaded; the input's zero point is folded into the bias:
//! `sum((x - z) * w) = sum(x * w) - z * sum(w)`.

use std::ops::Range;

use super::pixels::Pixels;
use super::{Layer, im2col};
use crate::arm32::{Bounds, End, LANES};
use crate::isa::Neon32;
use crate::{ConvGeometry, Scratch};

/// Values of depth that are loaded together.
const STEP: usize = 8;
/// Pixels of a tile.
const ROWS: usize = 4;
/// Bytes of activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;

/// The weights of 8 output channels.
struct Panel {
    first: usize,
    /// Channels that exist; the rest of the panel is zero.
    cols: usize,
    /// `[depth, filled up][channel]`
    weights: Vec<i16>,
    end: End,
}

impl Panel {
    fn new(layer: &Layer<'_>, depth: usize, first: usize) -> Panel {
        let cols = (layer.geometry.out_c - first).min(LANES);
        let row = |c: usize| layer.weights[c * depth..][..depth].iter();
        let mut weights = vec![0; depth.next_multiple_of(STEP) * LANES];
        for c in 0..cols {
            for (k, &w) in row(first + c).enumerate() {
                weights[k * LANES + c] = w;
            }
        }
        let end = End::new(&layer.output, layer.input.zero_point, first, row);
        Panel { first, cols, weights, end }
    }
}

/// What the routines are given; they move `x`, `out` and `residual` behind what they have done.
#[repr(C)]
struct Tiles {
    x: *const u8,
    /// Bytes from one pixel to the next.
    x_stride: usize,
    w: *const i16,
    /// Steps of depth, at least one.
    groups: usize,
    end: *const End,
    bounds: *const Bounds,
    out: *mut u8,
    /// Bytes from one pixel to the next, in output and residual.
    out_stride: usize,
    /// Null where there is none.
    residual: *const u8,
    /// Tiles, at least one.
    count: usize,
}

// SAFETY: both need NEON and a description whose pointers hold for all pixels of `count` tiles: 8 bytes a step
// to read, 8 to write.
unsafe extern "C" {
    fn kinglet_conv_neon32_4x8(tiles: *mut Tiles);
    fn kinglet_conv_neon32_1x8(tiles: *mut Tiles);
}

pub(super) struct Kernel {
    _token: Neon32,
    geometry: ConvGeometry,
    input_zero_point: u8,
    blocked_input: bool,
    /// `kernel_h * kernel_w * in_c`.
    depth: usize,
    /// Pixels per block.
    block: usize,
    panels: Vec<Panel>,
    bounds: Bounds,
}

impl Kernel {
    pub(super) fn new(token: Neon32, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let depth = g.taps() * g.in_c;
        let panels = (0..g.out_c).step_by(LANES).map(|first| Panel::new(layer, depth, first));
        Kernel {
            _token: token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            blocked_input: layer.options.blocked_input,
            depth,
            block: (BLOCK_BYTES / depth.next_multiple_of(STEP) / ROWS * ROWS).max(3 * ROWS),
            panels: panels.collect(),
            bounds: Bounds::new(&layer.output, layer.options.residual),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.geometry.is_pointwise() {
            "pointwise_u8s16_neon32_4x8"
        } else {
            "conv_u8s16_neon32_4x8"
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
        let step = self.block * out_c;
        for (index, out) in output.chunks_mut(step).enumerate() {
            let start = range.start + index * self.block;
            let pixels = start..start + out.len() / out_c;
            let residual = residual.map(|residual| &residual[index * step..][..out.len()]);
            self.run_block(input, residual, pixels, out, scratch);
        }
    }

    fn run_block(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        pixels: Range<usize>,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let (g, depth) = (&self.geometry, self.depth);
        let (count, stride) = (pixels.len(), depth.next_multiple_of(STEP));
        let as_it_is = g.is_pointwise() && !self.blocked_input && stride == depth;
        let gathered = if as_it_is { 0 } else { count * stride };
        let [rows, narrow, narrow_residual] =
            scratch.pieces([gathered, count * LANES, count * LANES]);
        let rows = if as_it_is {
            &input[pixels.start * depth..][..count * depth]
        } else if g.is_pointwise() {
            let from = if self.blocked_input {
                Pixels::blocks(input, depth)
            } else {
                Pixels::image(input, depth)
            };
            for (p, to) in pixels.zip(rows.chunks_exact_mut(stride)) {
                from.copy(p, &mut to[..depth]);
            }
            rows
        } else {
            im2col::gather(g, input, self.input_zero_point, pixels, rows, stride);
            rows
        };
        for panel in &self.panels {
            if panel.cols == LANES {
                let residual = residual.map(|residual| &residual[panel.first..]);
                self.run_panel(panel, rows, &mut out[panel.first..], residual, g.out_c, count);
                continue;
            }
            let channels = panel.first..panel.first + panel.cols;
            if let Some(residual) = residual {
                let pixels = residual.chunks_exact(g.out_c);
                for (from, to) in pixels.zip(narrow_residual.chunks_exact_mut(LANES)) {
                    to[..panel.cols].copy_from_slice(&from[channels.clone()]);
                }
            }
            let residual = residual.map(|_| &*narrow_residual);
            self.run_panel(panel, rows, narrow, residual, LANES, count);
            for (from, to) in narrow.chunks_exact(LANES).zip(out.chunks_exact_mut(g.out_c)) {
                to[channels.clone()].copy_from_slice(&from[..panel.cols]);
            }
        }
    }

    /// All channels of a panel of `count` pixels, `out_stride` bytes apart in output and residual.
    fn run_panel(
        &self,
        panel: &Panel,
        rows: &[u8],
        out: &mut [u8],
        residual: Option<&[u8]>,
        out_stride: usize,
        count: usize,
    ) {
        let x_stride = self.depth.next_multiple_of(STEP);
        let reach = (count - 1) * out_stride + LANES;
        assert_eq!(rows.len(), count * x_stride);
        assert_eq!(panel.weights.len(), x_stride * LANES);
        assert!(out.len() >= reach && residual.is_none_or(|residual| residual.len() >= reach));
        let mut tiles = Tiles {
            x: rows.as_ptr(),
            x_stride,
            w: panel.weights.as_ptr(),
            groups: x_stride / STEP,
            end: &raw const panel.end,
            bounds: &raw const self.bounds,
            out: out.as_mut_ptr(),
            out_stride,
            residual: residual.map_or(std::ptr::null(), <[u8]>::as_ptr),
            count: count / ROWS,
        };
        // SAFETY: the token proves NEON; rows, weights, output and residual have been checked to hold all
        // pixels, and each routine is given what is left of them.
        unsafe {
            if tiles.count > 0 {
                kinglet_conv_neon32_4x8(&raw mut tiles);
            }
            tiles.count = count % ROWS;
            if tiles.count > 0 {
                kinglet_conv_neon32_1x8(&raw mut tiles);
            }
        }
    }
}
