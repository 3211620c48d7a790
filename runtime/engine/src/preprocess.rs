//! From an RGB picture to a model's input tensor: crop, resize, normalise and quantize.
//!
//! The resize equals Pillow's `Image.resize(size, filter, box=...)` bit for bit, so that a model
//! sees on the board what its accuracy was measured on. Not for decoding files: see
//! [`crate::picture`]. Start at [`Preprocessor`].
//!
//! How it runs: rows of the picture go one by one through the horizontal filter into a small window
//! of 8-bit rows; as soon as the window holds what one tensor row needs, the vertical filter
//! makes that row and a table of 256 entries a channel writes it out in the model's own type. Only
//! the rows and columns under the crop are touched, and nothing of the picture's size is stored.

mod axis;
mod geometry;
mod resample;
mod table;

use crate::error::ModelError;
use crate::metadata::{Channels, Preprocess};
use crate::picture::Picture;

use axis::Axis;
use geometry::Geometry;
use resample::Resampler;
use table::Table;

/// What the model's input tensor wants. `v` is a sample, 0..=255; mean and std are those of its
/// channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InputKind {
    /// f32 in the order N C H W: `(v - mean) / std`.
    F32Nchw,
    /// u8 in the order N H W C:
    /// `clamp(round_half_even(((v - mean) / std) / scale) + zero_point, 0, 255)`.
    U8Nhwc {
        /// Step of the quantization, over zero and finite.
        scale: f32,
        /// The value that stands for 0.0.
        zero_point: u8,
    },
}

/// An input tensor of batch 1. Which variant and order it has follows from the [`InputKind`].
#[derive(Debug, Clone, PartialEq)]
pub enum InputTensor {
    /// `3 * height * width` values, channel by channel.
    F32(Vec<f32>),
    /// `height * width * 3` values, pixel by pixel.
    U8(Vec<u8>),
}

/// Turns pictures into input tensors. Made once for a model; keeps its buffers and, for the last
/// picture size seen, its filter coefficients, so that it allocates nothing once it is warm.
#[derive(Debug)]
pub struct Preprocessor {
    description: Preprocess,
    table: Table,
    /// Picture size that `plan` was made for.
    planned: (u32, u32),
    plan: Plan,
    resampler: Resampler,
    resized: Vec<u8>,
}

/// Coefficients for one picture size.
#[derive(Debug, Default)]
struct Plan {
    horizontal: Axis,
    vertical: Axis,
    /// Which pass comes first; between them samples are rounded to 8 bits, so it shows.
    vertical_first: bool,
}

impl Preprocessor {
    /// A preprocessor for one model.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] when the description is out of range, [`ModelError::Unsuitable`]
    /// when the quantization scale is not over zero and finite.
    pub fn new(description: &Preprocess, kind: InputKind) -> Result<Self, ModelError> {
        description.check()?;
        Ok(Self {
            description: description.clone(),
            table: Table::new(description, kind)?,
            planned: (0, 0),
            plan: Plan::default(),
            resampler: Resampler::default(),
            resized: Vec::new(),
        })
    }

    /// The description that it was made from.
    pub fn description(&self) -> &Preprocess {
        &self.description
    }

    /// A tensor of the right type and length, all zeros, for [`Preprocessor::run`].
    pub fn tensor(&self) -> InputTensor {
        let [height, width] = self.description.size;
        let length = height as usize * width as usize * 3;
        match self.table {
            Table::F32(_) => InputTensor::F32(vec![0.0; length]),
            Table::U8(_) => InputTensor::U8(vec![0; length]),
        }
    }

    /// Fills `output` from the picture. A tensor of another type or length is replaced by one that
    /// fits; otherwise nothing is allocated, once two pictures of the same size have been seen.
    pub fn run(&mut self, picture: &Picture, output: &mut InputTensor) {
        self.prepare(picture);
        let [height, width] = self.description.size.map(|side| side as usize);
        let bgr = self.description.channels == Channels::Bgr;
        if !self.table.fits(output, height * width * 3) {
            *output = self.tensor();
        }
        match (&self.table, output) {
            (Table::F32(table), InputTensor::F32(values)) => {
                let (first, rest) = values.split_at_mut(height * width);
                let (second, third) = rest.split_at_mut(height * width);
                self.resampler.run(picture, &self.plan, |y, row| {
                    let at = y * width..(y + 1) * width;
                    let planes = [&mut first[at.clone()], &mut second[at.clone()], &mut third[at]];
                    table::write_planes(table, row, planes, bgr);
                });
            }
            (Table::U8(table), InputTensor::U8(values)) => {
                self.resampler.run(picture, &self.plan, |y, row| {
                    let to = &mut values[y * width * 3..(y + 1) * width * 3];
                    table::write_pixels(table, row, to, bgr);
                });
            }
            _ => unreachable!("the tensor was made to fit the table"),
        }
    }

    /// The cropped and resized picture, before normalisation: `height * width * 3` bytes of RGB,
    /// row by row. For tests, snapshots and the picture that a person is shown.
    pub fn resized(&mut self, picture: &Picture) -> &[u8] {
        self.prepare(picture);
        let [height, width] = self.description.size.map(|side| side as usize);
        self.resized.resize(height * width * 3, 0);
        self.resampler.run(picture, &self.plan, |y, row| {
            self.resized[y * width * 3..(y + 1) * width * 3].copy_from_slice(row);
        });
        &self.resized
    }

    /// Makes the coefficients for the picture's size, unless the last picture had it too.
    fn prepare(&mut self, picture: &Picture) {
        let size = (picture.width(), picture.height());
        if self.planned == size {
            return;
        }
        let geometry = Geometry::new(&self.description, size.0, size.1);
        let filter = self.description.filter;
        self.plan.horizontal.set(&geometry.x, size.0, filter);
        self.plan.vertical.set(&geometry.y, size.1, filter);
        self.plan.vertical_first = geometry.vertical_first(size.0, size.1);
        self.planned = size;
    }
}
