//! Recipes: where a model's weights come from and how they are imported.
//!
//! One TOML file a model in `models/`, built into the program. [`Recipe::extract`] takes the
//! weights out of the downloaded package and believes them only by their hash; [`Recipe::import`]
//! makes the model. Downloading is not done here.

use std::io::{Cursor, Read};

use kinglet_engine::OnnxFile;
use kinglet_engine::metadata::{Accuracy, Preprocess, Provenance};
use serde::Deserialize;
use zip::ZipArchive;

use crate::arch::Arch;
use crate::import::{ImportError, ImportOptions, import_bytes, sha256};
use crate::weights::MAX_FILE_BYTES;

/// The recipes whose weights can be fetched.
const RECIPES: &[(&str, &str)] = &[
    ("efficientnet-lite0", include_str!("../../../models/efficientnet-lite0.toml")),
    ("efficientnet-lite1", include_str!("../../../models/efficientnet-lite1.toml")),
    ("efficientnet-lite2", include_str!("../../../models/efficientnet-lite2.toml")),
];

/// English names of the 1000 classes of ImageNet-1k, in the order of the outputs.
pub const IMAGENET_LABELS: &str = include_str!("../../../models/imagenet-1k.labels");

/// Why a recipe could not be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// There is no recipe of this name.
    #[error("no recipe for '{name}'; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names, in words.
        known: String,
    },
    /// A recipe is not well formed.
    #[error("recipe '{name}': {why}")]
    Recipe {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The package cannot be opened.
    #[error("damaged package: {why}")]
    Package {
        /// What is wrong.
        why: String,
    },
    /// The package does not hold the weights.
    #[error("the package holds no {file}")]
    NotInPackage {
        /// The file that the recipe names.
        file: String,
    },
    /// The weights are others than those that the recipe was written for.
    #[error("the weights' SHA-256 is {actual}, the recipe says {expected}")]
    Hash {
        /// That of the recipe.
        expected: String,
        /// That of the file.
        actual: String,
    },
    /// The weights could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// Where a model comes from and how it is made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Name of the architecture, as in [`crate::arch::ALL`].
    pub architecture: String,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// Where to read the licence and who made the weights.
    pub attribution: String,
    /// The package with the weights.
    pub source: Source,
    /// How pictures are prepared.
    pub preprocess: Preprocess,
    /// Measured accuracy.
    #[serde(default)]
    pub accuracy: Vec<Accuracy>,
}

/// A Python package with weights inside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The weights' path inside the wheel.
    pub file: String,
    /// SHA-256 of the weights, hexadecimal.
    pub sha256: String,
}

impl Recipe {
    /// Finds a recipe by the model's name.
    ///
    /// # Errors
    /// [`RecipeError::Unknown`] with all names.
    pub fn find(name: &str) -> Result<Self, RecipeError> {
        let Some((name, text)) = RECIPES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = RECIPES.iter().map(|(known, _)| *known).collect();
            return Err(RecipeError::Unknown { name: name.into(), known: known.join(", ") });
        };
        let bad = |why: String| RecipeError::Recipe { name: (*name).into(), why };
        toml::from_str(text).map_err(|e| bad(e.to_string()))
    }

    /// Names of all recipes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RECIPES.iter().map(|(name, _)| *name)
    }

    /// The weights, out of a wheel or as they are, with the right hash.
    ///
    /// # Errors
    /// [`RecipeError`] saying what is wrong with the file.
    pub fn extract(&self, file: Vec<u8>) -> Result<Vec<u8>, RecipeError> {
        let weights = if self.is_weights(&file) { file } else { self.unpack(&file)? };
        let actual = sha256(&weights);
        if actual != self.source.sha256 {
            let expected = self.source.sha256.clone();
            return Err(RecipeError::Hash { expected, actual });
        }
        Ok(weights)
    }

    fn is_weights(&self, file: &[u8]) -> bool {
        !file.starts_with(b"PK\x03\x04") || sha256(file) == self.source.sha256
    }

    fn unpack(&self, wheel: &[u8]) -> Result<Vec<u8>, RecipeError> {
        let damaged = |why: String| RecipeError::Package { why };
        let mut zip = ZipArchive::new(Cursor::new(wheel)).map_err(|e| damaged(e.to_string()))?;
        let file = zip.by_name(&self.source.file).map_err(|e| match e {
            zip::result::ZipError::FileNotFound => {
                RecipeError::NotInPackage { file: self.source.file.clone() }
            }
            other => damaged(other.to_string()),
        })?;
        let mut weights = Vec::new();
        let read = file.take(MAX_FILE_BYTES).read_to_end(&mut weights);
        read.map_err(|e| damaged(e.to_string()))?;
        Ok(weights)
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`RecipeError`] when weights and recipe do not fit.
    pub fn import(&self, weights: &[u8]) -> Result<OnnxFile, RecipeError> {
        let arch = Arch::find(&self.architecture).ok_or_else(|| RecipeError::Recipe {
            name: self.name.clone(),
            why: format!("no architecture '{}'", self.architecture),
        })?;
        let Source { package, version, file, .. } = &self.source;
        let provenance = Provenance {
            name: self.name.clone(),
            source: Some(format!("Python package {package} {version}, {file}")),
            licence: Some(self.licence.clone()),
            accuracy: self.accuracy.clone(),
            ..Default::default()
        };
        let options = ImportOptions {
            labels: Some(IMAGENET_LABELS.lines().map(str::to_owned).collect()),
            preprocess: Some(self.preprocess.clone()),
            provenance,
            ..Default::default()
        };
        Ok(import_bytes(arch, weights, true, &options)?)
    }
}
