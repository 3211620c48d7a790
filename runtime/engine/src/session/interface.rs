//! A model's input and output: what this engine can feed, made concrete.

use crate::error::ModelError;
use crate::metadata::Metadata;
use crate::onnx::{
    GraphProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto::dimension,
};
use crate::rewrite::tensor_type;

/// Largest input side, pixels.
const MAX_SIDE: usize = 4096;

/// Makes the graph's only input f32 (1, 3, height, width); gives height and width.
///
/// A batch that is left open becomes 1. An open height or width is taken from the preprocessing.
pub(super) fn fix_input(
    graph: &mut GraphProto,
    metadata: &Metadata,
) -> Result<[usize; 2], ModelError> {
    let constants: std::collections::HashSet<&str> =
        graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut inputs =
        graph.input.iter_mut().filter(|i| !constants.contains(i.name.as_str())).peekable();
    let first = inputs.next().ok_or_else(|| unsuitable("the model has no input".into()))?;
    if let Some(second) = inputs.peek() {
        return Err(unsuitable(format!(
            "the model has several inputs ('{}', '{}'); a classifier of pictures has one",
            first.name, second.name
        )));
    }
    let name = first.name.clone();
    let (kind, dims) = read(first).ok_or_else(|| {
        unsuitable(format!("input '{name}' has no shape; a picture is (1, 3, height, width)"))
    })?;
    if kind != DataType::Float as i32 && kind != DataType::Float16 as i32 {
        let found = DataType::try_from(kind).map_or("of an unknown type", |k| k.as_str_name());
        return Err(unsuitable(format!("input '{name}' is {found}; only float inputs are fed")));
    }
    let [batch, channels, height, width] = dims[..] else {
        return Err(unsuitable(format!(
            "input '{name}' has {} axes; a picture has four (batch, channels, height, width)",
            dims.len()
        )));
    };
    if batch.is_some_and(|b| b != 1) {
        return Err(unsuitable(format!(
            "input '{name}' has a fixed batch of {}; export the model with a batch of 1 or an \
             open one",
            batch.unwrap_or_default()
        )));
    }
    if channels.is_some_and(|c| c != 3) {
        let hint = if width == Some(3) { " (its channels seem to come last)" } else { "" };
        return Err(unsuitable(format!(
            "input '{name}' has shape {}{hint}; expected (1, 3, height, width)",
            show(&dims)
        )));
    }
    let described = metadata.preprocess.as_ref().map(|p| p.size.map(|s| s as usize));
    let side = |dim: Option<usize>, axis: usize| {
        dim.or(described.map(|d| d[axis])).ok_or_else(|| {
            unsuitable(format!(
                "input '{name}' leaves its size open ({}); say it in the preprocessing",
                show(&dims)
            ))
        })
    };
    let size = [side(height, 0)?, side(width, 1)?];
    if size.iter().any(|s| !(1..=MAX_SIDE).contains(s)) {
        return Err(unsuitable(format!(
            "input '{name}' is {size:?} pixels; 1..=4096 are possible"
        )));
    }
    if let Some(described) = described
        && described != size
    {
        return Err(unsuitable(format!(
            "input '{name}' is {size:?} pixels, the preprocessing makes {described:?}"
        )));
    }
    set(first, [1, 3, size[0], size[1]]);
    Ok(size)
}

fn unsuitable(why: String) -> ModelError {
    ModelError::Unsuitable { why }
}

fn show(dims: &[Option<usize>]) -> String {
    let names: Vec<String> =
        dims.iter().map(|d| d.map_or_else(|| "?".into(), |d| d.to_string())).collect();
    format!("({})", names.join(", "))
}

/// Element type and dimensions; an open dimension is `None`.
fn read(value: &ValueInfoProto) -> Option<(i32, Vec<Option<usize>>)> {
    let tensor = tensor_type(value)?;
    let dims = tensor.shape.as_ref()?.dim.iter().map(|d| match d.value {
        Some(dimension::Value::DimValue(v)) if v > 0 => usize::try_from(v).ok(),
        _ => None,
    });
    Some((tensor.elem_type, dims.collect()))
}

fn set(value: &mut ValueInfoProto, dims: [usize; 4]) {
    use crate::onnx::type_proto::Value;
    let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
    else {
        return;
    };
    if let Some(shape) = tensor.shape.as_mut() {
        for (dim, size) in shape.dim.iter_mut().zip(dims) {
            dim.value = Some(dimension::Value::DimValue(size as i64));
        }
    }
}

/// Whether the graph's first output comes out of a Softmax.
pub(super) fn ends_with_softmax(graph: &GraphProto) -> bool {
    let index = crate::graph::GraphIndex::new(graph);
    let mut value = graph.output[0].name.as_str();
    for _ in 0..6 {
        let Some(node) = index.producer(value) else { return false };
        match node.op_type.as_str() {
            "Softmax" => return true,
            "Identity" | "Flatten" | "Reshape" | "Squeeze" | "DequantizeLinear"
            | "QuantizeLinear" | "Cast" => {}
            _ => return false,
        }
        let Some(input) = crate::graph::input(node, 0) else { return false };
        value = input;
    }
    false
}
