//! Depthwise convolution for AVX2: row pairs, blocking and the loop over tiles.
//!
//! Two rows of the (padded) image at a time lie in a small ring, widened to `i16` and interleaved,
//! 16 channels a vector, so that `vpmaddwd` multiplies two taps of a filter column at once
//! and adds them. Rows are paired by even padded row number whatever the output row: a window
//! that starts on an odd row uses weights shifted by one. Padding is written into the ring, so the
//! inner loop (`avx2_tile.rs`) knows no borders.
//!
//! What fills the ring is the caller's: rows of an image ([`Kernel`]), or the expansion of a
//! fused block ([`crate::expand_depthwise`]).

use std::ops::Range;

use super::Layer;
use super::avx2_tile::{self, HALF, Vector, channel_of};
pub(crate) use super::avx2_tile::{COL, LANES, Target};
use crate::isa::Avx2;
use crate::requantize::folded_bias;
use crate::scratch::Packed16;
use crate::x86::{Clamp, interleave};
use crate::{ConvGeometry, Scratch};

/// Bytes of interleaved activations that the ring may take: it stays in the first-level cache.
pub(crate) const RING_BYTES: usize = 20 * 1024;
/// Vectors of 16 channels in one block: one cache line of an input pixel.
const BLOCK_VECTORS: usize = 4;

/// A depthwise layer's filters, and how its rows move through the ring.
pub(crate) struct Rows {
    token: Avx2,
    geometry: ConvGeometry,
    input_zero_point: u8,
    /// Row pairs that a window touches at most.
    pairs: usize,
    vectors: Vec<Vector>,
    clamp: Clamp,
}

impl Rows {
    /// Vectors of 16 channels, which start at `firsts`; channels that do not exist are zero. The
    /// ring holds activations less `origin`.
    pub(crate) fn new(
        token: Avx2,
        layer: &Layer<'_>,
        firsts: impl Iterator<Item = usize>,
        origin: u8,
    ) -> Rows {
        let g = layer.geometry;
        let pairs = if g.dilation_h > 1 { g.kernel_h.div_ceil(2) } else { g.kernel_h / 2 + 1 };
        Rows {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            pairs,
            vectors: firsts.map(|first| pack(layer, pairs, first, origin)).collect(),
            clamp: Clamp::new(&layer.output),
        }
    }

    pub(crate) fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Row pairs of the ring.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Vectors of 16 channels.
    pub(crate) fn vectors(&self) -> usize {
        self.vectors.len()
    }

    /// Ring columns that `width` output columns read.
    pub(crate) fn ring_columns(&self, width: usize) -> usize {
        let g = &self.geometry;
        (width - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1
    }

    /// Of the ring columns for the output columns `xs`: those inside the image, and the image
    /// column where they start.
    pub(crate) fn inside(&self, xs: &Range<usize>) -> (Range<usize>, usize) {
        let g = &self.geometry;
        let first = xs.start * g.stride_w;
        let columns = self.ring_columns(xs.len());
        let before = g.pad_left.saturating_sub(first).min(columns);
        let from = (first + before - g.pad_left).min(g.in_w);
        (before..before + (columns - before).min(g.in_w - from), from)
    }

    /// Computes the output rows `rows` and columns `xs` of some vectors of channels.
    ///
    /// `fill` writes a pair of image rows (`None` in the padding) to a slot of the ring,
    /// `[vector][column][COL]`, padding included; each pair is asked for once, in order, unless
    /// rows are dilated. `done` is told which rows are complete, in order, each once. The first
    /// column of `target` is column 0.
    ///
    /// # Panics
    /// If `ring` is not as long as its pairs, vectors and columns, or `target` too small.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run(
        &self,
        vectors: Range<usize>,
        rows: Range<usize>,
        xs: Range<usize>,
        ring: &mut [i16],
        mut fill: impl FnMut([Option<usize>; 2], &mut [i16]),
        target: &mut Target<'_>,
        mut done: impl FnMut(Range<usize>, &mut Target<'_>),
    ) {
        let g = &self.geometry;
        let cols = self.ring_columns(xs.len());
        let slot_len = vectors.len() * cols * COL;
        assert_eq!(ring.len(), self.pairs * slot_len);
        let image_row = |padded: usize| padded.checked_sub(g.pad_top).filter(|&row| row < g.in_h);
        let mut next = 0;
        for y in rows {
            let start = y * g.stride_h;
            // With dilation the pairs of each output row are its own.
            let (shift, first) = if g.dilation_h > 1 { (0, 0) } else { (start % 2, start / 2) };
            next = if g.dilation_h > 1 { 0 } else { next.max(first) };
            for pair in next..first + self.pairs {
                let row = |i: usize| match g.dilation_h {
                    1 => pair * 2 + i,
                    dilation => start + (pair * 2 + i) * dilation,
                };
                let slot = &mut ring[pair % self.pairs * slot_len..][..slot_len];
                fill([row(0), row(1)].map(image_row), slot);
            }
            next = first + self.pairs;
            for (v, vector) in self.vectors[vectors.clone()].iter().enumerate() {
                let sources = avx2_tile::Sources {
                    values: ring,
                    cols,
                    vectors: vectors.len(),
                    vector: v,
                    first_slot: first % self.pairs,
                    pairs: self.pairs,
                };
                let target = target.row(y, vector.first, &xs);
                avx2_tile::run(self.token, &sources, g, shift, vector, &self.clamp, target);
            }
            done(y..y + 1, target);
        }
    }
}

/// A depthwise convolution on an image.
pub(super) struct Kernel {
    rows: Rows,
    /// Vectors in one block.
    block: usize,
}

impl Kernel {
    /// Fewest channels that the kernel handles.
    pub(super) const MIN_CHANNELS: usize = LANES;

