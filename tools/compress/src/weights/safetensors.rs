//! The safetensors format, through its own crate.

use safetensors::{Dtype, SafeTensors};

use super::tensor::{ElementType, View};
use super::{MAX_ELEMENTS, StateDict, WeightsError};

/// The first bytes are a header length that fits, and the JSON that it announces.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
        && bytes
            .first_chunk()
            .is_some_and(|&length| u64::from_le_bytes(length) <= bytes.len() as u64 - 8)
}

/// Reads the tensors of a file held in memory.
pub(super) fn read(bytes: &[u8]) -> Result<StateDict, WeightsError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| WeightsError::SafeTensors { why: e.to_string() })?;
    let mut state = StateDict::default();
    let mut left = MAX_ELEMENTS;
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F64 => ElementType::F64,
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::Bf16,
            Dtype::I64 => ElementType::I64,
            Dtype::I32 => ElementType::I32,
            Dtype::I16 => ElementType::I16,
            Dtype::I8 => ElementType::I8,
            Dtype::U8 => ElementType::U8,
            Dtype::BOOL => ElementType::Bool,
            other => {
                let why = format!("element type {other:?} is not supported");
                return Err(WeightsError::Tensor { tensor: name, why });
            }
        };
        let tensor = View::dense(view.shape().to_vec()).gather(&name, kind, view.data(), left)?;
        left -= tensor.data.len();
        state.insert(&name, tensor)?;
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn sample() -> Vec<u8> {
        let data: Vec<u8> =
            [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let half = [0x00, 0x3e, 0x00, 0xbc];
        let tensors = [
            ("module.a", TensorView::new(Dtype::F32, vec![2, 3], &data).unwrap()),
            ("b", TensorView::new(Dtype::F16, vec![2], &half).unwrap()),
        ];
        safetensors::serialize(tensors, None).unwrap()
    }

    #[test]
    fn tensors_are_read_and_the_prefix_is_stripped() {
        let state = StateDict::from_bytes(&sample()).unwrap();
        assert_eq!(state.tensors["a"].shape, [2, 3]);
        assert_eq!(state.tensors["a"].data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(state.tensors["b"].data, [1.5, -1.0]);
    }

    #[test]
    fn no_truncation_is_accepted() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(StateDict::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
