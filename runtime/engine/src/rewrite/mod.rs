//! From the model's graph to what runs: regions are cut out of it (first what runs in int8, then
//! the float parts that our kernels have), the rest is made fit for tract.
//!
//! This happens on ONNX nodes, before tract sees them: ONNX's operators are few and stable, and
//! tract would first evaluate every DequantizeLinear of a weight into f32 (ignoring its axis).

use std::collections::{HashMap, HashSet};

use crate::error::ModelError;
use crate::graph::{GraphIndex, input};
use crate::model_file::check::node_name;
use crate::onnx::{GraphProto, ModelProto, NodeProto, tensor_proto::DataType};
use crate::region::{FloatWeights, Quantization, Region, Step, StepKind, Stored};
use crate::tensor;

mod constants;
mod float;
mod half_precision;
mod matching;
mod params;
mod schedule;
mod unary;

use matching::{Matched, Matcher, Quantized, is_qlinear};

/// Operator type of the nodes that stand for a region in the graph that tract reads.
pub(crate) const REGION_OP: &str = "KingletRegion";

/// A model cut into regions and a rest.
pub(crate) struct Rewritten {
    /// The rest: one node of type [`REGION_OP`] a region, and what tract runs itself.
    pub model: ModelProto,
    /// The regions, by the name of their node.
    pub regions: HashMap<String, Region>,
    /// Set when the model's input is fed as codes (NHWC) instead of f32 (NCHW).
    pub input_codes: Option<Quantization>,
    /// Convolutions left in float: the node's name, and why.
    pub float_convs: Vec<(String, String)>,
    /// Those of them that tract runs: the node's name, and why.
    pub tract_convs: Vec<(String, String)>,
    /// Whether the model's float tensors were float16.
    pub stored_f16: bool,
}

/// Something that runs: a node as it is, or a step of a region.
#[allow(clippy::large_enum_variant, reason = "a few hundred, and only while a model is loaded")]
enum Item {
    Node(NodeProto),
    Step(Step),
}

impl Item {
    fn inputs(&self) -> &[String] {
        match self {
            Self::Node(node) => &node.input,
            Self::Step(step) => &step.inputs,
        }
    }
    fn outputs(&self) -> &[String] {
        match self {
            Self::Node(node) => &node.output,
            Self::Step(step) => std::slice::from_ref(&step.output),
        }
    }
}

/// How to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Float regions too, not only integer ones.
    pub float: bool,
    /// Floats that are stored in f16 are computed with in f16.
    pub half: bool,
}

/// Cuts the regions out of a checked model.
pub(crate) fn rewrite(mut model: ModelProto, choice: Choice) -> Result<Rewritten, ModelError> {
    let stored_f16 = half_precision::widen(&mut model)?;
    let graph = model.graph.take().ok_or_else(|| ModelError::NotOnnx { why: "no graph".into() })?;
    let (items, refused) = translate(&graph);
    let mut items = alive(items, &graph);
    let float_convs = convs(&items, &refused, "its output is not quantized");
    let mut tract_convs = float_convs.clone();
    if choice.float {
        let (translated, left) = float::translate(items, &graph);
        let left: HashMap<String, String> = refused.into_iter().chain(left).collect();
        items = alive(translated, &graph);
        float::leave_directly(&mut items);
        tract_convs = convs(&items, &left, "no rule for it");
    }
    // Where codes meet floats, and where a weight is beyond f16, all floats are f32.
    let fits = |item: &Item| match item {
        Item::Step(step) => matches!(&step.kind, StepKind::Float(kind) if kind.fits_f16()),
        Item::Node(_) => true,
    };
    let half = choice.half && stored_f16 && items.iter().all(fits);
    let (items, input_codes) = feed_codes(items, &graph);
    let items = schedule::group(items);
    let (graph, regions) = assemble(graph, items, input_codes.is_some(), half);
    model.graph = Some(constants::fold_dequantize(graph)?);
    Ok(Rewritten { model, regions, input_codes, float_convs, tract_convs, stored_f16 })
}

