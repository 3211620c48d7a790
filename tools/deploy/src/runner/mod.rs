//! A cargo runner: runs what was built for a board on the board, or in an emulator.
//!
//! cargo calls it with the executable and its arguments, in the package's folder. Start with [`Remote::run`] and
//! [`emulate()`].

use std::path::{Path, PathBuf};

use crate::elf::ElfError;
use crate::ssh::SshError;

mod carry;
mod emulate;
mod remote;

pub use emulate::{emulate, emulator};
pub use remote::Remote;

/// Why an executable could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// No connection, or a step on the board failed.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The file is no executable.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// A file or folder here.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The executable is for another processor.
    #[error("{}: built for {built}, but {place} is {found}; build with --target {triple}", path.display())]
    Machine {
        /// The executable.
        path: PathBuf,
        /// Its processor.
        built: String,
        /// The host or emulator.
        place: String,
        /// What that is.
        found: String,
        /// A target that fits.
        triple: &'static str,
    },
    /// It wants shared libraries that an emulator here does not have.
    #[error(
        "{}: needs shared libraries, which the emulator does not have; link statically: \
         RUSTFLAGS=\"-C target-feature=+crt-static\"", .0.display()
    )]
    Dynamic(PathBuf),
    /// A program that does the work is missing.
    #[error("{program} is not installed; it is in the package {package}")]
    Missing {
        /// The program.
        program: String,
        /// Debian's package.
        package: &'static str,
    },
    /// A program that does the work failed.
    #[error("{program}: {said}")]
    Program {
        /// The program.
        program: String,
        /// What it said.
        said: String,
    },
    /// A name that cannot be taken to the board.
    #[error("{}: {why}", path.display())]
    Name {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> RunError + use<> {
    let path = path.to_owned();
    |source| RunError::File { path, source }
}
