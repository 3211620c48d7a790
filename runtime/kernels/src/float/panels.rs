//! Packed weights: panels of a few vectors of output channels, `[panel][depth][vectors][lanes]`.

use super::Element;
use super::simd::Simd;
use crate::scratch::PackedFloats;

/// The weights and the bias of a matrix product, packed.
pub(super) struct Panels<S: Simd> {
    pub(super) panels: Vec<Panel>,
    weights: PackedFloats<S::C>,
    bias: PackedFloats<S::C>,
}

/// Some consecutive output channels.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The first channel.
    pub(super) first: usize,
    /// Channels, at most `vectors * LANES`.
    pub(super) columns: usize,
    /// Registers in which they fit.
    pub(super) vectors: usize,
    /// Where its weights start.
    weights: usize,
    /// Where its bias starts.
    bias: usize,
}

impl<S: Simd> Panels<S> {
    /// Packs `weights` (`[columns][depth]`) and `bias`, rounded to `T`, the type of activations.
    pub(super) fn new<T: Element>(columns: usize, weights: &[f32], bias: &[f32]) -> Panels<S> {
        let depth = weights.len() / columns;
        let vectors = columns.div_ceil(S::LANES);
        let count = vectors.div_ceil(S::PANEL);
        let mut panels = Vec::with_capacity(count);
        let mut done = 0;
        for index in 0..count {
            // As even as can be: 3, 2, 2 rather than 3, 3, 1.
            let wide = (vectors - done).div_ceil(count - index);
            let first = done * S::LANES;
            panels.push(Panel {
                first,
                columns: (wide * S::LANES).min(columns - first),
                vectors: wide,
                weights: done * S::LANES * depth,
                bias: first,
            });
            done += wide;
        }
        let round = |value: f32| S::C::from_f32(T::from_f32(value).to_f32());
        let packed_weights = PackedFloats::new(vectors * S::LANES * depth, |packed| {
            for panel in &panels {
                let width = panel.vectors * S::LANES;
                let to = &mut packed[panel.weights..][..width * depth];
                let from = &weights[panel.first * depth..][..panel.columns * depth];
                for (k, to) in to.chunks_exact_mut(width).enumerate() {
                    for (to, from) in to.iter_mut().zip(from[k..].iter().step_by(depth)) {
                        *to = round(*from);
                    }
                }
            }
        });
        let packed_bias = PackedFloats::new(vectors * S::LANES, |packed| {
            for (to, &from) in packed.iter_mut().zip(bias) {
                *to = round(from);
            }
        });
        Panels { panels, weights: packed_weights, bias: packed_bias }
    }

    /// The weights of a panel, `[depth][vectors * LANES]`.
    pub(super) fn weights(&self, panel: &Panel) -> &[S::C] {
        &self.weights.values()[panel.weights..]
    }

    /// The bias of a panel, `[vectors * LANES]`.
    pub(super) fn bias(&self, panel: &Panel) -> &[S::C] {
        &self.bias.values()[panel.bias..][..panel.vectors * S::LANES]
    }
}
