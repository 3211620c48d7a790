//! What a network's layers cost: work of a few kinds, and bytes.

use kinglet_deploy::{Rates, Speed};

use super::Precision;
use crate::arch::{Activation, BlockKind, Conv, Network, Padding, Part, Place};

/// The kinds of work, in the order of [`Rates::all`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Multiply-accumulates of pointwise and fully connected layers.
    Pointwise,
    /// Multiply-accumulates of depthwise layers.
    Depthwise,
    /// Multiply-accumulates of other convolutions.
    Dense,
    /// Elements that a swish makes.
    Activation,
    /// Elements that a sum, a product or a pool reads.
    Elementwise,
}

/// What one layer does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// The kind.
    pub kind: Kind,
    /// How much, in the kind's unit.
    pub amount: f64,
    /// Bytes of weights.
    pub weights: f64,
    /// Bytes of activations, read and written.
    pub activations: f64,
}

/// The layers of a network for pictures of `side` pixels.
#[must_use]
pub fn work(network: &Network, side: usize, precision: Precision) -> Vec<Work> {
    let mut all = Vec::new();
    let mut side = side;
    let bytes = precision.bytes();
    let elements = |kind, amount: usize| Work {
        kind,
        amount: amount as f64,
        weights: 0.0,
        activations: 2.0 * amount as f64 * bytes,
    };
    let swish = network.activation == Activation::Swish;
    for conv in network.convolutions() {
        let single =
            matches!(conv.place, Place::Classifier | Place::Block(_, Part::Reduce | Part::Excite));
        if matches!(conv.place, Place::Block(_, Part::Reduce)) {
            all.push(elements(Kind::Elementwise, conv.input * side * side));
        }
        if conv.place == Place::Classifier {
            all.push(elements(Kind::Elementwise, conv.input * side * side));
        }
        let before = if single { 1 } else { side };
        let (first, last) = Padding::Same.amounts(before, conv.kernel, conv.stride);
        let after = (before + first + last - conv.kernel) / conv.stride + 1;
        let outputs = conv.output * after * after;
        let inputs = conv.input * conv.groups * before * before;
        all.push(Work {
            kind: kind(&conv),
            amount: (conv.weights() * after * after) as f64,
            weights: conv.weights() as f64 * bytes,
            activations: (inputs + outputs) as f64 * bytes,
        });
        if !single {
            side = after;
        }
        if conv.activated && swish {
            all.push(elements(Kind::Activation, outputs));
        }
        let Place::Block(index, part) = conv.place else { continue };
        let block = &network.blocks[index];
        match part {
            Part::Excite => all.push(elements(Kind::Elementwise, conv.output * side * side)),
            Part::Project | Part::Only if block.residual => {
                all.push(elements(Kind::Elementwise, outputs));
            }
            _ => {}
        }
        debug_assert!(block.kind == BlockKind::MbConv || part != Part::Depthwise);
    }
    all
}

fn kind(conv: &Conv) -> Kind {
    if conv.groups > 1 {
        Kind::Depthwise
    } else if conv.kernel == 1 {
        Kind::Pointwise
    } else {
        Kind::Dense
    }
}

/// Multiply-accumulates in all.
#[must_use]
pub fn macs(work: &[Work]) -> f64 {
    let products = work.iter().filter(|w| (w.kind as usize) < Kind::Activation as usize);
    products.map(|w| w.amount).sum()
}

/// Bytes that a layer moves to and from memory: its activations where they do not fit the cache,
/// its weights where those of the whole network do not, since they are read once a picture.
pub(super) fn moved(work: &Work, all_weights: f64, speed: &Speed) -> f64 {
    let cache = f64::from(speed.cache_kib) * 1024.0;
    let weights = if all_weights > cache { work.weights } else { 0.0 };
    let activations = if work.activations > cache { work.activations } else { 0.0 };
    weights + activations
}

/// Predicted latency: of each layer the longer of computing and moving, and the overhead.
#[must_use]
pub fn latency_ms(work: &[Work], speed: &Speed, rates: &Rates, threads: u32) -> f64 {
    let cores = 1.0 + f64::from(threads.max(1) - 1) * speed.thread_efficiency;
    let all_weights: f64 = work.iter().map(|w| w.weights).sum();
    let rates = rates.all();
    let layer = |w: &Work| {
        let compute = w.amount / (rates[w.kind as usize] * cores * 1e9);
        let moving = moved(w, all_weights, speed) / (speed.bandwidth_gb_s * 1e9);
        compute.max(moving) + speed.layer_overhead_us * 1e-6
    };
    1e3 * work.iter().map(layer).sum::<f64>()
}
