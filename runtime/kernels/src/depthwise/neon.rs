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

/// A layer's filters, and how its rows move through the ring.
pub(crate) struct Rows {
    token: Neon,
    geometry: ConvGeometry,
    /// What is read outside the image, and what the ring subtracts.
    outside: u8,
    middle: u8,
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
    /// `[tap row][tap column][channel]`
    weights: Packed16,
    /// Taps added up in 16 bits.
    run: usize,
    bias: [i32; GROUP],
    multiplier: [f32; GROUP],
}

impl Rows {
    /// Whether the layer is one for this kernel: square filters of 3 or 5, stride 1 or 2, weights
    /// that fit `i8`, and two products of them 16 bits.
    pub(crate) fn takes(layer: &Layer<'_>, reach: Reach) -> bool {
        let g = &layer.geometry;
        reach.converts_exactly
            && reach.weights_fit_i8
            && (layer.input.largest() < 128 || !layer.weights.contains(&-128))
            && g.kernel_h == g.kernel_w
            && matches!(g.kernel_w, 3 | 5)
            && g.stride_h == g.stride_w
            && matches!(g.stride_w, 1 | 2)
            && (g.dilation_h, g.dilation_w) == (1, 1)
    }

    /// For a layer that [`Rows::takes`] agreed to. `groups` are the first channels of each 16 (those
    /// that do not exist are 0), and where their results go in an output pixel.
    pub(crate) fn new(
        token: Neon,
        layer: &Layer<'_>,
        reach: Reach,
        groups: impl Iterator<Item = (usize, usize)>,
    ) -> Rows {
        let g = layer.geometry;
        Rows {
            token,
            geometry: g,
            outside: layer.input.zero_point,
            middle: layer.input.middle(),
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

    /// The columns of the padded image that lie inside the image.
    pub(crate) fn inside(&self) -> Range<usize> {
        let g = &self.geometry;
        let before = g.pad_left.min(self.cols);
        before..before + (self.cols - before).min(g.in_w)
    }

    /// What its input is less in the ring.
    pub(crate) fn middle(&self) -> u8 {
        self.middle
    }

    /// Bytes of the ring for `groups` groups.
    pub(crate) fn ring_len(&self, groups: usize) -> usize {
        self.geometry.kernel_h * groups * self.cols * GROUP
    }

    /// Computes output rows `rows` of some groups. `fill` writes an image row of a group, each value
    /// less the middle of the range, to the columns [`Rows::inside`], `[column][channel]`: the groups
    /// of one row, then those of the next. `out` tells which part of the output a row of a group
    /// goes to, `[columns][channels]`; `done` is told when all groups of a row are there.
    ///
    /// # Panics
    /// If `ring` is not what [`Rows::ring_len`] says, or what `out` gives is not a whole row.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run(
        &self,
        groups: Range<usize>,
        rows: Range<usize>,
        ring: &mut [u8],
        mut fill: impl FnMut(usize, usize, &mut [u8]),
        channels: usize,
        output: &mut [u8],
        out: impl Fn(usize, usize) -> Range<usize>,
        done: impl Fn(usize, &mut [u8]),
    ) {
        let g = &self.geometry;
        let (size, row_len) = (g.kernel_h, self.cols * GROUP);
        let slot_len = groups.len() * row_len;
        let outside = self.outside.wrapping_sub(self.middle);
        let inside = self.inside().start * GROUP..self.inside().end * GROUP;
        let ring = &mut ring[..size * slot_len];
        ring.fill(outside);
        let mut next = 0;
        for y in rows {
            let start = y * g.stride_h;
            for row in start.max(next)..start + size {
                let slot = &mut ring[row % size * slot_len..][..slot_len];
                let row = row.checked_sub(g.pad_top).filter(|&row| row < g.in_h);
                for (group, to) in groups.clone().zip(slot.chunks_exact_mut(row_len)) {
                    let to = &mut to[inside.clone()];
                    match row {
                        Some(row) => fill(row, group, to),
                        None => to.fill(outside),
                    }
                }
            }
            next = start + size;
            for (i, group) in groups.clone().enumerate() {
                // The rows of the window; a filter of three repeats the last.
                let row = |r: usize| {
                    let slot = (start + r.min(size - 1)) % size;
                    &ring[slot * slot_len + i * row_len..][..row_len]
                };
                let rows = std::array::from_fn(row);
                self.row(&self.groups[group], rows, channels, &mut output[out(y, group)]);
            }
            done(y, output);
        }
    }

    /// One output row of one group.
    fn row(&self, group: &Group, rows: [&[u8]; tile::MAX_SIZE], channels: usize, out: &mut [u8]) {
        let g = &self.geometry;
        assert_eq!(out.len(), g.out_w * channels);
        let row = Row {
            rows,
            channels,
            first: group.place,
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
    pub(super) fn new(token: Neon, layer: &Layer<'_>, reach: Reach) -> Kernel {
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
        let (g, count) = (&self.rows.geometry, self.rows.groups.len());
        let row_len = g.out_w * g.out_c;
        let ring = scratch.bytes(self.rows.ring_len(self.block));
        for first in (0..count).step_by(self.block) {
            let groups = first..(first + self.block).min(count);
            let fill = |row: usize, group: usize, to: &mut [u8]| {
                let source = &input[row * g.in_w * g.in_c + self.rows.groups[group].place..];
                tile::copy_columns(self.rows.token, source, g.in_c, self.rows.middle, to);
            };
            let out = |y: usize, _| (y - rows.start) * row_len..(y - rows.start + 1) * row_len;
            self.rows.run(groups, rows.clone(), ring, fill, g.out_c, output, out, |_, _| {});
        }
    }
}

/// Packs the filters of 16 channels; those that do not exist are 0.
fn pack(layer: &Layer<'_>, first: usize, place: usize) -> Group {
    let g = &layer.geometry;
    let taps: Vec<&[i16]> = layer
        .weights
        .chunks_exact(g.in_c)
        .map(|tap| &tap[first..g.in_c.min(first + GROUP)])
        .collect();
    // So many products in a row fit 16 bits in every channel.
    let fits = |run: &usize| {
        taps.chunks(*run).all(|taps| {
            (0..taps[0].len()).all(|c| {
                let sum = taps.iter().map(|tap| i32::from(tap[c]).abs()).sum::<i32>();
                layer.input.largest() * sum <= i32::from(i16::MAX)
            })
        })
    };
    let run = tile::RUNS.into_iter().find(fits).unwrap_or(2);
    let zero_point = i32::from(layer.input.zero_point) - i32::from(layer.input.middle());
    let of = |c: usize| layer.weights[first + c..].iter().step_by(g.in_c);
    Group {
        place,
        weights: Packed16::new(taps.len() * GROUP / 2, |packed| {
            for (to, tap) in as_bytes_mut(packed).chunks_exact_mut(GROUP).zip(&taps) {
                to.iter_mut().zip(*tap).for_each(|(to, &w)| *to = w as i8 as u8);
            }
        }),
        run,
        bias: std::array::from_fn(|c| {
            let bias = layer.output.bias.get(first + c);
            bias.map_or(0, |&bias| folded_bias(of(c), zero_point, bias))
        }),
        multiplier: std::array::from_fn(|c| {
            layer.output.multiplier.get(first + c).copied().unwrap_or(0.0)
        }),
    }
}
