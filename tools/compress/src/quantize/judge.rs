//! How far a quantized model is from the float model, on pictures that are kept ready.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kinglet_engine::preprocess::{InputTensor, Preprocessor};
use kinglet_engine::{OnnxFile, Options, Picture, Session};

use super::bench::{Bench, Draft};
use super::{Event, QuantizeError, Target};
use crate::evaluate::Skipped;
use crate::parallel;
use crate::watch;

/// Runs of which the least time counts.
const RUNS: usize = 12;

/// A picture: the tensor for integer models, what the float model makes of it, and its class.
struct Sample {
    tensor: InputTensor,
    features: Vec<f32>,
    best: usize,
    class: Option<usize>,
}

/// Pictures and what the float model makes of them.
pub(super) struct Judge {
    samples: Vec<Sample>,
    /// Pictures that cannot be read.
    pub skipped: Vec<Skipped>,
    threads: usize,
    /// Of how many pictures the float model finds the class, if they are labelled.
    right: Option<usize>,
}

/// A model beside the float model.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    /// Pictures.
    pub pictures: usize,
    /// Mean cosine between the features, -1..=1. Features are what the last fully connected layer
    /// reads; without such a layer, the outputs.
    pub cosine: f64,
    /// The least cosine.
    pub least_cosine: f64,
    /// Mean of the features' squared error, relative to their square.
    pub error: f64,
    /// Pictures with the float model's best class.
    pub agree: usize,
    /// Pictures whose class is right: the float model's count and this one's, if labelled.
    pub right: Option<(usize, usize)>,
}

impl Score {
    /// Points of top-1 lost, or of agreement where there are no labels.
    #[must_use]
    pub fn drop(&self) -> f64 {
        let lost = match self.right {
            Some((float, own)) => float as f64 - own as f64,
            None => (self.pictures - self.agree) as f64,
        };
        100.0 * lost / self.pictures.max(1) as f64
    }

    /// Whether a target holds.
    #[must_use]
    pub fn meets(&self, target: Target) -> bool {
        match target {
            Target::Cosine(least) => self.cosine >= least,
            Target::Drop(points) => self.drop() <= points + 1e-9,
        }
    }
}

