//! Boards as data: reads and checks the descriptions in `targets/`.
//!
//! A board is one TOML file; adding a board is adding a file. Start with [`Board::read_all`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub mod sign;
mod speed;

pub use speed::{Rates, Speed};

/// Why a board's description was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not a board's description.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A field has an impossible value.
    #[error("{}: {why}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Which field, and what is wrong.
        why: String,
    },
}

/// A board that Kinglet runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Name for the command line; the file's name without `.toml`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Rust target triple.
    pub triple: String,
    /// The processor.
    pub cpu: Cpu,
    /// Sizes of memory the board is sold with, MiB.
    pub memory_mib: Vec<u32>,
    /// Cameras that it takes: `csi`, `usb`.
    pub camera: Vec<String>,
    /// Device file of the GPIO chip on the header.
    #[serde(default)]
    pub gpio_chip: Option<String>,
    /// Where the facts are from.
    pub source: String,
    /// How fast it computes and reads, for predictions.
    #[serde(default)]
    pub speed: Option<Speed>,
    /// Latencies that others published.
    #[serde(default, rename = "reference")]
    pub references: Vec<Reference>,
}

/// A board's processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Name as compilers and emulators know it.
    pub core: String,
    /// Number of cores.
    pub cores: u32,
    /// Highest clock, MHz.
    pub clock_mhz: u32,
    /// Features beyond the triple's baseline, as Rust names them.
    #[serde(default)]
    pub features: Vec<String>,
    /// The instruction set of the kernels that will run: a name that `kinglet --isa` knows.
    pub kernels: String,
}

/// A latency that somebody published for the board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The model, with its precision.
    pub model: String,
    /// The engine.
    pub engine: String,
    /// Threads.
    pub threads: u32,
    /// Milliseconds an inference.
    pub latency_ms: f64,
    /// Where it was published.
    pub source: String,
}

impl Board {
    /// Reads and checks one file.
    ///
    /// # Errors
    /// [`BoardError`] naming the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, BoardError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BoardError::Read { path: path.to_owned(), source })?;
        let board: Self = toml::from_str(&text).map_err(|source| BoardError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        board.check(path)?;
        Ok(board)
    }

    /// Reads all boards of a folder, sorted by name.
    ///
    /// # Errors
    /// The first file's that is refused.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, BoardError> {
        let failed = |source| BoardError::Read { path: folder.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|p| Self::read(p)).collect()
    }

    fn check(&self, path: &Path) -> Result<(), BoardError> {
        let field = |why: String| Err(BoardError::Field { path: path.to_owned(), why });
        if path.file_stem().and_then(|s| s.to_str()) != Some(self.name.as_str()) {
            return field(format!("name is '{}', not the file's name", self.name));
        }
        if self.cpu.cores == 0 || self.cpu.clock_mhz == 0 {
            return field("cpu.cores and cpu.clock_mhz are at least 1".into());
        }
        if self.memory_mib.is_empty() || self.memory_mib.contains(&0) {
            return field("memory_mib lists at least one size, none of them 0".into());
        }
        if let Some(other) = self.camera.iter().find(|c| !["csi", "usb"].contains(&c.as_str())) {
            return field(format!("camera '{other}' is neither csi nor usb"));
        }
        if !["scalar", "avx2", "neon", "neon-dot"].contains(&self.cpu.kernels.as_str()) {
            return field(format!("cpu.kernels '{}' is no instruction set", self.cpu.kernels));
        }
        if let Some(why) = self.speed.as_ref().and_then(Speed::fault) {
            return field(why);
        }
        if let Some(r) =
            self.references.iter().find(|r| r.latency_ms.is_nan() || r.latency_ms <= 0.0)
        {
            return field(format!("reference '{}': latency_ms is {}", r.model, r.latency_ms));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_of_the_repository_is_well_described() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../targets");
        let boards = Board::read_all(&folder).unwrap();
        let names: Vec<&str> = boards.iter().map(|b| b.name.as_str()).collect();
        for expected in ["pi-zero2w", "pi3", "pi4", "pi5"] {
            assert!(names.contains(&expected), "{names:?}");
        }
        for board in boards {
            let dot = board.cpu.features.iter().any(|f| f == "dotprod");
            assert_eq!(dot, board.cpu.kernels == "neon-dot", "{}", board.name);
        }
    }

    #[test]
    fn a_wrong_field_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toaster.toml");
        std::fs::write(&path, "name = 'toaster'\ncolour = 'red'\n").unwrap();
        let error = Board::read(&path).unwrap_err().to_string();
        assert!(error.contains("toaster.toml") && error.contains("colour"), "{error}");
    }
}
