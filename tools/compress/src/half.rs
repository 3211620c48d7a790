//! A model with 32-bit floats to one with 16-bit floats: half the file.
//!
//! Constants and everything between input and output become float16; the input and the outputs
//! stay f32, with Cast nodes, so that every runtime can feed the model as before. Kinglet's engine
//! computes in f16 where the instruction set has such arithmetic, and in f32 on the constants widened
//! elsewhere.
//!
//! A constant stays f32 when float16 would change it by more than rounding: when a value is beyond
//! 65504, or when the squared error is over a millionth of the squared values (rounding alone
//! causes at most a tenth of that; small values that float16 cannot hold cause the rest). The nodes
//! that read such a constant compute in f32 between two Casts.

use std::collections::{HashMap, HashSet};

use ::half::f16;
use kinglet_engine::onnx::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};
use kinglet_engine::{ModelError, OnnxFile, Options, Session, tensor};

use crate::golden;
use crate::graph::{self, Namer, int_attribute};

/// Largest share of the squared error that a constant may have.
const LARGEST_ERROR: f64 = 1e-6;
/// Operators whose float inputs and outputs all have one type, which may be float16.
const KNOWN: [&str; 50] = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];
/// Those of them that can compute in f32 between Casts: all their inputs are floats.
const WIDENED: [&str; 10] =
    ["Add", "BatchNormalization", "Clip", "Conv", "Div", "Gemm", "MatMul", "Mul", "PRelu", "Sub"];

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HalfError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model is not one with 32-bit floats alone.
    #[error("{what} '{name}' is not of 32-bit floats; give the float model")]
    NotFloat {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An operator that is not known to take float16.
    #[error("operator {op} (node '{node}') has no float16 form that is known to be safe")]
    Operator {
        /// The operator.
        op: String,
        /// The node's name.
        node: String,
    },
}

/// What float16 does to a constant.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Elements.
    pub elements: usize,
    /// Elements beyond 65504.
    pub too_large: usize,
    /// Elements, not zero, that float16 rounds to zero.
    pub to_zero: usize,
    /// Elements that float16 holds with fewer bits (below 2^-14, not rounded to zero).
    pub subnormal: usize,
    /// Whether it stays f32.
    pub kept_f32: bool,
}

/// A converted model.
#[derive(Debug, Clone)]
pub struct Halved {
    /// The model.
    pub file: OnnxFile,
    /// Constants that float16 changes by more than rounding of normal numbers.
    pub tensors: Vec<TensorReport>,
}

/// Converts a float model. `parent` is the SHA-256 of its file.
///
/// # Errors
/// [`HalfError`] naming the node or tensor that cannot be converted.
pub fn convert(file: &OnnxFile, parent: &str) -> Result<Halved, HalfError> {
    let mut metadata = file.metadata()?;
    let mut model = file.proto.clone();
    let mut tensors = Vec::new();
    let mut total = 0;
    if let Some(graph) = model.graph.as_mut() {
        check(graph)?;
        graph::take_constants(graph);
        total = graph.initializer.iter().filter(|t| is_float(t)).count();
        tensors = convert_graph(graph)?;
    }
    let kept = tensors.iter().filter(|t| t.kept_f32).count();
    let mut provenance = metadata.provenance.take().unwrap_or_default();
    provenance.parent_sha256 = Some(parent.to_owned());
    provenance.accuracy.clear();
    provenance.steps.push(format!(
        "compress --f16 ({} constants in float16, {kept} kept in f32)",
        total - kept
    ));
    metadata.provenance = Some(provenance);
    metadata.write(&mut model);
    let mut file = OnnxFile::from_proto(model)?;
    golden::attach(&mut file, golden::HALF)?;
    Session::new(file.clone(), &Options::default())?;
    Ok(Halved { file, tensors })
}

fn check(graph: &GraphProto) -> Result<(), HalfError> {
    let constant =
        |n: &NodeProto| n.op_type == "Constant" && n.attribute.iter().any(|a| a.t.is_some());
    if let Some(node) = graph
        .node
        .iter()
        .find(|n| n.op_type.ends_with("QuantizeLinear") || n.op_type == "DequantizeLinear")
    {
        return Err(HalfError::NotFloat { what: "node", name: graph::name(node).to_owned() });
    }
    let unknown = |n: &&NodeProto| !KNOWN.contains(&n.op_type.as_str()) && !constant(n);
    if let Some(node) = graph.node.iter().find(unknown) {
        let (op, node) = (node.op_type.clone(), graph::name(node).to_owned());
        return Err(HalfError::Operator { op, node });
    }
    let other = [DataType::Float16, DataType::Bfloat16, DataType::Double].map(|t| t as i32);
    match graph.initializer.iter().find(|t| other.contains(&t.data_type)) {
        Some(t) => Err(HalfError::NotFloat { what: "tensor", name: t.name.clone() }),
        None => Ok(()),
    }
}

fn is_float(tensor: &TensorProto) -> bool {
    tensor.data_type == DataType::Float as i32
}

