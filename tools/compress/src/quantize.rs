//! A float model to int8: post-training static quantization, written as standard QDQ.
//!
//! [`quantize`] does it all: `prepare` brings the graph into a known form, `plan` says which
//! values and layers become integers, `calibrate` runs the float model over pictures,
//! `range` chooses each value's scale, `weights` the layers' codes, `write` the new graph.
//! Not for models that are quantized already, and nothing is trained.
//!
//! Rounding everywhere is half to even; the result does not depend on the number of threads.

use std::path::PathBuf;

use kinglet_engine::metadata::Preprocess;
use kinglet_engine::{ModelError, OnnxFile, Options, Session, tensor};

use crate::evaluate::Skipped;
use crate::{golden, graph, parallel};

mod bits;
mod calibrate;
mod histogram;
mod importance;
mod plan;
pub(crate) mod prepare;
mod range;
mod report;
mod weights;
mod write;

pub use bits::Role;
pub use range::{Quantization, RangeMethod};
pub use report::{LayerReport, Report, ValueReport};

use calibrate::Calibration;
use plan::Plan;
use range::{Chosen, View};
use weights::{LayerCodes, LayerWeights, Rule};

/// Why a quantization failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
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

/// How to quantize.
#[derive(Debug, Clone)]
pub struct QuantizeOptions {
    /// Bits of a weight: 8 (codes -127..=127) or 7 (-63..=63).
    pub weight_bits: u8,
    /// Bits of a value that only pointwise convolutions and sums read: 8 (codes 0..=255) or 7
    /// (0..=127, by a Clip in the model).
    pub pointwise_bits: u8,
    /// How ranges of activations are chosen.
    pub ranges: RangeMethod,
    /// Search the scale of each channel's weights, instead of that of the largest weight.
    pub search_weights: bool,
    /// Take the mean error that rounded weights cause out of the biases.
    pub correct_bias: bool,
    /// Threads, each with a session of its own; one for each core by default.
    pub threads: Option<usize>,
    /// Preprocessing instead of that in the model; it is stored in the result.
    pub preprocess: Option<Preprocess>,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            weight_bits: 8,
            pointwise_bits: 8,
            ranges: RangeMethod::Mse,
            search_weights: true,
            correct_bias: true,
            threads: None,
            preprocess: None,
        }
    }
}

/// A quantized model and how it came about.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The model.
    pub file: OnnxFile,
    /// What was chosen for each value and layer.
    pub report: Report,
    /// Calibration pictures that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Quantizes a float model. `parent` is the SHA-256 of its file. `done` is called once a picture,
/// from several threads.
///
/// # Errors
/// [`QuantizeError`] saying what is wrong with the model or the pictures.
pub fn quantize(
    file: &OnnxFile,
    parent: &str,
    pictures: &[PathBuf],
    options: &QuantizeOptions,
    done: &(dyn Fn() + Sync),
) -> Result<Quantized, QuantizeError> {
    let largest = match options.weight_bits {
        7 => 63,
        8 => 127,
        bits => return Err(QuantizeError::WeightBits { bits }),
    };
    if !matches!(options.pointwise_bits, 7 | 8) {
        return Err(QuantizeError::PointwiseBits { bits: options.pointwise_bits });
    }
    if pictures.is_empty() {
        return Err(QuantizeError::NoPictures);
    }
    let mut model = file.proto.clone();
    prepare::prepare(&mut model)?;
    let mut metadata = file.metadata()?;
    if let Some(preprocess) = &options.preprocess {
        preprocess.check()?;
        metadata.preprocess = Some(preprocess.clone());
    }
    let preprocess = metadata.preprocess.clone().ok_or(QuantizeError::NoPreprocess)?;
    metadata.golden = None;
    metadata.write(&mut model);
    let Some(graph) = model.graph.as_ref() else { return Err(QuantizeError::NoConvolution) };
    let plan = plan::plan(graph);
    if plan.layers.is_empty() {
        return Err(QuantizeError::NoConvolution);
    }
    let threads = parallel::threads(options.threads);
    let calibration = calibrate::calibrate(&model, &plan, &preprocess, pictures, threads, done)?;
    let roles = bits::roles(graph, &plan);
    let chosen = ranges(&plan, &calibration, &preprocess, &roles, options);
    let points: Vec<Quantization> = chosen.iter().map(|c| c.quantization).collect();
    let rule = Rule { largest, search: options.search_weights, correct_bias: options.correct_bias };
    let layers = layers(graph, &plan, &calibration, &points, rule)?;
    let report = report::report(graph, &plan, &chosen, &roles, &layers);
    if let Some(graph) = model.graph.as_mut() {
        write::write(graph, &plan, &points, &layers);
    }
    let mut provenance = metadata.provenance.take().unwrap_or_default();
    provenance.parent_sha256 = Some(parent.to_owned());
    provenance.accuracy.clear();
    provenance.steps.push(step(options, &calibration));
    metadata.provenance = Some(provenance);
    metadata.write(&mut model);
    let mut file = OnnxFile::from_proto(model)?;
    golden::attach(&mut file, golden::INT8)?;
    Session::new(file.clone(), &Options::default())?;
    Ok(Quantized { file, report, skipped: calibration.skipped })
}

