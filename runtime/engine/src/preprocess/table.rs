//! Normalisation and quantization of 8-bit samples: 256 precomputed values a tensor channel.

use crate::error::ModelError;
use crate::metadata::Preprocess;

use super::{InputKind, InputTensor};

/// For each tensor channel, the tensor's value for each sample.
#[derive(Debug)]
pub(super) enum Table {
    F32(Box<[[f32; 256]; 3]>),
    U8(Box<[[u8; 256]; 3]>),
}

impl Table {
    /// # Errors
    /// [`ModelError::Unsuitable`] when the quantization scale is not over zero and finite.
    pub(super) fn new(description: &Preprocess, kind: InputKind) -> Result<Self, ModelError> {
        let Preprocess { mean, std, .. } = description;
        let real = |channel: usize, v: usize| (v as f32 - mean[channel]) / std[channel];
        match kind {
            InputKind::F32Nchw => {
                Ok(Self::F32(Box::new([0, 1, 2].map(|c| std::array::from_fn(|v| real(c, v))))))
            }
            InputKind::U8Nhwc { scale, zero_point } => {
                if !(scale > 0.0 && scale.is_finite()) {
                    return Err(ModelError::Unsuitable {
                        why: format!("the input's quantization scale is {scale}"),
                    });
                }
                let quantized = |c, v| {
                    let steps = (real(c, v) / scale).round_ties_even() + f32::from(zero_point);
                    // A cast from f32 clamps.
                    steps as u8
                };
                Ok(Self::U8(Box::new([0, 1, 2].map(|c| std::array::from_fn(|v| quantized(c, v))))))
            }
        }
    }

    /// Whether the tensor has this table's type and the given length.
    pub(super) fn fits(&self, tensor: &InputTensor, length: usize) -> bool {
        match (self, tensor) {
            (Self::F32(_), InputTensor::F32(values)) => values.len() == length,
            (Self::U8(_), InputTensor::U8(values)) => values.len() == length,
            _ => false,
        }
    }
}

/// Writes a row of RGB as one row of each plane; with `bgr`, plane 0 is blue.
pub(super) fn write_planes(
    table: &[[f32; 256]; 3],
    row: &[u8],
    planes: [&mut [f32]; 3],
    bgr: bool,
) {
    let pixels = row.as_chunks::<3>().0;
    for (channel, (plane, table)) in planes.into_iter().zip(table).enumerate() {
        let from = if bgr { 2 - channel } else { channel };
        for (value, pixel) in plane.iter_mut().zip(pixels) {
            *value = table[usize::from(pixel[from])];
        }
    }
}

/// Writes a row of RGB as one row of pixels; with `bgr`, channel 0 is blue.
pub(super) fn write_pixels(table: &[[u8; 256]; 3], row: &[u8], to: &mut [u8], bgr: bool) {
    let [first, second, third] = table;
    let (red, blue) = if bgr { (2, 0) } else { (0, 2) };
    for (to, from) in to.as_chunks_mut::<3>().0.iter_mut().zip(row.as_chunks::<3>().0) {
        *to = [
            first[usize::from(from[red])],
            second[usize::from(from[1])],
            third[usize::from(from[blue])],
        ];
    }
}
