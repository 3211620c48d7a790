//! Structured pruning: takes expanded channels out of the inverted residuals of a float model.
//!
//! [`prune`] does it all: `block` finds the channels, `score` says in which order they go and what
//! that costs, `select` how many each block loses, `cut` takes them out of the graph, and
//! `reconstruct` finds new weights for the projections. Nothing is trained: what is lost beyond
//! that, fine-tuning brings back.
//!
//! The result is the same on any number of threads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use kinglet_engine::metadata::Preprocess;
use kinglet_engine::onnx::{ModelProto, tensor_proto::DataType};
use kinglet_engine::session::ShapedOutput;
use kinglet_engine::{OnnxFile, Options, Picture, Session, tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dataset::{self, Sample};
use crate::evaluate::Skipped;
use crate::inspect::shapes;
use crate::journal::{self, Journal};
use crate::quantize::prepare;
use crate::watch::{MOST_SKIPPED, Pictures, See, is_plain};
use crate::{golden, inspect, parallel};

mod block;
mod cut;
mod error;
mod goal;
mod greedy;
mod latency;
mod reconstruct;
mod score;
mod select;

pub use error::PruneError;
pub use reconstruct::Errors;

use block::Block;
use goal::Goal;

/// Every this many pictures one is held out, to compare the models on.
const HELD_OUT: usize = 10;

/// How small the model has to become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Share of the model's multiply-accumulates, in (0, 1].
    Macs(f64),
    /// Milliseconds of one inference of the float model on one thread of this machine.
    Latency(f64),
}

/// What makes a channel important.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criterion {
    /// The norms of its filters.
    Norm,
    /// The loss that its absence causes, to first order.
    Taylor,
    /// The error of the projection's result that is left after the best change of the other
    /// channels' weights, weighed by what such errors mean to the loss.
    Reconstruction,
}

impl std::fmt::Display for Criterion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Norm => "norm",
            Self::Taylor => "taylor",
            Self::Reconstruction => "reconstruction",
        })
    }
}

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// How small.
    pub budget: Budget,
    /// What is important.
    pub criterion: Criterion,
    /// Find new weights for the projections.
    pub reconstruct: bool,
    /// Labelled pictures for the gradients; without them the model's own probabilities serve.
    pub labelled: Option<Vec<Sample>>,
    /// Seed of what is chosen by chance.
    pub seed: u64,
    /// Threads, each with a session of its own; one for each core by default.
    pub threads: Option<usize>,
    /// Preprocessing instead of that in the model; it is stored in the result.
    pub preprocess: Option<Preprocess>,
    /// A file that a run leaves when it is stopped, and the same run goes on from. Who has saved the
    /// result removes it.
    pub progress: Option<PathBuf>,
    /// Leave that file unread and begin anew.
    pub restart: bool,
}

/// What is going on.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A pass over so many pictures starts.
    Pass(&'a str, usize),
    /// A picture is done.
    Picture,
    /// An earlier run was stopped, and has left so many results.
    Resumed(usize),
}

/// A pruned model and how it came about.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The model.
    pub file: OnnxFile,
    /// Its blocks, in the order of execution.
    pub blocks: Vec<BlockReport>,
    /// Multiply-accumulates of the model before and after.
    pub macs: [u64; 2],
    /// Where a latency was asked for: milliseconds before and after.
    pub latency: Option<[f64; 2]>,
    /// Pictures that were held out, and on how many of them both models prefer the same class.
    pub agreement: [usize; 2],
    /// Pictures that could not be read.
    pub skipped: Vec<Skipped>,
}

/// What became of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockReport {
    /// Its name.
    pub name: String,
    /// Expanded channels before and after.
    pub channels: [usize; 2],
    /// Multiply-accumulates of its layers before and after.
    pub macs: [u64; 2],
    /// Error of its result, where it was reconstructed.
    pub errors: Option<Errors>,
}

/// What the steps share.
struct Task<'a> {
    options: &'a PruneOptions,
    pictures: Pictures<'a>,
    progress: &'a (dyn Fn(Progress<'_>) + Sync),
    skipped: RefCell<BTreeMap<PathBuf, String>>,
    /// What has been found already.
    journal: Journal,
}

