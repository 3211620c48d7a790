//! What is cut out of a graph, and what is left in it.

use super::*;
use crate::onnx::{AttributeProto, TensorProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::region::Weights;
use crate::tensor;

/// A graph built node by node.
#[derive(Default)]
struct Builder(GraphProto);

impl Builder {
    fn new() -> Self {
        let mut graph = GraphProto { input: vec![value("x", &[1, 3, 4, 4])], ..Default::default() };
        graph.initializer = vec![
            tensor::from_f32("s", &[], &[0.1]),
            tensor::from_u8("z", &[], &[10]),
            tensor::from_i8("w", &[2, 3, 1, 1], &[1, -2, 3, 0, 0, 1]),
            tensor::from_f32("ws", &[2], &[0.5, 1e-9]),
            tensor::from_i8("wz", &[2], &[0, 0]),
        ];
        Self(graph)
    }

    fn node(mut self, op: &str, inputs: &[&str], output: &str) -> Self {
        let node = NodeProto {
            op_type: op.into(),
            name: format!("node of {output}"),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![output.into()],
            ..Default::default()
        };
        self.0.node.push(node);
        self
    }

    fn axis(mut self, axis: i64) -> Self {
        let attribute = AttributeProto { name: "axis".into(), i: axis, ..Default::default() };
        self.0.node.last_mut().unwrap().attribute.push(attribute);
        self
    }

    fn constant(mut self, tensor: TensorProto) -> Self {
        self.0.initializer.push(tensor);
        self
    }

    /// Q/DQ of `input`, giving `output`; the codes are `q.output`.
    fn quantized(self, input: &str, output: &str) -> Self {
        let codes = format!("q.{output}");
        self.node("QuantizeLinear", &[input, "s", "z"], &codes).node(
            "DequantizeLinear",
            &[&codes, "s", "z"],
            output,
        )
    }

    fn conv(self, bias: TensorProto) -> Self {
        self.quantized("x", "xq")
            .node("DequantizeLinear", &["w", "ws", "wz"], "wd")
            .axis(0)
            .constant(bias)
            .node("Conv", &["xq", "wd", "b"], "c")
            .node("Relu", &["c"], "r")
            .quantized("r", "y")
    }

    fn rewrite(mut self, output: &str) -> Rewritten {
        self.0.output = vec![value(output, &[1, 2, 4, 4])];
        let model = ModelProto { graph: Some(self.0), ..Default::default() };
        rewrite(model, Choice { float: false, half: false }).unwrap()
    }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|&d| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(d)),
        ..Default::default()
    });
    let shape = crate::onnx::TensorShapeProto { dim: dim.collect() };
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(shape) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(crate::onnx::TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn only_region(rewritten: &Rewritten) -> &Region {
    assert_eq!(rewritten.regions.len(), 1);
    rewritten.regions.values().next().unwrap()
}

fn conv_weights(region: &Region) -> (&Weights, crate::region::QuantizedOutput) {
    let conv = region.steps.iter().find_map(|s| match &s.kind {
        StepKind::Conv { weights, output, .. } => Some((weights, *output)),
        _ => None,
    });
    conv.expect("there is a convolution")
}

#[test]
fn a_quantized_convolution_becomes_one_region_without_float_parts() {
    let found = Builder::new().conv(tensor::from_f32("b", &[2], &[1.0, 0.0])).rewrite("y");
    let kinds: Vec<_> = only_region(&found).steps.iter().map(|s| s.kind.operation()).collect();
    assert_eq!(kinds, ["pointwise", "dequantize"]);
    assert_eq!(found.input_codes, Some(Quantization { scale: 0.1, zero_point: 10 }));
    assert!(found.float_convs.is_empty());
    let graph = found.model.graph.unwrap();
    assert!(graph.initializer.is_empty(), "no constant is left for tract to load");
    let (weights, output) = conv_weights(found.regions.values().next().unwrap());
    assert_eq!(weights.bias, [20, 0], "1.0 in units of 0.1 * 0.5");
    assert_eq!((output.min, output.max), (10, 255), "Relu is the code of zero");
}

#[test]
fn a_channel_that_is_constant_keeps_its_value_exactly() {
    // 1.5 in units of 0.1 * 1e-9 is far outside 32 bits; the channel's weight reaches 2.6e-8.
    let found = Builder::new().conv(tensor::from_f32("b", &[2], &[0.0, 1.5])).rewrite("y");
    let (weights, output) = conv_weights(only_region(&found));
    assert_eq!(weights.codes.widened()[3..], [0, 0, 0]);
    let code = f64::from(weights.bias[1]) * 0.1 * f64::from(weights.scale[1])
        / f64::from(output.quantization.scale);
    assert_eq!(code.round() + 10.0, 25.0);
}

#[test]
fn a_bias_that_is_no_number_is_refused_with_its_reason() {
    let bias = tensor::from_f32("b", &[2], &[f32::NAN, 0.0]);
    let found = Builder::new().conv(bias).rewrite("y");
    assert_eq!(found.float_convs.len(), 1);
    assert!(found.float_convs[0].1.contains("bias"), "{:?}", found.float_convs);
}

#[test]
fn codes_that_another_operator_reads_stay_with_tract() {
    let found = Builder::new()
        .conv(tensor::from_f32("b", &[2], &[0.0, 0.0]))
        .node("Transpose", &["q.y"], "t")
        .node("DequantizeLinear", &["t", "s", "z"], "out")
        .rewrite("out");
    let graph = found.model.graph.unwrap();
    let ops: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
    assert!(ops.contains(&"Transpose") && ops.contains(&"Conv"), "{ops:?}");
    assert_eq!(found.float_convs.len(), 1);
}

#[test]
fn weights_left_to_tract_are_dequantized_along_their_axis() {
    let found = Builder::new()
        .node("DequantizeLinear", &["w", "ws", "wz"], "wd")
        .axis(0)
        .node("Conv", &["x", "wd"], "y")
        .rewrite("y");
    let graph = found.model.graph.unwrap();
    let weights = graph.initializer.iter().find(|t| t.name == "wd").unwrap();
    let real = tensor::to_f32(weights).unwrap();
    assert_eq!(real[..3], [0.5, -1.0, 1.5]);
    assert_eq!(real[5], 1e-9);
}

#[test]
fn float16_is_widened_everywhere() {
    let mut graph = Builder::new()
        .constant(tensor::from_f32_as_f16("h", &[2, 3, 1, 1], &[0.5; 6]))
        .node("Conv", &["x", "h"], "y");
    graph.0.node.push(NodeProto {
        op_type: "Cast".into(),
        input: vec!["y".into()],
        output: vec!["o".into()],
        attribute: vec![AttributeProto {
            name: "to".into(),
            i: DataType::Float16 as i64,
            ..Default::default()
        }],
        ..Default::default()
    });
    let found = graph.rewrite("o");
    assert!(found.stored_f16);
    let graph = found.model.graph.unwrap();
    assert_eq!(graph.node[1].attribute[0].i, DataType::Float as i64);
    assert!(graph.initializer.iter().all(|t| t.data_type != DataType::Float16 as i32));
}
