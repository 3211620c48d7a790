//! What can go wrong.

use std::path::{Path, PathBuf};

use kinglet_compress::dataset::DatasetError;
use kinglet_compress::import::{ImportError, sha256};
use kinglet_engine::ModelError;

/// SHA-256 of a file, hexadecimal.
pub(crate) fn hash(path: &Path) -> Result<String, DistillError> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|source| DistillError::Read { path: path.to_owned(), source })?;
    Ok(sha256(&bytes))
}

/// Why a distillation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistillError {
    /// A model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model could not be read, or was refused.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ModelError,
    },
    /// The student could not be written as a model.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A folder of pictures was refused.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Pictures without labels, and no teacher who names classes.
    #[error(
        "{} is not labelled: it needs one folder a class, or a teacher whose file names its classes",
        path.display()
    )]
    Unlabelled {
        /// The folder.
        path: PathBuf,
    },
    /// Fewer than two classes.
    #[error(
        "{} has the classes {names:?}: a classifier needs at least two, one folder each",
        path.display()
    )]
    Classes {
        /// The labelled folder.
        path: PathBuf,
        /// Those that were found.
        names: Vec<String>,
    },
    /// A class without a picture.
    #[error("{}, class '{class}': none of its pictures can be read", path.display())]
    EmptyClass {
        /// The labelled folder.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// The model to start from has other weights than a student's.
    #[error(
        "cannot start from this model: {why}; give a float model that `kinglet-tools fetch`, \
         `import` or `distill` made"
    )]
    Donor {
        /// What is wrong.
        why: String,
    },
    /// A teacher cannot teach these classes.
    #[error("teacher {}: {why}", path.display())]
    Teacher {
        /// The teacher.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The views do not fit in memory.
    #[error(
        "{pictures} pictures with {views} views each take {gigabytes} GB of memory, too much: lower \
         `views` in the recipe"
    )]
    TooMuch {
        /// Pictures.
        pictures: usize,
        /// Views of each.
        views: usize,
        /// What they take, GB.
        gigabytes: u64,
    },
    /// A setting is out of range, or settings contradict each other.
    #[error("{what}: {why}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A checkpoint cannot be continued.
    #[error("checkpoint {}: {why}; --restart begins anew", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The loss is infinite or not a number.
    #[error("the loss of step {step} is {loss}: lower the learning rate")]
    Diverged {
        /// The step, from 0.
        step: usize,
        /// The loss.
        loss: f32,
    },
}
