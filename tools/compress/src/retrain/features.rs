//! What the backbone makes of pictures: one row of numbers each.

use kinglet_engine::metadata::Preprocess;
use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use super::augment::Augmenter;
use super::data::Dataset;
use super::{MOST_BYTES, RetrainError, RetrainOptions};
use crate::classifier::Classifier;
use crate::dataset::Sample;
use crate::evaluate::Skipped;
use crate::parallel;
use crate::splitmix::SplitMix64;
use crate::watch::MOST_SKIPPED;

/// Rows of features with their classes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rows {
    /// `[rows][width]`.
    pub values: Vec<f32>,
    /// The class of each row.
    pub classes: Vec<usize>,
}

/// Features of all pictures that could be read.
#[derive(Debug, Clone)]
pub struct Features {
    pub(super) train: Rows,
    pub(super) held_out: Rows,
    pub(super) classifier: Classifier,
    pub(super) preprocess: Preprocess,
    /// Pictures that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Runs the backbone over all pictures and the variants of those to learn from. Pictures that cannot
/// be read are taken out of `data`. `done` is called once a picture, from several threads.
///
/// # Errors
/// [`RetrainError`]: the model has no classifier or preprocessing, or over 5 % of the pictures
/// cannot be read.
pub fn features(
    file: &OnnxFile,
    data: &mut Dataset,
    options: &RetrainOptions,
    done: &(dyn Fn() + Sync),
) -> Result<Features, RetrainError> {
    let classifier = Classifier::find(file)?;
    let preprocess = options.preprocess.clone().or(file.metadata()?.preprocess);
    let preprocess = preprocess.ok_or(RetrainError::NoPreprocess)?;
    preprocess.check()?;
    let (pictures, augment, width) = (data.train.len(), options.augment, classifier.width);
    let rows = (pictures as u64).saturating_mul(augment as u64 + 1);
    if rows.saturating_mul(width as u64 * 4) > MOST_BYTES {
        return Err(RetrainError::TooMuch { pictures, augment, width });
    }
    let backbone = classifier.backbone(file)?;
    let samples: Vec<&Sample> = data.train.iter().chain(&data.held_out).collect();
    let learnt = data.train.len();
    let options_of_session = Options { self_test: false, ..Options::default() };
    let threads = parallel::threads(options.threads);
    let parts = parallel::run(threads, samples.len(), |queue| {
        let mut session = Session::new(backbone.clone(), &options_of_session)?;
        let kind = session.input_kind();
        let mut preprocessor = Preprocessor::new(&preprocess, kind)?;
        let mut augmenter = Augmenter::new(&preprocess, kind, options.flip)?;
        let mut tensor = preprocessor.tensor();
        let mut part = Vec::new();
        for at in queue {
            let rows = match Picture::read(&samples[at].path) {
                Ok(picture) => {
                    preprocessor.run(&picture, &mut tensor);
                    let mut rows = vec![session.run(&tensor)?];
                    let variants = if at < learnt { options.augment } else { 0 };
                    for variant in 0..variants {
                        let place = [at as u64, variant as u64];
                        let mut random = SplitMix64::at(options.seed, &place);
                        augmenter.run(&picture, &mut random, &mut tensor);
                        rows.push(session.run(&tensor)?);
                    }
                    Ok(rows)
                }
                Err(error) => Err(error.to_string()),
            };
            part.push((at, rows));
            done();
        }
        Ok::<_, ModelError>(part)
    })?;
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    let (mut train, mut held_out, mut skipped) = (Rows::default(), Rows::default(), Vec::new());
    for (at, rows) in all {
        match rows {
            Ok(rows) => {
                let part = if at < learnt { &mut train } else { &mut held_out };
                for row in rows {
                    if row.len() != classifier.width || row.iter().any(|v| !v.is_finite()) {
                        let path = samples[at].path.clone();
                        return Err(RetrainError::Features { path });
                    }
                    part.values.extend(row);
                    part.classes.push(samples[at].class);
                }
            }
            Err(why) => skipped.push(Skipped { path: samples[at].path.clone(), why }),
        }
    }
    take_out(data, &skipped)?;
    Ok(Features { train, held_out, classifier, preprocess, skipped })
}

fn take_out(data: &mut Dataset, skipped: &[Skipped]) -> Result<(), RetrainError> {
    let pictures = data.train.len() + data.held_out.len();
    if let Some(first) = skipped.first() {
        if skipped.len() as f64 > MOST_SKIPPED * pictures as f64 {
            let first = first.why.clone();
            return Err(RetrainError::Unreadable { skipped: skipped.len(), pictures, first });
        }
        let bad: std::collections::HashSet<_> = skipped.iter().map(|s| &s.path).collect();
        data.train.retain(|s| !bad.contains(&s.path));
        data.held_out.retain(|s| !bad.contains(&s.path));
    }
    data.check_counts()
}
