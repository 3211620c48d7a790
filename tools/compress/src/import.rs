//! Trained weights, or an ONNX file of others, to a model file that Kinglet's programs take.
//!
//! [`import_weights`] reads a weights file ([`crate::weights`]), finds its tensors by the names of
//! the convention it follows, folds the batch norms and writes the architecture's graph around
//! them. [`import_random`] does the same with made-up weights, for measurements and tests.
//! [`adopt`] only adds metadata to an ONNX file. None of them touches the output file: see
//! [`crate::atomic::atomic_write`].

use std::path::Path;

use kinglet_engine::metadata::{Metadata, Preprocess, Provenance};
use kinglet_engine::{ModelError, OnnxFile};
use sha2::{Digest, Sha256};

use crate::arch::{Arch, Conv, Network, Padding};
use crate::golden;
use crate::weights::names::Style;
use crate::weights::{StateDict, WeightsError};

mod defaults;
mod fold;
mod graph;
mod random;

pub use fold::Folded;

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The weights file was refused.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model file was refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tensors follow no known convention of names.
    #[error(
        "the tensors are named like none of efficientnet_pytorch, timm and torchvision; \
         the first are {first:?}"
    )]
    UnknownNames {
        /// The first names of the file.
        first: Vec<String>,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("tensor '{tensor}' of {arch} ({style} names) is missing: is it another architecture?")]
    Missing {
        /// The tensor.
        tensor: String,
        /// The architecture.
        arch: &'static str,
        /// The convention of names.
        style: Style,
    },
    /// The file holds a tensor that the architecture has no place for.
    #[error(
        "{arch} has no place for tensor '{tensor}' ({count} such): is it another architecture?"
    )]
    Extra {
        /// The first such tensor.
        tensor: String,
        /// How many there are.
        count: usize,
        /// The architecture.
        arch: &'static str,
    },
    /// A tensor has another shape than the architecture says.
    #[error("tensor '{tensor}' is {actual:?}, {arch} needs {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        actual: Vec<usize>,
        /// The needed one.
        expected: Vec<usize>,
        /// The architecture.
        arch: &'static str,
    },
    /// A folded weight is infinite or not a number.
    #[error("tensor '{tensor}', or its batch norm, holds values that are not finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// The number of labels is not the number of outputs.
    #[error("{labels} labels for {outputs} outputs")]
    Labels {
        /// Labels given.
        labels: usize,
        /// Outputs of the model.
        outputs: usize,
    },
    /// The number of classes asked for is not that of the weights.
    #[error("{asked} classes are asked for, the weights have {actual}")]
    Classes {
        /// Asked for.
        asked: usize,
        /// In the weights.
        actual: usize,
    },
    /// A size is outside its range.
    #[error("{what} {value} is outside {least}..={most}")]
    Range {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: usize,
        /// Least accepted.
        least: usize,
        /// Largest accepted.
        most: usize,
    },
    /// The preprocessing does not fit the model's input.
    #[error("preprocessing makes pictures of {height}x{width}, the model takes {input}")]
    InputSize {
        /// Height that the preprocessing makes.
        height: u32,
        /// Width that the preprocessing makes.
        width: u32,
        /// The model's input, in words.
        input: String,
    },
}

/// What may be chosen in an import; everything has a default.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Side of the input, pixels; otherwise the published one.
    pub resolution: Option<u32>,
    /// Number of outputs. With weights it must be theirs; of random weights 1000 by default.
    pub classes: Option<usize>,
    /// Factors of the channels and of the repeats; only for random weights.
    pub scale: Option<[f64; 2]>,
    /// Padding; otherwise as the weights' origin has it.
    pub padding: Option<Padding>,
    /// Batch-norm epsilon; otherwise as the weights' origin has it.
    pub epsilon: Option<f64>,
    /// Class names.
    pub labels: Option<Vec<String>>,
    /// How pictures are prepared; otherwise as the weights' origin has it.
    pub preprocess: Option<Preprocess>,
    /// Name, source, licence and accuracy of the weights; parent and steps are filled in here.
    pub provenance: Provenance,
}