impl Judge {
    /// Runs the float model over pictures.
    pub(super) fn new(
        bench: &Bench<'_>,
        draft: &Draft,
        pictures: &[(PathBuf, Option<usize>)],
        on: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Self, QuantizeError> {
        on(Event::Start("running the float model", pictures.len()));
        let options = Options { self_test: false, ..Options::default() };
        let kind = Session::new(bench.file(draft, &[], &[])?, &options)?.input_kind();
        let mut float = bench.model.clone();
        watch::expose(&mut float, bench.features().map(str::to_owned));
        let float = OnnxFile::from_proto(float)?;
        let parts = parallel::run(bench.threads, pictures.len(), |queue| {
            let mut session = Session::new(float.clone(), &options)?;
            let mut floats = Preprocessor::new(bench.preprocess, session.input_kind())?;
            let mut codes = Preprocessor::new(bench.preprocess, kind)?;
            let mut tensor = floats.tensor();
            let (mut samples, mut skipped) = (Vec::new(), Vec::new());
            for at in queue {
                let (path, class) = &pictures[at];
                match Picture::read(path) {
                    Err(error) => {
                        let why = error.to_string();
                        skipped.push((at, Skipped { path: path.clone(), why }));
                    }
                    Ok(picture) => {
                        floats.run(&picture, &mut tensor);
                        let mut outputs = session.run_all(&tensor)?;
                        let best = best(&outputs[0].1);
                        let features = outputs.pop().unwrap_or_default().1;
                        let mut tensor = codes.tensor();
                        codes.run(&picture, &mut tensor);
                        samples.push((at, Sample { tensor, features, best, class: *class }));
                    }
                }
                on(Event::Done);
            }
            Ok::<_, QuantizeError>((samples, skipped))
        })?;
        let (samples, skipped): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let mut samples: Vec<_> = samples.into_iter().flatten().collect();
        samples.sort_by_key(|(at, _)| *at);
        let mut skipped: Vec<_> = skipped.into_iter().flatten().collect();
        skipped.sort_by_key(|(at, _): &(usize, Skipped)| *at);
        let skipped = skipped.into_iter().map(|(_, skipped)| skipped).collect();
        let samples: Vec<Sample> = samples.into_iter().map(|(_, sample)| sample).collect();
        let right = samples.iter().map(|s| s.class.map(|class| usize::from(class == s.best))).sum();
        Ok(Self { samples, skipped, threads: bench.threads, right })
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Judges a draft, pictures divided among threads.
    pub(super) fn score(&self, bench: &Bench<'_>, draft: &Draft) -> Result<Score, QuantizeError> {
        let file = watched(bench, draft)?;
        let parts = parallel::run(self.threads, self.samples.len(), |queue| {
            let mut session = session(&file)?;
            queue
                .map(|at| Ok((at, self.compare(&mut session, at)?)))
                .collect::<Result<Vec<_>, QuantizeError>>()
        })?;
        let mut all: Vec<_> = parts.into_iter().flatten().collect();
        all.sort_by_key(|(at, _)| *at);
        Ok(self.sum(all.into_iter().map(|(_, one)| one)))
    }

    /// Judges a model, whose last output is the features, on the calling thread by the first `most`
    /// pictures.
    pub(super) fn score_file(&self, file: &OnnxFile, most: usize) -> Result<Score, QuantizeError> {
        let mut session = session(file)?;
        let all = (0..self.samples.len().min(most)).map(|at| self.compare(&mut session, at));
        Ok(self.sum(all.collect::<Result<Vec<_>, _>>()?.into_iter()))
    }

    /// Judges drafts, one a thread.
    pub(super) fn scores(
        &self,
        bench: &Bench<'_>,
        drafts: &[Draft],
    ) -> Result<Vec<Score>, QuantizeError> {
        parallel::map(self.threads, drafts.len(), |at| {
            self.score_file(&watched(bench, &drafts[at])?, usize::MAX)
        })
    }

    fn compare(&self, session: &mut Session, at: usize) -> Result<One, QuantizeError> {
        let sample = &self.samples[at];
        let mut outputs = session.run_all(&sample.tensor)?;
        let best = best(&outputs[0].1);
        let features = outputs.pop().unwrap_or_default().1;
        let (mut dot, mut own, mut float, mut error) = (0.0, 0.0, 0.0, 0.0);
        for (&a, &b) in features.iter().zip(&sample.features) {
            let (a, b) = (f64::from(a), f64::from(b));
            (dot, own, float) = (dot + a * b, own + a * a, float + b * b);
            error += (a - b) * (a - b);
        }
        let lengths = (own * float).sqrt();
        Ok(One {
            cosine: if lengths > 0.0 { dot / lengths } else { f64::from(u8::from(own == float)) },
            error: error / float.max(1e-30),
            agrees: best == sample.best,
            right: sample.class == Some(best),
        })
    }

    fn sum(&self, all: impl ExactSizeIterator<Item = One>) -> Score {
        let pictures = all.len();
        let (mut cosine, mut error, mut agree, mut right) = (0.0, 0.0, 0, 0);
        let mut least_cosine = 1.0_f64;
        for one in all {
            (cosine, error) = (cosine + one.cosine, error + one.error);
            least_cosine = least_cosine.min(one.cosine);
            (agree, right) = (agree + usize::from(one.agrees), right + usize::from(one.right));
        }
        let n = pictures.max(1) as f64;
        let right = self.right.map(|float| (float, right));
        Score { pictures, cosine: cosine / n, least_cosine, error: error / n, agree, right }
    }

    /// The least time of one picture, one thread, of a model as it will be written.
    pub(super) fn latency(&self, file: OnnxFile) -> Result<Duration, QuantizeError> {
        let mut session = session(&file)?;
        let mut outputs = Vec::new();
        let mut least = Duration::MAX;
        for sample in self.samples.iter().cycle().take(RUNS) {
            let start = Instant::now();
            session.run_into(&sample.tensor, &mut outputs)?;
            least = least.min(start.elapsed());
        }
        Ok(least)
    }

    /// The least time of one picture of the float model.
    pub(super) fn float_latency(&self, file: OnnxFile) -> Result<Duration, QuantizeError> {
        let mut session = session(&file)?;
        let input = session.sample_input();
        let mut outputs = Vec::new();
        let mut least = Duration::MAX;
        for _ in 0..RUNS {
            let start = Instant::now();
            session.run_into(&input, &mut outputs)?;
            least = least.min(start.elapsed());
        }
        Ok(least)
    }

    /// The tensor of a picture.
    pub(super) fn tensor(&self, at: usize) -> &InputTensor {
        &self.samples[at].tensor
    }
}

/// One picture's comparison.
struct One {
    cosine: f64,
    error: f64,
    agrees: bool,
    right: bool,
}

fn watched(bench: &Bench<'_>, draft: &Draft) -> Result<OnnxFile, QuantizeError> {
    bench.file(draft, bench.features().as_slice(), &[])
}

pub(super) fn session(file: &OnnxFile) -> Result<Session, QuantizeError> {
    let options = Options { self_test: false, ..Options::default() };
    Ok(Session::new(file.clone(), &options)?)
}

fn best(outputs: &[f32]) -> usize {
    let best = outputs.iter().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a });
    best.map_or(0, |(at, _)| at)
}
