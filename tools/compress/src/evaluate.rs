//! Accuracy of a model on labelled pictures, measured by the engine that runs on the board.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kinglet_engine::metadata::Preprocess;
use kinglet_engine::scores::Ranked;
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use crate::dataset::Sample;
use crate::parallel;
use crate::watch::MOST_SKIPPED;

pub mod classes;
pub mod compare;
pub mod report;

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Too many pictures could not be read.
    #[error("{skipped} of {pictures} pictures cannot be read, more than 5 %; the first: {first}")]
    Unreadable {
        /// How many cannot be read.
        skipped: usize,
        /// All.
        pictures: usize,
        /// What was wrong with the first.
        first: String,
    },
    /// A picture's class is none of the model's.
    #[error("{}: class {class}, the model has {classes} classes", path.display())]
    Class {
        /// The picture.
        path: PathBuf,
        /// Its class.
        class: usize,
        /// The model's number of classes.
        classes: usize,
    },
}

/// How to evaluate.
#[derive(Debug, Clone, Default)]
pub struct EvaluateOptions {
    /// Threads, each with a session of its own; one for each core by default.
    pub threads: Option<usize>,
    /// Preprocessing instead of that in the model.
    pub preprocess: Option<Preprocess>,
}

/// A picture that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What a model made of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Position of its sample.
    pub sample: usize,
    /// How many classes were ranked before the right one; 0 when it was right.
    pub rank: usize,
    /// The best classes with their scores, five at most.
    pub top: Vec<Ranked>,
    /// Time from the decoded picture to the outputs.
    pub latency: Duration,
}

impl Prediction {
    /// Whether the best class was the right one.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.rank == 0
    }

    /// The best class and its score.
    #[must_use]
    pub fn best(&self) -> Ranked {
        self.top.first().copied().unwrap_or(Ranked { index: 0, score: 0.0 })
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Pictures whose best class was right.
    pub right1: usize,
    /// Pictures whose class was among the best five.
    pub right5: usize,
    /// Pictures that were classified.
    pub n: usize,
    /// Each of them, in the order of the samples.
    pub predictions: Vec<Prediction>,
    /// Pictures that could not be read, in the order of the samples.
    pub skipped: Vec<Skipped>,
    /// Time of the whole work, decoding included, loading the model not.
    pub elapsed: Duration,
}

impl Evaluation {
    /// Share of pictures whose best class was right, 0..=1.
    #[must_use]
    pub fn top1(&self) -> f64 {
        self.right1 as f64 / self.n.max(1) as f64
    }

    /// Share of pictures whose class was among the best five, 0..=1.
    #[must_use]
    pub fn top5(&self) -> f64 {
        self.right5 as f64 / self.n.max(1) as f64
    }

    /// Pictures a second, all threads together.
    #[must_use]
    pub fn images_per_s(&self) -> f64 {
        self.n as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// One thread's share.
#[derive(Default)]
struct Part {
    predictions: Vec<Prediction>,
    skipped: Vec<(usize, String)>,
    elapsed: Duration,
}

/// Classifies every sample and counts. `done` is called once a sample, from several threads.
///
/// # Errors
/// [`EvaluateError::Model`] also when the model has no preprocessing and none is given.
pub fn evaluate(
    file: &OnnxFile,
    samples: &[Sample],
    options: &EvaluateOptions,
    done: &(dyn Fn() + Sync),
) -> Result<Evaluation, EvaluateError> {
    let mut file = file.clone();
    if let Some(preprocess) = &options.preprocess {
        let mut metadata = file.metadata()?;
        metadata.preprocess = Some(preprocess.clone());
        metadata.write(&mut file.proto);
    }
    let threads = parallel::threads(options.threads);
    let session_options = Options { self_test: false, ..Options::default() };
    let parts = parallel::run(threads, samples.len(), |queue| {
        let mut session = Session::new(file.clone(), &session_options)?;
        let start = Instant::now();
        let mut part = Part::default();
        for at in queue {
            part.add(&mut session, at, &samples[at])?;
            done();
        }
        part.elapsed = start.elapsed();
        Ok::<_, EvaluateError>(part)
    })?;
    let elapsed = parts.iter().map(|p| p.elapsed).max().unwrap_or_default();
    let (mut predictions, mut skipped) = (Vec::new(), Vec::new());
    for part in parts {
        predictions.extend(part.predictions);
        skipped.extend(part.skipped);
    }
    predictions.sort_by_key(|p| p.sample);
    skipped.sort();
    let within = |places: usize| predictions.iter().filter(|p| p.rank < places).count();
    let (right1, right5, n) = (within(1), within(5), predictions.len());
    let skipped: Vec<Skipped> = skipped
        .into_iter()
        .map(|(at, why)| Skipped { path: samples[at].path.clone(), why })
        .collect();
    check_skipped(&skipped, samples.len())?;
    Ok(Evaluation { right1, right5, n, predictions, skipped, elapsed })
}

/// # Errors
/// [`EvaluateError::Unreadable`] if more than one picture in twenty was skipped.
pub(crate) fn check_skipped(skipped: &[Skipped], pictures: usize) -> Result<(), EvaluateError> {
    match skipped.first() {
        Some(first) if skipped.len() as f64 > MOST_SKIPPED * pictures as f64 => {
            let (skipped, first) = (skipped.len(), first.why.clone());
            Err(EvaluateError::Unreadable { skipped, pictures, first })
        }
        _ => Ok(()),
    }
}

impl Part {
    fn add(
        &mut self,
        session: &mut Session,
        at: usize,
        sample: &Sample,
    ) -> Result<(), EvaluateError> {
        let classes = session.classes();
        if sample.class >= classes {
            let Sample { path, class } = sample.clone();
            return Err(EvaluateError::Class { path, class, classes });
        }
        let picture = match Picture::read(&sample.path) {
            Ok(picture) => picture,
            Err(error) => {
                self.skipped.push((at, error.to_string()));
                return Ok(());
            }
        };
        let start = Instant::now();
        let outputs = session.outputs(&picture)?;
        let latency = start.elapsed();
        let top = session.scores(&outputs).top(5);
        let rank = rank(&outputs, sample.class);
        self.predictions.push(Prediction { sample: at, rank, top, latency });
        Ok(())
    }
}

/// How many classes are ranked before `class`; of equals the lower index comes first. An output
/// that is not a number is ranked last.
fn rank(outputs: &[f32], class: usize) -> usize {
    let own = outputs[class];
    if own.is_nan() {
        return outputs.len();
    }
    outputs.iter().enumerate().filter(|&(i, &v)| v > own || (v == own && i < class)).count()
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn equals_are_ranked_by_index_and_nan_last() {
        assert_eq!(rank(&[1.0, 3.0, 3.0], 1), 0);
        assert_eq!(rank(&[1.0, 3.0, 3.0], 2), 1);
        assert_eq!(rank(&[1.0, 3.0, 3.0], 0), 2);
        assert_eq!(rank(&[f32::NAN, 0.0], 0), 2);
        assert_eq!(rank(&[f32::NAN, 0.0], 1), 0);
    }
}
