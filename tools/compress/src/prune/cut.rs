//! Takes channels out of a graph, and puts new weights in.

use kinglet_engine::onnx::{GraphProto, TensorProto};
use kinglet_engine::{ModelError, tensor};

use super::block::Block;
use crate::graph::{Namer, input};

/// Leaves the channels `kept` (sorted) of each block.
pub(super) fn cut(
    graph: &mut GraphProto,
    blocks: &[Block],
    kept: &[Vec<usize>],
) -> Result<(), ModelError> {
    for (block, kept) in blocks.iter().zip(kept) {
        if kept.len() == block.channels {
            continue;
        }
        let squeeze = block.squeeze.iter();
        let writers = [block.expand].into_iter().chain(squeeze.clone().map(|s| s.excite));
        for at in writers.chain(block.depthwise.iter().copied()) {
            select(graph, at, 1, 0, kept)?;
            if graph.node[at].input.get(2).is_some_and(|b| !b.is_empty()) {
                select(graph, at, 2, 0, kept)?;
            }
        }
        for at in [block.project].into_iter().chain(squeeze.map(|s| s.reduce)) {
            select(graph, at, 1, 1, kept)?;
        }
        for &at in &block.depthwise {
            for attribute in &mut graph.node[at].attribute {
                if attribute.name == "group" {
                    attribute.i = kept.len() as i64;
                }
            }
        }
    }
    crate::graph::drop_unread(graph);
    Ok(())
}

/// A node's constant input.
pub(super) fn constant(graph: &GraphProto, at: usize, input_at: usize) -> Option<&TensorProto> {
    let name = input(&graph.node[at], input_at)?;
    graph.initializer.iter().find(|t| t.name == name)
}

/// A convolution's weights, a row an output, and its biases.
pub(super) fn weights(graph: &GraphProto, at: usize) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    let weights = constant(graph, at, 1).map_or_else(|| Ok(Vec::new()), tensor::to_f32)?;
    let outputs = constant(graph, at, 1).and_then(|t| t.dims.first().copied()).unwrap_or(0);
    let none = || Ok(vec![0.0; usize::try_from(outputs).unwrap_or(0)]);
    let bias = constant(graph, at, 2).map_or_else(none, tensor::to_f32)?;
    Ok((weights, bias))
}

/// Gives a pointwise convolution new weights and biases.
pub(super) fn set(graph: &mut GraphProto, at: usize, weights: &[f32], bias: &[f32]) {
    let inputs = weights.len() / bias.len().max(1);
    replace(graph, at, 1, &[bias.len(), inputs, 1, 1], weights);
    if graph.node[at].input.len() < 3 {
        graph.node[at].input.resize(3, String::new());
    }
    replace(graph, at, 2, &[bias.len()], bias);
}

/// Leaves the slices `kept` of an axis of a node's constant.
fn select(
    graph: &mut GraphProto,
    at: usize,
    input_at: usize,
    axis: usize,
    kept: &[usize],
) -> Result<(), ModelError> {
    let Some(constant) = constant(graph, at, input_at) else { return Ok(()) };
    let (mut dims, _) = tensor::shape(constant)?;
    let values = tensor::to_f32(constant)?;
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    let mut left = Vec::with_capacity(outer * kept.len() * inner);
    for o in 0..outer {
        for &k in kept {
            left.extend_from_slice(&values[(o * dims[axis] + k) * inner..][..inner]);
        }
    }
    dims[axis] = kept.len();
    replace(graph, at, input_at, &dims, &left);
    Ok(())
}

/// Replaces a node's constant; one that other nodes read as well stays for them.
fn replace(graph: &mut GraphProto, at: usize, input_at: usize, dims: &[usize], values: &[f32]) {
    let old = graph.node[at].input[input_at].clone();
    let readers = graph.node.iter().flat_map(|n| &n.input).filter(|i| **i == old).count();
    let place = graph.initializer.iter().position(|t| t.name == old);
    match place {
        Some(place) if readers == 1 => {
            graph.initializer[place] = tensor::from_f32(&old, dims, values);
        }
        _ => {
            let base = if old.is_empty() { format!("{}.bias", graph.node[at].name) } else { old };
            let name = Namer::new(graph).fresh(&base);
            graph.initializer.push(tensor::from_f32(&name, dims, values));
            graph.node[at].input[input_at] = name;
        }
    }
}
