//! How much accuracy is left when pictures get worse, or when someone means harm.
//!
//! Every picture is first cropped and resized as the model wants it; then it is blurred, made noisy and
//! so on at several strengths ([`Kind`]), always in the model's own pixels, so that strengths mean the same
//! for pictures of any size. With a float model at hand, pictures can also be changed along its gradient,
//! unseen by the eye; what fools it is shown to its int8 child as well.

use std::path::PathBuf;

use kinglet_engine::metadata::{Crop, Preprocess};
use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use crate::dataset::{self, Sample};
use crate::evaluate::{self, EvaluateError, Skipped};
use crate::gradient::NoGradient;
use crate::import::sha256;
use crate::journal::{self, Journal, JournalError};
use crate::parallel;
use crate::splitmix::SplitMix64;

mod attack;
mod corrupt;
mod report;

pub use report::{Subject, report};

use attack::Attacker;

/// Why robustness could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RobustnessError {
    /// A model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It cannot go on from the file of an earlier run.
    #[error(transparent)]
    Progress(#[from] JournalError),
    /// Nothing could be read, or a class is outside the model's.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The model that attacks are made with has no gradient.
    #[error("{0}; attacks need a float model (for an int8 one give its parent with --parent)")]
    NoGradient(#[from] NoGradient),
    /// A model does not say how pictures are prepared.
    #[error("a model does not say how pictures are prepared; give it with --preprocess")]
    NoPreprocess,
    /// The models do not see the same.
    #[error(
        "the two models prepare pictures differently: what fools one means nothing to the other"
    )]
    OtherPreprocess,
}

/// A way to make a picture worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Gaussian blur; strength: its standard deviation, pixels.
    Blur,
    /// Gaussian noise; strength: its standard deviation, of 255.
    Noise,
    /// Light; strength: the factor.
    Brightness,
    /// JPEG; strength: its quality.
    Jpeg,
    /// Rotation; strength: degrees.
    Rotation,
    /// One step along the gradient; strength: its size, of 255. Source: Goodfellow, Shlens and
    /// Szegedy (2015), Explaining and Harnessing Adversarial Examples.
    Fgsm,
    /// Ten steps along the gradient; strength: the largest change, of 255. Source: Madry and others
    /// (2018), Towards Deep Learning Models Resistant to Adversarial Attacks.
    Pgd,
}

impl Kind {
    /// What happens by accident.
    pub const CORRUPTIONS: [Self; 5] =
        [Self::Blur, Self::Noise, Self::Brightness, Self::Jpeg, Self::Rotation];
    /// What happens on purpose.
    pub const ATTACKS: [Self; 2] = [Self::Fgsm, Self::Pgd];

    /// Its name and what its strength is.
    #[must_use]
    pub fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Blur => ("blur", "standard deviation, pixels"),
            Self::Noise => ("noise", "standard deviation, of 255"),
            Self::Brightness => ("brightness", "factor"),
            Self::Jpeg => ("JPEG", "quality"),
            Self::Rotation => ("rotation", "degrees"),
            Self::Fgsm => ("FGSM", "largest change, of 255"),
            Self::Pgd => ("PGD", "largest change, of 255"),
        }
    }

    /// The strengths that are tried.
    #[must_use]
    pub fn strengths(self) -> &'static [f32] {
        match self {
            Self::Blur => &[1.0, 2.0, 3.0, 5.0],
            Self::Noise => &[10.0, 20.0, 40.0, 80.0],
            Self::Brightness => &[0.3, 0.6, 1.5, 2.2],
            Self::Jpeg => &[60.0, 30.0, 15.0, 7.0],
            Self::Rotation => &[5.0, 15.0, 30.0, 60.0],
            Self::Fgsm => &[1.0, 2.0, 4.0, 8.0],
            Self::Pgd => &[1.0, 2.0],
        }
    }

    /// The strength that changes nothing.
    #[must_use]
    pub fn none(self) -> f32 {
        match self {
            Self::Brightness => 1.0,
            Self::Jpeg => 100.0,
            _ => 0.0,
        }
    }
}

