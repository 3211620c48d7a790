//! Dense convolution for NEON without the dot product: packing, blocking and the loop over
//! panels. The inner loop is in `neon_tile.rs`.
//!
//! The middle of the input's range is subtracted from activations, so that they are signed bytes
//! as small as possible; it is folded into the bias like the zero point:
//! `sum((x - z) * w) = sum((x - m) * w) + (m - z) * sum(w)`.

use std::arch::aarch64::*;
use std::ops::Range;

use super::neon_lines::Lines;
use super::neon_tile::{self as tile, PanelRef, ROWS, STEP, Schedule};
use super::pixels::Pixels;
use super::{BLOCK_CHANNELS, Layer, im2col};
use crate::arm::Ending;
use crate::arm_end::{End, MAX_COLS};
use crate::isa::Neon;
use crate::requantize::Reach;
use crate::scratch::{Packed16, as_bytes, as_bytes_mut};
use crate::{ConvGeometry, Scratch};

/// Bytes of packed activations that one block may take: it stays in the first-level cache.
const BLOCK_BYTES: usize = 16 * 1024;

pub(crate) struct Kernel {
    token: Neon,
    geometry: ConvGeometry,
    input_zero_point: u8,
    blocked_input: bool,
    /// What packing subtracts.
    middle: u8,
    /// `kernel_h * kernel_w * in_c`.
    depth: usize,
    /// Steps of four values of depth.
    steps: usize,
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
    /// As [`Schedule::lay_out`] says, depth padded to [`STEP`] with zeros.
    weights: Packed16,
    schedule: Schedule,
    end: End,
}

impl Panel {
    /// `vectors * 4` channels from `first` on, or as many as there are. For activations less the
    /// middle of their range; another kernel may get the results less the middle `result` of theirs.
    pub(crate) fn new(layer: &Layer<'_>, first: usize, vectors: usize, result: u8) -> Panel {
        let depth = layer.geometry.taps() * layer.geometry.in_c;
        let middle = layer.input.middle();
        let cols = (layer.geometry.out_c - first).min(vectors * 4);
        let row = |c: usize| &layer.weights[(first + c) * depth..][..depth];
        let weight = |c: usize, k: usize| if c < cols && k < depth { row(c)[k] } else { 0 };
        let steps = depth.div_ceil(STEP);
        let schedule = Schedule::new(weight, cols, steps, layer.input.largest());
        let weights = Packed16::new(steps * STEP * vectors * 4 / 2, |packed| {
            schedule.lay_out(|c, k| weight(c, k) as i8, vectors, as_bytes_mut(packed));
        });
        let zero_point = i32::from(layer.input.zero_point) - i32::from(middle);
        let end = End::new((&layer.output, layer.options.residual), first, cols, zero_point, row);
        Panel { first, cols, vectors, weights, schedule, end: end.less(result) }
    }

    /// For the inner loop.
    pub(crate) fn parts(&self) -> PanelRef<'_> {
        PanelRef {
            weights: as_bytes(self.weights.values()),
            schedule: &self.schedule,
            end: &self.end,
            vectors: self.vectors,
        }
    }
}

impl Kernel {
    /// Whether two products always fit 16 bits.
    pub(crate) fn handles(layer: &Layer<'_>, reach: Reach) -> bool {
        reach.weights_fit_i8 && (layer.input.largest() < 128 || !layer.weights.contains(&-128))
    }

