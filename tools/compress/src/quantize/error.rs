//! Why a quantization failed.

use kinglet_engine::ModelError;

use crate::journal::JournalError;

/// Why a quantization failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It cannot go on from the file of an earlier run.
    #[error(transparent)]
    Progress(#[from] JournalError),
    /// The model has integer layers.
    #[error("the model is quantized already (node '{node}'); give the float model")]
    AlreadyQuantized {
        /// The first quantized node.
        node: String,
    },
    /// The model's constants are of 16 bits.
    #[error("tensor '{tensor}' has 16-bit floats; give the model with 32-bit floats")]
    Half {
        /// The first such tensor.
        tensor: String,
    },
    /// The operator set is too old.
    #[error(
        "operator set {version}{} cannot be raised to 13, which int8 with a scale a channel needs; \
         export the model with operator set 13 or later",
        operator.as_ref().map(|o| format!(" with {o}")).unwrap_or_default()
    )]
    Opset {
        /// The model's operator set.
        version: i64,
        /// The operator whose meaning has changed since.
        operator: Option<String>,
    },
    /// There is nothing to quantize.
    #[error("the model has no convolution with constant weights")]
    NoConvolution,
    /// The model does not say how pictures are prepared.
    #[error(
        "the model does not say how pictures are prepared, which calibration needs; give it with \
         --preprocess"
    )]
    NoPreprocess,
    /// The pictures are all alike.
    #[error(
        "the {pictures} calibration pictures are of one colour each; give photographs like those \
         that the model will see"
    )]
    Plain {
        /// How many there are.
        pictures: usize,
    },
    /// No calibration picture.
    #[error("no calibration pictures")]
    NoPictures,
    /// Too many calibration pictures cannot be read.
    #[error(
        "{skipped} of {pictures} calibration pictures cannot be read, more than 5 %; the first: \
         {first}"
    )]
    Unreadable {
        /// How many cannot be read.
        skipped: usize,
        /// All.
        pictures: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// A value of the float model is infinite or not a number.
    #[error("value '{value}' of the float model is infinite or not a number for some pictures")]
    NotFinite {
        /// The value.
        value: String,
    },
    /// A number of bits that is not possible.
    #[error("weights of {bits} bits are not possible; 7 and 8 are")]
    WeightBits {
        /// Asked for.
        bits: u8,
    },
    /// A number of bits that is not possible.
    #[error("inputs of pointwise convolutions of {bits} bits are not possible; 7 and 8 are")]
    PointwiseBits {
        /// Asked for.
        bits: u8,
    },
}
