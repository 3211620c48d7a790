//! DequantizeLinear of a constant becomes an f32 constant, its axis honoured.

use std::collections::HashMap;

use crate::error::ModelError;
use crate::graph::{GraphIndex, input, int};
use crate::model_file::check::node_name;
use crate::onnx::{GraphProto, NodeProto, TensorProto};
use crate::tensor;

/// Folds every DequantizeLinear whose inputs are constants.
///
/// # Errors
/// [`ModelError::Graph`] for a DequantizeLinear or QuantizeLinear with a scale a channel on
/// something that is not constant: neither tract nor a region computes that.
pub(super) fn fold_dequantize(mut graph: GraphProto) -> Result<GraphProto, ModelError> {
    let mut folded: HashMap<String, TensorProto> = HashMap::new();
    {
        let index = GraphIndex::new(&graph);
        for node in &graph.node {
            if !matches!(node.op_type.as_str(), "DequantizeLinear" | "QuantizeLinear") {
                continue;
            }
            let constant = input(node, 0).and_then(|name| index.constant(name));
            if let (Some(codes), "DequantizeLinear") = (constant, node.op_type.as_str()) {
                folded.insert(node.output[0].clone(), dequantize(&index, node, codes)?);
            } else if input(node, 1).and_then(|s| index.scalar(s)).is_none() {
                return Err(ModelError::Graph {
                    why: format!(
                        "node '{}': {} of an activation with a scale a channel is not supported",
                        node_name(node),
                        node.op_type
                    ),
                });
            }
        }
    }
    graph.node.retain(|n| !folded.contains_key(&n.output[0]) || n.op_type != "DequantizeLinear");
    graph.initializer.extend(folded.into_values());
    graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(graph)
}

/// A constant DequantizeLinear's result.
pub(super) fn dequantize(
    index: &GraphIndex<'_>,
    node: &NodeProto,
    tensor: &TensorProto,
) -> Result<TensorProto, ModelError> {
    let bad = |why: &str| ModelError::Graph { why: format!("node '{}': {why}", node_name(node)) };
    let constant = |i: usize| input(node, i).and_then(|name| index.constant(name));
    let (dims, elements) = tensor::shape(tensor)?;
    let codes = tensor::to_i64(tensor)?;
    let scales = tensor::to_f32(constant(1).ok_or_else(|| bad("its scale is not constant"))?)?;
    let zeros = match constant(2) {
        Some(zero) => tensor::to_i64(zero)?,
        None => vec![0; scales.len()],
    };
    let axis = int(node, "axis").unwrap_or(1);
    let axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
    let (channels, inner) = if scales.len() == 1 {
        (1, elements.max(1))
    } else {
        let axis = usize::try_from(axis).ok().filter(|&a| a < dims.len());
        let axis = axis.ok_or_else(|| bad("its axis is outside the tensor"))?;
        (dims[axis], dims[axis + 1..].iter().product())
    };
    if scales.len() != channels || zeros.len() != channels {
        return Err(bad("scale and zero point do not fit the tensor's axis"));
    }
    let real: Vec<f32> = codes
        .iter()
        .enumerate()
        .map(|(i, &code)| {
            let channel = i / inner % channels;
            (code - zeros[channel]) as f32 * scales[channel]
        })
        .collect();
    Ok(tensor::from_f32(&node.output[0], &dims, &real))
}