/// How to measure.
#[derive(Debug, Clone, Default)]
pub struct RobustnessOptions {
    /// Threads; one for each core by default.
    pub threads: Option<usize>,
    /// Seed of the noise.
    pub seed: u64,
    /// Preprocessing instead of that in the models.
    pub preprocess: Option<Preprocess>,
    /// A file that a run leaves when it is stopped, and the same run goes on from. Who has saved the
    /// result removes it.
    pub progress: Option<PathBuf>,
    /// Leave that file unread and begin anew.
    pub restart: bool,
}

/// Right answers on pictures of one kind and strength.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// The kind; `None` for pictures as they are.
    pub kind: Option<Kind>,
    /// Its strength.
    pub strength: f32,
    /// Right answers of each model.
    pub right: Vec<usize>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Robustness {
    /// Pictures that were classified, as often as there are levels.
    pub n: usize,
    /// Pictures as they are, then every kind and strength.
    pub levels: Vec<Level>,
    /// Pictures that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Classifies every sample at every strength of `kinds` with every model. Attacks are made with
/// `attacker`, a float model. `done` is called once a sample, from several threads. All models must
/// prepare pictures in the same way.
///
/// # Errors
/// [`RobustnessError`] where a model is refused, or nothing could be read.
pub fn measure(
    models: &[&OnnxFile],
    attacker: Option<&OnnxFile>,
    kinds: &[Kind],
    samples: &[Sample],
    options: &RobustnessOptions,
    done: &(dyn Fn() + Sync),
) -> Result<Robustness, RobustnessError> {
    let preprocess = same_preprocess(models, options)?;
    let levels = levels(kinds);
    let journal = journal(models, attacker, kinds, samples, options)?;
    let parts = parallel::run(parallel::threads(options.threads), samples.len(), |queue| {
        let mut bench = Bench::new(models, attacker, &preprocess)?;
        let mut part =
            Part { right: vec![vec![0; models.len()]; levels.len()], n: 0, skipped: vec![] };
        for at in queue {
            let right = journal.memo(&format!("picture {at}"), || {
                let picture = match Picture::read(&samples[at].path) {
                    Ok(picture) => picture,
                    Err(error) => return Ok::<_, RobustnessError>(Err(error.to_string())),
                };
                let random = SplitMix64::at(options.seed, &[at as u64]);
                Ok(Ok(bench.judge(&picture, &samples[at], &levels, random)?))
            })?;
            match right {
                Ok(right) => part.add(&right),
                Err(why) => part.skipped.push((at, why)),
            }
            done();
        }
        Ok::<_, RobustnessError>(part)
    })?;
    let n = parts.iter().map(|p| p.n).sum();
    let right = |level: usize, model: usize| parts.iter().map(|p| p.right[level][model]).sum();
    let counted = levels.iter().enumerate().map(|(at, &(kind, strength))| Level {
        kind,
        strength,
        right: (0..models.len()).map(|model| right(at, model)).collect(),
    });
    let counted = counted.collect();
    let mut skipped: Vec<_> = parts.into_iter().flat_map(|p| p.skipped).collect();
    skipped.sort();
    let skip = |(at, why): (usize, String)| Skipped { path: samples[at].path.clone(), why };
    let skipped: Vec<Skipped> = skipped.into_iter().map(skip).collect();
    evaluate::check_skipped(&skipped, samples.len())?;
    Ok(Robustness { n, levels: counted, skipped })
}

fn levels(kinds: &[Kind]) -> Vec<(Option<Kind>, f32)> {
    let of = |&kind: &Kind| kind.strengths().iter().map(move |&s| (Some(kind), s));
    std::iter::once((None, 0.0)).chain(kinds.iter().flat_map(of)).collect()
}

fn same_preprocess(
    models: &[&OnnxFile],
    options: &RobustnessOptions,
) -> Result<Preprocess, RobustnessError> {
    if let Some(given) = &options.preprocess {
        given.check()?;
        return Ok(given.clone());
    }
    let mut found: Option<Preprocess> = None;
    for model in models {
        let own = model.metadata()?.preprocess.ok_or(RobustnessError::NoPreprocess)?;
        if found.as_ref().is_some_and(|f| *f != own) {
            return Err(RobustnessError::OtherPreprocess);
        }
        found = Some(own);
    }
    found.ok_or(RobustnessError::NoPreprocess)
}

/// What the same run has found before it was stopped.
fn journal(
    models: &[&OnnxFile],
    attacker: Option<&OnnxFile>,
    kinds: &[Kind],
    samples: &[Sample],
    options: &RobustnessOptions,
) -> Result<Journal, RobustnessError> {
    let Some(path) = &options.progress else { return Ok(Journal::none()) };
    let restart = options.restart;
    let (threads, progress) = (None, None);
    let options = RobustnessOptions { threads, progress, restart: false, ..options.clone() };
    let hash = |file: &&OnnxFile| sha256(&file.to_bytes());
    let models: Vec<String> = models.iter().chain(attacker.iter()).map(hash).collect();
    let paths: Vec<PathBuf> = samples.iter().map(|s| s.path.clone()).collect();
    let classes: Vec<usize> = samples.iter().map(|s| s.class).collect();
    let settings = format!("{models:?} {kinds:?} {classes:?} {options:?}");
    let run = journal::fingerprint(&["robustness", &settings, &dataset::sha256(&paths)]);
    Ok(Journal::open(path, &run, restart)?)
}

/// Which models are right about a picture, by level and model.
type Right = Vec<Vec<bool>>;

struct Part {
    /// By level and model.
    right: Vec<Vec<usize>>,
    n: usize,
    skipped: Vec<(usize, String)>,
}

impl Part {
    fn add(&mut self, right: &Right) {
        self.n += 1;
        let both = self.right.iter_mut().flatten().zip(right.iter().flatten());
        both.for_each(|(sum, &right)| *sum += usize::from(right));
    }
}

/// One thread's models.
struct Bench {
    described: Preprocessor,
    /// Each model, with a preprocessor that takes pictures of its own size as they are.
    sessions: Vec<(Session, Preprocessor)>,
    attacker: Option<Attacker>,
}

impl Bench {
    fn new(
        models: &[&OnnxFile],
        attacker: Option<&OnnxFile>,
        preprocess: &Preprocess,
    ) -> Result<Self, RobustnessError> {
        let options = Options { self_test: false, ..Options::default() };
        let whole = Preprocess { crop: Crop::Stretch, ..preprocess.clone() };
        let session = |model: &&OnnxFile| {
            let session = Session::new((*model).clone(), &options)?;
            let kind = session.input_kind();
            Ok((session, Preprocessor::new(&whole, kind)?))
        };
        let sessions = models.iter().map(session).collect::<Result<Vec<_>, ModelError>>()?;
        let kind = kinglet_engine::preprocess::InputKind::F32Nchw;
        let described = Preprocessor::new(preprocess, kind)?;
        let attacker = attacker.map(|file| Attacker::new(file, preprocess)).transpose()?;
        Ok(Self { described, sessions, attacker })
    }

    fn judge(
        &mut self,
        picture: &Picture,
        sample: &Sample,
        levels: &[(Option<Kind>, f32)],
        mut random: SplitMix64,
    ) -> Result<Right, RobustnessError> {
        let [height, width] = self.described.description().size;
        let seen = Picture::from_rgb(width, height, self.described.resized(picture).to_vec())
            .map_err(|e| ModelError::Unsuitable { why: e.to_string() })?;
        let mut right = Vec::with_capacity(levels.len());
        for &(kind, strength) in levels {
            let worse = match (kind, &mut self.attacker) {
                (None, _) => seen.clone(),
                (Some(Kind::Fgsm), Some(a)) => a.attack(&seen, sample.class, strength, 1)?,
                (Some(Kind::Pgd), Some(a)) => a.attack(&seen, sample.class, strength, 10)?,
                (Some(kind), _) => corrupt::corrupt(kind, strength, &seen, &mut random),
            };
            let mut of_level = Vec::with_capacity(self.sessions.len());
            for (session, whole) in &mut self.sessions {
                let classes = session.classes();
                if sample.class >= classes {
                    let Sample { path, class } = sample.clone();
                    return Err(EvaluateError::Class { path, class, classes }.into());
                }
                let mut tensor = whole.tensor();
                whole.run(&worse, &mut tensor);
                let outputs = session.run(&tensor)?;
                of_level.push(session.scores(&outputs).top(1)[0].index == sample.class);
            }
            right.push(of_level);
        }
        Ok(right)
    }
}
