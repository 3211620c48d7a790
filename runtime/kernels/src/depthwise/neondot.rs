//! Depthwise convolution for NEON with the dot-product extension: a ring of row pairs, blocking
//! and the loop over rows.
//!
//! `sdot` adds four products of bytes, so four taps of one channel have to lie side by side. Rows
//! of the (padded) image are therefore interleaved in pairs, each row once, as signed bytes
//! `[column][channel][2]` (`interleave`); two neighbouring pairs give `[column][channel][4]`
//! (`quads`), which holds every row of a window of three and four rows of a window of five. The
//! fifth row comes from one pair at two neighbouring columns. With stride 1 the same quads serve two output rows, with weights shifted
//! by one row. Padding is written into the ring, so the inner loop knows no borders.

use std::ops::Range;

use super::Layer;
use super::neondot_tile::{self as tile, COL, GROUP, Step, Weights};
use crate::arm::{Clamp, Ending};
use crate::isa::NeonDot;
use crate::requantize::{Reach, folded_bias};
use crate::scratch::{Packed16, as_bytes, as_bytes_mut};
use crate::{ConvGeometry, Scratch};

/// Groups of 16 channels in one block: one cache line of an input pixel.
const BLOCK_GROUPS: usize = 4;

/// A layer's filters, and how its rows move through the ring.
pub(crate) struct Rows {
    token: NeonDot,
    geometry: ConvGeometry,
    input_zero_point: u8,
    groups: Vec<Group>,
    /// Columns of the padded image that windows read.
    cols: usize,
    clamp: Clamp,
    ending: u8,
}

/// The filters of 16 channels.
struct Group {
    /// Where the results go in an output pixel.
    place: usize,
    /// As [`Weights`] says.
    weights: Packed16,
    bias: [i32; GROUP],
    multiplier: [f32; GROUP],
}

impl Rows {
    /// Whether the layer is one for this kernel: square filters of 3 or 5, stride 1 or 2, weights
    /// that fit `i8`.
    pub(crate) fn takes(layer: &Layer<'_>, reach: Reach) -> bool {
        let g = &layer.geometry;
        reach.converts_exactly
            && reach.weights_fit_i8
            && g.kernel_h == g.kernel_w
            && matches!(g.kernel_w, 3 | 5)
            && g.stride_h == g.stride_w
            && matches!(g.stride_w, 1 | 2)
            && (g.dilation_h, g.dilation_w) == (1, 1)
    }

    /// For a layer that [`Rows::takes`] agreed to. `groups` are the first channels of each 16 (those
    /// that do not exist are 0), and where their results go in an output pixel.
    pub(crate) fn new(
        token: NeonDot,
        layer: &Layer<'_>,
        reach: Reach,
        groups: impl Iterator<Item = (usize, usize)>,
    ) -> Rows {
        let g = layer.geometry;
        Rows {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            groups: groups.map(|(first, place)| pack(layer, first, place)).collect(),
            cols: (g.out_w - 1) * g.stride_w + g.kernel_w,
            clamp: Clamp::new(layer.output.zero_point, layer.output.min, layer.output.max),
            ending: match Ending::of(&layer.output, reach) {
                Ending::PLAIN => Ending::PLAIN,
                _ => Ending::SATURATING,
            },
        }
    }

    pub(crate) fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Groups of 16 channels.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Row pairs that a step reads, and slots of the ring.
    fn slots(&self) -> usize {
        self.geometry.kernel_h.div_ceil(2)
    }

    /// Output rows of one step: what four input rows and, for a filter of five, two more give.
    fn step_rows(&self) -> usize {
        if self.geometry.stride_h == 1 { 2 } else { 1 }
    }

    /// Row pairs that `rows` output rows read.
    pub(crate) fn pairs(&self, rows: usize) -> usize {
        rows.div_ceil(self.step_rows()) + self.slots() - 1
    }

    /// The image rows of pair `pair` for output rows from `first_row` on; `None` in the padding.
    pub(crate) fn rows_of(&self, first_row: usize, pair: usize) -> [Option<usize>; 2] {
        let g = &self.geometry;
        [0, 1].map(|i| {
            let row = (first_row * g.stride_h + 2 * pair + i).checked_sub(g.pad_top)?;
            Some(row).filter(|&row| row < g.in_h)
        })
    }

