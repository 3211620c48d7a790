//! Depthwise convolution for AVX-512 with VNNI: filters of 3x3 and 5x5, stride 1 and 2.
//!
//! Channels are worked on by blocks of 32. Two rows of the padded image at a time lie interleaved
//! in a small ring, `[pair][column][channel][2]`; unpacking two pairs gives four rows of one
//! channel side by side, which `vpdpbusd` multiplies and adds at once, exactly. Rows are paired by
//! even padded row number whatever the output row, so that one load serves two output rows, the
//! odd one with filters shifted down by a row. Padding is written into the ring, so the inner loop
//! (`tile.rs`) knows no borders.
//!
//! What fills the ring is the caller's: rows of an image ([`Kernel`]), or the expansion of a
//! fused block ([`crate::expand_depthwise`]).

mod filters;
mod interleave;
mod tile;

use std::ops::Range;

use super::Layer;
use crate::conv::vnni::store::Finish;
use crate::isa::Avx512Vnni;
use crate::requantize::Reach;
use crate::{ConvGeometry, Scratch};
pub(crate) use filters::Filters;
pub(crate) use tile::Target;

/// Channels of one block.
pub(crate) const CHANNELS: usize = 32;
/// Bytes of one column of the ring: both rows of all channels.
pub(crate) const COLUMN: usize = 2 * CHANNELS;

/// A depthwise layer's filters, and how its rows move through the ring.
pub(crate) struct Rows {
    token: Avx512Vnni,
    geometry: ConvGeometry,
    input_zero_point: u8,
    filters: Vec<Filters>,
    finish: Finish,
}

impl Rows {
    /// Whether this kernel computes the layer.
    pub(crate) fn takes(layer: &Layer<'_>, reach: Reach) -> bool {
        let g = &layer.geometry;
        reach.converts_exactly
            && reach.weights_fit_i8
            && g.kernel_h == g.kernel_w
            && matches!(g.kernel_h, 3 | 5)
            && g.stride_h == g.stride_w
            && matches!(g.stride_h, 1 | 2)
            && (g.dilation_h, g.dilation_w) == (1, 1)
            && g.in_c >= CHANNELS / 2
    }

    pub(crate) fn new(token: Avx512Vnni, layer: &Layer<'_>) -> Rows {
        let blocks = layer.geometry.in_c.div_ceil(CHANNELS);
        Rows {
            token,
            geometry: layer.geometry,
            input_zero_point: layer.input.zero_point,
            filters: (0..blocks).map(|b| Filters::pack(layer, b * CHANNELS)).collect(),
            finish: Finish::new(&layer.output, None),
        }
    }

    pub(crate) fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Blocks of channels.
    pub(crate) fn blocks(&self) -> usize {
        self.filters.len()
    }

    /// Row pairs that a window touches.
    fn pairs(&self) -> usize {
        self.geometry.kernel_h / 2 + 1
    }

    /// Columns of the ring: those that the windows of a row reach, and one more that only zero
    /// weights meet.
    pub(crate) fn ring_columns(&self) -> usize {
        let g = &self.geometry;
        (g.out_w - 1) * g.stride_w + g.kernel_w + 1
    }

    /// Bytes of the ring.
    pub(crate) fn ring_len(&self) -> usize {
        self.pairs() * self.ring_columns() * COLUMN
    }

    /// The image rows of a pair; `None` in the padding.
    pub(crate) fn rows_of(&self, pair: usize) -> [Option<usize>; 2] {
        [0, 1].map(|i| {
            let row = (2 * pair + i).checked_sub(self.geometry.pad_top)?;
            Some(row).filter(|&row| row < self.geometry.in_h)
        })
    }

    /// The columns of a ring row that lie inside the image.
    pub(crate) fn inside(&self) -> Range<usize> {
        let g = &self.geometry;
        g.pad_left..(g.pad_left + g.in_w).min(self.ring_columns())
    }