/// The convolutions among the nodes that are left, with the reasons noted by name.
fn convs(
    items: &[Item],
    reasons: &HashMap<String, String>,
    otherwise: &str,
) -> Vec<(String, String)> {
    let conv = |item: &Item| match item {
        Item::Node(n) if matches!(n.op_type.as_str(), "Conv" | "QLinearConv") => {
            let name = node_name(n);
            let why = reasons.get(name).map_or(otherwise, String::as_str);
            Some((name.to_owned(), why.to_owned()))
        }
        _ => None,
    };
    items.iter().filter_map(conv).collect()
}

/// Every node as it is, or as the step that replaces it. Nothing is removed here: what a step
/// makes superfluous is dead afterwards. Also says why convolutions were refused, by name.
fn translate(graph: &GraphProto) -> (Vec<Item>, HashMap<String, String>) {
    let mut matcher = Matcher::new(GraphIndex::new(graph));
    let mut items = Vec::with_capacity(graph.node.len());
    let mut refused = HashMap::new();
    for node in &graph.node {
        let step = match node.op_type.as_str() {
            "QuantizeLinear" => quantize(&mut matcher, node, &mut refused),
            "DequantizeLinear" => dequantize(&matcher, node),
            "Gemm" | "MatMul" => matcher.linear(node, None).ok(),
            _ if is_qlinear(node) => match matcher.qlinear(node) {
                Ok((matched, known)) if !matcher.foreign.contains(node.output[0].as_str()) => {
                    matcher.values.insert(node.output[0].clone(), known);
                    Some(matched)
                }
                Ok(_) => None,
                Err(why) => {
                    refused.insert(node_name(node).to_owned(), why);
                    None
                }
            },
            _ => None,
        };
        items.push(match step {
            Some(m) => {
                let name = if m.node.is_empty() { node_name(node).to_owned() } else { m.node };
                let output = node.output[0].clone();
                Item::Step(Step { name, kind: m.kind, inputs: m.inputs, output })
            }
            None => Item::Node(node.clone()),
        });
    }
    (items, refused)
}

fn quantize(
    matcher: &mut Matcher<'_>,
    node: &NodeProto,
    refused: &mut HashMap<String, String>,
) -> Option<Matched> {
    let (real, output) = (input(node, 0)?, node.output[0].as_str());
    if matcher.foreign.contains(output) || matcher.index.constant(real).is_some() {
        return None;
    }
    let quantization = params::activation(&matcher.index, input(node, 1), input(node, 2)).ok()?;
    let matched = matcher.quantized(real, quantization).unwrap_or_else(|why| {
        if let Some(conv) = conv_before(&matcher.index, real) {
            refused.insert(conv, why.clone());
        }
        Matched {
            kind: StepKind::Quantize(quantization),
            inputs: vec![real.to_owned()],
            form: matcher.form(real),
            node: String::new(),
        }
    });
    matcher.values.insert(output.to_owned(), Quantized { quantization, form: matched.form });
    Some(matched)
}

/// The convolution that produces a value, perhaps behind an activation.
fn conv_before(index: &GraphIndex<'_>, value: &str) -> Option<String> {
    let mut value = value;
    for _ in 0..4 {
        let node = index.producer(value)?;
        if node.op_type == "Conv" {
            return Some(node_name(node).to_owned());
        }
        value = input(node, 0)?;
    }
    None
}

/// Codes back to f32. Where these are the model's outputs and a fully connected layer made them, the
/// layer gives f32 itself: rounding scores to 256 steps would only make classes equal that are not.
fn dequantize(matcher: &Matcher<'_>, node: &NodeProto) -> Option<Matched> {
    let source = input(node, 0)?;
    if matcher.index.graph.output.iter().any(|o| o.name == node.output[0])
        && let Some(quantize) = matcher.index.producer(source)
        && quantize.op_type == "QuantizeLinear"
        && let Some(layer) = input(quantize, 0).and_then(|real| matcher.index.producer(real))
        && matches!(layer.op_type.as_str(), "Gemm" | "MatMul")
        && let Ok(linear) = matcher.linear(layer, None)
    {
        return Some(Matched { node: node_name(layer).to_owned(), ..linear });
    }
    let known = matcher.values.get(source)?;
    // The node states scale and zero point again; they need not be the producer's.
    let quantization = params::activation(&matcher.index, input(node, 1), input(node, 2)).ok()?;
    (quantization == known.quantization).then(|| Matched {
        kind: StepKind::Dequantize(quantization),
        inputs: vec![source.to_owned()],
        form: known.form,
        node: String::new(),
    })
}

