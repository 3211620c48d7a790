//! Depthwise convolution for NEON without the dot product: a ring of rows, blocking and the loop
//! over rows.
//!
//! Rows of the (padded) image are copied as signed bytes, less the middle of the input's range
//! (see the dense convolution), into a small ring, each row once however many output rows read
//! it. Padding is written into the ring, so the inner loop (`neon_tile.rs`) knows no borders.

use std::ops::Range;

use super::Layer;
use super::neon_tile::{self as tile, GROUP, Row, Weights};
use crate::arm::{Clamp, Ending};
use crate::isa::Neon;
use crate::requantize::{Reach, folded_bias};
use crate::scratch::{Packed16, as_bytes, as_bytes_mut};
use crate::{ConvGeometry, Scratch};

/// Groups of 16 channels in one block: one cache line of an input pixel.
const BLOCK_GROUPS: usize = 4;

pub(super) struct Kernel {
    token: Neon,
    geometry: ConvGeometry,
    /// What is read outside the image, and what the ring subtracts.
    outside: u8,
    middle: u8,
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
    /// `[tap row][tap column][channel]`
    weights: Packed16,
    /// Taps added up in 16 bits.
    run: usize,
    bias: [i32; GROUP],
    multiplier: [f32; GROUP],
}

impl Kernel {
    /// Whether the kernel handles this layer: square filters of 3 or 5, stride 1 or 2, weights
    /// that fit `i8`, and two products of them 16 bits.
    pub(super) fn handles(layer: &Layer<'_>, reach: Reach) -> bool {
        let g = &layer.geometry;
        reach.weights_fit_i8
            && (layer.input.largest() < 128 || !layer.weights.contains(&-128))
            && g.in_c >= GROUP
            && g.kernel_h == g.kernel_w
            && matches!(g.kernel_w, 3 | 5)
            && g.stride_h == g.stride_w
            && matches!(g.stride_w, 1 | 2)
            && (g.dilation_h, g.dilation_w) == (1, 1)
    }

    /// For a layer that [`Kernel::handles`] agreed to.
    pub(super) fn new(token: Neon, layer: &Layer<'_>, reach: Reach) -> Kernel {
        let g = layer.geometry;
        let count = g.in_c.div_ceil(GROUP);
        Kernel {
            token,
            geometry: g,
            outside: layer.input.zero_point,
            middle: layer.input.middle(),
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
            (3, 1) => "depthwise_u8s8_neon_k3s1_2x16",
            (3, _) => "depthwise_u8s8_neon_k3s2_2x16",
            (_, 1) => "depthwise_u8s8_neon_k5s1_2x16",
            _ => "depthwise_u8s8_neon_k5s2_2x16",
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
        let size = g.kernel_h;
        let row_len = self.cols * GROUP;
        for groups in self.groups.chunks(self.block) {
            let slot_len = groups.len() * row_len;
            let ring = scratch.bytes(size * slot_len);
            let mut next = 0;
            for (y, out) in rows.clone().zip(output.chunks_mut(g.out_w * g.out_c)) {
                let start = y * g.stride_h;
                for row in start.max(next)..start + size {
                    let slot = &mut ring[row % size * slot_len..][..slot_len];
                    for (group, to) in groups.iter().zip(slot.chunks_mut(row_len)) {
                        self.fill(input, row, group.first, to);
                    }
                }
                next = start + size;
                for (i, group) in groups.iter().enumerate() {
                    // The rows of the window; a filter of three repeats the last.
                    let row = |r: usize| {
                        let slot = (start + r.min(size - 1)) % size;
                        &ring[slot * slot_len + i * row_len..][..row_len]
                    };
                    self.row(group, std::array::from_fn(row), out);
                }
            }
        }
    }

    /// Copies one padded row of 16 channels from `first` on: `to[column][channel]`.
    fn fill(&self, input: &[u8], row: usize, first: usize, to: &mut [u8]) {
        let g = &self.geometry;
        let outside = self.outside.wrapping_sub(self.middle);
        let Some(row) = row.checked_sub(g.pad_top).filter(|&row| row < g.in_h) else {
            to.fill(outside);
            return;
        };
        let before = g.pad_left.min(self.cols);
        let inside = (self.cols - before).min(g.in_w);
        let (left, rest) = to.split_at_mut(before * GROUP);
        let (middle, right) = rest.split_at_mut(inside * GROUP);
        left.fill(outside);
        right.fill(outside);
        let source = &input[row * g.in_w * g.in_c + first..];
        tile::copy_columns(self.token, source, g.in_c, self.middle, middle);
    }

    /// One output row of one group.
    fn row(&self, group: &Group, rows: [&[u8]; tile::MAX_SIZE], out: &mut [u8]) {
        let g = &self.geometry;
        let row = Row {
            rows,
            channels: g.out_c,
            first: group.first,
            // SAFETY: the token proves NEON.
            clamp: unsafe { self.clamp.vectors() },
            weights: Weights {
                taps: as_bytes(group.weights.values()),
                run: group.run,
                bias: &group.bias,
                multiplier: &group.multiplier,
            },
        };
        if self.ending == Ending::PLAIN {
            row.run::<{ Ending::PLAIN }>(self.token, g.kernel_w, g.stride_w, out);
        } else {
            row.run::<{ Ending::SATURATING }>(self.token, g.kernel_w, g.stride_w, out);
        }
    }
}

/// Packs the filters of 16 channels.
fn pack(layer: &Layer<'_>, first: usize) -> Group {
    let g = &layer.geometry;
    let taps: Vec<&[i16]> =
        layer.weights.chunks_exact(g.in_c).map(|tap| &tap[first..first + GROUP]).collect();
    // So many products in a row fit 16 bits in every channel.
    let fits = |run: &usize| {
        taps.chunks(*run).all(|taps| {
            (0..GROUP).all(|c| {
                let sum = taps.iter().map(|tap| i32::from(tap[c]).abs()).sum::<i32>();
                layer.input.largest() * sum <= i32::from(i16::MAX)
            })
        })
    };
    let run = tile::RUNS.into_iter().find(fits).unwrap_or(2);
    let zero_point = i32::from(layer.input.zero_point) - i32::from(layer.input.middle());
    let of = |c: usize| layer.weights[first + c..].iter().step_by(g.in_c);
    Group {
        first,
        weights: Packed16::new(taps.len() * GROUP / 2, |packed| {
            for (to, from) in as_bytes_mut(packed).iter_mut().zip(taps.iter().copied().flatten()) {
                *to = *from as i8 as u8;
            }
        }),
        run,
        bias: std::array::from_fn(|c| folded_bias(of(c), zero_point, layer.output.bias[first + c])),
        multiplier: std::array::from_fn(|c| layer.output.multiplier[first + c]),
    }
}
