//! A board's description, read and checked: what the files of `targets/` say.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod image;
mod speed;

pub use image::Image;
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
    /// There is no such board.
    #[error("no board '{name}' in {}; there are {}", folder.display(), known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where.
        folder: PathBuf,
        /// What there is.
        known: Vec<String>,
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
    /// The kernels that will run.
    pub kernels: Kernels,
    /// Sizes of memory the board is sold with, MiB.
    pub memory_mib: Vec<u32>,
    /// Cameras that it takes: `csi`, `usb`.
    pub camera: Vec<String>,
    /// Device file of the GPIO chip on the header.
    #[serde(default)]
    pub gpio_chip: Option<String>,
    /// Where the facts are from.
    pub source: String,
    /// What a card for it holds, where Kinglet makes one.
    #[serde(default)]
    pub image: Option<Image>,
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
}

/// Instruction sets of the kernels that will run, by names that `kinglet --isa` knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernels {
    /// What `kinglet bench` reports: the best that the processor has.
    pub best: String,
    /// Of 8-bit integers.
    pub int8: String,
    /// Of 16-bit floats.
    pub f16: String,
    /// Of 32-bit floats.
    pub f32: String,
}

/// A latency that somebody published for the board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The network.
    pub model: String,
    /// `int8`, `f16` or `f32`.
    pub precision: String,
    /// The engine.
    pub engine: String,
    /// Threads.
    pub threads: u32,
    /// Milliseconds an inference.
    pub latency_ms: f64,
    /// Where it was published.
    pub source: String,
}

/// Files of targets/: name and text.
const BUILT_IN: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/boards.rs"));

impl Board {
    /// Reads and checks one file.
    ///
    /// # Errors
    /// [`BoardError`] naming the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, BoardError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BoardError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, BoardError> {
        let board: Self = toml::from_str(text).map_err(|source| BoardError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        board.check(path)?;
        Ok(board)
    }

    /// The boards of the repository that this was built from, sorted by name.
    ///
    /// # Errors
    /// None, if they were well described then: a test sees to it.
    pub fn built_in() -> Result<Vec<Self>, BoardError> {
        BUILT_IN.iter().map(|(name, text)| Self::parse(text, Path::new(name))).collect()
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

    /// The board of that name among those of `place`.
    ///
    /// # Errors
    /// [`BoardError::Unknown`] with the names there are.
    pub fn named(mut boards: Vec<Self>, name: &str, place: &Path) -> Result<Self, BoardError> {
        match boards.iter().position(|b| b.name == name) {
            Some(at) => Ok(boards.swap_remove(at)),
            None => Err(BoardError::Unknown {
                name: name.to_owned(),
                folder: place.to_owned(),
                known: boards.into_iter().map(|b| b.name).collect(),
            }),
        }
    }

    /// The board of that name in a folder.
    ///
    /// # Errors
    /// [`BoardError::Unknown`] with the names there are, or that of a file that is refused.
    pub fn find(folder: &Path, name: &str) -> Result<Self, BoardError> {
        Self::named(Self::read_all(folder)?, name, folder)
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
        if let Some(why) = self.kernels.fault(&self.triple) {
            return field(why);
        }
        if let Some(why) = self.image.as_ref().and_then(Image::fault) {
            return field(why);
        }
        if let Some(why) = self.speed.as_ref().and_then(Speed::fault) {
            return field(why);
        }
        let known = ["int8", "f16", "f32"];
        if let Some(r) = self.references.iter().find(|r| !known.contains(&r.precision.as_str())) {
            return field(format!("reference '{}': precision is int8, f16 or f32", r.model));
        }
        if let Some(r) =
            self.references.iter().find(|r| r.latency_ms.is_nan() || r.latency_ms <= 0.0)
        {
            return field(format!("reference '{}': latency_ms is {}", r.model, r.latency_ms));
        }
        Ok(())
    }
}

/// Instruction sets by processor: what kernels may be expected to run there.
const ISAS: [(&str, &[&str]); 3] = [
    ("aarch64", &["scalar", "neon", "neon-dot", "neon-fp16"]),
    ("x86_64", &["scalar", "avx2", "avx512-vnni"]),
    ("armv7", &["scalar", "neon32"]),
];

impl Kernels {
    /// What is wrong, if something is.
    fn fault(&self, triple: &str) -> Option<String> {
        let arch = triple.split('-').next().unwrap_or_default();
        let Some((_, known)) = ISAS.iter().find(|(name, _)| *name == arch) else {
            return Some(format!(
                "triple '{triple}': Kinglet has kernels for aarch64, armv7 and x86_64"
            ));
        };
        let all =
            [("best", &self.best), ("int8", &self.int8), ("f16", &self.f16), ("f32", &self.f32)];
        let wrong = all.iter().find(|(_, isa)| !known.contains(&isa.as_str()));
        wrong.map(|(key, isa)| format!("kernels.{key} '{isa}' is none of {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests;
