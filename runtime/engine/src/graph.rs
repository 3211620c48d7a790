//! An ONNX graph with an index: who produces a value, which values are constants, attributes.

use std::collections::HashMap;

use crate::error::ModelError;
use crate::model_file::check::node_name;
use crate::onnx::{GraphProto, NodeProto, TensorProto};
use crate::tensor;

/// A read-only view of a graph, indexed by value name.
pub(crate) struct GraphIndex<'a> {
    /// The graph itself.
    pub graph: &'a GraphProto,
    producers: HashMap<&'a str, &'a NodeProto>,
    constants: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> GraphIndex<'a> {
    /// Indexes a checked graph. A graph input that also has an initializer counts as constant.
    pub(crate) fn new(graph: &'a GraphProto) -> Self {
        let mut producers = HashMap::new();
        let mut constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        for node in &graph.node {
            if node.op_type == "Constant"
                && let Some(tensor) = node.attribute.iter().find_map(|a| a.t.as_ref())
            {
                constants.insert(&node.output[0], tensor);
            }
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                producers.insert(output.as_str(), node);
            }
        }
        Self { graph, producers, constants }
    }

    /// The node that produces a value.
    pub(crate) fn producer(&self, value: &str) -> Option<&'a NodeProto> {
        self.producers.get(value).copied()
    }

    /// The tensor of a constant value.
    pub(crate) fn constant(&self, value: &str) -> Option<&'a TensorProto> {
        self.constants.get(value).copied()
    }

    /// A constant of one float element.
    pub(crate) fn scalar(&self, value: &str) -> Option<f32> {
        let tensor = self.constant(value)?;
        match tensor::to_f32(tensor).ok()?.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }
}

/// A node's input by position; `None` when it is absent or left empty.
pub(crate) fn input(node: &NodeProto, index: usize) -> Option<&str> {
    node.input.get(index).map(String::as_str).filter(|s| !s.is_empty())
}

/// An integer attribute.
pub(crate) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

/// A float attribute.
pub(crate) fn float(node: &NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.f)
}

/// A string attribute.
pub(crate) fn string<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    node.attribute.iter().find(|a| a.name == name).and_then(|a| std::str::from_utf8(&a.s).ok())
}

/// An attribute that is a list of sizes, with a default for when it is absent.
///
/// # Errors
/// [`ModelError::Graph`] when a value is outside 0..=4096 or the list has another length.
pub(crate) fn sizes<const N: usize>(
    node: &NodeProto,
    name: &str,
    default: [usize; N],
) -> Result<[usize; N], ModelError> {
    let Some(attribute) = node.attribute.iter().find(|a| a.name == name) else {
        return Ok(default);
    };
    if attribute.ints.is_empty() {
        return Ok(default);
    }
    let values: Option<Vec<usize>> =
        attribute.ints.iter().map(|&v| usize::try_from(v).ok().filter(|v| *v <= 4096)).collect();
    values.and_then(|v| v.try_into().ok()).ok_or_else(|| ModelError::Graph {
        why: format!(
            "node '{}': attribute {name} is {:?}, expected {N} sizes in 0..=4096",
            node_name(node),
            attribute.ints
        ),
    })
}