/// Builds a model from a weights file.
///
/// # Errors
/// [`ImportError`] naming the tensor that does not fit.
pub fn import_weights(
    arch: &'static Arch,
    weights: &Path,
    options: &ImportOptions,
) -> Result<OnnxFile, ImportError> {
    let read = |source| WeightsError::Read { path: weights.to_owned(), source };
    let length = std::fs::metadata(weights).map_err(read)?.len();
    if length > crate::weights::MAX_FILE_BYTES {
        return Err(ImportError::Weights(WeightsError::Limit {
            what: "size of the weights file in bytes".into(),
            actual: length,
            limit: crate::weights::MAX_FILE_BYTES,
        }));
    }
    let bytes = std::fs::read(weights).map_err(read)?;
    let timm_tf = weights.file_name().is_some_and(|n| n.to_string_lossy().contains("tf_"));
    import_bytes(arch, &bytes, timm_tf, options)
}

/// Builds a model from the bytes of a weights file. `tensorflow` says, for weights with timm's
/// names, that they come from TensorFlow (timm calls those files `tf_…`): the names alone do not.
///
/// # Errors
/// [`ImportError`] naming the tensor that does not fit.
pub fn import_bytes(
    arch: &'static Arch,
    bytes: &[u8],
    tensorflow: bool,
    options: &ImportOptions,
) -> Result<OnnxFile, ImportError> {
    let state = StateDict::from_bytes(bytes)?;
    let style = Style::detect(&state).ok_or_else(|| ImportError::UnknownNames {
        first: state.tensors.keys().take(5).cloned().collect(),
    })?;
    let origin = defaults::Origin::new(*arch, style, tensorflow);
    let padding = options.padding.unwrap_or_else(|| origin.padding());
    let epsilon = options.epsilon.unwrap_or_else(|| origin.epsilon(padding));
    let classes = fold::classes(arch, &state, style)?;
    if let Some(asked) = options.classes
        && asked != classes
    {
        return Err(ImportError::Classes { asked, actual: classes });
    }
    let network = arch.network(classes);
    let folded = fold::fold(&network, state, style, epsilon)?;
    let resolution = check_resolution(options.resolution.unwrap_or_else(|| origin.resolution()))?;
    let mut provenance = options.provenance.clone();
    provenance.parent_sha256 = Some(sha256(bytes));
    provenance.steps.push(format!(
        "import {} ({style} names, {padding} padding, batch norms folded with epsilon {epsilon}, \
         {resolution}x{resolution})",
        arch.name
    ));
    let preprocess = options.preprocess.clone().unwrap_or_else(|| origin.preprocess(resolution));
    let proto = graph::build(&network, folded, resolution as usize, padding);
    finish(proto, preprocess, provenance, arch.name, options)
}

/// Builds a model with random weights: the same ones for the same seed on every machine.
///
/// # Errors
/// [`ImportError`] when an option is out of range.
pub fn import_random(
    arch: &'static Arch,
    seed: u64,
    options: &ImportOptions,
) -> Result<OnnxFile, ImportError> {
    let classes = options.classes.unwrap_or(1000);
    check_classes(classes)?;
    let origin = defaults::Origin::new(*arch, Style::EfficientnetPytorch, true);
    let padding = options.padding.unwrap_or_else(|| origin.padding());
    let resolution = check_resolution(options.resolution.unwrap_or_else(|| origin.resolution()))?;
    let [width, depth] = options.scale.unwrap_or([1.0; 2]);
    let network = arch.scaled(width, depth, resolution).network(classes);
    let scale = options
        .scale
        .map_or_else(String::new, |[width, depth]| format!("width {width}, depth {depth}, "));
    let mut provenance = options.provenance.clone();
    provenance.steps.push(format!(
        "import {} ({scale}random weights, seed {seed}, {padding} padding, \
         {resolution}x{resolution})",
        arch.name
    ));
    let preprocess = options.preprocess.clone().unwrap_or_else(|| origin.preprocess(resolution));
    let weights = random::weights(&network, seed);
    let proto = graph::build(&network, weights, resolution as usize, padding);
    finish(proto, preprocess, provenance, arch.name, options)
}

