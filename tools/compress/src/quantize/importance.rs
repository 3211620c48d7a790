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

use super::plan::{Effect, Plan, Point};
use crate::graph::{Index, input, int};

/// The weight of the channel that matters most.
const MOST: f64 = 65536.0;

/// A weight, 1..=65536, for each channel of each point; one for all where nothing is known.
///
/// The whole way back is taken only in networks with swishes and gates: there it brought
/// EfficientNet-B0's features from a cosine of 0.980 to 0.986. Behind Relu6, whose slope is zero as
/// often as one, it misleads (EfficientNet-Lite1 lost 4 photographs of 1000): only the layers that
/// read a value count.
pub(super) fn importance(model: &ModelProto, plan: &Plan) -> Vec<Vec<u64>> {
    let Some(graph) = model.graph.as_ref() else { return vec![vec![1]; plan.points.len()] };
    let smooth = plan.points.iter().any(|point| point.effect != Effect::Identity);
    let energies = if smooth { energies(graph, plan.features(graph)) } else { HashMap::new() };
    let index = Index::new(graph);
    let of_point = |(at, point): (usize, &Point)| {
        let own = energies.get(point.value.as_str()).cloned();
        let direct = || if smooth { None } else { of_readers(&index, plan, at) };
        own.or_else(direct).map_or_else(|| vec![1], |energy| whole(&energy))
    };
    plan.points.iter().enumerate().map(of_point).collect()
}

/// Energy of each channel of a point that only layers with weights read.
fn of_readers(index: &Index<'_>, plan: &Plan, at: usize) -> Option<Vec<f64>> {
    let value = plan.points[at].value.as_str();
    let nodes = plan.layers.iter().filter(|l| l.input == at).map(|l| &index.graph.node[l.node]);
    let readers: Vec<&NodeProto> = nodes.collect();
    let only_layers = index.readers(value).len() == readers.len()
        && readers.iter().all(|node| input(node, 0) == Some(value))
        && !index.is_output(value);
    let energies: Option<Vec<Vec<f64>>> =
        readers.iter().map(|node| through_weights(index, node, None)).collect();
    energies.filter(|_| only_layers)?.into_iter().reduce(|mut all, more| {
        all.iter_mut().zip(more).for_each(|(own, more)| *own += more);
        all
    })
}

/// Energy of each channel of every value that leads to a layer with weights. Features all matter
/// alike, whatever the classifier behind them makes of them.
fn energies<'a>(graph: &'a GraphProto, features: Option<&str>) -> HashMap<&'a str, Vec<f64>> {
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
                if let Some(mut energy) = through_weights(&index, node, behind.as_deref()) {
                    if features == Some(index.trace(source)) {
                        energy.fill(1.0);
                    }
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