/// The step's line in the provenance: all that the result depends on.
fn step(options: &QuantizeOptions, calibration: &Calibration) -> String {
    let on = |on: bool| if on { "on" } else { "off" };
    format!(
        "compress --int8 (weights of {} bits a channel, uint8 activations{}, ranges by {}, weight \
         search {}, bias correction {}, {} calibration pictures)",
        options.weight_bits,
        if options.pointwise_bits == 7 { ", 7 bits into pointwise convolutions" } else { "" },
        match options.ranges {
            RangeMethod::MinMax => "minimum and maximum",
            RangeMethod::Mse => "squared error",
        },
        on(options.search_weights),
        on(options.correct_bias),
        calibration.pictures
    )
}

/// Chooses the range of every point.
fn ranges(
    plan: &Plan,
    calibration: &Calibration,
    preprocess: &Preprocess,
    roles: &[Role],
    options: &QuantizeOptions,
) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = Vec::new();
    let points = plan.points.iter().zip(&calibration.points);
    // Backwards: what is chosen for a function's result says how much of its argument is seen.
    for (at, (point, seen)) in points.enumerate().rev() {
        let after = point.next.filter(|&next| next > at);
        let after = after.and_then(|next| chosen.get(plan.points.len() - 1 - next));
        let range = after.map_or(View::PLAIN.range, |c| c.quantization.range());
        let view = View { effect: point.effect, range };
        let largest = match (&roles[at], options.pointwise_bits) {
            (Role::Pointwise, 7) => 127,
            _ => 255,
        };
        chosen.push(if roles[at] == Role::Picture {
            let quantization = range::of_pictures(preprocess.mean, preprocess.std);
            range::describe(&seen.histogram, quantization, view)
        } else {
            range::choose(&seen.histogram, point.bounds, view, options.ranges, largest)
        });
    }
    chosen.reverse();
    chosen
}

/// Quantizes the weights of every layer.
fn layers(
    graph: &kinglet_engine::onnx::GraphProto,
    plan: &Plan,
    calibration: &Calibration,
    points: &[Quantization],
    rule: Rule,
) -> Result<Vec<LayerCodes>, QuantizeError> {
    let index = graph::Index::new(graph);
    let layer = |layer: &plan::Layer| {
        let node = &graph.node[layer.node];
        let constant = |at: usize| graph::input(node, at).and_then(|v| index.constant(v));
        let Some(tensor) = constant(1) else { return Err(QuantizeError::NoConvolution) };
        let weights = tensor::to_f32(tensor)?;
        let (dims, _) = tensor::shape(tensor)?;
        let channels = dims.first().copied().unwrap_or(0);
        let bias = match constant(2) {
            Some(bias) => tensor::to_f32(bias)?,
            None => vec![0.0; channels],
        };
        if weights.iter().chain(&bias).any(|v| !v.is_finite()) {
            return Err(QuantizeError::NotFinite { value: tensor.name.clone() });
        }
        if bias.len() != channels {
            let why = format!("{} elements for {channels} channels", bias.len());
            let tensor = constant(2).map(|t| t.name.clone()).unwrap_or_default();
            return Err(ModelError::Tensor { tensor, why }.into());
        }
        let (mean, variance) = calibration.moments(layer.input);
        let depthwise = graph::int(node, "group").unwrap_or(1) > 1;
        let layer = LayerWeights {
            weights: &weights,
            bias: &bias,
            input: points[layer.input],
            mean: &mean,
            variance: &variance,
            depthwise,
        };
        Ok(weights::quantize(layer, rule))
    };
    plan.layers.iter().map(layer).collect()
}