fn convert_graph(graph: &mut GraphProto) -> Result<Vec<TensorReport>, HalfError> {
    let mut reports = Vec::new();
    let mut floats: HashMap<String, Vec<f32>> = HashMap::new();
    let mut kept: HashSet<String> = HashSet::new();
    for t in graph.initializer.iter().filter(|t| is_float(t)) {
        let values = tensor::to_f32(t)?;
        let report = examine(&t.name, &values);
        if report.kept_f32 {
            kept.insert(t.name.clone());
        }
        if report.kept_f32 || report.to_zero + report.subnormal > 0 {
            reports.push(report);
        }
        floats.insert(t.name.clone(), values);
    }
    graph.value_info.clear();
    graph.input.retain(|i| !floats.contains_key(&i.name));
    let mut names = Namer::new(graph);
    let mut converter =
        Converter { floats: &floats, kept: &kept, names: &mut names, wide: HashMap::new() };
    let nodes = converter.nodes(graph)?;
    let wide = converter.wide;
    convert_constants(graph, &floats, &wide);
    graph.node = nodes;
    graph::drop_unread(graph);
    Ok(reports)
}

/// What float16 does to values, and whether they are better kept.
fn examine(name: &str, values: &[f32]) -> TensorReport {
    let mut report = TensorReport {
        name: name.to_owned(),
        elements: values.len(),
        too_large: 0,
        to_zero: 0,
        subnormal: 0,
        kept_f32: false,
    };
    let (mut power, mut error) = (0.0_f64, 0.0_f64);
    for &value in values {
        let half = f16::from_f32(value);
        if !half.is_finite() {
            report.too_large += 1;
            continue;
        }
        if value != 0.0 && half.to_f32() == 0.0 {
            report.to_zero += 1;
        } else if half.to_f32() != 0.0 && !half.is_normal() {
            report.subnormal += 1;
        }
        power += f64::from(value).powi(2);
        error += (f64::from(half.to_f32()) - f64::from(value)).powi(2);
    }
    report.kept_f32 = report.too_large > 0 || error > LARGEST_ERROR * power;
    report
}

struct Converter<'a> {
    floats: &'a HashMap<String, Vec<f32>>,
    kept: &'a HashSet<String>,
    names: &'a mut Namer,
    /// Name of the f32 form of each constant that some node reads in f32.
    wide: HashMap<String, String>,
}

impl Converter<'_> {
    fn nodes(&mut self, graph: &GraphProto) -> Result<Vec<NodeProto>, HalfError> {
        let mut nodes = Vec::new();
        // Inputs of the graph, and outputs, by their names inside.
        let mut inside: HashMap<String, String> = HashMap::new();
        for input in &graph.input {
            let name = self.names.fresh(&format!("{}.f16", input.name));
            nodes.push(cast(&input.name, &name, DataType::Float16));
            inside.insert(input.name.clone(), name);
        }
        for output in &graph.output {
            let name = self.names.fresh(&format!("{}.f16", output.name));
            inside.insert(output.name.clone(), name);
        }
        for node in &graph.node {
            let mut node = node.clone();
            for value in node.input.iter_mut().chain(&mut node.output) {
                if let Some(name) = inside.get(value) {
                    value.clone_from(name);
                }
            }
            if node.input.iter().any(|i| self.kept.contains(i)) {
                self.widened(node, &mut nodes)?;
            } else {
                nodes.push(node);
            }
        }
        for output in &graph.output {
            if let Some(name) = inside.get(&output.name) {
                nodes.push(cast(name, &output.name, DataType::Float));
            }
        }
        Ok(nodes)
    }

    /// A node that computes in f32, between Casts.
    fn widened(
        &mut self,
        mut node: NodeProto,
        nodes: &mut Vec<NodeProto>,
    ) -> Result<(), HalfError> {
        if !WIDENED.contains(&node.op_type.as_str()) {
            let (op, node) = (node.op_type.clone(), graph::name(&node).to_owned());
            return Err(HalfError::Operator { op, node });
        }
        for value in node.input.iter_mut().filter(|i| !i.is_empty()) {
            let known = self.wide.get(value).cloned();
            let constant = self.floats.contains_key(value);
            let name = match known.filter(|_| constant) {
                Some(name) => name,
                None => self.names.fresh(&format!("{value}.f32")),
            };
            if constant {
                self.wide.insert(value.clone(), name.clone());
            } else {
                nodes.push(cast(value, &name, DataType::Float));
            }
            *value = name;
        }
        let mut after = Vec::new();
        for value in node.output.iter_mut().filter(|o| !o.is_empty()) {
            let name = self.names.fresh(&format!("{value}.f32"));
            after.push(cast(&name, value, DataType::Float16));
            *value = name;
        }
        nodes.push(node);
        nodes.extend(after);
        Ok(())
    }
}

fn convert_constants(
    graph: &mut GraphProto,
    floats: &HashMap<String, Vec<f32>>,
    wide: &HashMap<String, String>,
) {
    let mut copies = Vec::new();
    for t in graph.initializer.iter_mut() {
        let Some(values) = floats.get(&t.name) else { continue };
        if let Some(name) = wide.get(&t.name) {
            copies.push(TensorProto { name: name.clone(), ..t.clone() });
        }
        let dims: Vec<usize> = t.dims.iter().map(|&d| d as usize).collect();
        *t = tensor::from_f32_as_f16(&t.name, &dims, values);
    }
    graph.initializer.extend(copies);
}

fn cast(from: &str, to: &str, kind: DataType) -> NodeProto {
    NodeProto {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        name: format!("{to}.cast"),
        op_type: "Cast".to_owned(),
        attribute: vec![int_attribute("to", kind as i64)],
        ..Default::default()
    }
}