    /// The columns of the padded image that lie inside the image.
    pub(crate) fn inside(&self) -> Range<usize> {
        let g = &self.geometry;
        let before = g.pad_left.min(self.cols);
        before..before + (self.cols - before).min(g.in_w)
    }

    /// Bytes of one row pair of one group. One more column than windows read: the fifth row is
    /// read two columns at a time.
    fn pair_bytes(&self) -> usize {
        (self.cols + 1) * COL
    }

    /// Bytes of working memory for `groups` groups at a time, in two pieces.
    pub(crate) fn working(&self, groups: usize) -> [usize; 2] {
        let planes = tile::planes_bytes(self.geometry.kernel_w, self.cols);
        [planes, self.slots() * groups * self.pair_bytes()]
    }

    /// Computes output rows from `first_row` on of some groups: `out` is whole rows of
    /// `[columns][channels]`. `fill` writes two image rows of a group, of which at least one exists,
    /// to the columns [`Rows::inside`]: `[column][channel][row]`, each value less 128. It gets the
    /// number of the pair and its rows, and each once, in order. `done` gets rows of `out` that all
    /// groups have written.
    ///
    /// # Panics
    /// If the working memory is not what [`Rows::working`] says, or `out` has no whole rows.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run(
        &self,
        groups: Range<usize>,
        first_row: usize,
        [planes, ring]: [&mut [u8]; 2],
        mut fill: impl FnMut(usize, [Option<usize>; 2], usize, &mut [u8]),
        out: &mut [u8],
        channels: usize,
        done: impl Fn(&mut [u8]),
    ) {
        let (slots, pair_bytes) = (self.slots(), self.pair_bytes());
        let slot_len = groups.len() * pair_bytes;
        let outside = self.input_zero_point ^ 0x80;
        let inside = self.inside().start * COL..self.inside().end * COL;
        let ring = &mut ring[..slots * slot_len];
        ring.fill(outside);
        let mut next = 0;
        let steps = out.chunks_mut(self.step_rows() * self.geometry.out_w * channels);
        for (step, out) in steps.enumerate() {
            for pair in next..step + slots {
                let rows = self.rows_of(first_row, pair);
                let slot = &mut ring[pair % slots * slot_len..][..slot_len];
                for (group, to) in groups.clone().zip(slot.chunks_exact_mut(pair_bytes)) {
                    match rows {
                        [None, None] => to[inside.clone()].fill(outside),
                        rows => fill(pair, rows, group, &mut to[inside.clone()]),
                    }
                }
            }
            next = step + slots;
            for (i, group) in self.groups[groups.clone()].iter().enumerate() {
                let pair = |p: usize| {
                    let start = (step + p) % slots * slot_len + i * pair_bytes;
                    &ring[start..start + pair_bytes]
                };
                let pairs = [pair(0), pair(1), pair(slots - 1)];
                self.step(group, pairs, planes, out, channels);
            }
            done(out);
        }
    }

    /// One or two output rows of one group from the row pairs that they read.
    fn step(
        &self,
        group: &Group,
        pairs: [&[u8]; 3],
        planes: &mut [u8],
        out: &mut [u8],
        channels: usize,
    ) {
        let g = &self.geometry;
        tile::quads(self.token, pairs, g.kernel_w, self.cols, planes);
        let step = Step {
            planes,
            cols: self.cols,
            channels,
            first: group.place,
            columns: g.out_w,
            // SAFETY: the token proves NEON.
            clamp: unsafe { self.clamp.vectors() },
            weights: Weights {
                taps: as_bytes(group.weights.values()),
                bias: &group.bias,
                multiplier: &group.multiplier,
            },
        };
        if self.ending == Ending::PLAIN {
            step.run::<{ Ending::PLAIN }>(self.token, g.kernel_w, g.stride_w, out);
        } else {
            step.run::<{ Ending::SATURATING }>(self.token, g.kernel_w, g.stride_w, out);
        }
    }
}

/// A depthwise convolution on an image.
pub(super) struct Kernel {
    rows: Rows,
    /// Groups in one block.
    block: usize,
}

impl Kernel {
    /// Whether the kernel handles this layer.
    pub(super) fn handles(layer: &Layer<'_>, reach: Reach) -> bool {
        Rows::takes(layer, reach) && layer.geometry.in_c >= GROUP
    }

