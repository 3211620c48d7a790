//! One node at a time.

use kinglet_engine::onnx::{AttributeProto, attribute_proto::AttributeType};

use super::*;

fn node(op: &str, inputs: usize, attributes: &[(&str, &[i64])]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: (0..inputs).map(|i| i.to_string()).collect(),
        output: vec!["out".into()],
        attribute: attributes
            .iter()
            .map(|&(name, values)| AttributeProto {
                name: name.into(),
                r#type: AttributeType::Ints as i32,
                i: values[0],
                ints: values.to_vec(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn shape_of(node: &NodeProto, inputs: &[&[usize]], constant: Option<&[i64]>) -> Option<Shape> {
    let mut known = Shapes::default();
    for (index, shape) in inputs.iter().enumerate() {
        let value = Value { shape: Some(shape.to_vec()), ..Default::default() };
        known.set(&index.to_string(), value);
    }
    if let Some(values) = constant {
        let value = Value { constant: Some(values.to_vec()), ..Default::default() };
        known.set("1", value);
    }
    of_node(node, &known).shape
}

#[test]
fn convolutions_and_pools() {
    let conv = node("Conv", 2, &[("pads", &[0, 0, 1, 1]), ("strides", &[2, 2])]);
    let shape = shape_of(&conv, &[&[1, 3, 224, 224], &[32, 3, 3, 3]], None);
    assert_eq!(shape.unwrap(), [1, 32, 112, 112]);
    let depthwise = node("Conv", 2, &[("group", &[8]), ("dilations", &[2, 2])]);
    let shape = shape_of(&depthwise, &[&[1, 8, 9, 7], &[8, 1, 3, 3]], None);
    assert_eq!(shape.unwrap(), [1, 8, 5, 3]);
    assert_eq!(shape_of(&depthwise, &[&[1, 9, 9, 9], &[8, 1, 3, 3]], None), None);
    assert_eq!(shape_of(&depthwise, &[&[1, 8, 4, 4], &[8, 1, 3, 3]], None), None);
    let pool = node("MaxPool", 1, &[("kernel_shape", &[3, 3]), ("strides", &[2, 2])]);
    assert_eq!(shape_of(&pool, &[&[1, 8, 8, 8]], None).unwrap(), [1, 8, 3, 3]);
    let pool =
        node("MaxPool", 1, &[("kernel_shape", &[3, 3]), ("strides", &[2, 2]), ("ceil_mode", &[1])]);
    assert_eq!(shape_of(&pool, &[&[1, 8, 8, 8]], None).unwrap(), [1, 8, 4, 4]);
}

#[test]
fn hostile_attributes_are_unknown_shapes() {
    let inputs: &[&[usize]] = &[&[1, 8, 8, 8], &[8, 8, 3, 3]];
    for attributes in [
        ("strides", &[0_i64, 0] as &[i64]),
        ("strides", &[-1, 1]),
        ("strides", &[1]),
        ("pads", &[i64::MAX, 1, i64::MAX, 1]),
        ("dilations", &[i64::MAX, 1]),
        ("group", &[i64::MAX]),
        ("group", &[0]),
    ] {
        assert_eq!(shape_of(&node("Conv", 2, &[attributes]), inputs, None), None);
    }
    let reshape = node("Reshape", 2, &[]);
    assert_eq!(shape_of(&reshape, &[&[2, 3]], Some(&[-1, 0, 5])), None);
    assert_eq!(shape_of(&reshape, &[&[0, 3]], Some(&[0, -1])), None);
    let transpose = node("Transpose", 1, &[("perm", &[0, 7])]);
    assert_eq!(shape_of(&transpose, &[&[2, 3]], None), None);
}

#[test]
fn shapes_of_shapes() {
    let reshape = node("Reshape", 2, &[]);
    assert_eq!(shape_of(&reshape, &[&[1, 8, 2, 3]], Some(&[0, -1])).unwrap(), [1, 48]);
    let flatten = node("Flatten", 1, &[("axis", &[1])]);
    assert_eq!(shape_of(&flatten, &[&[2, 8, 2, 3]], None).unwrap(), [2, 48]);
    let squeeze = node("Squeeze", 2, &[]);
    assert_eq!(shape_of(&squeeze, &[&[1, 8, 1, 1]], Some(&[2, -1])).unwrap(), [1, 8]);
    let unsqueeze = node("Unsqueeze", 2, &[]);
    assert_eq!(shape_of(&unsqueeze, &[&[8, 3]], Some(&[0, -1])).unwrap(), [1, 8, 3, 1]);
    let mean = node("ReduceMean", 1, &[("axes", &[-1, -2]), ("keepdims", &[0])]);
    assert_eq!(shape_of(&mean, &[&[1, 8, 2, 3]], None).unwrap(), [1, 8]);
    let transpose = node("Transpose", 1, &[("perm", &[0, 3, 1, 2])]);
    assert_eq!(shape_of(&transpose, &[&[1, 2, 3, 4]], None).unwrap(), [1, 4, 2, 3]);
    let concat = node("Concat", 2, &[("axis", &[1])]);
    assert_eq!(shape_of(&concat, &[&[1, 2, 3], &[1, 5, 3]], None).unwrap(), [1, 7, 3]);
    let pad = node("Pad", 2, &[]);
    let pads = [0, 0, 1, 1, 0, 0, 2, 2];
    assert_eq!(shape_of(&pad, &[&[1, 2, 3, 4]], Some(&pads)).unwrap(), [1, 2, 6, 7]);
}

#[test]
fn products_and_sums() {
    let add = node("Add", 2, &[]);
    assert_eq!(shape_of(&add, &[&[1, 8, 5, 5], &[8, 1, 1]], None).unwrap(), [1, 8, 5, 5]);
    assert_eq!(shape_of(&add, &[&[2], &[3]], None), None);
    let gemm = node("Gemm", 3, &[("transB", &[1])]);
    assert_eq!(shape_of(&gemm, &[&[1, 20], &[10, 20]], None).unwrap(), [1, 10]);
    let matmul = node("MatMul", 2, &[]);
    assert_eq!(shape_of(&matmul, &[&[4, 1, 20], &[20, 3]], None).unwrap(), [4, 1, 3]);
    assert_eq!(shape_of(&node("NoSuchOperator", 1, &[]), &[&[1]], None), None);
}
