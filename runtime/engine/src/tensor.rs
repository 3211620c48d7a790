//! ONNX tensors: element types, counts, and their data as plain vectors.

use crate::error::ModelError;
use crate::onnx::{TensorProto, tensor_proto::DataType};

/// Most elements a stored tensor may have: 2^28, 1 GiB in f32.
pub const MAX_ELEMENTS: u64 = 1 << 28;

/// A tensor's element type, where Kinglet knows it.
///
/// # Errors
/// [`ModelError::Tensor`] for a number that ONNX does not define.
pub fn data_type(tensor: &TensorProto) -> Result<DataType, ModelError> {
    DataType::try_from(tensor.data_type).map_err(|_| ModelError::Tensor {
        tensor: tensor.name.clone(),
        why: format!("unknown element type {}", tensor.data_type),
    })
}

/// Size of one element, bytes; `None` for strings and for types that Kinglet does not read.
#[must_use]
pub fn element_bytes(data_type: DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Uint8 | DataType::Int8 | DataType::Bool => 1,
        DataType::Float16 | DataType::Bfloat16 | DataType::Uint16 | DataType::Int16 => 2,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        _ => return None,
    })
}

/// A tensor's dimensions and the number of its elements.
///
/// # Errors
/// [`ModelError::Tensor`] for a negative dimension, [`ModelError::Limit`] for more than
/// [`MAX_ELEMENTS`] elements (also where the product would overflow).
pub fn shape(tensor: &TensorProto) -> Result<(Vec<usize>, usize), ModelError> {
    let mut elements = 1_u64;
    let mut dims = Vec::with_capacity(tensor.dims.len().min(16));
    for &dim in &tensor.dims {
        let dim = u64::try_from(dim).map_err(|_| ModelError::Tensor {
            tensor: tensor.name.clone(),
            why: format!("negative dimension {dim}"),
        })?;
        elements = elements.saturating_mul(dim);
        dims.push(dim as usize);
    }
    if elements > MAX_ELEMENTS || dims.iter().any(|&d| d as u64 > MAX_ELEMENTS) {
        return Err(ModelError::Limit {
            what: format!("number of elements of tensor '{}'", tensor.name),
            actual: elements,
            limit: MAX_ELEMENTS,
        });
    }
    Ok((dims, elements as usize))
}

/// Checks that the stored data is as long as type and dimensions say.
///
/// # Errors
/// [`ModelError::Tensor`] with both lengths.
pub fn check(tensor: &TensorProto) -> Result<(), ModelError> {
    let (_, elements) = shape(tensor)?;
    let bad = |why: String| ModelError::Tensor { tensor: tensor.name.clone(), why };
    let kind = data_type(tensor)?;
    if tensor.segment.is_some() {
        return Err(bad("segmented tensors are not supported".into()));
    }
    let stored = stored_elements(tensor, kind)
        .ok_or_else(|| bad(format!("element type {} is not supported", kind.as_str_name())))?;
    let Some(stored) = stored else {
        return Err(bad(format!(
            "{} bytes of data are no whole number of {} elements",
            tensor.raw_data.len(),
            kind.as_str_name()
        )));
    };
    if stored != elements {
        return Err(bad(format!(
            "dimensions {:?} need {elements} elements, {stored} are stored",
            tensor.dims
        )));
    }
    Ok(())
}

/// Outer `None`: type not supported; inner `None`: not a whole number of elements.
fn stored_elements(tensor: &TensorProto, kind: DataType) -> Option<Option<usize>> {
    if kind == DataType::String {
        return Some(Some(tensor.string_data.len()));
    }
    let size = element_bytes(kind)?;
    if !tensor.raw_data.is_empty() {
        let bytes = tensor.raw_data.len();
        return Some(bytes.is_multiple_of(size).then_some(bytes / size));
    }
    Some(Some(match kind {
        DataType::Float => tensor.float_data.len(),
        DataType::Double => tensor.double_data.len(),
        DataType::Int64 => tensor.int64_data.len(),
        DataType::Uint64 | DataType::Uint32 => tensor.uint64_data.len(),
        _ => tensor.int32_data.len(),
    }))
}

/// The elements of a float tensor (f32, f16, bf16, f64) as f32.
///
/// # Errors
/// [`ModelError::Tensor`] when the tensor is not a float one or its data is too short.
pub fn to_f32(tensor: &TensorProto) -> Result<Vec<f32>, ModelError> {
    check(tensor)?;
    let raw = &tensor.raw_data;
    Ok(match data_type(tensor)? {
        DataType::Float if raw.is_empty() => tensor.float_data.clone(),
        DataType::Float => words(raw, f32::from_le_bytes),
        DataType::Double if raw.is_empty() => {
            tensor.double_data.iter().map(|&v| v as f32).collect()
        }
        DataType::Double => words(raw, |b| f64::from_le_bytes(b) as f32),
        DataType::Float16 if raw.is_empty() => {
            tensor.int32_data.iter().map(|&v| half::f16::from_bits(v as u16).to_f32()).collect()
        }
        DataType::Float16 => words(raw, |b| half::f16::from_le_bytes(b).to_f32()),
        DataType::Bfloat16 if raw.is_empty() => {
            tensor.int32_data.iter().map(|&v| half::bf16::from_bits(v as u16).to_f32()).collect()
        }
        DataType::Bfloat16 => words(raw, |b| half::bf16::from_le_bytes(b).to_f32()),
        other => return Err(wrong_type(tensor, other, "a float")),
    })
}

