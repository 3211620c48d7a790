//! Trained weights as other frameworks save them: named tensors in a file.
//!
//! [`StateDict::read`] takes PyTorch's `.pth`/`.pt` (both its formats) and `.safetensors`, told
//! apart by their first bytes. Files come from anywhere, so a reader never runs what is inside:
//! see [`pickle`]. What the names mean is the business of [`names`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub mod names;
pub mod pickle;
mod safetensors;
pub mod tensor;
mod torch;

pub use tensor::Tensor;

/// Largest weights file that is read, bytes.
pub const MAX_FILE_BYTES: u64 = 2 << 30;

/// Most elements of all tensors together: 1 GiB in f32. EfficientNetV2-L has 119 million.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// Why a weights file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than Kinglet reads.
    #[error("{what} is {actual}, over the limit of {limit}")]
    Limit {
        /// What was measured.
        what: String,
        /// Its value.
        actual: u64,
        /// The largest that is accepted.
        limit: u64,
    },
    /// Neither a torch file nor safetensors.
    #[error(
        "neither a PyTorch file nor safetensors; save a state dict: \
         torch.save(model.state_dict(), \"weights.pth\")"
    )]
    UnknownFormat,
    /// The container around the pickle is damaged.
    #[error("damaged torch file: {why}")]
    Torch {
        /// What is wrong.
        why: String,
    },
    /// The pickle is damaged or does something that state dicts do not.
    #[error("pickle, byte {offset}: {why}")]
    Pickle {
        /// Offset in the pickle.
        offset: usize,
        /// What is wrong.
        why: String,
    },
    /// The pickle names something that state dicts do not need; it was not run.
    #[error(
        "the file wants '{name}', which is no part of a state dict and was not run; save only the \
         weights: torch.save(model.state_dict(), \"weights.pth\")"
    )]
    Global {
        /// Module and name.
        name: String,
    },
    /// The safetensors crate refused the file.
    #[error("damaged safetensors file: {why}")]
    SafeTensors {
        /// What it said.
        why: String,
    },
    /// A tensor is inconsistent.
    #[error("tensor '{tensor}': {why}")]
    Tensor {
        /// Its name, where known.
        tensor: String,
        /// What is wrong.
        why: String,
    },
    /// The file holds something else than named tensors.
    #[error("no state dict in the file: {why}")]
    NotStateDict {
        /// What was found.
        why: String,
    },
}

/// Named tensors.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    /// The tensors by name, without a leading `module.`.
    pub tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    /// Reads a weights file.
    ///
    /// # Errors
    /// [`WeightsError`] saying what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let read = |source| WeightsError::Read { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > MAX_FILE_BYTES {
            return Err(WeightsError::Limit {
                what: "size of the weights file in bytes".into(),
                actual: length,
                limit: MAX_FILE_BYTES,
            });
        }
        Self::from_bytes(&std::fs::read(path).map_err(read)?)
    }

    /// Reads weights held in memory. Never panics, whatever the bytes.
    ///
    /// # Errors
    /// [`WeightsError`] saying what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        if bytes.starts_with(b"PK\x03\x04") {
            torch::read_zip(bytes)
        } else if torch::is_legacy(bytes) {
            torch::read_legacy(bytes)
        } else if safetensors::looks_like(bytes) {
            safetensors::read(bytes)
        } else {
            Err(WeightsError::UnknownFormat)
        }
    }

    /// Adds a tensor; a leading `module.`, left by `DataParallel`, is stripped.
    fn insert(&mut self, name: &str, tensor: Tensor) -> Result<(), WeightsError> {
        let name = name.strip_prefix("module.").unwrap_or(name);
        if self.tensors.insert(name.to_owned(), tensor).is_some() {
            let why = "is in the file twice".into();
            return Err(WeightsError::Tensor { tensor: name.to_owned(), why });
        }
        Ok(())
    }
}
