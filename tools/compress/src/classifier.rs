//! The classifier of a network: the linear layer that makes its outputs, and the backbone before it.

use std::collections::HashSet;

use kinglet_engine::metadata::{GOLDEN_KEY, LABELS_KEY};
use kinglet_engine::onnx::{
    GraphProto, NodeProto, TypeProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto,
    type_proto,
};
use kinglet_engine::{ModelError, OnnxFile, tensor};

use crate::graph::{self, Index, float, input, int, ints};
use crate::inspect::shapes;

/// Nodes that may stand between the classifier and the output, and whose result is as good.
const AFTER: [&str; 8] = [
    "Softmax",
    "Identity",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
];

/// A model without a classifier that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no classifier is recognised: {why}; the outputs must come from one fully connected layer \
     (Gemm, MatMul or 1x1 Conv) with constant weights"
)]
pub struct NoClassifier {
    /// What was found instead.
    pub why: String,
}

/// The linear layer that makes a model's outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// The value that it reads: (1, width) or (1, width, 1, 1).
    pub features: String,
    /// Number of axes of that value: 2 or 4.
    pub rank: usize,
    /// Number of features.
    pub width: usize,
    /// Weights, `[classes][width]`.
    pub weights: Vec<f32>,
    /// One for each class.
    pub bias: Vec<f32>,
    /// The feature maps (1, width, height, width) of which the features are the means.
    pub maps: Option<String>,
    /// Size of one code, where the features are quantized.
    pub scale: Option<f32>,
}

impl Classifier {
    /// Looks for a model's classifier.
    ///
    /// # Errors
    /// [`NoClassifier`] saying what is at the end of the model instead.
    pub fn find(file: &OnnxFile) -> Result<Self, NoClassifier> {
        let graph = file.graph();
        let index = Index::new(graph);
        let shapes = shapes::infer(file);
        let none = |why: String| NoClassifier { why };
        let mut value = graph.output.first().map_or("", |o| o.name.as_str());
        let mut added = None;
        let node = loop {
            let Some(at) = index.producer(value) else {
                return Err(none("the output is not computed".into()));
            };
            let node = &graph.node[at];
            let next = match node.op_type.as_str() {
                "Gemm" | "MatMul" | "Conv" => break node,
                "Add" if added.is_none() => {
                    let constant = |i| input(node, i).and_then(|v| constant(&index, v));
                    let (at, bias) = match (constant(0), constant(1)) {
                        (None, Some(bias)) => (0, bias),
                        (Some(bias), None) => (1, bias),
                        _ => return Err(none(described(node))),
                    };
                    added = Some(bias);
                    input(node, at)
                }
                op if AFTER.contains(&op) => input(node, 0),
                _ => return Err(none(described(node))),
            };
            value = next.unwrap_or("");
        };
        let linear = linear(&index, node).ok_or_else(|| none(described(node)))?;
        let Linear { weights, bias, classes, width } = linear;
        let bias = match (bias, added) {
            (Some(bias), None) | (None, Some(bias)) if bias.len() == classes => bias,
            (None, None) => vec![0.0; classes],
            _ => return Err(none(format!("{} has an odd bias", described(node)))),
        };
        let features = input(node, 0).unwrap_or("").to_owned();
        let shape = shapes.shape(&features).cloned().unwrap_or_default();
        let fits = matches!(*shape.as_slice(), [1, c] | [1, c, 1, 1] if c == width);
        if !fits || width == 0 || classes == 0 {
            return Err(none(format!("{} reads a value of shape {shape:?}", described(node))));
        }
        let maps = maps(&index, &features).filter(|value| {
            matches!(shapes.shape(value).map(Vec::as_slice), Some(&[1, c, _, _]) if c == width)
        });
        let scale = code_scale(&index, &features);
        Ok(Self { features, rank: shape.len(), width, weights, bias, maps, scale })
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// The layer's outputs for features.
    #[must_use]
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.width.max(1)).zip(&self.bias);
        let sum = |row: &[f32]| row.iter().zip(features).map(|(w, x)| w * x).sum::<f32>();
        rows.map(|(row, bias)| sum(row) + bias).collect()
    }

    /// The model up to what its classifier reads.
    ///
    /// # Errors
    /// [`ModelError`] when the rest is no model.
    pub fn backbone(&self, file: &OnnxFile) -> Result<OnnxFile, ModelError> {
        let mut proto = file.proto.clone();
        proto.metadata_props.retain(|p| p.key != GOLDEN_KEY && p.key != LABELS_KEY);
        if let Some(graph) = proto.graph.as_mut() {
            keep_only(graph, vec![float_value(&self.features, None)]);
        }
        OnnxFile::from_proto(proto)
    }
}

fn described(node: &NodeProto) -> String {
    format!("{} (node '{}') is at the end", node.op_type, graph::name(node))
}

/// A linear layer's constants; weights are `[classes][width]`.
struct Linear {
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    classes: usize,
    width: usize,
}

