//! Why a camera cannot be opened or has failed.

use std::path::PathBuf;

/// Why a camera cannot be opened or has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// The text names nothing that can be opened.
    #[error("camera '{text}': {why}")]
    Source {
        /// What was given.
        text: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program is not installed.
    #[error("'{program}' is not installed: {mend}")]
    Missing {
        /// The program.
        program: String,
        /// How to install it.
        mend: String,
    },
    /// The camera, or the process behind it, came to its end.
    #[error("{what} ended{}", if why.is_empty() { String::new() } else { format!(": {why}") })]
    Ended {
        /// What ended.
        what: String,
        /// What it said last.
        why: String,
    },
    /// What comes cannot be understood.
    #[error("{what} sends what cannot be understood: {why}")]
    Garbage {
        /// Who sends it.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// No frame for too long.
    #[error("no frame for {seconds:.1} s")]
    Stalled {
        /// How long.
        seconds: f64,
    },
    /// No picture in a folder or list.
    #[error("{}: no pictures (.jpg, .jpeg, .png) there", path.display())]
    NoPictures {
        /// The folder or list.
        path: PathBuf,
    },
}

impl CameraError {
    /// Wraps what the system said.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
