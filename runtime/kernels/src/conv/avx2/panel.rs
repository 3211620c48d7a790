//! Weights of 16 or 24 output channels, and how the depth of a pixel lies in memory.

use std::arch::x86_64::__m256i;

use super::super::Layer;
use crate::requantize::folded_bias;

/// Output channels that one vector of accumulators holds.
pub(crate) const LANES: usize = 8;
/// Most channels in one panel.
pub(crate) const MAX_COLS: usize = 3 * LANES;

/// How the values of one pixel's depth lie in memory: runs of consecutive values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    /// All values.
    values: usize,
    /// Values of each run but the last.
    run: usize,
    /// From one run to the next.
    stride: usize,
}

impl Depth {
    /// All values in one run.
    pub(crate) fn flat(values: usize) -> Depth {
        Depth::in_runs(values, values, 0)
    }

    pub(crate) fn in_runs(values: usize, run: usize, stride: usize) -> Depth {
        Depth { values, run, stride }
    }

    /// Up to `n` values next to each other.
    pub(crate) fn groups(self, n: usize) -> impl Iterator<Item = Group> {
        let Depth { values, run, stride } = self;
        (0..values).step_by(run).flat_map(move |start| {
            let end = (start + run).min(values);
            (start..end).step_by(n).map(move |first| Group {
                first,
                count: n.min(end - first),
                offset: (start / run * stride + first - start) as u32,
            })
        })
    }
}

/// Values of depth that an instruction multiplies together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    /// The first value.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Where the first value lies, seen from the pixel's start.
    pub(crate) offset: u32,
}

impl Group {
    /// The group's weights in one row, zeros where it is shorter than `N` or the row is empty.
    pub(crate) fn of<const N: usize>(self, row: &[i16]) -> [i16; N] {
        let mut all = [0; N];
        if let Some(weights) = row.get(self.first..self.first + self.count) {
            all[..self.count].copy_from_slice(weights);
        }
        all
    }
}

/// The weights of a panel in the order in which a kernel multiplies them.
pub(crate) trait Multiply: Sized {
    /// An activation.
    type Value: Copy;

    /// Most pixels in a tile of two vectors; three vectors take three.
    const MAX_ROWS: usize;

    /// Packs a row of weights for each slot (empty for channels that do not exist), for
    /// activations of 0 to `largest`.
    fn pack(rows: &[&[i16]], depth: Depth, largest: i32) -> Self;

    /// Values from a pixel's start to behind the last one read.
    fn reach(&self) -> usize;

    /// Sums of `MR` pixels and all channels of a panel, the bias added. Pixel `r` starts at
    /// `a + r / LINES * column + r % LINES * line`.
    ///
    /// # Safety
    /// The CPU has AVX2; [`Multiply::reach`] values of each pixel can be read; the weights were
    /// packed from `NV * LANES` rows.
    unsafe fn accumulate<const MR: usize, const NV: usize, const LINES: usize>(
        &self,
        bias: &[i32; MAX_COLS],
        a: *const Self::Value,
        column: usize,
        line: usize,
    ) -> [[__m256i; NV]; MR];
}

/// Which channel of its panel lane `l` of vector `v` holds. Vectors 0 and 1 interleave by fours,
/// so that `vpackssdw`, which packs within 128-bit halves, puts 16 channels in their order.
fn channel_of(v: usize, l: usize) -> usize {
    match v {
        0 | 1 => l / 4 * 8 + v * 4 + l % 4,
        _ => v * LANES + l,
    }
}

/// Some output channels.
pub(crate) struct Panel<W> {
    pub(super) first: usize,
    /// Channels that exist; the rest of the panel is zero.
    pub(super) cols: usize,
    pub(super) vectors: usize,
    pub(crate) weights: W,
    /// `[vector][lane]`, the input's zero point folded in.
    pub(crate) bias: [i32; MAX_COLS],
    /// `[vector][lane]`.
    pub(crate) multiplier: [f32; MAX_COLS],
}

impl<W: Multiply> Panel<W> {
    /// Splits a layer's channels into panels: as many of 16 as possible, one of 24 if the number
    /// of (started) eights is odd.
    pub(super) fn split(layer: &Layer<'_>, depth: Depth, origin: u8) -> Vec<Panel<W>> {
        let channels = layer.geometry.out_c;
        let eights = channels.div_ceil(LANES);
        let mut panels = Vec::new();
        let mut first = 0;
        while first < channels {
            let vectors = if eights % 2 == 1 && eights > 1 && first == 0 { 3 } else { 2 };
            panels.push(Panel::new(layer, depth, origin, first, vectors));
            first += vectors * LANES;
        }
        panels
    }

    /// Packs the channels from `first` on; activations come less `origin`.
    pub(crate) fn new(
        layer: &Layer<'_>,
        depth: Depth,
        origin: u8,
        first: usize,
        vectors: usize,
    ) -> Panel<W> {
        let cols = layer.geometry.out_c.saturating_sub(first).min(vectors * LANES);
        let length = layer.geometry.taps() * layer.geometry.in_c;
        let mut rows: [&[i16]; MAX_COLS] = [&[]; MAX_COLS];
        let (mut bias, mut multiplier) = ([0; MAX_COLS], [0.0; MAX_COLS]);
        let zero_point = i32::from(layer.input.zero_point) - i32::from(origin);
        for (v, l) in (0..vectors).flat_map(|v| (0..LANES).map(move |l| (v, l))) {
            let (slot, c) = (v * LANES + l, channel_of(v, l));
            if c < cols {
                let row = &layer.weights[(first + c) * length..][..length];
                rows[slot] = row;
                bias[slot] = folded_bias(row, zero_point, layer.output.bias[first + c]);
                multiplier[slot] = layer.output.multiplier[first + c];
            }
        }
        let largest = i32::from(layer.input.max) - i32::from(origin);
        let weights = W::pack(&rows[..vectors * LANES], depth, largest);
        Panel { first, cols, vectors, weights, bias, multiplier }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_never_cross_the_end_of_a_run() {
        let all = |depth: Depth| -> Vec<_> {
            depth.groups(4).map(|group| (group.first, group.count, group.offset)).collect()
        };
        assert_eq!(all(Depth::flat(9)), [(0, 4, 0), (4, 4, 4), (8, 1, 8)]);
        let expected = [(0, 4, 0), (4, 2, 4), (6, 4, 100), (10, 1, 104)];
        assert_eq!(all(Depth::in_runs(11, 6, 100)), expected);
    }
}
