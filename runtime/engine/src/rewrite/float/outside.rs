//! Shapes of values that tract computes, where the operator makes them plain.

use std::collections::HashMap;

use super::super::matching::window;
use super::super::tensor_type;
use super::{Context, ends, weights};
use crate::graph::{input, int, sizes};
use crate::onnx::{GraphProto, NodeProto, tensor_shape_proto::dimension::Value};
use crate::region::shape::{self, Shape};

/// Shapes of the model's inputs that have one, as NHWC where they have four axes.
pub(super) fn inputs(graph: &GraphProto) -> HashMap<&str, Shape> {
    let constant = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    graph
        .input
        .iter()
        .filter(|i| !constant(&i.name))
        .filter_map(|input| {
            let dims = &tensor_type(input)?.shape.as_ref()?.dim;
            let size = |v: &Option<Value>| match v {
                Some(Value::DimValue(v)) => usize::try_from(*v).ok().filter(|v| *v > 0),
                _ => None,
            };
            let dims: Option<Shape> = dims.iter().map(|d| size(&d.value)).collect();
            let shape = shape::to_nhwc(&dims?);
            shape::volume(&shape).ok()?;
            Some((input.name.as_str(), shape))
        })
        .collect()
}

/// Operators of one value that keep its shape.
const ELEMENTWISE: [&str; 24] = [
    "Abs",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "Mish",
    "Neg",
    "PRelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Sqrt",
    "Tanh",
];

impl<'a> Context<'a> {
    /// Notes the shape of a node's first output, where it is plain.
    pub(super) fn outside_shape(&mut self, node: &'a NodeProto) {
        if let Some(shape) = self.shape_of(node)
            && let Ok((_, output)) = ends(node)
            && shape::volume(&shape).is_ok()
        {
            self.outside.insert(output, shape);
        }
    }

    fn shape_of(&self, node: &NodeProto) -> Option<Shape> {
        let first = input(node, 0)?;
        let op = node.op_type.as_str();
        if matches!(op, "Add" | "Sub" | "Mul" | "Div") {
            return self.broadcast(first, input(node, 1)?);
        }
        let shape = self.shape(first)?;
        if ELEMENTWISE.contains(&op) {
            return Some(shape.clone());
        }
        let &[n, h, w, c] = shape.as_slice() else { return None };
        let conv = match op {
            "Conv" => {
                let (dims, _) = weights::conv(self.index, node).ok()?;
                let &[out_c, group_c, kernel_h, kernel_w] = dims.as_slice() else { return None };
                let groups = usize::try_from(int(node, "group").unwrap_or(1)).ok()?;
                window(node, out_c, group_c, groups, [kernel_h, kernel_w]).ok()?
            }
            "MaxPool" | "AveragePool" if int(node, "ceil_mode").unwrap_or(0) == 0 => {
                let kernel = sizes(node, "kernel_shape", [0; 2]).ok()?;
                window(node, c, 1, c, kernel).ok()?
            }
            "GlobalMaxPool" | "GlobalAveragePool" => return Some(vec![n, 1, 1, c]),
            _ => return None,
        };
        let geometry = shape::conv_geometry(&conv, [h, w, c]).ok()?;
        Some(vec![n, geometry.out_h, geometry.out_w, geometry.out_c])
    }

    /// The shape of an operator on two values, of which one may be a constant a channel.
    fn broadcast(&self, a: &str, b: &str) -> Option<Shape> {
        let constant = |name, shape: &Shape| {
            let channels = *shape.last()?;
            let after = if shape.len() == 4 { 2 } else { 0 };
            weights::per_channel(self.index, name, channels, after)
        };
        match (self.shape(a), self.shape(b)) {
            (Some(a), Some(b)) => shape::product(a, b).or_else(|_| shape::product(b, a)).ok(),
            (Some(shape), None) => constant(b, shape).map(|_| shape.clone()),
            (None, Some(shape)) => constant(a, shape).map(|_| shape.clone()),
            (None, None) => None,
        }
    }
}