    /// For a layer that [`Kernel::handles`] agreed to.
    pub(super) fn new(token: Neon, layer: &Layer<'_>, reach: Reach) -> Kernel {
        let g = layer.geometry;
        let depth = g.taps() * g.in_c;
        let steps = depth.div_ceil(STEP);
        let middle = layer.input.middle();
        let firsts = (0..g.out_c).step_by(MAX_COLS);
        let panel =
            |first: usize| Panel::new(layer, first, if g.out_c - first > 8 { 4 } else { 2 }, 0);
        Kernel {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            blocked_input: layer.options.blocked_input,
            middle,
            depth,
            steps,
            block: (BLOCK_BYTES / tile::tiles_bytes(ROWS, steps) * ROWS).max(ROWS),
            lines: Lines::new(&g),
            panels: firsts.map(panel).collect(),
            ending: match layer.options.residual {
                Some(_) => Ending::ADDING,
                None => Ending::of(&layer.output, reach),
            },
        }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.geometry.is_pointwise() {
            "pointwise_u8s8_neon_4x16"
        } else {
            "conv_u8s8_neon_4x16"
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
        if let Some(lines) = &self.lines {
            if let Some(residual) = residual {
                output.copy_from_slice(residual);
            }
            self.run_lines(lines, input, range, output, scratch);
            return;
        }
        let out_c = self.geometry.out_c;
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
        let packed_len = tile::tiles_bytes(g.out_w.next_multiple_of(ROWS), self.steps);
        let (rows, packed) = scratch.bytes_and_i16s(lines.bytes(), packed_len / 2);
        let packed = as_bytes_mut(packed);
        let (mut pixel, mut rest) = (range.start, output);
        while pixel < range.end {
            let (y, x) = (pixel / g.out_w, pixel % g.out_w);
            let xs = x..(x + range.end - pixel).min(g.out_w);
            let (out, next) = rest.split_at_mut(xs.len() * g.out_c);
            pixel += xs.len();
            rest = next;
            lines.fill(self.token, g, input, y, (self.input_zero_point, self.middle), rows);
            let tiles = &mut packed[..tile::tiles_bytes(xs.len(), self.steps)];
            pack_columns(self.token, lines, g, rows, xs, tiles);
            self.run_tiles(tiles, out);
        }
    }

    /// The pixels of one block as tiles, see [`tile::expand`].
    fn pack<'s>(&self, input: &[u8], pixels: Range<usize>, scratch: &'s mut Scratch) -> &'s [u8] {
        let (count, depth) = (pixels.len(), self.depth);
        let pointwise = self.geometry.is_pointwise();
        let gathered_len = if pointwise { 0 } else { self.block * depth };
        let packed_len = tile::tiles_bytes(self.block, self.steps);
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
        let packed = &mut as_bytes_mut(packed)[..tile::tiles_bytes(count, self.steps)];
        pack_pixels(self.token, &source, first, count, self.middle, packed);
        packed
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

    /// All pixels of one block times one panel.
    fn run_panel<const END: u8>(&self, tiles: &[u8], panel: &Panel, out: &mut [u8]) {
        let out_c = self.geometry.out_c;
        let count = out.len() / out_c;
        let parts = panel.parts();
        assert!(panel.first + panel.cols <= out_c && count * out_c == out.len());
        // Pixels that tiles write to their places: all of them, unless the last tile or the last
        // panel has more than there is room for.
        let direct = match (panel.cols == panel.vectors * 4, tile::padded(count) == count) {
            (true, true) => count,
            (true, false) => count / ROWS * ROWS,
            (false, _) => 0,
        };
        let (steps, token) = (self.steps, self.token);
        let (whole, tiles) = tiles.split_at(tile::tiles_bytes(direct, steps));
        let (to, out) = out.split_at_mut(direct * out_c);
        if direct > 0 {
            let to = to[panel.first..].as_mut_ptr();
            // SAFETY: all columns of the panel exist in each pixel.
            unsafe { tile::run::<END>(token, whole, steps, direct, &parts, to, out_c) };
        }
        let tiles = tiles.chunks(tile::tiles_bytes(ROWS, steps));
        for (tiles, out) in tiles.zip(out.chunks_mut(ROWS * out_c)) {
            let mut whole = [0u8; ROWS * MAX_COLS];
            let count = out.len() / out_c;
            if END == Ending::ADDING {
                for (to, from) in whole.chunks_exact_mut(MAX_COLS).zip(out.chunks(out_c)) {
                    to[..panel.cols].copy_from_slice(&from[panel.first..][..panel.cols]);
                }
            }
            // SAFETY: the array holds all columns of all pixels of a tile.
            unsafe {
                let to = whole.as_mut_ptr();
                tile::run::<END>(token, tiles, steps, count, &parts, to, MAX_COLS);
            }
            for (to, from) in out.chunks_mut(out_c).zip(whole.chunks_exact(MAX_COLS)) {
                to[panel.first..][..panel.cols].copy_from_slice(&from[..panel.cols]);
            }
        }
    }
}

