//! Made-up weights that keep activations in a sane range through any depth.
//!
//! Each convolution's weights are uniform with the variance that makes its output, before the
//! activation, have a chosen variance, as He et al. (2015) do it; the variance of the residual
//! stream is followed from block to block. Swish makes what is too large still larger (its mean
//! square grows faster than its input's), so that variance is small there, and the gates of
//! squeeze-and-excite stay near one half. No accuracy follows from such a model, but its speed,
//! its memory and the errors of its arithmetic are those of a trained one.

use super::fold::Folded;
use crate::arch::{Activation, Conv, Network, Part, Place};
use crate::splitmix::SplitMix64;

/// Variance that a residual block adds; a block without residual gives 1.
const RESIDUAL: f64 = 0.1;
/// Mean square of the input picture after normalisation, roughly.
const PICTURE: f64 = 1.0;
/// Mean square of pooled features against that before the pool, roughly: most of it is averaged
/// away.
const POOLED: f64 = 0.2;
/// Variance of the outputs.
const LOGITS: f64 = 4.0;
/// What a block without residual gives is smaller than reckoned by this factor, so that errors of
/// the reckoning die out instead of growing with the depth.
const DAMPING: f64 = 0.6;
/// Standard deviation of the biases.
const BIAS: f64 = 0.03;
/// Variance of what the gates of squeeze-and-excite are the sigmoid of.
const GATE: f64 = 0.002;

/// Random weights of every convolution.
pub(super) fn weights(network: &Network, seed: u64) -> Vec<(Conv, Folded)> {
    let mut random = SplitMix64::new(seed);
    // Variance before an activation, and the mean square after it.
    let (before, activated) = match network.activation {
        Activation::Relu6 => (1.0, 0.5),
        Activation::Swish => (0.25, 0.0722),
    };
    let mut stream = activated;
    network
        .convolutions()
        .into_iter()
        .map(|conv| {
            let (input, output) = match conv.place {
                Place::Stem => (PICTURE, before),
                Place::Head => (stream, before),
                Place::Classifier => (POOLED * activated, LOGITS),
                Place::Block(index, part) => {
                    let block = &network.blocks[index];
                    let output = if block.residual { RESIDUAL } else { 1.0 };
                    match part {
                        Part::Expand => (stream, before),
                        Part::Depthwise if block.expands() => (activated, before),
                        Part::Depthwise => (stream, before),
                        Part::Reduce => (POOLED * activated, before),
                        Part::Excite => (activated, GATE),
                        // The gate is about one half.
                        Part::Project if block.squeeze.is_some() => (activated / 4.0, output),
                        Part::Project => (activated, output),
                        Part::Only => (stream, before),
                    }
                }
            };
            if let Place::Block(index, Part::Project | Part::Only) = conv.place {
                let added = if conv.activated { activated } else { output };
                stream = if network.blocks[index].residual { stream + added } else { added };
            }
            let fan_in = (conv.input * conv.kernel * conv.kernel) as f64;
            let damping = match conv.place {
                Place::Block(index, Part::Project) if !network.blocks[index].residual => DAMPING,
                _ => 1.0,
            };
            let deviation = (output * damping / (input * fan_in)).sqrt();
            let weight = (0..conv.weights()).map(|_| random.centred(deviation)).collect();
            let bias = (0..conv.output).map(|_| random.centred(BIAS)).collect();
            (conv, Folded { weight, bias })
        })
        .collect()
}
