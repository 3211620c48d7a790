//! Why a model was not pruned.

use kinglet_engine::ModelError;

use super::select::STEP;
use crate::gradient::NoGradient;
use crate::journal::JournalError;
use crate::quantize::QuantizeError;

/// Why a model was not pruned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model is not one of 32-bit floats.
    #[error(transparent)]
    Form(#[from] QuantizeError),
    /// An operator stands in the way of gradients.
    #[error("{0}; choose the criterion norm")]
    Gradient(#[from] NoGradient),
    /// It cannot go on from the file of an earlier run.
    #[error(transparent)]
    Progress(#[from] JournalError),
    /// Nothing that can be pruned.
    #[error(
        "no inverted residual found: a convolution that expands, channelwise layers, a 1x1 \
         convolution that projects to fewer channels"
    )]
    NoBlock,
    /// A budget that is no share.
    #[error("a budget of {budget} is not possible; it is a share of the model's work, in (0, 1]")]
    Budget {
        /// Asked for.
        budget: f64,
    },
    /// A latency that is no time.
    #[error("a latency of {ms} ms is not possible")]
    Latency {
        /// Asked for.
        ms: f64,
    },
    /// The budget cannot be reached.
    #[error(
        "{asked} cannot be reached by pruning expanded channels; with {STEP} left in every block \
         it is {least}: ask for more, or take a smaller network or resolution"
    )]
    Unreachable {
        /// The budget, in words.
        asked: String,
        /// The least that is possible, in words.
        least: String,
    },
    /// Nothing has to be pruned.
    #[error("the model keeps to the budget already ({found})")]
    Nothing {
        /// What the model needs, in words.
        found: String,
    },
    /// The model does not say how pictures are prepared.
    #[error("the model does not say how pictures are prepared; give it with --preprocess")]
    NoPreprocess,
    /// No calibration picture.
    #[error("no calibration pictures")]
    NoPictures,
    /// The pictures are all alike.
    #[error(
        "the {pictures} calibration pictures are of one colour each; give photographs like those \
         that the model will see"
    )]
    Plain {
        /// How many there are.
        pictures: usize,
    },
    /// Too many pictures cannot be read.
    #[error("{skipped} of {pictures} pictures cannot be read, more than 5 %; the first: {first}")]
    Unreadable {
        /// How many cannot be read.
        skipped: usize,
        /// All.
        pictures: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// A value or weight is infinite or not a number.
    #[error("value '{value}' is infinite or not a number, or the weights around it are")]
    NotFinite {
        /// The value.
        value: String,
    },
}
