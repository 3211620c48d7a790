//! Dense convolution for NEON with the dot-product extension: packing, blocking and the loop over
//! panels. The inner loop is in `neondot_tile.rs`.
//!
//! The input's zero point is folded into the bias, and so is the offset of 128 that makes
//! activations signed bytes: `sum((x - z) * w) = sum((x - 128) * w) + (128 - z) * sum(w)`.

use std::ops::Range;

use super::neon_lines::Lines;
use super::neondot_tile::{self as tile, MAX_ROWS, PanelRef};
use super::pixels::Pixels;
use super::{Layer, im2col};
use crate::arm::Ending;
use crate::arm_end::{End, MAX_COLS};
use crate::isa::{Neon, NeonDot};
use crate::requantize::Reach;
use crate::scratch::{Packed16, as_bytes, as_bytes_mut};
use crate::{ConvGeometry, Scratch};

/// Bytes of packed activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;

pub(super) struct Kernel {
    neon: Neon,
    token: NeonDot,
    geometry: ConvGeometry,
    input_zero_point: u8,
    blocked_input: bool,
    /// `kernel_h * kernel_w * in_c`.
    depth: usize,
    /// Steps of 8 values of depth.
    pairs: usize,
    /// Pixels per block.
    block: usize,
    /// For an image's first layer.
    lines: Option<Lines>,
    panels: Vec<Panel>,
    ending: u8,
}

/// The weights of up to 16 output channels.
pub(crate) struct Panel {
    first: usize,
    /// Channels that exist; the rest of the panel is zero.
    cols: usize,
    /// Vectors of four channels: 4 or 2.
    vectors: usize,
    /// `[depth / 4][channel][4]`, depth padded to 8 with zeros.
    weights: Packed16,
    end: End,
}

impl Panel {
    /// `vectors * 4` channels from `first` on, or as many as there are.
    pub(crate) fn new(layer: &Layer<'_>, depth: usize, first: usize, vectors: usize) -> Panel {
        let width = vectors * 4;
        let cols = (layer.geometry.out_c - first).min(width);
        let row = |c: usize| &layer.weights[(first + c) * depth..][..depth];
        let weights = Packed16::new(depth.next_multiple_of(8) * width / 2, |packed| {
            let packed = as_bytes_mut(packed);
            for c in 0..cols {
                for (k, &w) in row(c).iter().enumerate() {
                    packed[(k / 4 * width + c) * 4 + k % 4] = w as i8 as u8;
                }
            }
        });
        let zero_point = i32::from(layer.input.zero_point) - 128;
        let end = End::new((&layer.output, layer.options.residual), first, cols, zero_point, row);
        Panel { first, cols, vectors, weights, end }
    }

    /// For the inner loop.
    pub(crate) fn parts(&self) -> PanelRef<'_> {
        PanelRef { weights: as_bytes(self.weights.values()), end: &self.end, vectors: self.vectors }
    }
}

