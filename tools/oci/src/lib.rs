//! Kinglet and its models as OCI images, for boards that run containers.
//!
//! An [`Image`] is made in memory from files, the same bytes from the same files: the program with a
//! model for several architectures ([`program`]), or a model alone ([`model`]). It is written to a
//! folder as an OCI image layout ([`layout::write`]) or goes to a registry ([`Registry`]).
//!
//! A model alone is an image too, of one layer that holds `model.onnx` and its signature: container
//! runtimes mount it as a volume, and [`Registry::pull_model`] brings it back as files.

use std::io;
use std::path::{Path, PathBuf};

mod auth;
mod image;
pub mod layout;
pub mod model;
pub mod program;
mod registry;
mod tarball;

pub use image::{Blob, Image, Platform};
pub use registry::{Check, Registry, Settings};

/// Why an image was not made, sent or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// A file or folder cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried: `read`, `write`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was given is not what an image can be made of.
    #[error("{}: {why}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A name is no name of an image in a registry.
    #[error("'{name}' is no image's name ({why}); one looks like registry.example:5000/birds:3")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The registry did not do what it was asked for.
    #[error("{registry}: {why}")]
    Registry {
        /// Its address.
        registry: String,
        /// What it said.
        why: String,
    },
    /// What the registry holds is no model of ours, or is damaged.
    #[error("{name}: {why}")]
    Content {
        /// Name of the image.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl OciError {
    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what: "read", path, source }
    }

    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what: "write", path, source }
    }
}

/// Reads a file of at most `most` bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, OciError> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(OciError::read(path))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(OciError::read(path))?;
    if bytes.len() as u64 > most {
        let why = format!("larger than {} MiB", most >> 20);
        return Err(OciError::Input { path: path.to_owned(), why });
    }
    Ok(bytes)
}
