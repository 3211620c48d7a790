//! What is in a model: layers, shapes, types, work and memory.
//!
//! [`inspect`] is for people and scripts; [`shapes`] alone is for code that rewrites models.
//! Nothing is run or planned here: what executes a layer on a board, the engine's report says.

use std::collections::{HashMap, HashSet};

use kinglet_engine::metadata::{Metadata, Preprocess, Provenance};
use kinglet_engine::onnx::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};
use kinglet_engine::{ModelError, OnnxFile};
use serde::Serialize;

pub mod attributes;
pub mod shapes;

use attributes::{int, ints};
use shapes::{Shape, Shapes, elements};

/// What is in a model.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Size as a file, bytes.
    pub file_bytes: u64,
    /// Version of the default operator set; 0 if not stated.
    pub opset: i64,
    /// Inputs.
    pub inputs: Vec<Tensor>,
    /// Outputs.
    pub outputs: Vec<Tensor>,
    /// Layers in the order of execution. QuantizeLinear and DequantizeLinear are no layers: they
    /// show as types of their neighbours.
    pub layers: Vec<Layer>,
    /// Multiply-accumulates of all convolutions and matrix products for one picture, counted at
    /// every output position, those at padded borders too.
    pub macs: u64,
    /// Weights and biases of all layers.
    pub parameters: u64,
    /// Memory of those, bytes.
    pub parameter_bytes: u64,
    /// The model's metadata.
    pub metadata: MetadataSummary,
}

/// Name, shape and type of an input or output.
#[derive(Debug, Clone, Serialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape, where known.
    pub shape: Option<Shape>,
    /// Its element type, where known.
    pub r#type: Option<&'static str>,
}

/// One layer.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// The node's name, or that of its output.
    pub name: String,
    /// ONNX operator.
    pub operator: String,
    /// Shapes of the inputs that are no constants.
    pub inputs: Vec<Option<Shape>>,
    /// Shape of the first output.
    pub output: Option<Shape>,
    /// Type of the weights as stored.
    pub weights: Option<&'static str>,
    /// Type of the first input as stored: int8 or uint8 where it was quantized.
    pub activations: Option<&'static str>,
    /// Kernel of a convolution or pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Vec<i64>>,
    /// Stride of a convolution or pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<Vec<i64>>,
    /// Groups of a convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<i64>,
    /// Multiply-accumulates; `None` where the shapes are unknown.
    pub macs: Option<u64>,
    /// Weights and biases.
    pub parameters: u64,
}

/// The model's metadata in short.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MetadataSummary {
    /// How pictures are prepared.
    pub preprocess: Option<Preprocess>,
    /// Number of labels.
    pub labels: Option<usize>,
    /// Number of self-test samples.
    pub golden_samples: Option<usize>,
    /// The best score under which a picture is of none of the classes.
    pub unknown_below: Option<f32>,
    /// Where the model comes from.
    pub provenance: Option<Provenance>,
}

impl From<Metadata> for MetadataSummary {
    fn from(metadata: Metadata) -> Self {
        Self {
            preprocess: metadata.preprocess,
            labels: metadata.labels.map(|l| l.len()),
            golden_samples: metadata.golden.map(|g| g.samples.len()),
            unknown_below: metadata.unknown_below,
            provenance: metadata.provenance,
        }
    }
}

/// Looks into a model.
///
/// # Errors
/// [`ModelError::Metadata`] when the model's metadata cannot be understood. Unknown operators are
/// no error: their shapes are unknown.
pub fn inspect(file: &OnnxFile) -> Result<Inspection, ModelError> {
    let graph = file.graph();
    let view = View::new(file);
    let mut counted = HashSet::new();
    let mut parameter_bytes = 0;
    let mut layers = Vec::new();
    for node in &graph.node {
        if matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear" | "Constant") {
            continue;
        }
        let mut layer = view.layer(node);
        for tensor in view.parameters(node) {
            // A tensor that two layers share is stored once.
            if counted.insert(tensor.name.as_str()) {
                let count = count(tensor);
                layer.parameters += count;
                parameter_bytes += count * bytes(tensor);
            }
        }
        layers.push(layer);
    }
    let describe = |name: &String| Tensor {
        name: name.clone(),
        shape: view.shapes.shape(name).cloned(),
        r#type: view.shapes.kind(name).map(type_name),
    };
    let default_opset = file.proto.opset_import.iter().find(|o| o.domain.is_empty());
    let file_bytes = if file.bytes == 0 { file.to_bytes().len() as u64 } else { file.bytes };
    Ok(Inspection {
        file_bytes,
        opset: default_opset.map_or(0, |o| o.version),
        inputs: view.shapes.inputs.iter().map(describe).collect(),
        outputs: graph.output.iter().map(|o| describe(&o.name)).collect(),
        macs: layers.iter().filter_map(|l| l.macs).sum(),
        parameters: layers.iter().map(|l| l.parameters).sum(),
        parameter_bytes,
        layers,
        metadata: file.metadata()?.into(),
    })
}

