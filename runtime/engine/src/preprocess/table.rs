//! Normalisation and quantization of 8-bit samples: 256 precomputed values a tensor channel.

use crate::error::ModelError;
use crate::metadata::Preprocess;

use super::{InputKind, InputTensor};

/// For each tensor channel, the tensor's value for each sample.
#[derive(Debug)]
pub(super) enum Table {
    F32(Box<[[f32; 256]; 3]>),
    U8(Box<[[u8; 256]; 3]>),
    /// Samples are the tensor's values as they are.
    Same,
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
                let table = [0, 1, 2].map(|c| std::array::from_fn(|v| quantized(c, v)));
                let same = |channel: &[u8; 256]| (0..=255).eq(channel.iter().copied());
                Ok(if table.iter().all(same) { Self::Same } else { Self::U8(Box::new(table)) })
            }
        }
    }

    /// Whether the tensor has this table's type and the given length.
    pub(super) fn fits(&self, tensor: &InputTensor, length: usize) -> bool {
        match (self, tensor) {
            (Self::F32(_), InputTensor::F32(values)) => values.len() == length,
            (Self::U8(_) | Self::Same, InputTensor::U8(values)) => values.len() == length,
            _ => false,
        }
    }

    /// Writes a row of RGB as row `y` of a tensor that fits; with `bgr`, channel 0 is blue.
    pub(super) fn write(&self, tensor: &mut InputTensor, y: usize, row: &[u8], bgr: bool) {
        match (self, tensor) {
            (Self::F32(table), InputTensor::F32(values)) => {
                let (size, width) = (values.len() / 3, row.len() / 3);
                for (plane, (values, table)) in
                    values.chunks_exact_mut(size).zip(&**table).enumerate()
                {
                    let channel = if bgr { 2 - plane } else { plane };
                    write_plane(table, row, channel, &mut values[y * width..(y + 1) * width]);
                }
            }
            (Self::U8(table), InputTensor::U8(values)) => {
                write_pixels(table, row, &mut values[y * row.len()..(y + 1) * row.len()], bgr);
            }
            (Self::Same, InputTensor::U8(values)) => {
                let to = &mut values[y * row.len()..(y + 1) * row.len()];
                to.copy_from_slice(row);
                if bgr {
                    to.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
                }
            }
            _ => unreachable!("the tensor was made to fit the table"),
        }
    }
}

/// Writes one channel of a row of RGB as a row of a plane.
fn write_plane(table: &[f32; 256], row: &[u8], channel: usize, plane: &mut [f32]) {
    for (value, pixel) in plane.iter_mut().zip(row.as_chunks::<3>().0) {
        *value = table[usize::from(pixel[channel])];
    }
}

/// Writes a row of RGB as one row of pixels; with `bgr`, channel 0 is blue.
fn write_pixels(table: &[[u8; 256]; 3], row: &[u8], to: &mut [u8], bgr: bool) {
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
