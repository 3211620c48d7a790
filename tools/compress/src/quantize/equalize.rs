//! Cross-layer equalization (Nagel et al. 2019, "Data-free quantization through weight
//! equalization and bias correction"): channels of a value are scaled so that one quantization
//! serves all of them, and the layers around the value take the scales up.
//!
//! Differences from the paper: weights have a scale for each output channel here, so that not the
//! weights before a value but its own range, as calibration saw it, stands against the weights
//! behind it; a depthwise layer behind it has a scale for each channel too and sets no limit; and
//! residual sums, means and whatever else is linear join values into groups that share their scales.
//!
//! Exactness: Relu and sums commute with a positive scale. Relu6's cap is one number for all
//! channels, so a channel that reaches it in calibration is not scaled, and another only as far as
//! it stays below the cap by a fifth; there the cap is never reached and its change says nothing.
//! A swish, sigmoid or gate does not commute: what they touch is left as it is.

use std::collections::{HashMap, HashSet};

use kinglet_engine::onnx::{GraphProto, NodeProto};
use kinglet_engine::tensor;

use super::bench::Bench;
use crate::graph::{Index, input, int};

/// How far below the cap scaled channels stay.
const MARGIN: f32 = 0.8;
/// Largest scale, and inverse of the smallest.
const MOST: f32 = 256.0;

/// What was scaled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Equalized {
    /// Groups of values whose channels were scaled.
    pub groups: usize,
    /// Layers whose weights changed, by name.
    pub layers: Vec<String>,
}

/// Values that share their scales.
#[derive(Debug, Default)]
struct Group {
    values: Vec<String>,
    /// Nodes whose outputs enter the group.
    writers: Vec<usize>,
    /// Nodes with weights that read it.
    readers: Vec<usize>,
    cap: Option<f32>,
}

/// The graph with its channels scaled.
pub(super) fn equalize(bench: &Bench<'_>) -> (GraphProto, Equalized) {
    let graph = bench.graph();
    let layers: HashSet<usize> = bench.plan.layers.iter().map(|l| l.node).collect();
    let mut scaled = graph.clone();
    let mut result = Equalized::default();
    let mut changed = std::collections::BTreeSet::new();
    for group in groups(graph, &layers, bench.features()) {
        let index = Index::new(&scaled);
        let Some(scales) = scales(bench, &index, &group) else { continue };
        let mut new = Vec::new();
        for &writer in &group.writers {
            new.extend(rescaled(&index, writer, &scales, true));
        }
        for &reader in &group.readers {
            new.extend(rescaled(&index, reader, &scales, false));
        }
        for tensor in new {
            if let Some(old) = scaled.initializer.iter_mut().find(|t| t.name == tensor.name) {
                *old = tensor;
            }
        }
        result.groups += 1;
        changed.extend(group.writers.iter().chain(&group.readers).copied());
    }
    let name = |at| crate::graph::name(&graph.node[at]).to_owned();
    result.layers = changed.into_iter().map(name).collect();
    (scaled, result)
}

/// Representative of a value's group.
fn find(parents: &mut HashMap<String, String>, value: &str) -> String {
    let mut at = value.to_owned();
    while let Some(parent) = parents.get(&at).filter(|p| **p != at) {
        at = parent.clone();
    }
    parents.insert(value.to_owned(), at.clone());
    at
}

/// Groups all of whose writers and readers take scales up.
fn groups(graph: &GraphProto, layers: &HashSet<usize>, features: Option<&str>) -> Vec<Group> {
    let index = Index::new(graph);
    let mut parents = HashMap::new();
    let mut blocked: Vec<String> = graph.input.iter().map(|i| i.name.clone()).collect();
    blocked.extend(graph.output.iter().map(|o| o.name.clone()));
    // What models are compared by stays in its own units.
    blocked.extend(features.map(str::to_owned));
    let mut caps: Vec<(String, f32)> = Vec::new();
    for (at, node) in graph.node.iter().enumerate() {
        let data = || node.input.iter().filter(|i| !i.is_empty() && index.constant(i).is_none());
        let joins = match node.op_type.as_str() {
            "Relu" | "GlobalAveragePool" | "ReduceMean" | "MaxPool" | "AveragePool"
            | "Identity" | "Dropout" => true,
            "Flatten" => int(node, "axis").unwrap_or(1) == 1,
            "Clip" => match index.clamp(node) {
                Some((low, high)) if low == 0.0 && high > 0.0 => {
                    caps.push((node.output[0].clone(), high));
                    true
                }
                _ => false,
            },
            "Add" => data().count() == 2,
            _ => false,
        };
        if joins {
            for value in data() {
                let (a, b) = (find(&mut parents, value), find(&mut parents, &node.output[0]));
                parents.insert(a, b);
            }
        } else if !layers.contains(&at) || !is_own(&index, node) {
            blocked.extend(data().chain(&node.output).cloned());
        }
    }
    let blocked: HashSet<String> = blocked.iter().map(|v| find(&mut parents, v)).collect();
    let mut groups: Vec<(String, Group)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        let layer = layers.contains(&at);
        let source = input(node, 0).filter(|_| layer).map(|v| (v.to_owned(), false));
        let results = node.output.iter().map(|v| (v.clone(), true));
        for (value, written) in source.into_iter().chain(results) {
            let root = find(&mut parents, &value);
            let group = *known.entry(root.clone()).or_insert_with(|| {
                groups.push((root, Group::default()));
                groups.len() - 1
            });
            let (_, group) = &mut groups[group];
            match (written, layer) {
                (true, true) => group.writers.push(at),
                (false, _) => group.readers.push(at),
                (true, false) => {}
            }
            group.values.push(value);
        }
    }
    let of = |(root, mut group): (String, Group)| {
        let caps = caps.iter().filter(|(v, _)| group.values.contains(v)).map(|(_, cap)| *cap);
        group.cap = caps.reduce(f32::min);
        let usable =
            !blocked.contains(&root) && !group.writers.is_empty() && !group.readers.is_empty();
        usable.then_some(group)
    };
    groups.into_iter().filter_map(of).collect()
}