/// Drops what no output needs.
fn alive(items: Vec<Item>, graph: &GraphProto) -> Vec<Item> {
    let mut needed: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    needed.extend(nested_reads(graph).map(str::to_owned));
    let mut kept: Vec<Item> = Vec::new();
    for item in items.into_iter().rev() {
        if item.outputs().iter().any(|o| needed.contains(o)) {
            needed.extend(item.inputs().iter().cloned());
            kept.push(item);
        }
    }
    kept.reverse();
    kept
}

/// What subgraphs read: that is not among the inputs of the nodes that have them.
fn nested_reads(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let subgraphs =
        graph.node.iter().flat_map(|n| &n.attribute).flat_map(|a| a.g.iter().chain(&a.graphs));
    subgraphs.flat_map(|sub| {
        let read = sub.node.iter().flat_map(|n| n.input.iter().map(String::as_str));
        read.chain(sub.output.iter().map(|o| o.name.as_str()))
    })
}

/// Where the model's only input is read by one quantizing step alone, that step is left out: the
/// preprocessor writes codes itself.
fn feed_codes(mut items: Vec<Item>, graph: &GraphProto) -> (Vec<Item>, Option<Quantization>) {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut inputs = graph.input.iter().filter(|i| !constants.contains(i.name.as_str()));
    let (Some(only), None) = (inputs.next(), inputs.next()) else { return (items, None) };
    let name = only.name.as_str();
    let mut readers =
        items.iter().enumerate().filter(|(_, i)| i.inputs().iter().any(|n| n == name));
    let (Some((at, Item::Step(step))), None) = (readers.next(), readers.next()) else {
        return (items, None);
    };
    let StepKind::Quantize(quantization) = step.kind else { return (items, None) };
    if graph.output.iter().any(|o| o.name == name || o.name == step.output) || rank(only) != 4 {
        return (items, None);
    }
    let codes = step.output.clone();
    items.remove(at);
    for item in &mut items {
        if let Item::Step(step) = item {
            for input in step.inputs.iter_mut().filter(|i| **i == codes) {
                *input = name.to_owned();
            }
        }
    }
    (items, Some(quantization))
}

fn rank(value: &crate::onnx::ValueInfoProto) -> usize {
    tensor_type(value).and_then(|t| t.shape.as_ref()).map_or(0, |s| s.dim.len())
}

/// The tensor type of a value, if it has one.
pub(crate) fn tensor_type(
    value: &crate::onnx::ValueInfoProto,
) -> Option<&crate::onnx::type_proto::Tensor> {
    let crate::onnx::type_proto::Value::TensorType(t) = value.r#type.as_ref()?.value.as_ref()?;
    Some(t)
}