impl Task<'_> {
    /// A result that an earlier run has left, or else is found now; pictures that it could not read
    /// are named in either case.
    fn memo<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        find: impl FnOnce() -> Result<T, PruneError>,
    ) -> Result<T, PruneError> {
        let all = || Ok::<_, PruneError>((find()?, self.skipped.borrow().clone()));
        let (found, skipped) = self.journal.memo(key, all)?;
        self.skipped.borrow_mut().extend(skipped);
        Ok(found)
    }

    /// One pass over pictures, those of the calibration if none are given.
    fn pass<T: Send>(
        &self,
        text: &str,
        paths: Option<&[PathBuf]>,
        models: &[&OnnxFile],
        see: &See<'_, T, PruneError>,
        take: &mut dyn FnMut(usize, T),
    ) -> Result<(), PruneError> {
        let paths = paths.unwrap_or(self.pictures.paths);
        (self.progress)(Progress::Pass(text, paths.len()));
        let pictures = Pictures { paths, ..self.pictures };
        let done = || (self.progress)(Progress::Picture);
        let unread = pictures.run(models, see, take, &done)?;
        let (skipped, pictures) = (unread.len(), paths.len());
        if let Some((_, first)) = unread.first()
            && skipped as f64 > MOST_SKIPPED * pictures as f64
        {
            return Err(PruneError::Unreadable { skipped, pictures, first: first.clone() });
        }
        let unread = unread.into_iter().map(|(at, why)| (paths[at].clone(), why));
        self.skipped.borrow_mut().extend(unread);
        Ok(())
    }
}

