//! Which pictures teach, and which are held out to judge.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::RetrainError;
use crate::dataset::{self, Sample};
use crate::splitmix::SplitMix64;

/// Fewest pictures of a class to learn from.
pub(super) const LEAST_TRAIN: usize = 4;
/// Fewest pictures of a class that are held out.
pub(super) const LEAST_HELD_OUT: usize = 1;

/// Pictures with the user's own classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Class names, in the order of the new model's outputs.
    pub classes: Vec<String>,
    /// Pictures to learn from.
    pub train: Vec<Sample>,
    /// Pictures to choose and judge by.
    pub held_out: Vec<Sample>,
    /// The last part of the folder's path, for messages.
    pub name: String,
}

impl Dataset {
    /// Reads a folder with a folder a class; or with such folders under `train/`, and under `val/`
    /// (or `validation/`) those to hold out. Without these, `share` of each class is held out, drawn
    /// by the seed. Nothing is decoded yet.
    ///
    /// # Errors
    /// [`RetrainError`]: no folders, one class only, a class with too few pictures, a class in `val/`
    /// that is not in `train/`.
    pub fn read(dir: &Path, share: f64, seed: u64) -> Result<Self, RetrainError> {
        let train = dir.join("train");
        let held_out = ["val", "validation"].map(|n| dir.join(n)).into_iter().find(|p| p.is_dir());
        let name = dir.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_owned()));
        let name = name.map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let mut data = Self { classes: vec![], train: vec![], held_out: vec![], name };
        match held_out {
            Some(held_out) if train.is_dir() => data.given(&train, &held_out)?,
            _ => data.split(dir, share, seed)?,
        }
        if let [only] = data.classes.as_slice() {
            return Err(RetrainError::OneClass { class: only.clone(), path: dir.to_owned() });
        }
        data.check_counts()?;
        Ok(data)
    }

    fn given(&mut self, train: &Path, held_out: &Path) -> Result<(), RetrainError> {
        for (class, (name, files)) in class_folders(train)?.into_iter().enumerate() {
            self.classes.push(name);
            self.train.extend(files.into_iter().map(|path| Sample { path, class }));
        }
        for (name, files) in class_folders(held_out)? {
            let class = self.classes.iter().position(|c| *c == name);
            let class = class.ok_or_else(|| RetrainError::UnknownClass {
                class: name.clone(),
                path: held_out.to_owned(),
            })?;
            self.held_out.extend(files.into_iter().map(|path| Sample { path, class }));
        }
        Ok(())
    }

    fn split(&mut self, dir: &Path, share: f64, seed: u64) -> Result<(), RetrainError> {
        for (class, (name, mut files)) in class_folders(dir)?.into_iter().enumerate() {
            SplitMix64::at(seed, &[class as u64]).shuffle(&mut files);
            let held_out = ((files.len() as f64 * share).round() as usize).max(LEAST_HELD_OUT);
            let rest = files.split_off(held_out.min(files.len()));
            self.classes.push(name);
            self.held_out.extend(files.into_iter().map(|path| Sample { path, class }));
            self.train.extend(rest.into_iter().map(|path| Sample { path, class }));
        }
        self.train.sort_by(|a, b| a.path.cmp(&b.path));
        self.held_out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// Pictures of each class: to learn from, and held out.
    #[must_use]
    pub fn counts(&self) -> Vec<(usize, usize)> {
        let count = |samples: &[Sample], class| samples.iter().filter(|s| s.class == class).count();
        let both = |class| (count(&self.train, class), count(&self.held_out, class));
        (0..self.classes.len()).map(both).collect()
    }

    /// # Errors
    /// [`RetrainError::TooFew`] for the first class with too few pictures.
    pub(super) fn check_counts(&self) -> Result<(), RetrainError> {
        for (class, (train, held_out)) in self.classes.iter().zip(self.counts()) {
            if train < LEAST_TRAIN || held_out < LEAST_HELD_OUT {
                return Err(RetrainError::TooFew { class: class.clone(), train, held_out });
            }
        }
        Ok(())
    }

    /// A hash of all pictures' bytes, classes and parts, that changes when any of them does.
    pub(super) fn sha256(&self) -> std::io::Result<String> {
        let mut all = Vec::new();
        for (part, samples) in [("train", &self.train), ("held out", &self.held_out)] {
            for sample in samples {
                let hash = Sha256::digest(std::fs::read(&sample.path)?);
                all.push((part, self.classes[sample.class].as_str(), hash.to_vec()));
            }
        }
        // Where the files lie and what they are called does not matter.
        all.sort();
        let mut text = Vec::new();
        for (part, class, hash) in all {
            text.extend([part.as_bytes(), b"\0", class.as_bytes(), b"\0", &hash].concat());
        }
        Ok(crate::import::sha256(&text))
    }
}

fn class_folders(dir: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, RetrainError> {
    let folders = dataset::class_folders(dir)?;
    if folders.is_empty() {
        return Err(RetrainError::NoClasses { path: dir.to_owned() });
    }
    match folders.iter().find(|(name, _)| name.contains(['\n', '\r'])) {
        Some((name, _)) => Err(RetrainError::ClassName { class: name.clone() }),
        None => Ok(folders),
    }
}
