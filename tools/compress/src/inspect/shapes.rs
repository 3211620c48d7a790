//! Shapes and element types of every value of a graph.
//!
//! Rules for the operators that occur in convolutional classifiers; the outputs of any other are
//! unknown, and so is what depends on them: that is no error. A batch of unknown size is taken as
//! one picture. Nothing is computed but the shapes, except small integer constants that shapes
//! depend on.

use std::collections::HashMap;

use kinglet_engine::OnnxFile;
use kinglet_engine::onnx::{
    NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto, type_proto,
};
use kinglet_engine::tensor;

use super::attributes::{find, int, ints};

mod spatial;

/// Dimensions of a tensor.
pub type Shape = Vec<usize>;

/// Most elements of a shape that is believed; larger ones are unknown.
const MAX_ELEMENTS: usize = 1 << 40;
/// Integer constants up to this many elements are kept: they are axes, pads and target shapes.
const MAX_CONSTANT: usize = 64;

/// What is known of one value.
#[derive(Debug, Clone, Default)]
pub struct Value {
    /// Its shape.
    pub shape: Option<Shape>,
    /// Its element type.
    pub kind: Option<DataType>,
    /// Its elements, for small integer constants.
    pub constant: Option<Vec<i64>>,
}

/// What is known of every value of a graph.
#[derive(Debug, Clone, Default)]
pub struct Shapes {
    /// Names of the graph's inputs that are no initializers.
    pub inputs: Vec<String>,
    values: HashMap<String, Value>,
}

impl Shapes {
    /// What is known of a value; nothing of one that does not exist.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A value's shape, where known.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&Shape> {
        self.value(name).and_then(|v| v.shape.as_ref())
    }

    /// A value's element type, where known.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<DataType> {
        self.value(name).and_then(|v| v.kind)
    }

    /// A small integer constant.
    fn constant(&self, name: &str) -> Option<&[i64]> {
        self.value(name).and_then(|v| v.constant.as_deref())
    }

    fn set(&mut self, name: &str, value: Value) {
        if !name.is_empty() {
            self.values.insert(name.to_owned(), value);
        }
    }
}

/// Infers what it can.
#[must_use]
pub fn infer(file: &OnnxFile) -> Shapes {
    let graph = file.graph();
    let mut shapes = Shapes::default();
    for tensor in &graph.initializer {
        shapes.set(&tensor.name, of_tensor(tensor));
    }
    for input in &graph.input {
        if shapes.value(&input.name).is_none() {
            shapes.inputs.push(input.name.clone());
            shapes.set(&input.name, of_declaration(input));
        }
    }
    for node in &graph.node {
        let result = of_node(node, &shapes);
        if let Some(first) = node.output.first() {
            let small = |s: &Shape| elements(s).is_some();
            let shape = result.shape.filter(small);
            shapes.set(first, Value { shape, ..result });
        }
        for other in node.output.iter().skip(1) {
            shapes.set(other, Value::default());
        }
    }
    for output in &graph.output {
        let declared = of_declaration(output);
        if shapes.shape(&output.name).is_none()
            && let Some(value) = shapes.values.get_mut(&output.name)
        {
            value.shape = declared.shape;
            value.kind = value.kind.or(declared.kind);
        }
    }
    shapes
}

/// Number of elements, if it is a number to believe.
#[must_use]
pub fn elements(shape: &[usize]) -> Option<usize> {
    let count = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
    count.filter(|&n| n <= MAX_ELEMENTS)
}

fn of_tensor(tensor: &TensorProto) -> Value {
    let shape: Option<Shape> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let kind = DataType::try_from(tensor.data_type).ok();
    let small = shape.as_deref().and_then(elements).is_some_and(|n| n <= MAX_CONSTANT);
    let integer = matches!(kind, Some(DataType::Int64 | DataType::Int32));
    let constant = (small && integer).then(|| tensor::to_i64(tensor).ok()).flatten();
    Value { shape, kind, constant }
}

fn of_declaration(value: &ValueInfoProto) -> Value {
    let declared = value.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = declared else { return Value::default() };
    let dimension = |(index, d): (usize, &tensor_shape_proto::Dimension)| {
        use tensor_shape_proto::dimension::Value::{DimParam, DimValue};
        match &d.value {
            Some(DimValue(size)) if *size > 0 => usize::try_from(*size).ok(),
            // The batch.
            Some(DimParam(_) | DimValue(_)) | None if index == 0 => Some(1),
            _ => None,
        }
    };
    let shape = tensor.shape.as_ref();
    let shape = shape.and_then(|s| s.dim.iter().enumerate().map(dimension).collect());
    let kind = DataType::try_from(tensor.elem_type).ok().filter(|k| *k != DataType::Undefined);
    Value { shape, kind, constant: None }
}

