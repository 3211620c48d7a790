//! A new classifier for the user's own classes on the frozen backbone of a model.
//!
//! The steps, in order: [`Dataset::read`] finds the pictures, [`features`] runs the backbone over them
//! and their variants, [`train`] fits a classifier to what it gives, [`finish`] puts that into the
//! model (as integers where the backbone is), measures it with the engine and gives it labels, a
//! threshold for unknown pictures, a self-test and its history. The backbone itself does not change.
//!
//! The same seed and pictures give the same model, whatever the number of threads.

use std::path::PathBuf;

use kinglet_engine::metadata::{Accuracy, Preprocess};
use kinglet_engine::onnx::tensor_proto::DataType;
use kinglet_engine::{ModelError, OnnxFile, Options, Session};

use crate::classifier::NoClassifier;
use crate::dataset::DatasetError;
use crate::evaluate::{self, EvaluateError, EvaluateOptions, Evaluation};
use crate::{golden, statistics};

mod augment;
mod data;
mod features;
mod graft;
mod head;
mod lbfgs;
mod sgd;
mod train;

pub use data::Dataset;
pub use features::{Features, features};
pub use train::{Optimizer, PENALTIES, Trained, train};

use data::{LEAST_HELD_OUT, LEAST_TRAIN};

/// Share of the right answers on held-out pictures that the threshold for unknown pictures gives up.
const GIVEN_UP: f64 = 0.05;

/// Most memory for the features, bytes; training holds them twice.
const MOST_BYTES: u64 = 1 << 31;

/// Why a retraining failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetrainError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's end is not known.
    #[error(transparent)]
    NoClassifier(#[from] NoClassifier),
    /// The folder could not be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The finished model could not be measured.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A picture could not be read again.
    #[error("cannot read a picture again: {0}")]
    Read(#[from] std::io::Error),
    /// The model has 16-bit floats.
    #[error("tensor '{tensor}' has 16-bit floats; retrain the float or the int8 model")]
    Half {
        /// The first such tensor.
        tensor: String,
    },
    /// The model does not say how pictures are prepared.
    #[error(
        "the model does not say how pictures are prepared (its metadata was removed?); give it with \
         --preprocess"
    )]
    NoPreprocess,
    /// There are no class folders.
    #[error(
        "{} holds no folders: it needs one folder of pictures for each class, or such folders under \
         train/ and val/, or a labels.csv with a class for each picture", path.display()
    )]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to tell apart.
    #[error(
        "{} holds one class only ('{class}'): a classifier needs two or more folders, one of them \
         may be pictures of anything else", path.display()
    )]
    OneClass {
        /// The folder.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// A class of the held-out pictures cannot be learnt.
    #[error("class '{class}' of {} has no folder of that name under train/", path.display())]
    UnknownClass {
        /// The folder of held-out pictures.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// A name that cannot be a label.
    #[error("class name {class:?} has a line break; rename the folder")]
    ClassName {
        /// The class.
        class: String,
    },
    /// A class has too few pictures.
    #[error(
        "class '{class}' has {train} readable pictures to learn from and {held_out} held out; it \
         needs at least {LEAST_TRAIN} and {LEAST_HELD_OUT}, and some fifty to be any good"
    )]
    TooFew {
        /// The class.
        class: String,
        /// Pictures to learn from.
        train: usize,
        /// Pictures held out.
        held_out: usize,
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
    /// There are more features than memory should hold.
    #[error(
        "{pictures} pictures with {augment} variants each and {width} features take over {} GB of memory; \
         lower --augment", MOST_BYTES >> 30
    )]
    TooMuch {
        /// Pictures to learn from.
        pictures: usize,
        /// Variants of each.
        augment: usize,
        /// Features of a picture.
        width: usize,
    },
    /// The backbone failed on a picture.
    #[error("{}: the model makes numbers of it that are infinite or not numbers", path.display())]
    Features {
        /// The picture.
        path: PathBuf,
    },
}

/// How to retrain.
#[derive(Debug, Clone)]
pub struct RetrainOptions {
    /// Seed of the split, the variants, the hidden layer and the order of rows.
    pub seed: u64,
    /// How the new classifier is trained.
    pub optimizer: Optimizer,
    /// Units of a hidden layer; a linear classifier without.
    pub hidden: Option<usize>,
    /// Variants of each picture to learn from, besides itself.
    pub augment: usize,
    /// Whether variants may be mirrored.
    pub flip: bool,
    /// Whether each class counts as much as any other, however many pictures it has.
    pub balanced: bool,
    /// Threads; one for each core by default.
    pub threads: Option<usize>,
    /// Preprocessing instead of that in the model; it is stored in the result.
    pub preprocess: Option<Preprocess>,
}