fn linear(index: &Index<'_>, node: &NodeProto) -> Option<Linear> {
    let name = input(node, 1)?;
    let weights = constant(index, name)?;
    let bias = match input(node, 2) {
        Some(bias) => Some(constant(index, bias)?),
        None => None,
    };
    let dims = constant_shape(index, name)?;
    let one = |name: &str| float(node, name).is_none_or(|v| v == 1.0);
    let by_class = match (node.op_type.as_str(), dims.as_slice()) {
        ("Conv", &[_, _, 1, 1]) => {
            let plain = int(node, "group").is_none_or(|g| g == 1)
                && ints(node, "pads").is_none_or(|p| p.iter().all(|&v| v == 0));
            plain.then_some(true)?
        }
        ("Gemm", &[_, _]) => {
            let plain = int(node, "transA").unwrap_or(0) == 0 && one("alpha") && one("beta");
            plain.then_some(int(node, "transB").unwrap_or(0) == 1)?
        }
        ("MatMul", &[_, _]) => false,
        _ => return None,
    };
    let (rows, columns) = (dims[0], dims[1]);
    if by_class {
        return Some(Linear { weights, bias, classes: rows, width: columns });
    }
    let turned = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
    let weights = turned.map(|at| weights[at]).collect();
    Some(Linear { weights, bias, classes: columns, width: rows })
}

/// The initializer behind a value: itself, or the codes that a DequantizeLinear reads.
fn stored<'a>(index: &'a Index<'_>, value: &'a str) -> Option<(&'a str, Option<&'a NodeProto>)> {
    if index.constant(value).is_some() {
        return Some((value, None));
    }
    let node = &index.graph.node[index.producer(value)?];
    let codes = input(node, 0)?;
    (node.op_type == "DequantizeLinear" && index.constant(codes).is_some())
        .then_some((codes, Some(node)))
}

fn constant_shape(index: &Index<'_>, value: &str) -> Option<Vec<usize>> {
    let (name, _) = stored(index, value)?;
    Some(tensor::shape(index.constant(name)?).ok()?.0)
}

/// The elements of a constant, dequantized where it is stored as codes.
fn constant(index: &Index<'_>, value: &str) -> Option<Vec<f32>> {
    let (name, node) = stored(index, value)?;
    let Some(node) = node else { return index.floats(name) };
    let codes = tensor::to_i64(index.constant(name)?).ok()?;
    let (dims, _) = tensor::shape(index.constant(name)?).ok()?;
    let scales = index.floats(input(node, 1)?)?;
    let zeros = match input(node, 2) {
        Some(zeros) => tensor::to_i64(index.constant(zeros)?).ok()?,
        None => vec![0; scales.len()],
    };
    let axis = int(node, "axis").unwrap_or(1);
    let axis = if axis < 0 { axis + dims.len() as i64 } else { axis } as usize;
    let inner: usize = dims.iter().skip(axis + 1).product();
    let channels = dims.get(axis).copied().unwrap_or(1);
    if zeros.len() != scales.len() || !(scales.len() == 1 || scales.len() == channels) {
        return None;
    }
    let real = |(at, code): (usize, i64)| {
        let channel = if scales.len() == 1 { 0 } else { at / inner.max(1) % channels.max(1) };
        (code - zeros[channel]) as f32 * scales[channel]
    };
    Some(codes.into_iter().enumerate().map(real).collect())
}

/// Operators that move or round the features between the pooling and the classifier.
const MOVES: [&str; 8] = [
    "Flatten",
    "Reshape",
    "Squeeze",
    "Identity",
    "Dropout",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
];

/// What is pooled into the features.
fn maps(index: &Index<'_>, features: &str) -> Option<String> {
    let mut value = features;
    for _ in 0..MOVES.len() {
        let node = &index.graph.node[index.producer(value)?];
        let before = input(node, 0)?;
        match node.op_type.as_str() {
            "GlobalAveragePool" | "ReduceMean" => return Some(before.to_owned()),
            op if MOVES.contains(&op) => value = before,
            _ => return None,
        }
    }
    None
}

/// The scale of the codes that the features are.
fn code_scale(index: &Index<'_>, features: &str) -> Option<f32> {
    let node = &index.graph.node[index.producer(index.trace(features))?];
    let quantized = node.op_type == "DequantizeLinear";
    match index.floats(input(node, 1).filter(|_| quantized)?)?.as_slice() {
        &[scale] => Some(scale),
        _ => None,
    }
}

/// Makes `outputs` the graph's outputs, and drops what none of them depends on.
pub(crate) fn keep_only(graph: &mut GraphProto, outputs: Vec<ValueInfoProto>) {
    let mut needed: HashSet<String> = outputs.iter().map(|o| o.name.clone()).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|o| needed.contains(o)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.output = outputs;
    graph.value_info.retain(|v| needed.contains(&v.name));
    graph::drop_unread(graph);
}

/// A float value, of known shape if it is given.
pub(crate) fn float_value(name: &str, dims: Option<&[usize]>) -> ValueInfoProto {
    let dim = |&size: &usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size as i64)),
        ..Default::default()
    };
    let shape = dims
        .map(|dims| kinglet_engine::onnx::TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..Default::default() });
    ValueInfoProto { name: name.to_owned(), r#type, ..Default::default() }
}
