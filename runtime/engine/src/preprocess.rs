//! From an RGB picture to a model's input tensor: crop, resize, normalise and quantize.
//!
//! The resize equals Pillow's `Image.resize(size, filter, box=...)` bit for bit, so that a model
//! sees on the board what its accuracy was measured on. Not for decoding files: see
//! [`crate::picture`]. Start at [`Preprocessor`].
//!
//! How it runs: rows of the picture go eight by eight through the horizontal filter into a small
//! window of 8-bit rows; as soon as the window holds what one tensor row needs, the vertical filter
//! makes that row and a table of 256 entries a channel writes it out in the model's own type. Only
//! the rows and columns under the crop are touched, and nothing of the picture's size is stored.
//! Camera frames ([`Preprocessor::run_frame`]) are resized as they are and become RGB at the tensor's
//! size.

mod axis;
mod frames;
mod geometry;
mod resample;
mod table;

use image::metadata::Orientation;
use kinglet_kernels::resample::{Resample, Weights};
use kinglet_kernels::yuv::YuvToRgb;
use kinglet_kernels::{Isa, KernelError};

use crate::error::ModelError;
use crate::frame::{FrameView, YuvMatrix};
use crate::metadata::{Channels, Preprocess};
use crate::picture::jpeg::{JpegDecoder, Other, Part};
use crate::picture::{self, Picture, PictureError};

use axis::Axis;
use geometry::Geometry;
use resample::{Resampler, Samples};
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
    channels: frames::Channels,
    /// The conversion of each [`YuvMatrix`].
    colors: [YuvToRgb; 4],
    jpeg: JpegDecoder,
    /// What was decoded of the last file.
    decoded: Vec<u8>,
    resized: Vec<u8>,
}

/// Coefficients for one picture size.
#[derive(Debug, Default)]
struct Plan {
    horizontal: Axis,
    vertical: Axis,
    /// For chroma that two columns share, and for chroma that two rows share.
    half_horizontal: Axis,
    half_vertical: Axis,
    /// The same for the rows and columns of frames, whose rows begin with two pixels that share their
    /// chroma.
    rows: Weights,
    half_rows: Weights,
    luma: Weights,
    chroma: Weights,
    /// Which pass comes first; between them samples are rounded to 8 bits, so it shows.
    vertical_first: bool,
}

impl Preprocessor {
    /// A preprocessor for one model.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] when the description is out of range, [`ModelError::Unsuitable`]
    /// when the quantization scale is not over zero and finite, or the environment variable
    /// `KINGLET_ISA` names an instruction set that this CPU lacks.
    pub fn new(description: &Preprocess, kind: InputKind) -> Result<Self, ModelError> {
        description.check()?;
        let kernel = |e: KernelError| ModelError::Unsuitable { why: e.to_string() };
        let isa = Isa::select().map_err(kernel)?;
        let color = |matrix: YuvMatrix| YuvToRgb::new(isa, matrix.coefficients()).map_err(kernel);
        let [first, second, third, fourth] = YuvMatrix::ALL.map(color);
        Ok(Self {
            description: description.clone(),
            table: Table::new(description, kind)?,
            planned: (0, 0),
            plan: Plan::default(),
            resampler: Resampler::new(Resample::new(isa).map_err(kernel)?),
            channels: frames::Channels::default(),
            colors: [first?, second?, third?, fourth?],
            jpeg: JpegDecoder::new(isa).map_err(kernel)?,
            decoded: Vec::new(),
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
            Table::U8(_) | Table::Same => InputTensor::U8(vec![0; length]),
        }
    }

    /// Fills `output` from the picture. A tensor of another type or length is replaced by one that
    /// fits; otherwise nothing is allocated, once two pictures of the same size have been seen.
    pub fn run(&mut self, picture: &Picture, output: &mut InputTensor) {
        self.prepare(picture.width(), picture.height());
        self.fit(output);
        let bgr = self.description.channels == Channels::Bgr;
        self.resampler.run(whole(picture), &self.plan, |y, row| {
            self.table.write(output, y, row, bgr);
        });
    }

    /// Fills `output` from a camera's frame, as [`Preprocessor::run`] does from a picture: without
    /// a copy of the frame in RGB. A frame in RGB gives the tensor of its picture bit for bit. One
    /// with chroma gives, to within rounding, that of the picture that it shows: of each colour, at
    /// most 1 in 255 apart on average.
    pub fn run_frame(&mut self, frame: &FrameView<'_>, output: &mut InputTensor) {
        self.prepare(frame.width(), frame.height());
        self.fit(output);
        let bgr = self.description.channels == Channels::Bgr;
        let color = &self.colors[frame.matrix() as usize];
        let emit = |y: usize, row: &[u8]| self.table.write(output, y, row, bgr);
        self.resampler.run_frame(frame, &self.plan, &mut self.channels, color, emit);
    }

    /// Fills `output` from the bytes of a JPEG or PNG file, as [`Picture::decode`] and
    /// [`Preprocessor::run`] do, bit for bit. Of a baseline JPEG (not turned by its EXIF data) only
    /// what lies under the crop is decoded, into memory that is used again; damage to its data
    /// beyond the crop's last row stays unseen.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn run_file(&mut self, bytes: &[u8], output: &mut InputTensor) -> Result<(), PictureError> {
        if self.run_jpeg(bytes, output)?.is_err() {
            self.run(&Picture::decode(bytes)?, output);
        }
        Ok(())
    }

