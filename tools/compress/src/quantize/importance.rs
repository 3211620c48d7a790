//! How much an error in each channel of a value matters to the result.
//!
//! One scale serves all channels of a value, but channels differ: where a network has a channel
//! with small values and large weights behind it, errors that mean nothing in other channels ruin
//! the result. Energy flows backwards from the outputs: through a layer by its squared weights,
//! through sums, means and functions as it is. That is the squared Jacobian of a network whose
//! functions have a slope of one, without its mixed terms; it needs no picture.

use std::collections::HashMap;

use kinglet_engine::onnx::{GraphProto, ModelProto, NodeProto};
use kinglet_engine::tensor;

use super::plan::Plan;
use crate::graph::{Index, input, int};

/// The weight of the channel that matters most.
const MOST: f64 = 65536.0;

/// A weight, 1..=65536, for each channel of each point; one for all where nothing is known.
pub(super) fn importance(model: &ModelProto, plan: &Plan) -> Vec<Vec<u64>> {
    let Some(graph) = model.graph.as_ref() else { return vec![vec![1]; plan.points.len()] };
    let energies = energies(graph);
    let of_value = |value: &str| energies.get(value).map_or_else(|| vec![1], |e| whole(e));
    plan.points.iter().map(|point| of_value(&point.value)).collect()
}

/// Energy of each channel of every value that leads to a layer with weights.
fn energies(graph: &GraphProto) -> HashMap<&str, Vec<f64>> {
    let index = Index::new(graph);
    let mut energies: HashMap<&str, Vec<f64>> = HashMap::new();
    // Nodes are sorted: the readers of a value come after it.
    for node in graph.node.iter().rev() {
        let Some(output) = node.output.first() else { continue };
        let behind = energies.get(output.as_str()).cloned();
        let weights = input(node, 1).and_then(|w| index.constant(w));
        let Some(source) = input(node, 0) else { continue };
        match (node.op_type.as_str(), weights, behind) {
            ("Conv" | "Gemm", Some(_), behind) => {
                if let Some(energy) = through_weights(&index, node, behind.as_deref()) {
                    add(&mut energies, source, &energy);
                }
            }
            // Of a product each factor takes part; the other one is taken for 1.
            ("Add" | "Mul", None, Some(behind)) => {
                let mut seen = node.input.iter().collect::<Vec<_>>();
                seen.dedup();
                for value in seen {
                    add(&mut energies, value, &behind);
                }
            }
            // Errors of many pixels average out: a mean counts where nothing else reads the value.
            ("GlobalAveragePool" | "ReduceMean", ..) if energies.contains_key(source) => {}
            (_, _, Some(behind)) => add(&mut energies, source, &behind),
            _ => {}
        }
    }
    energies
}

fn add<'a>(energies: &mut HashMap<&'a str, Vec<f64>>, value: &'a str, more: &[f64]) {
    let own = energies.entry(value).or_insert_with(|| vec![0.0; more.len()]);
    if own.len() == more.len() {
        own.iter_mut().zip(more).for_each(|(own, more)| *own += more);
    }
}

/// The energy of each input channel: that of the outputs, 1 if unknown, times squared weights.
fn through_weights(
    index: &Index<'_>,
    node: &NodeProto,
    behind: Option<&[f64]>,
) -> Option<Vec<f64>> {
    let constant = index.constant(input(node, 1)?)?;
    let (dims, _) = tensor::shape(constant).ok()?;
    let (&outputs, &inner) = (dims.first()?, dims.get(1)?);
    let taps: usize = dims.iter().skip(2).product();
    let weights = tensor::to_f32(constant).ok()?;
    let depthwise = int(node, "group").unwrap_or(1) > 1;
    let of_output = |o: usize| behind.map_or(1.0, |b| b.get(o).copied().unwrap_or(1.0));
    let mut energy = vec![0.0; if depthwise { outputs } else { inner }];
    for (at, taps) in weights.chunks_exact(taps.max(1)).enumerate() {
        let (output, channel) = if depthwise { (at, at) } else { (at / inner, at % inner) };
        let squares: f64 = taps.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        *energy.get_mut(channel)? += squares * of_output(output);
    }
    Some(energy)
}

/// Energies as whole numbers: sums of those do not depend on their order.
fn whole(energy: &[f64]) -> Vec<u64> {
    let most = energy.iter().copied().fold(0.0, f64::max);
    if !(most.is_finite() && most > 0.0) {
        return vec![1];
    }
    energy.iter().map(|e| (e / most * MOST).round().max(1.0) as u64).collect()
}