/// Builds a model around weights that are in memory, such as those of a training, one pair for each
/// of [`Network::convolutions`] in their order; with a self-test. `options` give labels,
/// preprocessing, padding (`SAME` by default) and provenance, whose steps are complete.
///
/// # Errors
/// [`ImportError`] when an option is out of range or does not fit the network.
pub fn import_trained(
    network: &Network,
    weights: Vec<(Conv, Folded)>,
    options: &ImportOptions,
) -> Result<OnnxFile, ImportError> {
    check_classes(network.classes)?;
    let resolution = check_resolution(network.arch.resolution)?;
    if let Some((conv, _)) = weights.iter().find(|(_, f)| !f.is_finite()) {
        return Err(ImportError::NotFinite { tensor: conv.node_name() });
    }
    let padding = options.padding.unwrap_or(Padding::Same);
    let preprocess = options.preprocess.clone().unwrap_or_else(|| {
        defaults::Origin::new(network.arch, Style::EfficientnetPytorch, true).preprocess(resolution)
    });
    let proto = graph::build(network, weights, resolution as usize, padding);
    let provenance = options.provenance.clone();
    let mut file = finish(proto, preprocess, provenance, network.arch.name, options)?;
    golden::attach(&mut file, golden::FLOAT)?;
    Ok(file)
}

fn finish(
    proto: kinglet_engine::onnx::ModelProto,
    preprocess: Preprocess,
    mut provenance: Provenance,
    name: &str,
    options: &ImportOptions,
) -> Result<OnnxFile, ImportError> {
    let mut file = OnnxFile::from_proto(proto)?;
    if provenance.name.is_empty() {
        name.clone_into(&mut provenance.name);
    }
    let metadata = Metadata {
        preprocess: Some(preprocess),
        labels: options.labels.clone(),
        provenance: Some(provenance),
        ..Default::default()
    };
    check_metadata(&file, &metadata)?;
    metadata.write(&mut file.proto);
    Ok(file)
}

/// Adds metadata to an ONNX file, and a self-test if it says how pictures are prepared. What is not
/// given stays as it is in the file; `parent` is its SHA-256.
///
/// # Errors
/// [`ImportError::Model`] when the engine cannot run the model; [`ImportError::Labels`] or [`ImportError::InputSize`] when the metadata does not fit the model.
pub fn adopt(
    mut file: OnnxFile,
    parent: &str,
    options: &ImportOptions,
) -> Result<OnnxFile, ImportError> {
    let mut metadata = file.metadata()?;
    if let Some(labels) = &options.labels {
        metadata.labels = Some(labels.clone());
    }
    if let Some(preprocess) = &options.preprocess {
        preprocess.check()?;
        metadata.preprocess = Some(preprocess.clone());
    }
    let mut provenance = metadata.provenance.take().unwrap_or_default();
    let given = &options.provenance;
    if !given.name.is_empty() {
        provenance.name.clone_from(&given.name);
    }
    provenance.source = given.source.clone().or(provenance.source);
    provenance.licence = given.licence.clone().or(provenance.licence);
    provenance.parent_sha256 = Some(parent.to_owned());
    provenance.steps.push("import (metadata added)".into());
    metadata.provenance = Some(provenance);
    check_metadata(&file, &metadata)?;
    metadata.write(&mut file.proto);
    let tolerance = golden::tolerance(&file);
    golden::attach(&mut file, tolerance)?;
    Ok(file)
}

/// Labels and preprocessing fit the model's output and input.
fn check_metadata(file: &OnnxFile, metadata: &Metadata) -> Result<(), ImportError> {
    let shapes = crate::inspect::shapes::infer(file);
    let graph = file.graph();
    if let (Some(labels), Some(output)) = (&metadata.labels, graph.output.first()) {
        let outputs = shapes.shape(&output.name).map(|s| s.iter().product());
        if let Some(outputs) = outputs.filter(|&n| n != labels.len()) {
            return Err(ImportError::Labels { labels: labels.len(), outputs });
        }
    }
    if let Some(preprocess) = &metadata.preprocess {
        preprocess.check()?;
        let [height, width] = preprocess.size;
        let (h, w) = (height as usize, width as usize);
        let input = shapes.inputs.iter().find_map(|name| shapes.shape(name));
        if let Some(input) = input {
            let fits = matches!(*input.as_slice(), [_, 3, a, b] | [_, a, b, 3] if (a, b) == (h, w));
            if !fits {
                let input = format!("{input:?}");
                return Err(ImportError::InputSize { height, width, input });
            }
        }
    }
    Ok(())
}

fn check_resolution(resolution: u32) -> Result<u32, ImportError> {
    range("resolution", resolution as usize, 32, 4096)?;
    Ok(resolution)
}

fn check_classes(classes: usize) -> Result<(), ImportError> {
    range("number of classes", classes, 1, 1 << 16)
}

fn range(what: &'static str, value: usize, least: usize, most: usize) -> Result<(), ImportError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ImportError::Range { what, value, least, most })
}

/// SHA-256 of bytes, hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
