//! How much an error in each channel of a value matters to the layers that read it.
//!
//! One scale serves all channels of a value, but channels differ: where a network has a channel
//! with small values and large weights behind it, errors that mean nothing in other channels ruin
//! the result. The energy of the weights that read a channel says how much.

use kinglet_engine::onnx::ModelProto;
use kinglet_engine::tensor;

use super::plan::{Layer, Plan};
use crate::graph::{Index, input, int};

/// The weight of the channel that matters most.
const MOST: f64 = 65536.0;

/// A weight, 1..=65536, for each channel of each point. A point that something else than layers
/// with weights reads has one weight for all; the argument of a function those of its result.
pub(super) fn importance(model: &ModelProto, plan: &Plan) -> Vec<Vec<u64>> {
    let Some(graph) = model.graph.as_ref() else { return vec![vec![1]; plan.points.len()] };
    let index = Index::new(graph);
    let of_point = |(at, point): (usize, &super::plan::Point)| {
        let readers: Vec<&Layer> = plan.layers.iter().filter(|l| l.input == at).collect();
        let only_layers = index.readers(&point.value).len() == readers.len()
            && readers.iter().all(|l| input(&graph.node[l.node], 0) == Some(&point.value))
            && !index.is_output(&point.value);
        let energies: Option<Vec<Vec<f64>>> =
            readers.iter().map(|layer| energy(&index, layer)).collect();
        match energies {
            Some(energies) if only_layers => whole(&energies),
            _ => vec![1],
        }
    };
    let mut weights: Vec<Vec<u64>> = plan.points.iter().enumerate().map(of_point).collect();
    for (at, point) in plan.points.iter().enumerate() {
        if let Some(next) = point.next {
            weights[at] = weights[next].clone();
        }
    }
    weights
}

/// Sum of the squared weights that read each input channel of a convolution.
fn energy(index: &Index<'_>, layer: &Layer) -> Option<Vec<f64>> {
    let node = &index.graph.node[layer.node];
    let constant = index.constant(input(node, 1)?)?;
    let (dims, _) = tensor::shape(constant).ok()?;
    let &[outputs, inner, height, width] = dims.as_slice() else { return None };
    let weights = tensor::to_f32(constant).ok()?;
    let depthwise = int(node, "group").unwrap_or(1) > 1;
    let channels = if depthwise { outputs } else { inner };
    let mut energy = vec![0.0; channels];
    for (at, taps) in weights.chunks_exact((height * width).max(1)).enumerate() {
        let channel = if depthwise { at } else { at % inner };
        energy[channel] += taps.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>();
    }
    Some(energy)
}

/// Energies of all readers together, as whole numbers: sums of those do not depend on their order.
fn whole(energies: &[Vec<f64>]) -> Vec<u64> {
    let channels = energies.iter().map(Vec::len).max().unwrap_or(0);
    let sum = |c: usize| energies.iter().filter_map(|e| e.get(c)).sum::<f64>();
    let sums: Vec<f64> = (0..channels).map(sum).collect();
    let most = sums.iter().copied().fold(0.0, f64::max);
    if !(most.is_finite() && most > 0.0) {
        return vec![1];
    }
    sums.iter().map(|s| (s / most * MOST).round().max(1.0) as u64).collect()
}
