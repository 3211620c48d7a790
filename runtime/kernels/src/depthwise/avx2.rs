//! Depthwise convolution for AVX2: row pairs, blocking and the loop over tiles.
//!
//! Two rows of the (padded) image at a time are widened to `i16` and interleaved into a small
//! ring, 16 channels a vector, so that `vpmaddwd` multiplies two taps of a filter column at once
//! and adds them. Rows are paired by even padded row number whatever the output row: a window
//! that starts on an odd row uses weights shifted by one. Padding is written into the ring, so the
//! inner loop (`avx2_tile.rs`) knows no borders.

use std::ops::Range;

use super::Layer;
use super::avx2_tile::{self, COL, HALF, LANES, Vector};
use crate::isa::Avx2;
use crate::requantize::folded_bias;
use crate::scratch::Packed16;
use crate::x86::{Clamp, interleave};
use crate::{ConvGeometry, Scratch};

/// Bytes of interleaved activations that the ring may take: it stays in the first-level cache.
const RING_BYTES: usize = 20 * 1024;
/// Vectors of 16 channels in one block: one cache line of an input pixel.
const BLOCK_VECTORS: usize = 4;

pub(super) struct Kernel {
    token: Avx2,
    geometry: ConvGeometry,
    input_zero_point: u8,
    /// Row pairs that a window touches at most.
    pairs: usize,
    vectors: Vec<Vector>,
    /// Vectors in one block.
    block: usize,
    clamp: Clamp,
}

/// One block of channels of one range of columns, while it moves down the image.
struct Ring<'s> {
    values: &'s mut [i16],
    /// Interleaved columns per vector.
    cols: usize,
    /// The first pair not yet interleaved.
    next: usize,
}

impl Kernel {
    /// Fewest channels that the kernel handles.
    pub(super) const MIN_CHANNELS: usize = LANES;