/// What the first output of a node is.
fn of_node(node: &NodeProto, known: &Shapes) -> Value {
    let name = |index: usize| node.input.get(index).map_or("", String::as_str);
    let shape = |index| known.shape(name(index));
    let kind = |index| known.kind(name(index));
    let first = || Value { shape: shape(0).cloned(), kind: kind(0), constant: None };
    let typed = |shape: Option<Shape>, kind| Value { shape, kind, constant: None };
    match node.op_type.as_str() {
        "Clip" | "Relu" | "LeakyRelu" | "Sigmoid" | "HardSwish" | "HardSigmoid" | "Tanh"
        | "Softmax" | "LogSoftmax" | "BatchNormalization" | "Dropout" => first(),
        "Identity" => known.value(name(0)).cloned().unwrap_or_default(),
        "Cast" => {
            let to = i32::try_from(int(node, "to", 0)).ok();
            typed(shape(0).cloned(), to.and_then(|to| DataType::try_from(to).ok()))
        }
        "QuantizeLinear" => typed(shape(0).cloned(), kind(2).or(Some(DataType::Uint8))),
        "DequantizeLinear" => typed(shape(0).cloned(), kind(1)),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" => {
            let all = (0..node.input.len()).map(shape).collect::<Option<Vec<_>>>();
            let all = all.and_then(|all| broadcast(&all));
            typed(all, kind(0))
        }
        "Conv" => typed(spatial::convolution(node, shape(0), shape(1)), kind(0)),
        "ConvInteger" => {
            typed(spatial::convolution(node, shape(0), shape(1)), Some(DataType::Int32))
        }
        "QLinearConv" => typed(spatial::convolution(node, shape(0), shape(3)), kind(7)),
        "MaxPool" | "AveragePool" => typed(spatial::pool(node, shape(0)), kind(0)),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let pooled = |s: &Shape| {
                s.iter().enumerate().map(|(axis, &d)| if axis < 2 { d } else { 1 }).collect()
            };
            typed(shape(0).map(pooled), kind(0))
        }
        "Pad" => {
            let pads = ints(node, "pads").or_else(|| known.constant(name(1)));
            typed(spatial::pad(shape(0), pads), kind(0))
        }
        "Gemm" => typed(gemm(node, shape(0), shape(1)), kind(0)),
        "MatMul" => typed(matmul(shape(0), shape(1)), kind(0)),
        "MatMulInteger" => typed(matmul(shape(0), shape(1)), Some(DataType::Int32)),
        "QLinearMatMul" => typed(matmul(shape(0), shape(3)), kind(7)),
        "ReduceMean" | "ReduceSum" | "ReduceMax" => {
            let axes = ints(node, "axes").or_else(|| known.constant(name(1)));
            typed(reduce(node, shape(0), axes), kind(0))
        }
        "Flatten" => typed(flatten(node, shape(0)), kind(0)),
        "Reshape" => typed(reshape(node, shape(0), known.constant(name(1))), kind(0)),
        "Squeeze" | "Unsqueeze" => {
            let axes = ints(node, "axes").or_else(|| known.constant(name(1)));
            let result = if node.op_type == "Squeeze" { squeeze } else { unsqueeze };
            typed(result(shape(0), axes), kind(0))
        }
        "Transpose" => typed(transpose(node, shape(0)), kind(0)),
        "Concat" => {
            let all = (0..node.input.len()).map(shape).collect::<Option<Vec<_>>>();
            typed(all.and_then(|all| concat(node, &all)), kind(0))
        }
        "Constant" => constant(node),
        _ => Value::default(),
    }
}

fn constant(node: &NodeProto) -> Value {
    if let Some(tensor) = find(node, "value").and_then(|a| a.t.as_ref()) {
        return of_tensor(tensor);
    }
    let scalar = |kind| Value { shape: Some(vec![]), kind: Some(kind), constant: None };
    if let Some(list) = ints(node, "value_ints") {
        let shape = Some(vec![list.len()]);
        return Value { shape, kind: Some(DataType::Int64), constant: Some(list.to_vec()) };
    }
    if let Some(value) = find(node, "value_int") {
        return Value { constant: Some(vec![value.i]), ..scalar(DataType::Int64) };
    }
    if find(node, "value_float").is_some() {
        return scalar(DataType::Float);
    }
    let floats = find(node, "value_floats");
    floats.map_or_else(Value::default, |a| Value {
        shape: Some(vec![a.floats.len()]),
        ..scalar(DataType::Float)
    })
}

/// An axis counted from the end when negative.
fn axis(axis: i64, rank: usize) -> Option<usize> {
    let rank_i = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis.checked_add(rank_i)? } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

fn broadcast(shapes: &[&Shape]) -> Option<Shape> {
    let rank = shapes.iter().map(|s| s.len()).max()?;
    let mut out = vec![1; rank];
    for shape in shapes {
        let skipped = rank - shape.len();
        for (slot, &d) in out[skipped..].iter_mut().zip(shape.iter()) {
            match (*slot, d) {
                (a, b) if a == b => {}
                (1, _) => *slot = d,
                (_, 1) => {}
                _ => return None,
            }
        }
    }
    Some(out)
}

