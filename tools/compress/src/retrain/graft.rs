//! Puts a new classifier in place of the old one.

use kinglet_engine::onnx::{GraphProto, ModelProto, NodeProto};
use kinglet_engine::tensor;

use super::features::Features;
use super::head::{Layer, relu};
use crate::classifier::{self, float_value};
use crate::graph::{Namer, int_attribute};
use crate::quantize::{HeadLayer, Source, quantize_head};

/// Least operator set in which a DequantizeLinear may have a scale a channel.
const CHANNEL_SCALES: i64 = 13;

/// Replaces the classifier of `model` by `layers`, as integers where the features are; says whether
/// they are. Other metadata stays.
pub(super) fn graft(model: &mut ModelProto, features: &Features, layers: &[Layer]) -> bool {
    let old = &features.classifier;
    let opset = model.opset_import.iter().find(|o| o.domain.is_empty()).map_or(0, |o| o.version);
    let scale = old.scale.filter(|_| opset >= CHANNEL_SCALES);
    let Some(graph) = model.graph.as_mut() else { return false };
    let output = graph.output.first().map_or_else(String::new, |o| o.name.clone());
    classifier::keep_only(graph, vec![float_value(&old.features, None)]);
    let mut writer = Writer { namer: Namer::new(graph), graph };
    let mut value = old.features.clone();
    if old.rank == 4 {
        value = writer.node("Flatten", "classifier.flatten", &[&value], None);
        writer.attribute("axis", 1);
    }
    let mut nodes = Vec::new();
    let mut inner = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let is_last = at + 1 == layers.len();
        let name = if is_last { "classifier" } else { "classifier.hidden" };
        let inputs = layer.weights.len() / layer.bias.len().max(1);
        let weights =
            writer.constant(&format!("{name}.weight"), &[layer.bias.len(), inputs], &layer.weights);
        let bias = writer.constant(&format!("{name}.bias"), &[layer.bias.len()], &layer.bias);
        let result =
            writer.node("Gemm", name, &[&value, &weights, &bias], is_last.then_some(&output));
        writer.attribute("transB", 1);
        nodes.push(writer.graph.node.len() - 1);
        value = result;
        if !is_last {
            let before = value;
            value = writer.node("Relu", &format!("{name}.relu"), &[&before], None);
            inner.push((value.clone(), before));
        }
    }
    let classes = layers.last().map_or(0, |l| l.bias.len());
    graph.output = vec![float_value(&output, Some(&[1, classes]))];
    let Some(scale) = scale else { return false };
    let mut inputs = features.train.values.clone();
    let mut quantized = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let width = layer.weights.len() / layer.bias.len().max(1);
        let next = inputs.chunks_exact(width.max(1)).flat_map(|row| relu(layer.apply(row)));
        let next = if at + 1 < layers.len() { next.collect() } else { Vec::new() };
        quantized.push((layer, std::mem::replace(&mut inputs, next)));
    }
    let layers: Vec<HeadLayer<'_>> = quantized
        .iter()
        .enumerate()
        .map(|(at, (layer, inputs))| HeadLayer {
            node: nodes[at],
            weights: &layer.weights,
            bias: &layer.bias,
            inputs,
            source: match at.checked_sub(1).and_then(|before| inner.get(before)) {
                Some((value, base)) => Source::Relu(value, base),
                None => Source::Codes(scale),
            },
        })
        .collect();
    quantize_head(graph, &layers);
    true
}

struct Writer<'a> {
    namer: Namer,
    graph: &'a mut GraphProto,
}

impl Writer<'_> {
    /// Adds a node; gives the name of its result.
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], output: Option<&String>) -> String {
        let name = self.namer.fresh(name);
        let result = output.cloned().unwrap_or_else(|| self.namer.fresh(&format!("{name}.out")));
        self.graph.node.push(NodeProto {
            name,
            op_type: op.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![result.clone()],
            ..Default::default()
        });
        result
    }

    /// Gives the last node an attribute.
    fn attribute(&mut self, name: &str, value: i64) {
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(int_attribute(name, value));
        }
    }

    fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let name = self.namer.fresh(name);
        self.graph.initializer.push(tensor::from_f32(&name, dims, values));
        name
    }
}
