//! Models whose tensors are float16: stored so, computed in f32.

use crate::error::ModelError;
use crate::onnx::{
    GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_proto::DataType, type_proto::Value,
};
use crate::tensor;

/// Turns every float16 tensor, value and cast into f32; says whether there was any tensor.
pub(super) fn widen(model: &mut ModelProto) -> Result<bool, ModelError> {
    model.graph.as_mut().map_or(Ok(false), |graph| widen_graph(graph, 0))
}

fn widen_graph(graph: &mut GraphProto, depth: usize) -> Result<bool, ModelError> {
    let mut found = false;
    for t in &mut graph.initializer {
        found |= widen_tensor(t)?;
    }
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        widen_value(value);
    }
    for node in &mut graph.node {
        let cast = node.op_type == "Cast";
        for attribute in &mut node.attribute {
            if let Some(t) = attribute.t.as_mut() {
                found |= widen_tensor(t)?;
            }
            if cast && attribute.name == "to" && attribute.i == DataType::Float16 as i64 {
                attribute.i = DataType::Float as i64;
            }
            if let Some(sub) = attribute.g.as_mut().filter(|_| depth < 8) {
                found |= widen_graph(sub, depth + 1)?;
            }
        }
    }
    Ok(found)
}

fn widen_tensor(t: &mut TensorProto) -> Result<bool, ModelError> {
    if t.data_type != DataType::Float16 as i32 {
        return Ok(false);
    }
    let (dims, _) = tensor::shape(t)?;
    *t = tensor::from_f32(&t.name, &dims, &tensor::to_f32(t)?);
    Ok(true)
}

fn widen_value(value: &mut ValueInfoProto) {
    if let Some(Value::TensorType(t)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
        && t.elem_type == DataType::Float16 as i32
    {
        t.elem_type = DataType::Float as i32;
    }
}
