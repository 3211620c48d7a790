//! Depthwise convolution for NEON of any geometry and weights: a ring of widened rows, blocking and the loop over tiles.
//!
//! Rows of the (padded) image are widened to `i16` into a small ring, 8 channels a vector, each
//! row once however many output rows read it. Padding is written into the ring, so the inner loop
//! (`neon_wide_tile.rs`) knows no borders.

use std::ops::Range;

use super::Layer;
use super::neon_wide_tile::{self as neon_tile, LANES, Sources, Vector};
use crate::arm::{Clamp, widen_columns};
use crate::isa::Neon;
use crate::requantize::folded_bias;
use crate::{ConvGeometry, Scratch};

/// Bytes of widened activations that the ring may take: it stays in the first-level cache.
const RING_BYTES: usize = 20 * 1024;
/// Vectors of 8 channels in one block: one cache line of an input pixel.
const BLOCK_VECTORS: usize = 8;

pub(super) struct Kernel {
    token: Neon,
    geometry: ConvGeometry,
    input_zero_point: u8,
    vectors: Vec<Vector>,
    /// Vectors in one block.
    block: usize,
    clamp: Clamp,
}

/// One block of channels of one range of columns, while it moves down the image.
struct Ring<'s> {
    /// `[padded row % kernel_h][vector][column][8]`
    values: &'s mut [i16],
    /// Columns per vector.
    cols: usize,
    /// The first row not yet widened.
    next: usize,
}

impl Kernel {
    /// Fewest channels that the kernel handles.
    pub(super) const MIN_CHANNELS: usize = LANES;

    pub(super) fn new(token: Neon, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let count = g.in_c.div_ceil(LANES);
        let blocks = count.div_ceil(BLOCK_VECTORS);
        Kernel {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            // The last vector ends with the last channel and may overlap the one before.
            vectors: (0..count).map(|v| pack(layer, (v * LANES).min(g.in_c - LANES))).collect(),
            block: count.div_ceil(blocks),
            clamp: Clamp::new(layer.output.zero_point, layer.output.min, layer.output.max),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        let g = &self.geometry;
        match (g.kernel_w, g.stride_w, g.dilation_w) {
            (3, 1, 1) => "depthwise_u8s16_neon_k3s1_8x8",
            (3, 2, 1) => "depthwise_u8s16_neon_k3s2_8x8",
            (5, 1, 1) => "depthwise_u8s16_neon_k5s1_8x8",
            (5, 2, 1) => "depthwise_u8s16_neon_k5s2_8x8",
            _ => "depthwise_u8s16_neon_8x8",
        }
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        rows: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        let reach = (g.kernel_w - 1) * g.dilation_w + 1;
        let col_bytes = g.kernel_h * self.block * LANES * size_of::<i16>();
        let width = (RING_BYTES / col_bytes).saturating_sub(reach) / g.stride_w / 8 * 8;
        // A narrow remainder is not worth a tile of its own.
        let tiles = g.out_w.div_ceil(width.max(8));
        let width = g.out_w.div_ceil(tiles);
        let cols = (width - 1) * g.stride_w + reach;
        for vectors in self.vectors.chunks(self.block) {
            for x in (0..g.out_w).step_by(width) {
                let xs = x..(x + width).min(g.out_w);
                let values = scratch.i16s(g.kernel_h * vectors.len() * cols * LANES);
                let ring = Ring { values, cols, next: 0 };
                self.run_tile(input, rows.clone(), xs, vectors, ring, output);
            }
        }
    }

    /// All rows of one block of channels and one range of columns.
    fn run_tile(
        &self,
        input: &[u8],
        rows: Range<usize>,
        xs: Range<usize>,
        vectors: &[Vector],
        mut ring: Ring<'_>,
        output: &mut [u8],
    ) {
        let g = &self.geometry;
        for (y, line) in rows.zip(output.chunks_exact_mut(g.out_w * g.out_c)) {
            let start = y * g.stride_h;
            // With dilation the rows of each output row are its own.
            let first = if g.dilation_h > 1 { 0 } else { start };
            ring.next = if g.dilation_h > 1 { 0 } else { ring.next.max(first) };
            for i in ring.next..first + g.kernel_h {
                let row = if g.dilation_h > 1 { start + i * g.dilation_h } else { i };
                self.fill(input, row, &xs, vectors, i % g.kernel_h, &mut ring);
            }
            ring.next = first + g.kernel_h;
            for (v, vector) in vectors.iter().enumerate() {
                let sources = Sources {
                    values: ring.values,
                    cols: ring.cols,
                    vectors: vectors.len(),
                    vector: v,
                    first_slot: first % g.kernel_h,
                };
                let target = &mut line[xs.start * g.out_c..xs.end * g.out_c];
                neon_tile::run(self.token, &sources, g, vector, &self.clamp, target);
            }
        }
    }

    /// Widens one padded row into a slot of the ring.
    fn fill(
        &self,
        input: &[u8],
        padded_row: usize,
        xs: &Range<usize>,
        vectors: &[Vector],
        slot: usize,
        ring: &mut Ring<'_>,
    ) {
        let g = &self.geometry;
        let zero_point = i16::from(self.input_zero_point);
        let row = padded_row.checked_sub(g.pad_top).filter(|&row| row < g.in_h);
        let first = xs.start * g.stride_w;
        let cols = (xs.len() - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1;
        let before = g.pad_left.saturating_sub(first).min(cols);
        let from = (first + before - g.pad_left).min(g.in_w);
        let inside = (cols - before).min(g.in_w - from);
        for (v, vector) in vectors.iter().enumerate() {
            let to = (slot * vectors.len() + v) * ring.cols * LANES;
            let to = &mut ring.values[to..][..cols * LANES];
            let Some(row) = row else {
                to.fill(zero_point);
                continue;
            };
            let (left, rest) = to.split_at_mut(before * LANES);
            let (middle, right) = rest.split_at_mut(inside * LANES);
            left.fill(zero_point);
            right.fill(zero_point);
            if inside > 0 {
                let source = &input[(row * g.in_w + from) * g.in_c + vector.first..];
                widen_columns(self.token, source, g.in_c, middle);
            }
        }
    }
}

/// Packs the filters of 8 channels.
fn pack(layer: &Layer<'_>, first: usize) -> Vector {
    let g = &layer.geometry;
    let taps = |c: usize| layer.weights[first + c..].iter().step_by(g.in_c);
    let zero_point = i32::from(layer.input.zero_point);
    let rows = layer.weights.chunks_exact(g.in_c);
    Vector {
        first,
        weights: rows.flat_map(|row| row[first..first + LANES].iter().copied()).collect(),
        bias: std::array::from_fn(|c| {
            folded_bias(taps(c), zero_point, layer.output.bias[first + c])
        }),
        multiplier: std::array::from_fn(|c| layer.output.multiplier[first + c]),
    }
}