    pub(super) fn new(token: Avx2, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let count = g.in_c.div_ceil(LANES);
        let blocks = count.div_ceil(BLOCK_VECTORS);
        let pairs = if g.dilation_h > 1 { g.kernel_h.div_ceil(2) } else { g.kernel_h / 2 + 1 };
        Kernel {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            pairs,
            // The last vector ends with the last channel and may overlap the one before.
            vectors: (0..count)
                .map(|v| pack(layer, pairs, (v * LANES).min(g.in_c - LANES)))
                .collect(),
            block: count.div_ceil(blocks),
            clamp: Clamp::new(&layer.output),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        let g = &self.geometry;
        match (g.kernel_w, g.stride_w, g.dilation_w) {
            (3, 1, 1) => "depthwise_u8s16_avx2_k3s1_8x16",
            (3, 2, 1) => "depthwise_u8s16_avx2_k3s2_8x16",
            (5, 1, 1) => "depthwise_u8s16_avx2_k5s1_8x16",
            (5, 2, 1) => "depthwise_u8s16_avx2_k5s2_8x16",
            _ => "depthwise_u8s16_avx2_8x16",
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
        let col_bytes = self.pairs * self.block * COL * size_of::<i16>();
        let width = (RING_BYTES / col_bytes).saturating_sub(reach) / g.stride_w / 8 * 8;
        // A narrow remainder is not worth a tile of its own.
        let tiles = g.out_w.div_ceil(width.max(8));
        let width = g.out_w.div_ceil(tiles);
        let cols = (width - 1) * g.stride_w + reach;
        for vectors in self.vectors.chunks(self.block) {
            for x in (0..g.out_w).step_by(width) {
                let xs = x..(x + width).min(g.out_w);
                let values = scratch.i16s(self.pairs * vectors.len() * cols * COL);
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
        let row_len = g.out_w * g.out_c;
        for (y, line) in rows.zip(output.chunks_exact_mut(row_len)) {
            let start = y * g.stride_h;
            // With dilation the pairs of each output row are its own.
            let (shift, first) = if g.dilation_h > 1 { (0, 0) } else { (start % 2, start / 2) };
            ring.next = if g.dilation_h > 1 { 0 } else { ring.next.max(first) };
            for pair in ring.next..first + self.pairs {
                let row = |i: usize| match g.dilation_h {
                    1 => pair * 2 + i,
                    dilation => start + (pair * 2 + i) * dilation,
                };
                self.fill(input, [row(0), row(1)], &xs, vectors, pair, &mut ring);
            }
            ring.next = first + self.pairs;
            for (v, vector) in vectors.iter().enumerate() {
                let sources = avx2_tile::Sources {
                    values: ring.values,
                    cols: ring.cols,
                    vectors: vectors.len(),
                    vector: v,
                    first_slot: first % self.pairs,
                    pairs: self.pairs,
                };
                let target = &mut line[xs.start * g.out_c..xs.end * g.out_c];
                avx2_tile::run(self.token, &sources, g, shift, vector, &self.clamp, target);
            }
        }
    }

    /// Interleaves two padded rows into the ring's slot for `pair`.
    fn fill(
        &self,
        input: &[u8],
        padded_rows: [usize; 2],
        xs: &Range<usize>,
        vectors: &[Vector],
        pair: usize,
        ring: &mut Ring<'_>,
    ) {
        let g = &self.geometry;
        let outside = [self.input_zero_point; LANES];
        let line = |padded: usize| {
            let row = padded.checked_sub(g.pad_top).filter(|&row| row < g.in_h)?;
            Some(&input[row * g.in_w * g.in_c..][..g.in_w * g.in_c])
        };
        let lines = padded_rows.map(line);
        let first = xs.start * g.stride_w;
        let cols = (xs.len() - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1;
        let before = g.pad_left.saturating_sub(first).min(cols);
        let from = (first + before - g.pad_left).min(g.in_w);
        let inside = (cols - before).min(g.in_w - from);
        let slot = pair % self.pairs * vectors.len();
        for (v, vector) in vectors.iter().enumerate() {
            let to = &mut ring.values[(slot + v) * ring.cols * COL..][..cols * COL];
            let (left, rest) = to.split_at_mut(before * COL);
            let (middle, right) = rest.split_at_mut(inside * COL);
            let zero_point = i16::from(self.input_zero_point);
            left.fill(zero_point);
            right.fill(zero_point);
            if inside == 0 {
                continue;
            }
            let [(a, a_step), (b, b_step)] = lines.map(|line| match line {
                Some(line) => (&line[from * g.in_c + vector.first..], g.in_c),
                None => (&outside[..], 0),
            });
            interleave(self.token, a, a_step, b, b_step, middle);
        }
    }
}

/// Packs the filters of 16 channels, as they are and shifted down by one row.
fn pack(layer: &Layer<'_>, pairs: usize, first: usize) -> Vector {
    let g = &layer.geometry;
    let taps = |c: usize| layer.weights[first + c..].iter().step_by(g.in_c);
    let mut bias = [0; LANES];
    let mut multiplier = [0.0; LANES];
    for c in 0..LANES {
        bias[c] =
            folded_bias(taps(c), i32::from(layer.input.zero_point), layer.output.bias[first + c]);
        multiplier[c] = layer.output.multiplier[first + c];
    }
    let pack_shifted = |shift: usize| {
        Packed16::new(pairs * g.kernel_w * COL, |packed| {
            for c in 0..LANES {
                for (t, &w) in taps(c).enumerate() {
                    let (i, j) = (t / g.kernel_w + shift, t % g.kernel_w);
                    // `[half][pair][tap column][lane][2]`
                    let (half, lane) = (c / 8, c % 8);
                    let vector = (half * pairs + i / 2) * g.kernel_w + j;
                    let index = vector * HALF + lane * 2 + i % 2;
                    if i / 2 < pairs {
                        packed[index] = w;
                    }
                }
            }
        })
    };
    Vector { first, weights: [pack_shifted(0), pack_shifted(1)], bias, multiplier }
}