    pub(super) fn new(token: Avx2, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let count = g.in_c.div_ceil(LANES);
        let blocks = count.div_ceil(BLOCK_VECTORS);
        // The last vector ends with the last channel and may overlap the one before.
        let firsts = (0..count).map(|v| (v * LANES).min(g.in_c - LANES));
        Kernel { rows: Rows::new(token, layer, firsts, 0), block: count.div_ceil(blocks) }
    }

    pub(super) fn name(&self) -> &'static str {
        let g = self.rows.geometry();
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
        let g = self.rows.geometry();
        let reach = self.rows.ring_columns(1);
        let col_bytes = self.rows.pairs() * self.block * COL * size_of::<i16>();
        let width = (RING_BYTES / col_bytes).saturating_sub(reach) / g.stride_w / 8 * 8;
        // A narrow remainder is not worth a tile of its own.
        let tiles = g.out_w.div_ceil(width.max(8));
        let width = g.out_w.div_ceil(tiles);
        let mut target = Target::new(output, g.out_w * g.out_c, g.out_c, 0).starting_at(rows.start);
        let count = self.rows.vectors();
        for first in (0..count).step_by(self.block) {
            let vectors = first..(first + self.block).min(count);
            for x in (0..g.out_w).step_by(width) {
                let xs = x..(x + width).min(g.out_w);
                let cols = self.rows.ring_columns(xs.len());
                let ring = scratch.i16s(self.rows.pairs() * vectors.len() * cols * COL);
                let fill = |lines: [Option<usize>; 2], slot: &mut [i16]| {
                    self.fill(input, lines, &xs, &vectors, slot);
                };
                let xs = xs.clone();
                let rows = rows.clone();
                self.rows.run(vectors.clone(), rows, xs, ring, fill, &mut target, |_, _| {});
            }
        }
    }

    /// Interleaves two image rows into a slot of the ring.
    fn fill(
        &self,
        input: &[u8],
        lines: [Option<usize>; 2],
        xs: &Range<usize>,
        vectors: &Range<usize>,
        slot: &mut [i16],
    ) {
        let g = self.rows.geometry();
        let outside = [self.rows.input_zero_point; LANES];
        let lines = lines.map(|row| Some(&input[row? * g.in_w * g.in_c..][..g.in_w * g.in_c]));
        let (inside, from) = self.rows.inside(xs);
        let cols = self.rows.ring_columns(xs.len());
        let vectors = &self.rows.vectors[vectors.clone()];
        for (vector, to) in vectors.iter().zip(slot.chunks_exact_mut(cols * COL)) {
            let (left, rest) = to.split_at_mut(inside.start * COL);
            let (middle, right) = rest.split_at_mut(inside.len() * COL);
            let zero_point = i16::from(self.rows.input_zero_point);
            left.fill(zero_point);
            right.fill(zero_point);
            if inside.is_empty() {
                continue;
            }
            let [(a, a_step), (b, b_step)] = lines.map(|line| match line {
                Some(line) => (&line[from * g.in_c + vector.first..], g.in_c),
                None => (&outside[..], 0),
            });
            interleave(self.rows.token, a, a_step, b, b_step, middle);
        }
    }
}

/// Packs the filters of 16 channels, as they are and shifted down by one row.
fn pack(layer: &Layer<'_>, pairs: usize, first: usize, origin: u8) -> Vector {
    let g = &layer.geometry;
    let taps = |c: usize| layer.weights[first + c..].iter().step_by(g.in_c);
    let slots = || {
        let all = (0..2).flat_map(|half| (0..HALF / 2).map(move |lane| (half, lane)));
        all.map(|(half, lane)| (half, lane, channel_of(half, lane)))
            .filter(|&(_, _, c)| first + c < g.in_c)
    };
    let zero_point = i32::from(layer.input.zero_point) - i32::from(origin);
    let mut bias = [0; LANES];
    let mut multiplier = [0.0; LANES];
    for (half, lane, c) in slots() {
        let slot = half * HALF / 2 + lane;
        bias[slot] = folded_bias(taps(c), zero_point, layer.output.bias[first + c]);
        multiplier[slot] = layer.output.multiplier[first + c];
    }
    let pack_shifted = |shift: usize| {
        Packed16::new(pairs * g.kernel_w * COL, |packed| {
            for (half, lane, c) in slots() {
                for (t, &w) in taps(c).enumerate() {
                    let (i, j) = (t / g.kernel_w + shift, t % g.kernel_w);
                    // `[half][pair][tap column][lane][2]`
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