impl Default for RetrainOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            optimizer: Optimizer::default(),
            hidden: None,
            augment: 4,
            flip: true,
            balanced: true,
            threads: None,
            preprocess: None,
        }
    }
}

/// A finished model and what was measured of it.
#[derive(Debug, Clone)]
pub struct Retrained {
    /// The model.
    pub file: OnnxFile,
    /// Whether the classifier computes in integers.
    pub is_int8: bool,
    /// The finished model on the held-out pictures.
    pub evaluation: Evaluation,
    /// Best scores below this count as unknown.
    pub unknown_below: f32,
}

/// Checks that a model is of a kind that can be retrained, before the work begins.
///
/// # Errors
/// [`RetrainError::Half`].
pub fn check(file: &OnnxFile) -> Result<(), RetrainError> {
    let half = |kind| kind == DataType::Float16 as i32 || kind == DataType::Bfloat16 as i32;
    match file.graph().initializer.iter().find(|t| half(t.data_type)) {
        Some(tensor) => Err(RetrainError::Half { tensor: tensor.name.clone() }),
        None => Ok(()),
    }
}

/// Makes the model. `parent` is the SHA-256 of the old one's file. `done` is called once a held-out
/// picture, from several threads.
///
/// # Errors
/// [`RetrainError::Model`] when the engine refuses the new model.
pub fn finish(
    file: &OnnxFile,
    parent: &str,
    data: &Dataset,
    features: &Features,
    trained: &Trained,
    options: &RetrainOptions,
    done: &(dyn Fn() + Sync),
) -> Result<Retrained, RetrainError> {
    let mut metadata = file.metadata()?;
    let mut proto = file.proto.clone();
    let is_int8 = graft::graft(&mut proto, features, &trained.layers);
    metadata.golden = None;
    metadata.drift = None;
    metadata.labels = Some(data.classes.clone());
    metadata.preprocess = Some(features.preprocess.clone());
    metadata.unknown_below = None;
    metadata.write(&mut proto);
    let mut new = OnnxFile::from_proto(proto)?;
    let measure = EvaluateOptions { threads: options.threads, preprocess: None };
    let evaluation = evaluate::evaluate(&new, &data.held_out, &measure, done)?;
    let unknown_below = threshold(&evaluation);
    metadata.unknown_below = Some(unknown_below);
    let mut provenance = metadata.provenance.take().unwrap_or_default();
    provenance.parent_sha256 = Some(parent.to_owned());
    provenance.name = match provenance.name.as_str() {
        "" => data.name.clone(),
        name => format!("{name}-{}", data.name),
    };
    provenance.steps.push(step(data, trained, options, &data.sha256()?));
    provenance.accuracy = vec![Accuracy {
        dataset: format!("held-out pictures of {}", data.name),
        top1: evaluation.top1() as f32,
        top5: evaluation.top5() as f32,
        n: evaluation.n,
    }];
    metadata.provenance = Some(provenance);
    metadata.write(&mut new.proto);
    let tolerance = golden::tolerance(&new);
    golden::attach(&mut new, tolerance)?;
    Session::new(new.clone(), &Options::default())?;
    Ok(Retrained { file: new, is_int8, evaluation, unknown_below })
}

/// The best score that all but [`GIVEN_UP`] of the right answers reach.
fn threshold(evaluation: &Evaluation) -> f32 {
    let right = evaluation.predictions.iter().filter(|p| p.is_right());
    let mut scores: Vec<f64> = right.map(|p| f64::from(p.best().score)).collect();
    scores.sort_by(f64::total_cmp);
    // Rounded down to what a person reads.
    ((statistics::quantile(&scores, GIVEN_UP) * 1000.0).floor() / 1000.0) as f32
}

/// The step's line in the provenance: all that the result depends on.
fn step(data: &Dataset, trained: &Trained, options: &RetrainOptions, pictures: &str) -> String {
    format!(
        "retrain ({} classes, {} pictures and {} variants of each{}, {} held out, {}, {}, L2 penalty {}, \
         classes weighted {}, seed {}, kinglet-tools {}, pictures sha256 {pictures})",
        data.classes.len(),
        data.train.len(),
        options.augment,
        if options.flip { "" } else { " not mirrored" },
        data.held_out.len(),
        options.hidden.map_or_else(|| "linear".into(), |n| format!("hidden layer of {n}")),
        options.optimizer.name(),
        trained.penalty,
        if options.balanced { "equally" } else { "by their pictures" },
        options.seed,
        env!("CARGO_PKG_VERSION"),
    )
}