    /// The way of a file that [`JpegDecoder`] takes.
    fn run_jpeg(
        &mut self,
        bytes: &[u8],
        output: &mut InputTensor,
    ) -> Result<Result<(), Other>, PictureError> {
        let header = picture::check(bytes)?;
        match self.jpeg.start(bytes, &header) {
            Ok(Orientation::NoTransforms) => {}
            _ => return Ok(Err(Other)),
        }
        self.prepare(header.width, header.height);
        let Plan { horizontal, vertical, .. } = &self.plan;
        let (left, top) = (horizontal.begin, vertical.begin);
        let (width, height) = (horizontal.end - left, vertical.end - top);
        let part = Part { left, top, width, height };
        if let Err(other) = self.jpeg.decode(bytes, part, &mut self.decoded) {
            // Its size may have been a lie.
            self.decoded = Vec::new();
            return Ok(Err(other));
        }
        self.fit(output);
        let bgr = self.description.channels == Channels::Bgr;
        let from = Samples { rgb: &self.decoded, stride: width as usize * 3, left, top };
        self.resampler.run(from, &self.plan, |y, row| self.table.write(output, y, row, bgr));
        Ok(Ok(()))
    }

    /// The cropped and resized picture, before normalisation: `height * width * 3` bytes of RGB,
    /// row by row. For tests, snapshots and the picture that a person is shown.
    pub fn resized(&mut self, picture: &Picture) -> &[u8] {
        self.prepare(picture.width(), picture.height());
        let length = self.length();
        self.resized.resize(length, 0);
        self.resampler.run(whole(picture), &self.plan, |y, row| {
            self.resized[y * row.len()..(y + 1) * row.len()].copy_from_slice(row);
        });
        &self.resized
    }

    /// Values in a tensor.
    fn length(&self) -> usize {
        let [height, width] = self.description.size;
        height as usize * width as usize * 3
    }

    /// Replaces a tensor of another type or length.
    fn fit(&self, output: &mut InputTensor) {
        if !self.table.fits(output, self.length()) {
            *output = self.tensor();
        }
    }

    /// Makes the coefficients for the picture's size, unless the last picture had it too.
    fn prepare(&mut self, width: u32, height: u32) {
        let size = (width, height);
        if self.planned == size {
            return;
        }
        let geometry = Geometry::new(&self.description, size.0, size.1);
        let filter = self.description.filter;
        self.plan.horizontal.set(&geometry.x, size.0, filter);
        self.plan.vertical.set(&geometry.y, size.1, filter);
        self.plan.half_horizontal.set_half(&self.plan.horizontal);
        self.plan.half_vertical.set_half(&self.plan.vertical);
        let plan = &mut self.plan;
        let passes = &self.resampler.passes;
        passes.lay_out(&plan.vertical.taps(), 0, &mut plan.rows);
        passes.lay_out(&plan.half_vertical.taps(), 0, &mut plan.half_rows);
        passes.lay_out(&plan.horizontal.taps(), plan.horizontal.begin % 2, &mut plan.luma);
        passes.lay_out(&plan.half_horizontal.taps(), 0, &mut plan.chroma);
        self.plan.vertical_first = geometry.vertical_first(size.0, size.1);
        self.planned = size;
    }
}

/// A picture, to be resized.
fn whole(picture: &Picture) -> Samples<'_> {
    let stride = picture.width() as usize * 3;
    Samples { rgb: picture.rgb(), stride, left: 0, top: 0 }
}
