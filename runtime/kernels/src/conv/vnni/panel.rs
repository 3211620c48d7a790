//! Weights of 16 to 64 output channels, packed for `vpdpbusd`.

use super::super::Layer;
use crate::requantize::folded_bias;
use crate::scratch::Packed8;

/// Output channels that one vector of accumulators holds.
pub(crate) const LANES: usize = 16;
/// Most vectors in one panel.
pub(crate) const MAX_VECTORS: usize = 4;
/// Most channels in one panel.
pub(crate) const MAX_COLS: usize = MAX_VECTORS * LANES;
/// Values of depth that one instruction multiplies.
pub(crate) const STEP: usize = 4;

/// How the values of one pixel's depth lie in memory: pieces of whole steps, one `stride` after
/// the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) pieces: usize,
    /// Steps of each piece but the last.
    pub(crate) steps: usize,
    /// Steps of the last piece.
    pub(crate) last_steps: usize,
    /// Bytes from one piece to the next.
    pub(crate) stride: usize,
}

impl Depth {
    /// `k` values in one piece.
    pub(crate) fn flat(k: usize) -> Depth {
        let steps = k.div_ceil(STEP);
        Depth { pieces: 1, steps, last_steps: steps, stride: 0 }
    }

    /// `k` values in pieces of `block`, a multiple of [`STEP`].
    pub(crate) fn blocked(k: usize, block: usize, stride: usize) -> Depth {
        let pieces = k.div_ceil(block);
        let last_steps = (k - (pieces - 1) * block).div_ceil(STEP);
        Depth { pieces, steps: block / STEP, last_steps, stride }
    }

    pub(crate) fn total_steps(&self) -> usize {
        (self.pieces - 1) * self.steps + self.last_steps
    }

    /// Bytes from the first value of a pixel's depth to behind its last step.
    pub(crate) fn reach(&self) -> usize {
        (self.pieces - 1) * self.stride + self.last_steps * STEP
    }
}

/// Which channel of its panel lane `l` of vector `v` holds. Vectors interleave by fours, so that
/// packing within 128-bit quarters leaves the channels in their order.
fn channel_of(vectors: usize, v: usize, l: usize) -> usize {
    l / 4 * 4 * vectors + v * 4 + l % 4
}

/// Splits channels into panels of up to `most` vectors, at most [`MAX_VECTORS`], as even as possible:
/// their first channels and numbers of vectors.
pub(crate) fn split(channels: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let vectors = channels.div_ceil(LANES);
    let panels = vectors.div_ceil(most);
    (0..panels).map(move |p| {
        let (first, end) = (p * vectors / panels, (p + 1) * vectors / panels);
        (first * LANES, end - first)
    })
}

/// The weights of some output channels, `[step][vector][lane][STEP]`.
pub(crate) struct Panel {
    first: usize,
    /// Channels that exist; the rest of the panel is zero.
    cols: usize,
    vectors: usize,
    steps: usize,
    weights: Packed8,
    /// `[vector][lane]`, the input's zero point folded in.
    bias: [i32; MAX_COLS],
    /// `[vector][lane]`.
    multiplier: [f32; MAX_COLS],
}

impl Panel {
    /// Packs the depth of each channel as it is, padded with zeros to whole steps.
    pub(crate) fn dense(layer: &Layer<'_>, first: usize, vectors: usize) -> Panel {
        let depth = layer.geometry.taps() * layer.geometry.in_c;
        Panel::new(layer, first, vectors, depth.div_ceil(STEP), |k| Some(k).filter(|&k| k < depth))
    }

    /// Packs `steps` steps; `value` tells which value of the layer's depth lies at a position of
    /// the packed depth, or `None` for a zero.
    pub(crate) fn new(
        layer: &Layer<'_>,
        first: usize,
        vectors: usize,
        steps: usize,
        value: impl Fn(usize) -> Option<usize>,
    ) -> Panel {
        let depth = layer.geometry.taps() * layer.geometry.in_c;
        let cols = (layer.geometry.out_c - first).min(vectors * LANES);
        let row = |c: usize| &layer.weights[(first + c) * depth..][..depth];
        let (mut bias, mut multiplier) = ([0; MAX_COLS], [0.0; MAX_COLS]);
        let slots = || {
            let all = (0..vectors).flat_map(|v| (0..LANES).map(move |l| (v, l)));
            all.map(|(v, l)| (v * LANES + l, channel_of(vectors, v, l))).filter(|&(_, c)| c < cols)
        };
        let weights = Packed8::new(steps * vectors * LANES * STEP, |packed| {
            // Along the packed weights, not along the rows: each is written once, in order.
            let mut rows: [&[i16]; MAX_COLS] = [&[]; MAX_COLS];
            slots().for_each(|(slot, c)| rows[slot] = row(c));
            for (step, group) in packed.chunks_exact_mut(vectors * LANES * STEP).enumerate() {
                let values: [_; STEP] = std::array::from_fn(|i| value(step * STEP + i));
                let targets = group.as_chunks_mut::<STEP>().0.iter_mut().zip(rows);
                for (to, row) in targets.filter(|(_, row)| !row.is_empty()) {
                    *to = values.map(|v| v.map_or(0, |v| row[v] as i8 as u8));
                }
            }
        });
        for (slot, c) in slots() {
            let zero_point = i32::from(layer.input.zero_point);
            bias[slot] = folded_bias(row(c), zero_point, layer.output.bias[first + c]);
            multiplier[slot] = layer.output.multiplier[first + c];
        }
        Panel { first, cols, vectors, steps, weights, bias, multiplier }
    }

    /// First channel.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// Channels that exist.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn vectors(&self) -> usize {
        self.vectors
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// `[step][vector][lane][STEP]`, `i8`.
    pub(crate) fn weights(&self) -> &[u8] {
        self.weights.values()
    }

    pub(crate) fn bias(&self) -> &[i32; MAX_COLS] {
        &self.bias
    }

    pub(crate) fn multiplier(&self) -> &[f32; MAX_COLS] {
        &self.multiplier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_channels_evenly() {
        for channels in 1..400 {
            let mut next = 0;
            for (first, vectors) in split(channels, MAX_VECTORS) {
                assert_eq!(first, next);
                assert!((1..=MAX_VECTORS).contains(&vectors));
                next += vectors * LANES;
            }
            assert!(next >= channels && next < channels + LANES);
        }
    }

    #[test]
    fn each_lane_has_its_own_channel() {
        for vectors in 1..=MAX_VECTORS {
            let mut seen = vec![false; vectors * LANES];
            for (v, l) in (0..vectors).flat_map(|v| (0..LANES).map(move |l| (v, l))) {
                assert!(!std::mem::replace(&mut seen[channel_of(vectors, v, l)], true));
            }
        }
    }
}