fn gemm(node: &NodeProto, a: Option<&Shape>, b: Option<&Shape>) -> Option<Shape> {
    let (&[a0, a1], &[b0, b1]) = (a?.as_slice(), b?.as_slice()) else { return None };
    let (rows, inner) = if int(node, "transA", 0) == 0 { (a0, a1) } else { (a1, a0) };
    let (depth, columns) = if int(node, "transB", 0) == 0 { (b0, b1) } else { (b1, b0) };
    (inner == depth).then(|| vec![rows, columns])
}

fn matmul(a: Option<&Shape>, b: Option<&Shape>) -> Option<Shape> {
    let (a, b) = (a?, b?);
    let (&[ref a_batch @ .., rows, inner], &[ref b_batch @ .., depth, columns]) =
        (a.as_slice(), b.as_slice())
    else {
        return None;
    };
    let mut out = broadcast(&[&a_batch.to_vec(), &b_batch.to_vec()])?;
    out.extend([rows, columns]);
    (inner == depth).then_some(out)
}

fn reduce(node: &NodeProto, input: Option<&Shape>, axes: Option<&[i64]>) -> Option<Shape> {
    let input = input?;
    let given_elsewhere = node.input.len() > 1 && axes.is_none();
    if given_elsewhere {
        return None;
    }
    let axes: Vec<usize> = match axes {
        Some(axes) if !axes.is_empty() => {
            axes.iter().map(|&a| axis(a, input.len())).collect::<Option<_>>()?
        }
        _ => (0..input.len()).collect(),
    };
    let keep = int(node, "keepdims", 1) != 0;
    let reduced = |i: &usize| axes.contains(i);
    Some(
        (0..input.len())
            .filter(|i| keep || !reduced(i))
            .map(|i| if reduced(&i) { 1 } else { input[i] })
            .collect(),
    )
}

fn flatten(node: &NodeProto, input: Option<&Shape>) -> Option<Shape> {
    let input = input?;
    let wanted = int(node, "axis", 1);
    let end = usize::try_from(wanted) == Ok(input.len());
    let at = if end { input.len() } else { axis(wanted, input.len())? };
    Some(vec![elements(&input[..at])?, elements(&input[at..])?])
}

fn reshape(node: &NodeProto, input: Option<&Shape>, target: Option<&[i64]>) -> Option<Shape> {
    let (input, target) = (input?, target?);
    let total = elements(input)?;
    let copies = int(node, "allowzero", 0) == 0;
    let mut out = Vec::with_capacity(target.len());
    let mut rest = None;
    for (index, &d) in target.iter().enumerate() {
        match d {
            -1 => {
                rest = Some(index);
                out.push(1);
            }
            0 if copies => out.push(*input.get(index)?),
            d => out.push(usize::try_from(d).ok()?),
        }
    }
    let given = elements(&out)?;
    if let Some(rest) = rest {
        out[rest] = total.checked_div(given)?;
    }
    (elements(&out) == Some(total)).then_some(out)
}

fn squeeze(input: Option<&Shape>, axes: Option<&[i64]>) -> Option<Shape> {
    let input = input?;
    let axes: Option<Vec<usize>> = match axes {
        Some(axes) => Some(axes.iter().map(|&a| axis(a, input.len())).collect::<Option<_>>()?),
        None => None,
    };
    let gone = |i: usize| axes.as_ref().map_or(input[i] == 1, |axes| axes.contains(&i));
    Some((0..input.len()).filter(|&i| !gone(i)).map(|i| input[i]).collect())
}

fn unsqueeze(input: Option<&Shape>, axes: Option<&[i64]>) -> Option<Shape> {
    let (input, axes) = (input?, axes?);
    let rank = input.len() + axes.len();
    let new: Vec<usize> = axes.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?;
    let mut old = input.iter();
    (0..rank).map(|i| if new.contains(&i) { Some(1) } else { old.next().copied() }).collect()
}

fn transpose(node: &NodeProto, input: Option<&Shape>) -> Option<Shape> {
    let input = input?;
    match ints(node, "perm") {
        Some(order) if order.len() != input.len() => None,
        Some(order) => order.iter().map(|&a| axis(a, input.len()).map(|a| input[a])).collect(),
        None => Some(input.iter().rev().copied().collect()),
    }
}

fn concat(node: &NodeProto, all: &[&Shape]) -> Option<Shape> {
    let mut out = (*all.first()?).clone();
    let at = axis(int(node, "axis", 0), out.len())?;
    for shape in &all[1..] {
        let same =
            shape.len() == out.len() && (0..out.len()).all(|i| i == at || shape[i] == out[i]);
        out[at] = same.then(|| out[at].checked_add(shape[at]))??;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
