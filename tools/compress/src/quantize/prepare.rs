//! Brings a float model into the form that the quantizer plans on: constants as initializers,
//! batch norms folded, fully connected layers as `Gemm` with one row of weights an output.

use kinglet_engine::onnx::{GraphProto, ModelProto, NodeProto, tensor_proto::DataType};
use kinglet_engine::tensor;

use super::QuantizeError;
use crate::graph::{self, Index, Namer, float, input, int, int_attribute};

/// Operator set that per-channel QuantizeLinear and DequantizeLinear came with.
const OPSET: i64 = 13;
/// Oldest operator set that is raised to [`OPSET`].
const OLDEST: i64 = 11;
/// Operators whose meaning changed between [`OLDEST`] and [`OPSET`].
const CHANGED: [&str; 8] =
    ["Softmax", "LogSoftmax", "Hardmax", "Squeeze", "Unsqueeze", "ReduceSum", "Split", "Dropout"];

/// Prepares a checked model.
pub(super) fn prepare(model: &mut ModelProto) -> Result<(), QuantizeError> {
    let opset = raise_opset(model)?;
    let Some(graph) = model.graph.as_mut() else {
        return Err(QuantizeError::NoConvolution);
    };
    plain(graph)?;
    while let Some((at, node)) = as_gemm(graph) {
        graph.node[at] = node;
    }
    normalize_gemms(graph)?;
    graph::drop_unread(graph);
    for entry in &mut model.opset_import {
        if entry.domain.is_empty() || entry.domain == "ai.onnx" {
            entry.version = opset;
        }
    }
    Ok(())
}

/// A float graph with its constants as initializers, batch norms folded and no stated shapes.
pub(crate) fn plain(graph: &mut GraphProto) -> Result<(), QuantizeError> {
    refuse_quantized(graph)?;
    graph::take_constants(graph);
    graph.value_info.clear();
    let constants: std::collections::HashSet<String> =
        graph.initializer.iter().map(|t| t.name.clone()).collect();
    graph.input.retain(|i| !constants.contains(&i.name));
    fold_batch_norms(graph)
}

fn raise_opset(model: &ModelProto) -> Result<i64, QuantizeError> {
    let mut versions = model.opset_import.iter();
    let main = versions.find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let version = main.map_or(1, |o| o.version);
    if version >= OPSET {
        return Ok(version);
    }
    let nodes = model.graph.iter().flat_map(|g| &g.node);
    let changed = nodes.map(|n| n.op_type.as_str()).find(|op| CHANGED.contains(op));
    match changed {
        None if version >= OLDEST => Ok(OPSET),
        changed => Err(QuantizeError::Opset {
            version,
            operator: changed.filter(|_| version >= OLDEST).map(str::to_owned),
        }),
    }
}

fn refuse_quantized(graph: &GraphProto) -> Result<(), QuantizeError> {
    let integer = |op: &str| {
        matches!(
            op,
            "QuantizeLinear"
                | "DequantizeLinear"
                | "DynamicQuantizeLinear"
                | "ConvInteger"
                | "MatMulInteger"
        ) || op.starts_with("QLinear")
    };
    if let Some(node) = graph.node.iter().find(|n| integer(&n.op_type)) {
        return Err(QuantizeError::AlreadyQuantized { node: graph::name(node).to_owned() });
    }
    let half = [DataType::Float16 as i32, DataType::Bfloat16 as i32];
    match graph.initializer.iter().find(|t| half.contains(&t.data_type)) {
        Some(tensor) => Err(QuantizeError::Half { tensor: tensor.name.clone() }),
        None => Ok(()),
    }
}