/// Builds the graph for tract: each run of steps becomes one node.
fn assemble(
    mut graph: GraphProto,
    items: Vec<Item>,
    codes: bool,
    half: bool,
) -> (GraphProto, HashMap<String, Region>) {
    let mut last_reader: HashMap<String, usize> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        for name in item.inputs() {
            last_reader.insert(name.clone(), at);
        }
    }
    for output in &graph.output {
        last_reader.insert(output.name.clone(), usize::MAX);
    }
    let mut nodes = Vec::new();
    let mut regions = HashMap::new();
    let mut run: Vec<Step> = Vec::new();
    let end = items.len();
    let mut close = |run: &mut Vec<Step>, at: usize, nodes: &mut Vec<NodeProto>| {
        if run.is_empty() {
            return;
        }
        let region = region(std::mem::take(run), half, |name| {
            last_reader.get(name).is_some_and(|&last| last >= at)
        });
        let name = format!("kinglet.region.{}", regions.len());
        nodes.push(NodeProto {
            name: name.clone(),
            op_type: REGION_OP.to_owned(),
            input: region.inputs.clone(),
            output: region.outputs.clone(),
            ..Default::default()
        });
        regions.insert(name, region);
    };
    for (at, item) in items.into_iter().enumerate() {
        match item {
            Item::Step(step) => run.push(step),
            Item::Node(node) => {
                close(&mut run, at, &mut nodes);
                nodes.push(node);
            }
        }
    }
    close(&mut run, end, &mut nodes);
    graph.node = nodes;
    let read: HashSet<&str> =
        graph.node.iter().flat_map(|n| n.input.iter().map(String::as_str)).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    // Subgraphs may read any constant: keep them all then.
    let nested = graph.node.iter().any(|n| n.attribute.iter().any(|a| a.g.is_some()));
    let dead: HashSet<String> = graph
        .initializer
        .iter()
        .map(|t| t.name.clone())
        .filter(|n| !nested && !read.contains(n.as_str()) && !outputs.contains(n.as_str()))
        .collect();
    move_codes(&mut graph, &mut regions, &dead);
    graph.initializer.retain(|t| !dead.contains(&t.name));
    graph.input.retain(|i| !dead.contains(&i.name));
    graph.value_info.clear();
    if codes {
        let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        for value in graph.input.iter_mut().filter(|i| !constants.contains(i.name.as_str())) {
            codes_type(value);
        }
    }
    (graph, regions)
}

/// Moves the weights of the regions' steps out of the graph; what is still read there is copied.
fn move_codes(
    graph: &mut GraphProto,
    regions: &mut HashMap<String, Region>,
    dead: &HashSet<String>,
) {
    let mut wanted: HashMap<String, Vec<&mut Stored>> = HashMap::new();
    let mut floats: HashMap<String, Vec<&mut FloatWeights>> = HashMap::new();
    for step in regions.values_mut().flat_map(|r| &mut r.steps) {
        match &mut step.kind {
            StepKind::Float(kind) => {
                if let Some(weights) = kind.weights_mut()
                    && let Some(pending) = &weights.pending
                {
                    floats.entry(pending.initializer.clone()).or_default().push(weights);
                }
            }
            kind => {
                if let Some(weights) = kind.weights_mut()
                    && let Stored::Initializer(name) = &weights.codes.stored
                {
                    wanted.entry(name.clone()).or_default().push(&mut weights.codes.stored);
                }
            }
        }
    }
    for tensor in &mut graph.initializer {
        for weights in floats.remove(&tensor.name).unwrap_or_default() {
            // Checked when the file was read.
            weights.fill(tensor::to_f32(tensor).unwrap_or_default());
        }
        if !wanted.contains_key(&tensor.name) && dead.contains(&tensor.name) {
            tensor.raw_data = Vec::new();
        }
        let Some(mut places) = wanted.remove(&tensor.name) else { continue };
        let last = if dead.contains(&tensor.name) { places.pop() } else { None };
        for place in places {
            *place = Stored::Here(tensor.raw_data.clone());
        }
        if let Some(place) = last {
            *place = Stored::Here(std::mem::take(&mut tensor.raw_data));
        }
    }
}

/// Turns an input's type from f32 NCHW into uint8 NHWC.
fn codes_type(value: &mut crate::onnx::ValueInfoProto) {
    use crate::onnx::type_proto::Value;
    let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
    else {
        return;
    };
    tensor.elem_type = DataType::Uint8 as i32;
    if let Some(shape) = tensor.shape.as_mut().filter(|s| s.dim.len() == 4) {
        let channels = shape.dim.remove(1);
        shape.dim.push(channels);
    }
}

fn region(steps: Vec<Step>, half: bool, read_later: impl Fn(&str) -> bool) -> Region {
    let own: HashSet<&str> = steps.iter().map(|s| s.output.as_str()).collect();
    let mut seen = HashSet::new();
    let inputs = steps
        .iter()
        .flat_map(|s| &s.inputs)
        .filter(|i| !own.contains(i.as_str()) && seen.insert(i.as_str()))
        .cloned()
        .collect();
    let outputs = steps.iter().map(|s| &s.output).filter(|o| read_later(o)).cloned().collect();
    Region { half, inputs, outputs, steps }
}

#[cfg(test)]
mod tests;
