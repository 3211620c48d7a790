//! How many bits the range of each activation gets.
//!
//! Kernels without a dot product instruction add more products in 16 bits where the range of what
//! they read is narrow. Nearly all multiplications are those of pointwise convolutions, so only
//! what they read is worth a coarser scale.

use std::collections::HashSet;
use std::fmt;

use kinglet_engine::onnx::{GraphProto, NodeProto};

use super::plan::Plan;
use crate::graph::{Index, input, int};

/// What decides how many bits the range of an activation gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The model's input: the pictures' own 8 bits.
    Picture,
    /// A value of one pixel, of which little is computed.
    Pixel,
    /// Pointwise convolutions read it, and nothing else but sums.
    Pointwise,
    /// Something else reads it: a depthwise convolution, only sums, and so on.
    Other(String),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Picture => f.write_str("the model's input"),
            Self::Pixel => f.write_str("a single pixel"),
            Self::Pointwise => f.write_str("read by pointwise convolutions"),
            Self::Other(reader) => write!(f, "read by {reader}"),
        }
    }
}

/// The role of every point.
pub(super) fn roles(graph: &GraphProto, plan: &Plan) -> Vec<Role> {
    let index = Index::new(graph);
    let pixels = pixels(&index);
    let role = |value: &str| {
        if graph.input.iter().any(|i| i.name == value) {
            Role::Picture
        } else if pixels.contains(value) {
            Role::Pixel
        } else {
            of_readers(&index, value)
        }
    };
    plan.points.iter().map(|point| role(&point.value)).collect()
}

fn of_readers(index: &Index<'_>, value: &str) -> Role {
    let mut pointwise = false;
    for &reader in index.readers(value) {
        let node = &index.graph.node[reader];
        match node.op_type.as_str() {
            "Add" => {}
            "Conv" if is_pointwise(index, node) => pointwise = true,
            "Conv" if int(node, "group").unwrap_or(1) > 1 => {
                return Role::Other("a depthwise convolution".into());
            }
            "Conv" => return Role::Other("a convolution larger than a pixel".into()),
            other => return Role::Other(other.to_owned()),
        }
    }
    if pointwise { Role::Pointwise } else { Role::Other("sums only".into()) }
}

fn is_pointwise(index: &Index<'_>, node: &NodeProto) -> bool {
    let dims = input(node, 1).and_then(|w| index.constant(w)).map(|t| t.dims.as_slice());
    int(node, "group").unwrap_or(1) == 1 && matches!(dims, Some([_, _, 1, 1]))
}

/// Values of one pixel: means over all pixels and what is computed of nothing else.
fn pixels<'a>(index: &Index<'a>) -> HashSet<&'a str> {
    let mut found = HashSet::new();
    for node in &index.graph.node {
        let mean = matches!(node.op_type.as_str(), "GlobalAveragePool" | "ReduceMean");
        let mut read = node.input.iter().filter(|i| !i.is_empty() && index.constant(i).is_none());
        let one = read.clone().next().is_some() && read.all(|i| found.contains(i.as_str()));
        if mean || one {
            found.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}
