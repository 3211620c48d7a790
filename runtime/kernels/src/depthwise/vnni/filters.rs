//! The filters of 32 channels, packed as the tile multiplies them.

use super::super::Layer;
use super::CHANNELS;
use crate::requantize::folded_bias;
use crate::scratch::Packed8;

/// Channels of one half: the lanes of one vector of accumulators.
pub(super) const LANES: usize = 16;
/// Bytes of one vector of weights: four taps of 16 channels.
pub(super) const VECTOR: usize = 4 * LANES;

/// The channel of lane `l` of half `h`: unpacking 16-bit pairs works within 128-bit quarters.
fn channel_of(h: usize, l: usize) -> usize {
    l / 4 * 8 + h * 4 + l % 4
}

/// Filters, bias and multipliers of one block of channels.
pub(crate) struct Filters {
    /// `[vector][shift][half][lane][4]`: first a vector for each filter column, with its rows 0 to
    /// 3; for 5x5 then one for each two columns, with row 4 (and 5, when shifted) of both.
    weights: Packed8,
    /// `[half][lane]`, the input's zero point folded in.
    pub(super) bias: [i32; CHANNELS],
    /// `[half][lane]`.
    pub(super) multiplier: [f32; CHANNELS],
}

impl Filters {
    /// Packs the channels from `first` on; those that do not exist are zero.
    pub(super) fn pack(layer: &Layer<'_>, first: usize) -> Filters {
        let g = &layer.geometry;
        let k = g.kernel_w;
        let channels = (g.in_c - first).min(CHANNELS);
        let slots = || {
            let all = (0..2).flat_map(|h| (0..LANES).map(move |l| (h, l)));
            all.map(|(h, l)| (h, l, channel_of(h, l))).filter(|&(_, _, c)| c < channels)
        };
        let tap = |c: usize, row: Option<usize>, column: usize| match row {
            Some(row) if row < k && column < k => {
                layer.weights[(row * k + column) * g.in_c + first + c] as i8 as u8
            }
            _ => 0,
        };
        let weights = Packed8::new(vectors(k) * 4 * VECTOR, |packed| {
            for vector in 0..vectors(k) {
                for (shift, (h, l, c)) in (0..2).flat_map(|s| slots().map(move |slot| (s, slot))) {
                    let at = ((vector * 2 + shift) * 2 + h) * VECTOR + l * 4;
                    for (byte, to) in packed[at..at + 4].iter_mut().enumerate() {
                        let (row, column) = match vector.checked_sub(k) {
                            None => (byte, vector),
                            Some(two) => (4 + byte % 2, two * 2 + byte / 2),
                        };
                        *to = tap(c, row.checked_sub(shift), column);
                    }
                }
            }
        });
        let (mut bias, mut multiplier) = ([0; CHANNELS], [0.0; CHANNELS]);
        for (h, l, c) in slots() {
            let taps = layer.weights[first + c..].iter().step_by(g.in_c);
            let zero_point = i32::from(layer.input.zero_point);
            bias[h * LANES + l] = folded_bias(taps, zero_point, layer.output.bias[first + c]);
            multiplier[h * LANES + l] = layer.output.multiplier[first + c];
        }
        Filters { weights, bias, multiplier }
    }

    pub(super) fn weights(&self) -> &[u8] {
        self.weights.values()
    }
}

/// Vectors of four taps in a filter of `k` by `k`, for each shift and half.
pub(super) const fn vectors(k: usize) -> usize {
    if k == 5 { 5 + 3 } else { k }
}