/// The elements of an integer tensor (8 to 64 bits) as i64.
///
/// # Errors
/// [`ModelError::Tensor`] when the tensor is not an integer one or its data is too short.
pub fn to_i64(tensor: &TensorProto) -> Result<Vec<i64>, ModelError> {
    check(tensor)?;
    let raw = &tensor.raw_data;
    let kind = data_type(tensor)?;
    Ok(match kind {
        DataType::Int64 if raw.is_empty() => tensor.int64_data.clone(),
        DataType::Int64 => words(raw, i64::from_le_bytes),
        DataType::Int8 | DataType::Uint8 | DataType::Int16 | DataType::Uint16 | DataType::Int32
            if raw.is_empty() =>
        {
            tensor.int32_data.iter().map(|&v| narrow(kind, v)).collect()
        }
        DataType::Int8 => words(raw, |b| i64::from(i8::from_le_bytes(b))),
        DataType::Uint8 => words(raw, |b| i64::from(u8::from_le_bytes(b))),
        DataType::Int16 => words(raw, |b| i64::from(i16::from_le_bytes(b))),
        DataType::Uint16 => words(raw, |b| i64::from(u16::from_le_bytes(b))),
        DataType::Int32 => words(raw, |b| i64::from(i32::from_le_bytes(b))),
        other => return Err(wrong_type(tensor, other, "an integer")),
    })
}

/// What an `int32_data` entry means for a narrower type: its low bits.
fn narrow(kind: DataType, value: i32) -> i64 {
    match kind {
        DataType::Int8 => i64::from(value as i8),
        DataType::Uint8 => i64::from(value as u8),
        DataType::Int16 => i64::from(value as i16),
        DataType::Uint16 => i64::from(value as u16),
        _ => i64::from(value),
    }
}

fn words<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| convert(b)).collect()
}

fn wrong_type(tensor: &TensorProto, kind: DataType, wanted: &str) -> ModelError {
    ModelError::Tensor {
        tensor: tensor.name.clone(),
        why: format!("is {}, not {wanted} tensor", kind.as_str_name()),
    }
}

/// A new f32 tensor.
#[must_use]
pub fn from_f32(name: &str, dims: &[usize], data: &[f32]) -> TensorProto {
    build(name, dims, DataType::Float, data.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A new f16 tensor; values are rounded to nearest even.
#[must_use]
pub fn from_f32_as_f16(name: &str, dims: &[usize], data: &[f32]) -> TensorProto {
    let bytes = data.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    build(name, dims, DataType::Float16, bytes)
}

/// A new i8 tensor.
#[must_use]
pub fn from_i8(name: &str, dims: &[usize], data: &[i8]) -> TensorProto {
    build(name, dims, DataType::Int8, data.iter().map(|&v| v as u8).collect())
}

/// A new u8 tensor.
#[must_use]
pub fn from_u8(name: &str, dims: &[usize], data: &[u8]) -> TensorProto {
    build(name, dims, DataType::Uint8, data.to_vec())
}

/// A new i32 tensor.
#[must_use]
pub fn from_i32(name: &str, dims: &[usize], data: &[i32]) -> TensorProto {
    build(name, dims, DataType::Int32, data.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn build(name: &str, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: kind as i32,
        raw_data,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_survives_both_ways_of_storing() {
        let t = from_f32("t", &[2], &[1.5, -2.0]);
        assert_eq!(to_f32(&t).unwrap(), [1.5, -2.0]);
        let typed = TensorProto { raw_data: vec![], float_data: vec![1.5, -2.0], ..t };
        assert_eq!(to_f32(&typed).unwrap(), [1.5, -2.0]);
        assert_eq!(to_i64(&from_i8("t", &[2], &[-128, 127])).unwrap(), [-128, 127]);
        let half = from_f32_as_f16("t", &[1], &[0.333_251_95]);
        assert_eq!(to_f32(&half).unwrap(), [0.333_251_95]);
    }

    #[test]
    fn a_wrong_length_and_an_overflowing_shape_are_refused() {
        let mut t = from_f32("weights", &[3], &[1.0, 2.0]);
        let error = check(&t).unwrap_err().to_string();
        assert!(error.contains("weights") && error.contains('3') && error.contains('2'), "{error}");
        t.dims = vec![1 << 40, 1 << 40];
        assert!(matches!(check(&t), Err(ModelError::Limit { .. })));
        t.dims = vec![-1];
        assert!(matches!(check(&t), Err(ModelError::Tensor { .. })));
        t.dims = vec![0, i64::MAX];
        assert!(check(&t).is_err());
    }
}