/// Prunes a float model. `parent` is the SHA-256 of its file; `progress` is called from several
/// threads.
///
/// # Errors
/// [`PruneError`] saying what is wrong with the model, the budget or the pictures.
pub fn prune(
    file: &OnnxFile,
    parent: &str,
    pictures: &[PathBuf],
    options: &PruneOptions,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Pruned, PruneError> {
    match options.budget {
        Budget::Macs(budget) if !(budget > 0.0 && budget <= 1.0) => {
            return Err(PruneError::Budget { budget });
        }
        Budget::Latency(ms) if !(ms > 0.0 && ms.is_finite()) => {
            return Err(PruneError::Latency { ms });
        }
        _ => {}
    }
    if pictures.is_empty() {
        return Err(PruneError::NoPictures);
    }
    // One that shows something is enough; it is among the first, as a rule.
    let plain = |path: &PathBuf| Picture::read(path).is_ok_and(|picture| is_plain(&picture));
    if pictures.iter().all(plain) {
        return Err(PruneError::Plain { pictures: pictures.len() });
    }
    let mut model = file.proto.clone();
    let graph = model.graph.as_mut().ok_or(PruneError::NoBlock)?;
    prepare::plain(graph)?;
    let mut metadata = file.metadata()?;
    if let Some(preprocess) = &options.preprocess {
        preprocess.check()?;
        metadata.preprocess = Some(preprocess.clone());
    }
    let preprocess = metadata.preprocess.clone().ok_or(PruneError::NoPreprocess)?;
    check_weights(&model)?;
    metadata.golden = None;
    metadata.drift = None;
    metadata.write(&mut model);
    let plain = OnnxFile::from_proto(model.clone())?;
    let shapes = shapes::infer(&plain);
    let blocks = block::find(plain.graph(), &shapes);
    if blocks.is_empty() {
        return Err(PruneError::NoBlock);
    }
    let threads = parallel::threads(options.threads);
    let held_out = |at: usize| pictures.len() >= HELD_OUT && at % HELD_OUT == HELD_OUT - 1;
    let part = |held: bool| {
        let own = pictures.iter().enumerate().filter(move |(at, _)| held_out(*at) == held);
        own.map(|(_, p)| p.clone()).collect::<Vec<_>>()
    };
    let (fit, compare) = (part(false), part(true));
    let all_pictures = dataset::sha256(pictures);
    let pictures = Pictures { paths: &fit, preprocess: &preprocess, threads };
    let skipped = RefCell::default();
    let journal = journal(options, parent, &all_pictures)?;
    if journal.found() > 0 {
        progress(Progress::Resumed(journal.found()));
    }
    let task = Task { options, pictures, progress, skipped, journal };
    let goal = Goal::new(&model, &plain, &blocks, options.budget)?;
    let paths = task.memo("paths", || score::paths(&task, &model, &blocks, &shapes))?;
    let (mut pruned, kept, latency) = goal.reach(&model, &blocks, &paths)?;
    let errors = if options.reconstruct {
        reconstruct::reconstruct(&task, &model, &mut pruned, &blocks, &kept)?
    } else {
        vec![None; blocks.len()]
    };
    let mut provenance = metadata.provenance.take().unwrap_or_default();
    provenance.parent_sha256 = Some(parent.to_owned());
    provenance.accuracy.clear();
    provenance.steps.push(step(options, &all_pictures, fit.len(), &blocks, &kept));
    metadata.provenance = Some(provenance);
    metadata.write(&mut pruned);
    let mut result = OnnxFile::from_proto(pruned)?;
    golden::attach(&mut result, golden::FLOAT)?;
    Session::new(result.clone(), &Options::default())?;
    let agreement = agreement(&task, &plain, &result, &compare)?;
    let report = |((block, kept), errors): ((&Block, &Vec<usize>), Option<Errors>)| BlockReport {
        name: block.name.clone(),
        channels: [block.channels, kept.len()],
        macs: [block.channels, kept.len()].map(|c| c as u64 * block.macs),
        errors,
    };
    let macs = [&plain, &result].map(|f| inspect::inspect(f).map(|i| i.macs));
    let [before, after] = macs;
    let skipped = task.skipped.into_inner().into_iter();
    Ok(Pruned {
        blocks: blocks.iter().zip(&kept).zip(errors).map(report).collect(),
        macs: [before?, after?],
        latency,
        agreement,
        skipped: skipped.map(|(path, why)| Skipped { path, why }).collect(),
        file: result,
    })
}

/// What the same run has found before it was stopped.
fn journal(options: &PruneOptions, parent: &str, pictures: &str) -> Result<Journal, PruneError> {
    let Some(path) = &options.progress else { return Ok(Journal::none()) };
    let (threads, progress) = (None, None);
    let settings =
        format!("{:?}", PruneOptions { threads, progress, restart: false, ..options.clone() });
    let labelled = options.labelled.iter().flatten().map(|s| s.path.clone());
    let labelled = dataset::sha256(&labelled.collect::<Vec<_>>());
    let run = journal::fingerprint(&["prune", parent, pictures, &labelled, &settings]);
    Ok(Journal::open(path, &run, options.restart)?)
}

/// # Errors
/// [`PruneError::NotFinite`] for the first constant that is not finite: no criterion could rank by it.
fn check_weights(model: &ModelProto) -> Result<(), PruneError> {
    for constant in model.graph.iter().flat_map(|graph| &graph.initializer) {
        let float = constant.data_type == DataType::Float as i32;
        if float && tensor::to_f32(constant)?.iter().any(|v| v.is_nan()) {
            return Err(PruneError::NotFinite { value: constant.name.clone() });
        }
    }
    Ok(())
}

/// The step's line in the provenance: all that the result depends on, and what was taken away.
fn step(
    options: &PruneOptions,
    sha256: &str,
    pictures: usize,
    blocks: &[Block],
    kept: &[Vec<usize>],
) -> String {
    let budget = match options.budget {
        Budget::Macs(share) => format!("{share} of the MACs"),
        Budget::Latency(ms) => format!("{ms} ms"),
    };
    let cut = blocks.iter().zip(kept).filter(|(b, k)| k.len() < b.channels);
    let cut: Vec<String> =
        cut.map(|(b, k)| format!("{} {} -> {}", b.name, b.channels, k.len())).collect();
    let labelled = options.labelled.as_ref().map_or(String::new(), |l| {
        let paths: Vec<PathBuf> = l.iter().map(|s| s.path.clone()).collect();
        format!(" on {} labelled pictures, sha256 {}", l.len(), dataset::sha256(&paths))
    });
    format!(
        "prune (kinglet-tools {}, budget {budget}, criterion {}{labelled}, reconstruction {}, seed \
         {}, {pictures} calibration pictures, sha256 of the folder's pictures {sha256}; channels: \
         {})",
        env!("CARGO_PKG_VERSION"),
        options.criterion,
        if options.reconstruct { "on" } else { "off" },
        options.seed,
        cut.join(", ")
    )
}

/// On how many pictures two models prefer the same class, and of how many.
fn agreement(
    task: &Task<'_>,
    original: &OnnxFile,
    pruned: &OnnxFile,
    paths: &[PathBuf],
) -> Result<[usize; 2], PruneError> {
    let best = |output: &ShapedOutput| {
        let better = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
        output.1.iter().enumerate().max_by(better).map(|(at, _)| at)
    };
    let see =
        |_: usize, outputs: &[Vec<ShapedOutput>]| Ok(best(&outputs[0][0]) == best(&outputs[1][0]));
    let (mut same, mut all) = (0, 0);
    let mut take = |_: usize, equal: bool| {
        same += usize::from(equal);
        all += 1;
    };
    task.pass("comparing", Some(paths), &[original, pruned], &see, &mut take)?;
    Ok([same, all])
}
