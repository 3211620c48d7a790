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

pub(super) struct Kernel {
    token: NeonDot,
    geometry: ConvGeometry,
    input_zero_point: u8,
    groups: Vec<Group>,
    /// Groups in one block.
    block: usize,
    /// Columns of the padded image that windows read.
    cols: usize,
    clamp: Clamp,
    ending: u8,
}

/// The filters of 16 channels.
struct Group {
    /// The first channel.
    first: usize,
    /// As [`Weights`] says.
    weights: Packed16,
    bias: [i32; GROUP],
    multiplier: [f32; GROUP],
}

impl Kernel {
    /// Whether the kernel handles this layer: square filters of 3 or 5, stride 1 or 2, weights
    /// that fit `i8`.
    pub(super) fn handles(g: &ConvGeometry, reach: Reach) -> bool {
        reach.weights_fit_i8
            && g.in_c >= GROUP
            && g.kernel_h == g.kernel_w
            && matches!(g.kernel_w, 3 | 5)
            && g.stride_h == g.stride_w
            && matches!(g.stride_w, 1 | 2)
            && (g.dilation_h, g.dilation_w) == (1, 1)
    }

    /// For a layer that [`Kernel::handles`] agreed to.
    pub(super) fn new(token: NeonDot, layer: &Layer<'_>, reach: Reach) -> Kernel {
        let g = layer.geometry;
        let count = g.in_c.div_ceil(GROUP);
        Kernel {
            token,
            geometry: g,
            input_zero_point: layer.input.zero_point,
            // The last group ends with the last channel and may overlap the one before.
            groups: (0..count).map(|v| pack(layer, (v * GROUP).min(g.in_c - GROUP))).collect(),
            block: count.div_ceil(count.div_ceil(BLOCK_GROUPS)),
            cols: (g.out_w - 1) * g.stride_w + g.kernel_w,
            clamp: Clamp::new(layer.output.zero_point, layer.output.min, layer.output.max),
            ending: match Ending::of(&layer.output, reach) {
                Ending::PLAIN => Ending::PLAIN,
                _ => Ending::SATURATING,
            },
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match (self.geometry.kernel_w, self.geometry.stride_w) {
            (3, 1) => "depthwise_u8s8_neondot_k3s1_2x4x8",
            (3, _) => "depthwise_u8s8_neondot_k3s2_1x4x8",
            (_, 1) => "depthwise_u8s8_neondot_k5s1_2x4x8",
            _ => "depthwise_u8s8_neondot_k5s2_1x4x8",
        }
    }

    /// Row pairs that a step reads, and slots of the ring.
    fn pairs(&self) -> usize {
        self.geometry.kernel_h.div_ceil(2)
    }

    /// Output rows of one step: what four input rows and, for a filter of five, two more give.
    fn rows(&self) -> usize {
        if self.geometry.stride_h == 1 { 2 } else { 1 }
    }

    /// Bytes of one row pair of one group. One more column than windows read: the fifth row is
    /// read two columns at a time.
    fn pair_bytes(&self) -> usize {
        (self.cols + 1) * COL
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        rows: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        let slots = self.pairs();
        let planes_len = tile::planes_bytes(g.kernel_w, self.cols);
        for groups in self.groups.chunks(self.block) {
            let slot_len = groups.len() * self.pair_bytes();
            let (planes, ring) =
                scratch.bytes_and_i16s(planes_len, slots * slot_len / size_of::<i16>());
            let ring = as_bytes_mut(ring);
            let mut next = 0;
            let steps = output.chunks_mut(self.rows() * g.out_w * g.out_c);
            for (step, out) in steps.enumerate() {
                for pair in next..step + slots {
                    let row = rows.start * g.stride_h + 2 * pair;
                    let slot = &mut ring[pair % slots * slot_len..][..slot_len];
                    for (group, to) in groups.iter().zip(slot.chunks_mut(self.pair_bytes())) {
                        self.fill(input, row, group.first, to);
                    }
                }
                next = step + slots;
                for (i, group) in groups.iter().enumerate() {
                    let pair = |p: usize| {
                        let start = (step + p) % slots * slot_len + i * self.pair_bytes();
                        &ring[start..start + self.pair_bytes()]
                    };
                    let pairs = [pair(0), pair(1), pair(slots - 1)];
                    self.step(group, pairs, planes, out);
                }
            }
        }
    }

    /// Interleaves the padded rows `row` and `row + 1` of 16 channels from `first` on:
    /// `to[column][channel][2]`, each value less 128.
    fn fill(&self, input: &[u8], row: usize, first: usize, to: &mut [u8]) {
        let g = &self.geometry;
        let outside = [self.input_zero_point; GROUP];
        let before = g.pad_left.min(self.cols);
        let inside = (self.cols - before).min(g.in_w);
        let (left, rest) = to.split_at_mut(before * COL);
        let (middle, right) = rest.split_at_mut(inside * COL);
        left.fill(self.input_zero_point ^ 0x80);
        right.fill(self.input_zero_point ^ 0x80);
        let source = |row: usize| match row.checked_sub(g.pad_top).filter(|&row| row < g.in_h) {
            Some(row) => (&input[row * g.in_w * g.in_c + first..], g.in_c),
            None => (&outside[..], 0),
        };
        tile::interleave(self.token, source(row), source(row + 1), middle);
    }

    /// One or two output rows of one group from the row pairs that they read.
    fn step(&self, group: &Group, pairs: [&[u8]; 3], planes: &mut [u8], out: &mut [u8]) {
        let g = &self.geometry;
        tile::quads(self.token, pairs, g.kernel_w, self.cols, planes);
        let step = Step {
            planes,
            cols: self.cols,
            channels: g.out_c,
            first: group.first,
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

/// Packs the filters of 16 channels.
fn pack(layer: &Layer<'_>, first: usize) -> Group {
    let g = &layer.geometry;
    let (size, rows) = (g.kernel_w, if g.stride_h == 1 { 2 } else { 1 });
    // The weight of input row `y` (of the step's) for output row `row`, or 0 outside the filter.
    let weight = |row: usize, y: usize, j: usize, c: usize| match y.checked_sub(row) {
        Some(i) if i < size && j < size => layer.weights[(i * size + j) * g.in_c + first + c] as i8,
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
        first,
        weights: Packed16::new(taps.len() / 2, |packed| {
            for (to, from) in as_bytes_mut(packed).iter_mut().zip(&taps) {
                *to = *from as u8;
            }
        }),
        bias: std::array::from_fn(|c| folded_bias(of(c), zero_point, layer.output.bias[first + c])),
        multiplier: std::array::from_fn(|c| layer.output.multiplier[first + c]),
    }
}
