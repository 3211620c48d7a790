//! Quantization as training sees it: values on the grids of int8, gradients as if they were not.
//!
//! The straight-through gradient: rounding passes it on, clipping stops it. Source: Jacob et al.,
//! "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
//! 2018, section 3.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::ops::{self, Grid};

/// How fast ranges follow the batches.
const MOMENTUM: f32 = 0.05;
/// Ranges are at least this wide.
const NARROWEST: f32 = 1e-3;

/// Weights [rows, output] on symmetric grids of 8 bits, one an output channel.
#[must_use]
pub fn weights(weight: Tensor<2>) -> Tensor<2> {
    let plain = weight.clone().inner();
    let step = (plain.clone().abs().max_dim(0) / 127.0).clamp_min(1e-12);
    let rounded = (plain.clone() / step.clone()).round() * step;
    // No weight lies beyond the range, so the gradient passes everywhere.
    weight + (rounded - plain)
}

/// Ranges of activations by name: (low, high), each holding zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranges {
    /// The ranges.
    pub of: BTreeMap<String, [f32; 2]>,
    /// They stay as they are.
    pub fixed: bool,
}

impl Ranges {
    /// A value on its grid of 8 bits. Its range follows the batch first, unless ranges are fixed.
    #[must_use]
    pub fn quantize<const D: usize>(&mut self, value: Tensor<D>, name: &str) -> Tensor<D> {
        if !self.fixed || !self.of.contains_key(name) {
            let [low, high] = ops::range(&value);
            let (low, high) = (low.min(0.0), high.max(0.0));
            let range = self.of.entry(name.to_owned()).or_insert([low, high]);
            range[0] += MOMENTUM * (low - range[0]);
            range[1] += MOMENTUM * (high - range[1]);
        }
        let [low, high] = self.of[name];
        let step = (high - low).max(NARROWEST) / 255.0;
        // Zero is a code.
        let zero = (-low / step).round();
        ops::on_grid(value, Grid { low: -zero * step, high: (255.0 - zero) * step, step })
    }
}