/// Whether nothing else reads a layer's constants.
fn is_own(index: &Index<'_>, node: &NodeProto) -> bool {
    [1, 2].iter().all(|&at| input(node, at).is_none_or(|v| index.readers(v).len() == 1))
}

/// By what each channel of a group is divided; `None` where nothing is gained or channels do not
/// fit.
fn scales(bench: &Bench<'_>, index: &Index<'_>, group: &Group) -> Option<Vec<f32>> {
    let points = bench.plan.points.iter().zip(&bench.calibration.points);
    let mut range: Vec<f32> = Vec::new();
    for (_, seen) in points.filter(|(p, _)| group.values.contains(&p.value)) {
        range.resize(range.len().max(seen.largest.len()), 0.0);
        range.iter_mut().zip(&seen.largest).for_each(|(own, more)| *own = own.max(*more));
    }
    let channels = range.len();
    let weights_of = |node: usize| {
        let constant = index.constant(input(&index.graph.node[node], 1)?)?;
        let (dims, _) = tensor::shape(constant).ok()?;
        Some((dims, tensor::to_f32(constant).ok()?))
    };
    for &writer in &group.writers {
        (weights_of(writer)?.0.first() == Some(&channels)).then_some(())?;
    }
    // How much of its filter's range each channel's weights take, at most.
    let mut behind = vec![0.0_f32; channels];
    for &reader in &group.readers {
        let (dims, weights) = weights_of(reader)?;
        let depthwise = int(&index.graph.node[reader], "group").unwrap_or(1) > 1;
        let inner = if depthwise { *dims.first()? } else { *dims.get(1)? };
        (inner == channels).then_some(())?;
        if depthwise {
            continue;
        }
        let taps: usize = dims.iter().skip(2).product::<usize>().max(1);
        for filter in weights.chunks_exact((inner * taps).max(1)) {
            let most = filter.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
            for (behind, taps) in behind.iter_mut().zip(filter.chunks_exact(taps)) {
                let own = taps.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
                *behind = behind.max(own / most.max(1e-30));
            }
        }
    }
    let free = behind.iter().all(|&b| b == 0.0);
    let wanted: Vec<f32> = range
        .iter()
        .zip(&behind)
        .map(|(&range, &behind)| match range {
            0.0 => 0.0,
            range if free => range,
            range => (range / behind.max(1e-6)).sqrt(),
        })
        .collect();
    // The largest channel stays as large as it is.
    let most = range.iter().copied().fold(0.0, f32::max);
    let after = range.iter().zip(&wanted).filter(|(_, w)| **w > 0.0).map(|(r, w)| r / w);
    let after = after.fold(0.0, f32::max);
    if most == 0.0 || after == 0.0 {
        return None;
    }
    let scale = |(&range, &wanted): (&f32, &f32)| {
        let scale = (wanted * after / most).clamp(1.0 / MOST, MOST);
        match group.cap {
            _ if wanted == 0.0 => 1.0,
            Some(cap) if range >= cap * 0.999 => 1.0,
            Some(cap) => scale.max(range / (cap * MARGIN)),
            None => scale,
        }
    };
    let scales: Vec<f32> = range.iter().zip(&wanted).map(scale).collect();
    scales.iter().any(|&s| s != 1.0).then_some(scales)
}

/// A layer's constants with its outputs divided, or its inputs multiplied, by the scales.
fn rescaled(
    index: &Index<'_>,
    node: usize,
    scales: &[f32],
    outputs: bool,
) -> Vec<kinglet_engine::onnx::TensorProto> {
    let node = &index.graph.node[node];
    let constant = |at: usize| {
        let constant = input(node, at).and_then(|v| index.constant(v))?;
        Some((
            constant.name.clone(),
            tensor::shape(constant).ok()?.0,
            tensor::to_f32(constant).ok()?,
        ))
    };
    let Some((name, dims, mut weights)) = constant(1) else { return Vec::new() };
    let (filters, inner) = (dims.first().copied().unwrap_or(1), dims.get(1).copied().unwrap_or(1));
    let depthwise = int(node, "group").unwrap_or(1) > 1;
    let per_filter = (weights.len() / filters.max(1)).max(1);
    let taps = (per_filter / inner.max(1)).max(1);
    for (at, weight) in weights.iter_mut().enumerate() {
        let channel = if outputs || depthwise { at / per_filter } else { at / taps % inner };
        let scale = scales.get(channel).copied().unwrap_or(1.0);
        *weight = if outputs { *weight / scale } else { *weight * scale };
    }
    let mut result = vec![tensor::from_f32(&name, &dims, &weights)];
    if let Some((name, dims, mut bias)) = constant(2).filter(|_| outputs) {
        bias.iter_mut().zip(scales).for_each(|(bias, scale)| *bias /= scale);
        result.push(tensor::from_f32(&name, &dims, &bias));
    }
    result
}
