//! The ONNX graph of a network.
//!
//! Plain operators of opset 13: Conv, Clip, Sigmoid, Mul, Add, GlobalAveragePool, Flatten, Gemm.
//! Nodes are named by their place (`blocks.3.depthwise`); a node's output is `NODE.out`, its
//! weights are `NODE.weight` and `NODE.bias`.

use kinglet_engine::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_shape_proto, type_proto,
};
use kinglet_engine::tensor;

use super::fold::Folded;
use crate::arch::{Activation, Conv, Network, Padding, Part, Place};

/// Version of the ONNX format.
const IR_VERSION: i64 = 8;
/// Version of the operators.
const OPSET: i64 = 13;
/// Name of the input: [1, 3, side, side] f32.
const INPUT: &str = "input";
/// Name of the output: [1, classes] f32, before softmax.
const OUTPUT: &str = "logits";

/// Writes the graph around the weights.
pub(super) fn build(
    network: &Network,
    weights: Vec<(Conv, Folded)>,
    side: usize,
    padding: Padding,
) -> ModelProto {
    let mut builder = Builder {
        activation: network.activation,
        padding,
        nodes: Vec::new(),
        initializers: Vec::new(),
        value: INPUT.into(),
        side,
    };
    if network.activation == Activation::Relu6 {
        builder.initializers.push(tensor::from_f32("zero", &[], &[0.0]));
        builder.initializers.push(tensor::from_f32("six", &[], &[6.0]));
    }
    let mut block_input = String::new();
    let mut wide = String::new();
    for (conv, folded) in weights {
        match conv.place {
            Place::Classifier => {
                builder.classifier(&conv, folded);
                continue;
            }
            Place::Block(index, Part::Reduce) => {
                wide.clone_from(&builder.value);
                builder.push("GlobalAveragePool", &format!("blocks.{index}.squeeze.pool"), &[]);
            }
            Place::Block(index, part) => {
                let block = &network.blocks[index];
                let first = match part {
                    Part::Expand | Part::Only => true,
                    Part::Depthwise => !block.expands(),
                    _ => false,
                };
                if first {
                    block_input.clone_from(&builder.value);
                }
            }
            Place::Stem | Place::Head => {}
        }
        builder.convolution(&conv, folded);
        let Place::Block(index, part) = conv.place else { continue };
        match part {
            Part::Excite => {
                builder.push("Sigmoid", &format!("blocks.{index}.squeeze.gate"), &[]);
                builder.push("Mul", &format!("blocks.{index}.squeeze.scale"), &[&wide]);
            }
            Part::Project | Part::Only if network.blocks[index].residual => {
                builder.push("Add", &format!("blocks.{index}.add"), &[&block_input]);
            }
            _ => {}
        }
    }
    builder.finish(network, side)
}

struct Builder {
    activation: Activation,
    padding: Padding,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// The value that the next node reads.
    value: String,
    /// Height and width of that value, while it is a picture.
    side: usize,
}

impl Builder {
    /// Adds a node that reads the current value and `others`.
    fn push(&mut self, op: &str, name: &str, others: &[&str]) -> &mut NodeProto {
        let output = format!("{name}.out");
        let mut input = vec![std::mem::replace(&mut self.value, output.clone())];
        input.extend(others.iter().map(|&o| o.to_owned()));
        self.nodes.push(NodeProto {
            input,
            output: vec![output],
            name: name.into(),
            op_type: op.into(),
            ..Default::default()
        });
        self.nodes.last_mut().expect("a node was just pushed")
    }

    fn parameters(&mut self, name: &str, conv: &Conv, folded: Folded) -> [String; 2] {
        let names = [format!("{name}.weight"), format!("{name}.bias")];
        let weight = tensor::from_f32(&names[0], &conv.weight_shape(), &folded.weight);
        let bias = tensor::from_f32(&names[1], &[conv.output], &folded.bias);
        self.initializers.extend([weight, bias]);
        names
    }

    fn convolution(&mut self, conv: &Conv, folded: Folded) {
        let name = conv.node_name();
        let [weight, bias] = self.parameters(&name, conv, folded);
        let squeezed = matches!(conv.place, Place::Block(_, Part::Reduce | Part::Excite));
        let side = if squeezed { 1 } else { self.side };
        let (before, after) = self.padding.amounts(side, conv.kernel, conv.stride);
        let node = self.push("Conv", &name, &[&weight, &bias]);
        let kernel = conv.kernel as i64;
        let (before_, after_) = (before as i64, after as i64);
        node.attribute = vec![
            ints("dilations", &[1, 1]),
            int("group", conv.groups as i64),
            ints("kernel_shape", &[kernel, kernel]),
            ints("pads", &[before_, before_, after_, after_]),
            ints("strides", &[conv.stride as i64; 2]),
        ];
        if !squeezed {
            self.side = (side + before + after - conv.kernel) / conv.stride + 1;
        }
        if conv.activated {
            self.activate(&name);
        }
    }

    fn activate(&mut self, name: &str) {
        match self.activation {
            Activation::Relu6 => {
                self.push("Clip", &format!("{name}.relu6"), &["zero", "six"]);
            }
            Activation::Swish => {
                let linear = self.value.clone();
                self.push("Sigmoid", &format!("{name}.sigmoid"), &[]);
                self.push("Mul", &format!("{name}.swish"), &[&linear]);
            }
        }
    }

    fn classifier(&mut self, conv: &Conv, folded: Folded) {
        let name = conv.node_name();
        let [weight, bias] = self.parameters(&name, conv, folded);
        self.push("GlobalAveragePool", "pool", &[]);
        self.push("Flatten", "flatten", &[]).attribute = vec![int("axis", 1)];
        let node = self.push("Gemm", &name, &[&weight, &bias]);
        node.attribute = vec![float("alpha", 1.0), float("beta", 1.0), int("transB", 1)];
        node.output = vec![OUTPUT.into()];
    }

    fn finish(self, network: &Network, side: usize) -> ModelProto {
        let graph = GraphProto {
            name: network.arch.name.into(),
            input: vec![value(INPUT, &[1, 3, side, side])],
            output: vec![value(OUTPUT, &[1, network.classes])],
            node: self.nodes,
            initializer: self.initializers,
            ..Default::default()
        };
        ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: "kinglet-tools".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            ..Default::default()
        }
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..Default::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: value, ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: value, ..attribute(name, AttributeType::Float) }
}

fn value(name: &str, dims: &[usize]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = dims
        .iter()
        .map(|&d| Dimension { value: Some(Value::DimValue(d as i64)), ..Default::default() })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: kinglet_engine::onnx::tensor_proto::DataType::Float as i32,
        shape: Some(TensorShapeProto { dim }),
    };
    let r#type =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}