/// Folds each batch norm behind a convolution whose result nothing else reads.
fn fold_batch_norms(graph: &mut GraphProto) -> Result<(), QuantizeError> {
    while let Some(fold) = find_fold(graph) {
        let mut namer = Namer::new(graph);
        let conv = &graph.node[fold.conv];
        let base = graph::name(conv).to_owned();
        let weights = namer.fresh(&format!("{base}.weight"));
        let bias = namer.fresh(&format!("{base}.bias"));
        graph.initializer.push(tensor::from_f32(&weights, &fold.dims, &fold.weights));
        graph.initializer.push(tensor::from_f32(&bias, &[fold.bias.len()], &fold.bias));
        let output = graph.node[fold.norm].output[0].clone();
        let conv = &mut graph.node[fold.conv];
        conv.input.truncate(1);
        conv.input.extend([weights, bias]);
        conv.output[0] = output;
        graph.node.remove(fold.norm);
    }
    Ok(())
}

struct Fold {
    conv: usize,
    norm: usize,
    dims: Vec<usize>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

fn find_fold(graph: &GraphProto) -> Option<Fold> {
    let index = Index::new(graph);
    graph.node.iter().enumerate().find_map(|(norm, node)| fold(&index, norm, node))
}

/// `w' = w * g` and `b' = (b - mean) * g + shift` with `g = scale / sqrt(variance + epsilon)`, in
/// f64.
fn fold(index: &Index<'_>, norm: usize, node: &NodeProto) -> Option<Fold> {
    if node.op_type != "BatchNormalization" {
        return None;
    }
    let value = input(node, 0)?;
    let conv = index.producer(value).filter(|_| index.only_reader(value).is_some())?;
    let conv_node = &index.graph.node[conv];
    if conv_node.op_type != "Conv" {
        return None;
    }
    let [scale, shift, mean, variance] =
        [1, 2, 3, 4].map(|at| input(node, at).and_then(|v| index.floats(v)));
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    let tensor = index.constant(input(conv_node, 1)?)?;
    let (dims, _) = tensor::shape(tensor).ok()?;
    let mut weights = tensor::to_f32(tensor).ok()?;
    let channels = *dims.first()?;
    let bias = match input(conv_node, 2) {
        Some(bias) => index.floats(bias)?,
        None => vec![0.0; channels],
    };
    if [&scale, &shift, &mean, &variance, &bias].iter().any(|v| v.len() != channels) {
        return None;
    }
    let epsilon = f64::from(float(node, "epsilon").unwrap_or(1e-5));
    let gain = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt();
    let filter = (weights.len() / channels.max(1)).max(1);
    for (c, filter) in weights.chunks_mut(filter).enumerate() {
        filter.iter_mut().for_each(|w| *w = (f64::from(*w) * gain(c)) as f32);
    }
    let folded = |c: usize| {
        ((f64::from(bias[c]) - f64::from(mean[c])) * gain(c) + f64::from(shift[c])) as f32
    };
    Some(Fold { conv, norm, dims, weights, bias: (0..channels).map(folded).collect() })
}

/// A MatMul of a flattened value with constant weights, written as Gemm.
fn as_gemm(graph: &GraphProto) -> Option<(usize, NodeProto)> {
    let index = Index::new(graph);
    graph.node.iter().enumerate().find_map(|(at, node)| {
        if node.op_type != "MatMul" {
            return None;
        }
        let source = index.producer(input(node, 0)?)?;
        // Only these say that the value has two axes.
        let flat = index.graph.node[source].op_type == "Flatten";
        let weights = index.constant(input(node, 1)?)?;
        (flat && weights.dims.len() == 2)
            .then(|| (at, NodeProto { op_type: "Gemm".into(), ..node.clone() }))
    })
}

/// Gemms with constant weights: `transB` 1, no factors, bias of one value an output; an Add of a
/// constant behind one becomes its bias.
fn normalize_gemms(graph: &mut GraphProto) -> Result<(), QuantizeError> {
    for at in 0..graph.node.len() {
        let node = &graph.node[at];
        if node.op_type != "Gemm" || is_normal(&Index::new(graph), node) {
            continue;
        }
        let Some(linear) = normal_gemm(&Index::new(graph), node) else { continue };
        let mut namer = Namer::new(graph);
        let base = graph::name(node).to_owned();
        let weight = namer.fresh(&format!("{base}.weight"));
        let bias = namer.fresh(&format!("{base}.bias"));
        graph.initializer.push(tensor::from_f32(&weight, &linear.dims, &linear.weights));
        graph.initializer.push(tensor::from_f32(&bias, &linear.dims[..1], &linear.bias));
        let node = &mut graph.node[at];
        node.input.truncate(1);
        node.input.extend([weight, bias]);
        node.attribute = vec![int_attribute("transB", 1)];
    }
    while let Some((gemm, add, bias)) = added_bias(&Index::new(graph)) {
        let name = Namer::new(graph).fresh(&format!("{}.bias", graph::name(&graph.node[gemm])));
        graph.initializer.push(tensor::from_f32(&name, &[bias.len()], &bias));
        graph.node[gemm].input[2] = name;
        graph.node[gemm].output = graph.node[add].output.clone();
        graph.node.remove(add);
    }
    Ok(())
}

/// Whether a Gemm has the wanted form already.
fn is_normal(index: &Index<'_>, node: &NodeProto) -> bool {
    let dims = |at| input(node, at).and_then(|v| index.constant(v)).map(|t| t.dims.as_slice());
    let plain = |name| float(node, name).unwrap_or(1.0) == 1.0;
    let fits = matches!((dims(1), dims(2)), (Some([outputs, _]), Some([n])) if n == outputs);
    let transposed = int(node, "transA").unwrap_or(0) == 0 && int(node, "transB") == Some(1);
    fits && transposed && plain("alpha") && plain("beta")
}

/// A Gemm's weights `[outputs, inputs]` and bias, its factors applied.
struct Linear {
    dims: [usize; 2],
    weights: Vec<f32>,
    bias: Vec<f32>,
}

fn normal_gemm(index: &Index<'_>, node: &NodeProto) -> Option<Linear> {
    if int(node, "transA").unwrap_or(0) != 0 {
        return None;
    }
    let tensor = index.constant(input(node, 1)?)?;
    let (dims, _) = tensor::shape(tensor).ok()?;
    let &[rows, columns] = dims.as_slice() else { return None };
    let weights = tensor::to_f32(tensor).ok()?;
    let transposed = int(node, "transB").unwrap_or(0) != 0;
    let (outputs, inputs) = if transposed { (rows, columns) } else { (columns, rows) };
    let alpha = float(node, "alpha").unwrap_or(1.0);
    let beta = float(node, "beta").unwrap_or(1.0);
    let element = |o: usize, i: usize| {
        alpha * weights[if transposed { o * inputs + i } else { i * outputs + o }]
    };
    let weights = (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i)));
    let weights = weights.map(|(o, i)| element(o, i)).collect();
    let bias = match input(node, 2) {
        None => vec![0.0; outputs],
        Some(bias) => match index.floats(bias)?.as_slice() {
            [one] => vec![beta * one; outputs],
            many if many.len() == outputs => many.iter().map(|b| beta * b).collect(),
            _ => return None,
        },
    };
    Some(Linear { dims: [outputs, inputs], weights, bias })
}

fn added_bias(index: &Index<'_>) -> Option<(usize, usize, Vec<f32>)> {
    index.graph.node.iter().enumerate().find_map(|(add, node)| {
        if node.op_type != "Add" {
            return None;
        }
        let (a, b) = (input(node, 0)?, input(node, 1)?);
        let (value, constant) = if index.constant(b).is_some() { (a, b) } else { (b, a) };
        let gemm = index.producer(value).filter(|_| index.only_reader(value).is_some())?;
        let gemm_node = &index.graph.node[gemm];
        let old = (gemm_node.op_type == "Gemm").then(|| index.floats(input(gemm_node, 2)?))??;
        let more = index.floats(constant)?;
        let shape = &index.constant(constant)?.dims;
        let fits = more.len() == old.len() && shape.iter().rev().skip(1).all(|&d| d == 1);
        fits.then(|| (gemm, add, old.iter().zip(&more).map(|(a, b)| a + b).collect()))
    })
}