/// Packs `count` pixels from `first` on as tiles, see [`tile::expand`], each value less `middle`.
///
/// # Panics
/// If a pixel does not exist, or the length does not agree.
pub(crate) fn pack_pixels(
    _token: Neon,
    source: &Pixels<'_>,
    first: usize,
    count: usize,
    middle: u8,
    packed: &mut [u8],
) {
    let depth = source.depth();
    let steps = depth.div_ceil(STEP);
    assert_eq!(packed.len(), tile::tiles_bytes(count, steps));
    assert!(count > 0 && source.has(first + count - 1));
    let tiles = packed.chunks_mut(tile::tiles_bytes(ROWS, steps));
    let block = source.block();
    for (i, to) in tiles.enumerate() {
        let pixel = |p: usize| source.address(first + (i * ROWS + p).min(count - 1));
        // SAFETY: the token proves NEON; each pointer has `depth` bytes, and the tile room
        // for its pixels.
        unsafe {
            if to.len() == tile::tiles_bytes(1, steps) {
                pack_tile([pixel(0)], (depth, block), middle, to.as_mut_ptr());
            } else {
                let pixels = std::array::from_fn::<_, ROWS, _>(pixel);
                pack_tile(pixels, (depth, block), middle, to.as_mut_ptr());
            }
        }
    }
}

/// Packs the output columns `xs` of the row that `rows` holds, see [`Lines::fill`], as tiles.
///
/// # Panics
/// If a length does not agree, or a column does not exist.
pub(crate) fn pack_columns(
    _token: Neon,
    lines: &Lines,
    g: &ConvGeometry,
    rows: &[u8],
    xs: Range<usize>,
    packed: &mut [u8],
) {
    let steps = (g.taps() * g.in_c).div_ceil(STEP);
    assert_eq!(packed.len(), tile::tiles_bytes(xs.len(), steps));
    for (i, to) in packed.chunks_mut(tile::tiles_bytes(ROWS, steps)).enumerate() {
        let x = |p: usize| (xs.start + i * ROWS + p).min(xs.end - 1);
        let pixel = |p: usize| lines.pixel(g, rows, x(p));
        // SAFETY: the token proves NEON; the tile has room for its pixels.
        unsafe {
            if to.len() == tile::tiles_bytes(1, steps) {
                pack_lines(lines, [pixel(0)], steps, to.as_mut_ptr());
            } else {
                let pixels = std::array::from_fn::<_, ROWS, _>(pixel);
                pack_lines(lines, pixels, steps, to.as_mut_ptr());
            }
        }
    }
}

/// # Safety
/// The pointers are from [`Lines::pixel`]; `to` can take the tile.
#[target_feature(enable = "neon")]
unsafe fn pack_lines<const N: usize>(
    lines: &Lines,
    from: [*const u8; N],
    steps: usize,
    to: *mut u8,
) {
    for t in 0..lines.registers() {
        // SAFETY: passed on.
        unsafe { tile::expand(lines.load(from, t), t, steps, to) };
    }
}

/// # Safety
/// `depth` bytes are readable at each pointer as [`Pixels::address`] says, and `to` can take the tile.
#[target_feature(enable = "neon")]
unsafe fn pack_tile<const N: usize>(
    from: [*const u8; N],
    (depth, block): (usize, usize),
    middle: u8,
    to: *mut u8,
) {
    let offset = vdupq_n_u8(middle);
    let (whole, steps) = (depth / 16, depth.div_ceil(STEP));
    let sixteen = |t: usize, at: usize| {
        // SAFETY: called where 16 values of depth remain.
        let x = from.map(|from| vsubq_u8(unsafe { vld1q_u8(from.add(at)) }, offset));
        // SAFETY: passed on.
        unsafe { tile::expand(x, t, steps, to) };
    };
    let (blocks, mut at) = (depth / BLOCK_CHANNELS, 0);
    for b in 0..blocks {
        sixteen(2 * b, at);
        sixteen(2 * b + 1, at + 16);
        at += block;
    }
    if whole > 2 * blocks {
        sixteen(2 * blocks, at);
        at += 16;
    }
    if !depth.is_multiple_of(16) {
        let x = from.map(|from| {
            // SAFETY: the last values of depth, fewer than 16.
            let x = unsafe { load_part(from.add(at), depth % 16) };
            vsubq_u8(x, offset)
        });
        // SAFETY: passed on.
        unsafe { tile::expand(x, whole, steps, to) };
    }
}

/// # Safety
/// `len` bytes are readable, fewer than 16.
#[target_feature(enable = "neon")]
unsafe fn load_part(from: *const u8, len: usize) -> uint8x16_t {
    if len == 8 {
        // SAFETY: passed on.
        return unsafe { vcombine_u8(vld1_u8(from), vdup_n_u8(0)) };
    }
    let mut bytes = [0; 16];
    // SAFETY: passed on.
    unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
    // SAFETY: sixteen bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}