impl Kernel {
    /// For weights that fit `i8`.
    pub(super) fn new(neon: Neon, token: NeonDot, layer: &Layer<'_>, reach: Reach) -> Kernel {
        let g = layer.geometry;
        let depth = g.taps() * g.in_c;
        let pairs = depth.div_ceil(8);
        let panel =
            |first: usize| Panel::new(layer, depth, first, if g.out_c - first > 8 { 4 } else { 2 });
        Kernel {
            neon,
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            blocked_input: layer.options.blocked_input,
            depth,
            pairs,
            block: (BLOCK_BYTES / (pairs * 8) / MAX_ROWS * MAX_ROWS).max(MAX_ROWS),
            lines: Lines::new(&g),
            panels: (0..g.out_c).step_by(MAX_COLS).map(panel).collect(),
            ending: match layer.options.residual {
                Some(_) => Ending::ADDING,
                None => Ending::of(&layer.output, reach),
            },
        }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.geometry.is_pointwise() {
            "pointwise_u8s8_neondot_6x16"
        } else {
            "conv_u8s8_neondot_6x16"
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
        if let Some(lines) = &self.lines {
            if let Some(residual) = residual {
                output.copy_from_slice(residual);
            }
            self.run_lines(lines, input, range, output, scratch);
            return;
        }
        for (index, out) in output.chunks_mut(self.block * out_c).enumerate() {
            let start = range.start + index * self.block;
            let pixels = start..start + out.len() / out_c;
            if let Some(residual) = residual {
                out.copy_from_slice(&residual[index * self.block * out_c..][..out.len()]);
            }
            let tiles = self.pack(input, pixels, scratch);
            self.run_tiles(tiles, out);
        }
    }

    /// One output row, or what the range has of it, after the other.
    fn run_lines(
        &self,
        lines: &Lines,
        input: &[u8],
        range: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        let packed_len = (g.out_w + 1) * self.pairs * 8;
        let (rows, packed) = scratch.bytes_and_i16s(lines.bytes(), packed_len / 2);
        let packed = as_bytes_mut(packed);
        let (mut pixel, mut rest) = (range.start, output);
        while pixel < range.end {
            let (y, x) = (pixel / g.out_w, pixel % g.out_w);
            let xs = x..(x + range.end - pixel).min(g.out_w);
            let (out, next) = rest.split_at_mut(xs.len() * g.out_c);
            pixel += xs.len();
            rest = next;
            lines.fill(self.neon, g, input, y, (self.input_zero_point, 128), rows);
            let (mut x, mut used) = (xs.start, 0);
            while x < xs.end {
                let count = tile::next_rows(xs.end - x);
                let bytes = tile::tile_bytes(count, self.pairs);
                let to = &mut packed[used..used + bytes];
                tile::pack_lines(self.token, lines, |p| lines.pixel(g, rows, x + p), count, to);
                x += count;
                used += bytes;
            }
            self.run_tiles(&packed[..used], out);
        }
    }

    /// All pixels of one block times all panels.
    fn run_tiles(&self, tiles: &[u8], out: &mut [u8]) {
        for panel in &self.panels {
            match self.ending {
                Ending::PLAIN => self.run_panel::<{ Ending::PLAIN }>(tiles, panel, out),
                Ending::FITTING => self.run_panel::<{ Ending::FITTING }>(tiles, panel, out),
                Ending::ADDING => self.run_panel::<{ Ending::ADDING }>(tiles, panel, out),
                _ => self.run_panel::<{ Ending::SATURATING }>(tiles, panel, out),
            }
        }
    }

    /// The pixels of one block as tiles.
    fn pack<'s>(&self, input: &[u8], pixels: Range<usize>, scratch: &'s mut Scratch) -> &'s [u8] {
        let (count, depth) = (pixels.len(), self.depth);
        let pointwise = self.geometry.is_pointwise();
        let gathered_len = if pointwise { 0 } else { self.block * depth };
        // An odd number of pixels takes the room of one more.
        let packed_len = (self.block + 1) * self.pairs * 8;
        let (gathered, packed) = scratch.bytes_and_i16s(gathered_len, packed_len / 2);
        let (source, first) = if self.blocked_input {
            (Pixels::blocks(input, depth), pixels.start)
        } else if pointwise {
            (Pixels::image(input, depth), pixels.start)
        } else {
            let gathered = &mut gathered[..count * depth];
            let outside = self.input_zero_point;
            im2col::gather(&self.geometry, input, outside, pixels, gathered, depth);
            (Pixels::image(gathered, depth), 0)
        };
        let packed = as_bytes_mut(packed);
        let (mut done, mut used) = (0, 0);
        while done < count {
            let rows = tile::next_rows(count - done);
            let bytes = tile::tile_bytes(rows, self.pairs);
            let pixel = |p: usize| first + done + p;
            tile::pack_tile(self.token, &source, pixel, rows, &mut packed[used..used + bytes]);
            done += rows;
            used += bytes;
        }
        &packed[..used]
    }

    /// All pixels of one block times one panel.
    fn run_panel<const END: u8>(&self, tiles: &[u8], panel: &Panel, out: &mut [u8]) {
        let out_c = self.geometry.out_c;
        let count = out.len() / out_c;
        let parts = panel.parts();
        if panel.cols == panel.vectors * 4 {
            assert!(panel.first + panel.cols <= out_c && count * out_c == out.len());
            let to = out[panel.first..].as_mut_ptr();
            // SAFETY: all columns of the panel exist in each pixel.
            unsafe { tile::run::<END>(self.token, tiles, self.pairs, count, &parts, to, out_c) };
            return;
        }
        let mut tiles = tiles;
        for out in out.chunks_mut(MAX_ROWS * out_c) {
            let mut whole = [0u8; MAX_ROWS * MAX_COLS];
            let count = out.len() / out_c;
            if END == Ending::ADDING {
                for (to, from) in whole.chunks_exact_mut(MAX_COLS).zip(out.chunks(out_c)) {
                    to[..panel.cols].copy_from_slice(&from[panel.first..][..panel.cols]);
                }
            }
            let parts_of = [count / 6 * 6, count % 6 & 4, count % 6 & 2, count % 6 & 1];
            let bytes = parts_of.map(|rows| tile::tile_bytes(rows, self.pairs)).iter().sum();
            let (now, rest) = tiles.split_at(bytes);
            // SAFETY: the array holds all columns of the panel.
            unsafe {
                let to = whole.as_mut_ptr();
                tile::run::<END>(self.token, now, self.pairs, count, &parts, to, MAX_COLS);
            }
            for (to, from) in out.chunks_mut(out_c).zip(whole.chunks_exact(MAX_COLS)) {
                to[panel.first..][..panel.cols].copy_from_slice(&from[..panel.cols]);
            }
            tiles = rest;
        }
    }
}
