//! Why an update was refused, or did not go on.

use std::path::PathBuf;

/// Why a release was refused, or what the store could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// A public key cannot be read or is none.
    #[error("public key {}: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The header or the length of what was sent is not as it must be.
    #[error("what was sent is no release: {0}")]
    Stream(String),
    /// The signature is none, is of another key, or does not fit the file.
    #[error("signature refused: {0}")]
    Signature(String),
    /// The signature is right, but what it says is not what was asked for.
    #[error("release refused: {0}")]
    Release(String),
    /// An older release than one that was trusted already.
    #[error(
        "release {number} refused: {highest} was confirmed here already; --allow-downgrade goes back on purpose"
    )]
    Downgrade {
        /// Of the release that was sent.
        number: u64,
        /// The highest that was ever confirmed.
        highest: u64,
    },
    /// What lies in the store is not what was put there.
    #[error("{what}: {why}")]
    Damaged {
        /// Which file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another update is under way.
    #[error("another update is under way in this store; try again when it is done")]
    Busy,
    /// There is nothing to go back from.
    #[error("there is no release of this kind in the store: nothing to roll back")]
    Nothing,
    /// The system refused something.
    #[error("{what}: {source}")]
    Files {
        /// What was done, with the file's path within the store.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl UpdateError {
    /// For `map_err`: the system refused `what`.
    pub(crate) fn files(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Files { what, source }
    }
}
