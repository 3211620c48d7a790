//! Why an image cannot be made.

use std::io;
use std::path::PathBuf;

use crate::unpack::UnpackError;

/// Why an image cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The base image's file is to blame.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The base image is no card of a Raspberry Pi.
    #[error("{}: {what}", path.display())]
    Base {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Something that was given is not usable.
    #[error("{name}: {what}")]
    Value {
        /// Which option or file.
        name: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A Debian package is missing or not as expected.
    #[error("package {name}: {what}")]
    Package {
        /// The package, or its file.
        name: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A program that does a part of the work is missing or failed.
    #[error("{program}: {what}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What happened, and what to do.
        what: String,
    },
    /// Not enough room.
    #[error("{place} has {free} bytes free, {needs} are needed; {advice}")]
    Full {
        /// Which file system.
        place: String,
        /// Free bytes.
        free: u64,
        /// Bytes that are needed.
        needs: u64,
        /// What to do.
        advice: &'static str,
    },
    /// Making a file system failed.
    #[error("cannot make {what}: {source}")]
    Make {
        /// Which one.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl CardError {
    /// For `map_err` on what is done with a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn value(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Value { name: name.into(), what: what.into() }
    }
}
