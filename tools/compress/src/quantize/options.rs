//! What a person may ask of the quantizer.

use std::path::PathBuf;
use std::time::Duration;

use kinglet_engine::metadata::Preprocess;

use super::range::Calibrator;
use crate::dataset::Sample;

/// How to quantize.
#[derive(Debug, Clone)]
pub struct QuantizeOptions {
    /// Bits of a weight: 8 (codes -127..=127) or 7 (-63..=63).
    pub weight_bits: u8,
    /// Bits of a value that only pointwise convolutions and sums read: 8 (codes 0..=255) or 7
    /// (0..=127, by a Clip in the model).
    pub pointwise_bits: u8,
    /// How ranges of activations are chosen; `None` tries all and keeps the best.
    pub calibrator: Option<Calibrator>,
    /// Ranges of activations with negative values reach as far below zero as above.
    pub symmetric: bool,
    /// Activations are written as int8 instead of uint8; the numbers are the same.
    pub signed: bool,
    /// Search the scale of each channel's weights, instead of that of the largest weight.
    pub search_weights: bool,
    /// Take the mean error that rounded weights cause out of the biases.
    pub correct_bias: bool,
    /// What is done where plain int8 is too far from the float model.
    pub cures: Cures,
    /// Learn the rounding of weights (AdaRound) for at most so long.
    pub adaround: Option<Duration>,
    /// When the result is good enough.
    pub target: Target,
    /// Labelled pictures to judge by; else a part of the calibration pictures is held out.
    pub labelled: Option<Vec<Sample>>,
    /// Longest latency of one picture on this machine, one thread, that floats may cost.
    pub max_latency: Option<Duration>,
    /// What is measured beyond what the target needs.
    pub diagnose: Diagnose,
    /// Seed of what is drawn at random (samples and their order in AdaRound).
    pub seed: u64,
    /// Threads, each with a session of its own; one for each core by default.
    pub threads: Option<usize>,
    /// Preprocessing instead of that in the model; it is stored in the result.
    pub preprocess: Option<Preprocess>,
    /// A file that a run leaves when it is stopped, and the same run goes on from. Who has saved the
    /// result removes it.
    pub progress: Option<PathBuf>,
    /// Leave that file unread and begin anew.
    pub restart: bool,
}

impl QuantizeOptions {
    /// What of them the result depends on, in words.
    pub(super) fn settings(&self) -> String {
        let progress = None;
        format!("{:?}", Self { threads: None, progress, restart: false, ..self.clone() })
    }
}

/// A cure for lost accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cure {
    /// Cross-layer equalization.
    Equalize,
    /// Empirical bias correction.
    Bias,
    /// Ranges tuned against the model's features.
    Tune,
    /// Layers in float.
    Float,
}

impl Cure {
    /// All, the cheapest on the board first.
    pub const ALL: [Self; 4] = [Self::Equalize, Self::Bias, Self::Tune, Self::Float];
}

/// Which cures are applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Cures {
    /// One after another until the target holds.
    #[default]
    Auto,
    /// These and no others, whether the target holds or not ([`Cure::Float`] only as far as it
    /// needs); each is kept only if it helps.
    Only(Vec<Cure>),
}

/// When a quantized model is good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The mean cosine between its features and the float model's is at least this, -1..=1.
    Cosine(f64),
    /// It loses at most so many points (hundredths) of top-1 on labelled pictures; without labels,
    /// of agreement with the float model.
    Drop(f64),
}

/// What is measured of the layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Diagnose {
    /// Nothing.
    #[default]
    Nothing,
    /// How far each layer's output is from the float model's.
    Outputs,
    /// That, and what each layer costs when it alone is quantized.
    Alone,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            weight_bits: 8,
            pointwise_bits: 8,
            calibrator: Some(Calibrator::Mse),
            symmetric: false,
            signed: false,
            search_weights: true,
            correct_bias: true,
            cures: Cures::Auto,
            adaround: None,
            target: Target::Cosine(0.996),
            labelled: None,
            max_latency: None,
            diagnose: Diagnose::Nothing,
            seed: 0,
            threads: None,
            preprocess: None,
            progress: None,
            restart: false,
        }
    }
}