    /// For a layer that [`Kernel::handles`] agreed to.
    pub(super) fn new(token: NeonDot, layer: &Layer<'_>, reach: Reach) -> Kernel {
        let in_c = layer.geometry.in_c;
        let count = in_c.div_ceil(GROUP);
        // The last group ends with the last channel and may overlap the one before.
        let firsts = (0..count).map(|v| (v * GROUP).min(in_c - GROUP));
        Kernel {
            rows: Rows::new(token, layer, reach, firsts.map(|first| (first, first))),
            block: count.div_ceil(count.div_ceil(BLOCK_GROUPS)),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match (self.rows.geometry.kernel_w, self.rows.geometry.stride_w) {
            (3, 1) => "depthwise_u8s8_neondot_k3s1_2x4x8",
            (3, _) => "depthwise_u8s8_neondot_k3s2_1x4x8",
            (_, 1) => "depthwise_u8s8_neondot_k5s1_2x4x8",
            _ => "depthwise_u8s8_neondot_k5s2_1x4x8",
        }
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        rows: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let (count, channels) = (self.rows.groups(), self.rows.geometry.out_c);
        let mut working = scratch.pieces(self.rows.working(self.block));
        for first in (0..count).step_by(self.block) {
            let groups = first..(first + self.block).min(count);
            let fill = |_, rows, group, to: &mut [u8]| self.fill(input, rows, group, to);
            let working = working.each_mut().map(|piece| &mut **piece);
            self.rows.run(groups, rows.start, working, fill, output, channels, |_| {});
        }
    }

    /// Interleaves two image rows of a group: `to[column][channel][2]`, each value less 128.
    fn fill(&self, input: &[u8], rows: [Option<usize>; 2], group: usize, to: &mut [u8]) {
        let g = &self.rows.geometry;
        let outside = [self.rows.input_zero_point; GROUP];
        let first = self.rows.groups[group].place;
        let source = |row: Option<usize>| match row {
            Some(row) => (&input[row * g.in_w * g.in_c + first..], g.in_c),
            None => (&outside[..], 0),
        };
        tile::interleave(self.rows.token, source(rows[0]), source(rows[1]), to);
    }
}

/// Packs the filters of 16 channels; those that do not exist are 0.
fn pack(layer: &Layer<'_>, first: usize, place: usize) -> Group {
    let g = &layer.geometry;
    let (size, rows) = (g.kernel_w, if g.stride_h == 1 { 2 } else { 1 });
    // The weight of input row `y` (of the step's) for output row `row`, or 0 outside the filter.
    let weight = |row: usize, y: usize, j: usize, c: usize| match y.checked_sub(row) {
        Some(i) if i < size && j < size && first + c < g.in_c => {
            layer.weights[(i * size + j) * g.in_c + first + c] as i8
        }
        _ => 0,
    };
    let mut taps = Vec::new();
    for vector in 0..GROUP / 4 {
        let channels = vector * 4..vector * 4 + 4;
        for j in 0..size {
            for row in 0..rows {
                let four = |c| (0..4).map(move |y| weight(row, y, j, c));
                taps.extend(channels.clone().flat_map(four));
            }
        }
        for j in (0..size).step_by(2).filter(|_| size > 3) {
            for row in 0..rows {
                let four = |c| (0..4).map(move |e| weight(row, 4 + e % 2, j + e / 2, c));
                taps.extend(channels.clone().flat_map(four));
            }
        }
    }
    let zero_point = i32::from(layer.input.zero_point) - 128;
    let of = |c: usize| layer.weights[first + c..].iter().step_by(g.in_c);
    Group {
        place,
        weights: Packed16::new(taps.len() / 2, |packed| {
            for (to, from) in as_bytes_mut(packed).iter_mut().zip(&taps) {
                *to = *from as u8;
            }
        }),
        bias: std::array::from_fn(|c| {
            let bias = layer.output.bias.get(first + c);
            bias.map_or(0, |&bias| folded_bias(of(c), zero_point, bias))
        }),
        multiplier: std::array::from_fn(|c| {
            layer.output.multiplier.get(first + c).copied().unwrap_or(0.0)
        }),
    }
}