    /// Computes the output rows `rows` of one block of channels. `fill` writes the image rows of
    /// a pair, of which at least one exists, to the columns [`Rows::inside`] of a ring row; each
    /// pair is asked for once, in order. `done` is told which rows are complete, in order, each once.
    ///
    /// # Panics
    /// If `ring` is shorter than [`Rows::ring_len`], or `target` too small.
    pub(crate) fn run(
        &self,
        block: usize,
        rows: Range<usize>,
        ring: &mut [u8],
        mut fill: impl FnMut([Option<usize>; 2], &mut [u8]),
        target: &mut Target<'_>,
        mut done: impl FnMut(Range<usize>, &mut Target<'_>),
    ) {
        let g = &self.geometry;
        let (pairs, row_len) = (self.pairs(), self.ring_columns() * COLUMN);
        let inside = self.inside().start * COLUMN..self.inside().end * COLUMN;
        ring[..self.ring_len()].fill(self.input_zero_point);
        // With stride 1 a step gives two output rows, with stride 2 one.
        let per_step = 2 / g.stride_h;
        let first = rows.start / per_step;
        let mut next = first;
        for step in first..rows.end.div_ceil(per_step) {
            while next < step + pairs {
                let slot = &mut ring[next % pairs * row_len..][..row_len];
                match self.rows_of(next) {
                    [None, None] => slot[inside.clone()].fill(self.input_zero_point),
                    rows => fill(rows, &mut slot[inside.clone()]),
                }
                next += 1;
            }
            let sources = std::array::from_fn(|i| {
                &ring[(step + i.min(pairs - 1)) % pairs * row_len..][..row_len]
            });
            let step_rows = step * per_step..(step + 1) * per_step;
            let wanted = step_rows.start.max(rows.start)..step_rows.end.min(rows.end);
            let step = tile::Step {
                sources,
                filters: &self.filters[block],
                finish: &self.finish,
                kernel: g.kernel_w,
                stride: g.stride_w,
                columns: g.out_w,
                first_row: step_rows.start,
                wanted: wanted.clone(),
            };
            tile::run(self.token, &step, target);
            done(wanted, target);
        }
    }

    /// Writes `inside` columns of a ring row from two rows of an image.
    fn fill_from_image(&self, input: &[u8], block: usize, rows: [Option<usize>; 2], to: &mut [u8]) {
        let g = &self.geometry;
        let channels = (g.in_c - block * CHANNELS).min(CHANNELS);
        let lines = rows.map(|row| {
            let row = row?;
            let line = &input[row * g.in_w * g.in_c..][..g.in_w * g.in_c];
            Some(&line[block * CHANNELS..])
        });
        interleave::run(self.token, lines, g.in_c, channels, self.input_zero_point, to);
    }
}

/// A depthwise convolution on an image.
pub(super) struct Kernel {
    rows: Rows,
}

impl Kernel {
    pub(super) fn new(token: Avx512Vnni, layer: &Layer<'_>) -> Kernel {
        Kernel { rows: Rows::new(token, layer) }
    }

    pub(super) fn name(&self) -> &'static str {
        match (self.rows.geometry.kernel_w, self.rows.geometry.stride_w) {
            (3, 1) => "depthwise_u8s8_vnni_k3s1_4x32",
            (3, _) => "depthwise_u8s8_vnni_k3s2_4x32",
            (_, 1) => "depthwise_u8s8_vnni_k5s1_4x32",
            _ => "depthwise_u8s8_vnni_k5s2_4x32",
        }
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        rows: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let g = &self.rows.geometry;
        let ring = scratch.bytes(self.rows.ring_len());
        for block in 0..self.rows.blocks() {
            let first = block * CHANNELS;
            let channels = (g.in_c - first).min(CHANNELS);
            let mut target =
                Target::new(&mut output[first..], g.out_w * g.out_c, g.out_c, channels)
                    .starting_at(rows.start);
            let fill = |rows: [Option<usize>; 2], to: &mut [u8]| {
                self.rows.fill_from_image(input, block, rows, to);
            };
            self.rows.run(block, rows.clone(), ring, fill, &mut target, |_, _| {});
        }
    }
}