/// A graph with what is needed to describe its nodes.
struct View<'a> {
    shapes: Shapes,
    initializers: HashMap<&'a str, &'a TensorProto>,
    producers: HashMap<&'a str, &'a NodeProto>,
}

impl<'a> View<'a> {
    fn new(file: &'a OnnxFile) -> Self {
        let graph: &GraphProto = file.graph();
        Self {
            shapes: shapes::infer(file),
            initializers: graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect(),
            producers: graph
                .node
                .iter()
                .flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n)))
                .collect(),
        }
    }

    /// The value behind a DequantizeLinear: the name of what is stored.
    fn stored(&self, name: &'a str) -> &'a str {
        match self.producers.get(name) {
            Some(node) if node.op_type == "DequantizeLinear" => {
                node.input.first().map_or(name, String::as_str)
            }
            _ => name,
        }
    }

    /// The constant that an input is, directly or through a DequantizeLinear.
    fn constant(&self, name: &'a str) -> Option<&'a TensorProto> {
        let stored = self.stored(name);
        if let Some(tensor) = self.initializers.get(stored) {
            return Some(tensor);
        }
        let node = self.producers.get(stored).filter(|n| n.op_type == "Constant")?;
        attributes::find(node, "value").and_then(|a| a.t.as_ref())
    }

    fn is_constant(&self, name: &'a str) -> bool {
        let made = |n: &&NodeProto| n.op_type == "Constant";
        self.constant(name).is_some() || self.producers.get(name).is_some_and(made)
    }

    fn input(node: &'a NodeProto, index: usize) -> Option<&'a str> {
        node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The input that holds a layer's weights.
    fn weight_input(node: &'a NodeProto) -> Option<&'a str> {
        match node.op_type.as_str() {
            "Conv" | "ConvInteger" | "Gemm" | "MatMul" | "MatMulInteger" => Self::input(node, 1),
            "QLinearConv" | "QLinearMatMul" => Self::input(node, 3),
            _ => None,
        }
    }

    /// The constants of a node that training would find: weights and biases, no pads, bounds or
    /// scales of quantization.
    fn parameters(&self, node: &'a NodeProto) -> Vec<&'a TensorProto> {
        let inputs: &[usize] = match node.op_type.as_str() {
            "Conv" | "Gemm" => &[1, 2],
            "ConvInteger" | "MatMul" | "MatMulInteger" => &[0, 1],
            "QLinearConv" => &[3, 8],
            "QLinearMatMul" => &[0, 3],
            "BatchNormalization" => &[1, 2, 3, 4],
            "Add" | "Mul" | "Sub" | "Div" | "PRelu" => &[0, 1],
            _ => &[],
        };
        let constants = inputs.iter().filter_map(|&i| Self::input(node, i));
        constants.filter_map(|name| self.constant(name)).collect()
    }

    fn layer(&self, node: &'a NodeProto) -> Layer {
        let weight = Self::weight_input(node);
        let variable = node.input.iter().filter(|i| !i.is_empty() && !self.is_constant(i));
        let output = node.output.first().map_or("", String::as_str);
        let spatial = node.op_type.ends_with("Conv") || node.op_type.ends_with("Pool");
        let kernel = ints(node, "kernel_shape").map(<[i64]>::to_vec).or_else(|| {
            let shape = weight.filter(|_| spatial).and_then(|w| self.shapes.shape(w))?;
            shape.get(2..)?.iter().map(|&k| i64::try_from(k).ok()).collect()
        });
        let stride = kernel.as_ref().filter(|_| spatial).map(|kernel| {
            ints(node, "strides").map_or_else(|| vec![1; kernel.len()], <[i64]>::to_vec)
        });
        let activation = node.input.first().map(|name| self.stored(name));
        Layer {
            name: if node.name.is_empty() { output.to_owned() } else { node.name.clone() },
            operator: node.op_type.clone(),
            inputs: variable.map(|name| self.shapes.shape(name).cloned()).collect(),
            output: self.shapes.shape(output).cloned(),
            weights: weight.and_then(|w| self.shapes.kind(self.stored(w))).map(type_name),
            activations: activation.and_then(|a| self.shapes.kind(a)).map(type_name),
            group: node.op_type.ends_with("Conv").then(|| int(node, "group", 1)),
            kernel,
            stride,
            macs: self.macs(node, output),
            parameters: 0,
        }
    }

    /// Multiply-accumulates: outputs times the length of the sum behind each.
    fn macs(&self, node: &'a NodeProto, output: &str) -> Option<u64> {
        let Some(weight) = Self::weight_input(node) else { return Some(0) };
        let outputs = elements(self.shapes.shape(output)?)?;
        let weight = self.shapes.shape(weight)?;
        let length = match node.op_type.as_str() {
            "Gemm" => weight.get(if int(node, "transB", 0) == 0 { 0 } else { 1 }).copied()?,
            "Conv" | "ConvInteger" | "QLinearConv" => elements(weight.get(1..)?)?,
            _ => *weight.get(weight.len().checked_sub(2)?)?,
        };
        (outputs as u64).checked_mul(length as u64)
    }
}

fn count(tensor: &TensorProto) -> u64 {
    tensor.dims.iter().map(|&d| u64::try_from(d).unwrap_or(0)).product()
}

fn bytes(tensor: &TensorProto) -> u64 {
    let kind = DataType::try_from(tensor.data_type).ok();
    kind.and_then(kinglet_engine::tensor::element_bytes).map_or(0, |b| b as u64)
}

/// Short name of an element type, as Kinglet's reports write it.
#[must_use]
pub fn type_name(kind: DataType) -> &'static str {
    match kind {
        DataType::Float => "f32",
        DataType::Float16 => "f16",
        DataType::Bfloat16 => "bf16",
        DataType::Double => "f64",
        DataType::Int8 => "int8",
        DataType::Uint8 => "uint8",
        DataType::Int16 => "int16",
        DataType::Uint16 => "uint16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::Bool => "bool",
        other => other.as_str_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::import::{ImportOptions, import_random};

    #[test]
    fn the_lites_have_the_published_work() {
        // Source: MACs as counted by others for the same graphs (Conv and Gemm, all positions).
        for (name, macs) in [
            ("efficientnet-lite0", 385_187_552),
            ("efficientnet-lite1", 600_185_232),
            ("efficientnet-lite2", 859_736_272),
        ] {
            let arch = Arch::find(name).unwrap();
            let file = import_random(arch, 1, &ImportOptions::default()).unwrap();
            let inspection = inspect(&file).unwrap();
            assert_eq!(inspection.macs, macs, "{name}");
            assert!(inspection.layers.iter().all(|l| l.macs.is_some() && l.output.is_some()));
        }
    }

    /// Billions, rounded to thousandths. Source: torchvision, `_ops` of the weights.
    #[test]
    fn the_others_have_the_work_that_torchvision_states() {
        for (name, resolution, published) in [
            ("efficientnet-b0", 224, 386),
            ("efficientnet-b1", 240, 687),
            ("efficientnet-b2", 288, 1_088),
            ("efficientnet-b4", 380, 4_394),
            ("efficientnetv2-s", 384, 8_366),
        ] {
            let options = ImportOptions { resolution: Some(resolution), ..Default::default() };
            let file = import_random(Arch::find(name).unwrap(), 1, &options).unwrap();
            let macs = inspect(&file).unwrap().macs;
            assert_eq!((macs + 500_000) / 1_000_000, published, "{name}");
        }
    }

    #[test]
    fn a_layer_says_what_it_is() {
        let arch = Arch::find("efficientnet-b0").unwrap();
        let options = ImportOptions { classes: Some(7), ..Default::default() };
        let inspection = inspect(&import_random(arch, 1, &options).unwrap()).unwrap();
        let layer = inspection.layers.iter().find(|l| l.name == "blocks.3.depthwise").unwrap();
        assert_eq!(layer.operator, "Conv");
        assert_eq!(layer.inputs, [Some(vec![1, 144, 56, 56])]);
        assert_eq!(layer.output, Some(vec![1, 144, 28, 28]));
        assert_eq!((layer.weights, layer.activations), (Some("f32"), Some("f32")));
        assert_eq!(layer.kernel.as_deref(), Some(&[5, 5][..]));
        assert_eq!(layer.stride.as_deref(), Some(&[2, 2][..]));
        assert_eq!(layer.group, Some(144));
        assert_eq!(layer.macs, Some(144 * 28 * 28 * 25));
        assert_eq!(layer.parameters, 144 * 25 + 144);
        assert_eq!(inspection.outputs[0].shape, Some(vec![1, 7]));
        assert_eq!(inspection.parameter_bytes, 4 * inspection.parameters);
    }
}
