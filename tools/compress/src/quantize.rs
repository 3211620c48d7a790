//! A float model to int8: post-training static quantization, written as standard QDQ, that says
//! what it costs and mends it.
//!
//! [`quantize`] does it all: `prepare` brings the graph into a known form, `plan` says which
//! values and layers become integers, `calibrate` runs the float model over pictures. A `bench` is a
//! model with all that; drafts of its quantized form are made on it (`range` chooses each value's
//! scale, `weights` the layers' codes), compared with the float model by a `judge`, cured
//! (`equalize`, `correct`, `adaround`, `tune`, `lift`; see `treat`) and written (`write`).
//! Not for models that are quantized already, and nothing is trained.
//!
//! Rounding everywhere is half to even; the result does not depend on the number of threads.

use std::path::{Path, PathBuf};

use kinglet_engine::{Metadata, OnnxFile, Options, Session};

use crate::evaluate::Skipped;
use crate::journal::{self, Journal};
use crate::{dataset, golden, parallel};

mod adaround;
mod bench;
mod bits;
mod calibrate;
mod correct;
mod diagnose;
mod equalize;
mod error;
mod head;
mod histogram;
mod importance;
mod judge;
mod lift;
mod options;
mod page;
mod plan;
pub(crate) mod prepare;
mod provenance;
mod range;
mod report;
mod treat;
mod tune;
mod weights;
mod write;

pub(crate) use head::{HeadLayer, Source, quantize_head};

pub use bits::Role;
pub use diagnose::Sensitivity;
pub use error::QuantizeError;
pub use judge::Score;
pub use options::{Cure, Cures, Diagnose, QuantizeOptions, Target};
pub use page::page;
pub use range::{Calibrator, Quantization};
pub use report::{Cost, LayerReport, Report, ValueReport};
pub use treat::Step;

use bench::Bench;

/// What the quantizer is doing, for progress bars.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Something begins: its name, and of how many parts it is (0: unknown).
    Start(&'a str, usize),
    /// A part is done.
    Done,
    /// A step is over, with what it brought.
    Step(&'a Step),
    /// An earlier run was stopped, and has left so many results.
    Resumed(usize),
}

/// A quantized model and how it came about.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The model.
    pub file: OnnxFile,
    /// What was chosen for each value and layer.
    pub report: Report,
    /// Calibration pictures that could not be read.
    pub skipped: Vec<Skipped>,
    /// Whether the target holds.
    pub met: bool,
}

/// Calibration pictures held out to judge by, at most.
const MOST_HELD_OUT: usize = 100;
/// One picture of so many is held out.
const HELD_OUT: usize = 5;
/// Pictures that cures are tried on.
const TUNING: usize = 32;

/// Quantizes a float model. `parent` is the SHA-256 of its file. `on` hears of the progress, from
/// several threads.
///
/// Ranges are those of all pictures. Without labelled pictures every fifth, 100 at most, is held out
/// of all cures, and the result judged by it; of fewer than five pictures all serve for both.
///
/// # Errors
/// [`QuantizeError`] saying what is wrong with the model or the pictures.
pub fn quantize(
    file: &OnnxFile,
    parent: &str,
    pictures: &[PathBuf],
    options: &QuantizeOptions,
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Quantized, QuantizeError> {
    if !matches!(options.weight_bits, 7 | 8) {
        return Err(QuantizeError::WeightBits { bits: options.weight_bits });
    }
    if !matches!(options.pointwise_bits, 7 | 8) {
        return Err(QuantizeError::PointwiseBits { bits: options.pointwise_bits });
    }
    if pictures.is_empty() {
        return Err(QuantizeError::NoPictures);
    }
    let mut model = file.proto.clone();
    prepare::prepare(&mut model)?;
    let mut metadata = file.metadata()?;
    if let Some(preprocess) = &options.preprocess {
        preprocess.check()?;
        metadata.preprocess = Some(preprocess.clone());
    }
    let preprocess = metadata.preprocess.clone().ok_or(QuantizeError::NoPreprocess)?;
    metadata.golden = None;
    metadata.drift = None;
    metadata.write(&mut model);
    let Some(graph) = model.graph.as_ref() else { return Err(QuantizeError::NoConvolution) };
    let plan = plan::plan(graph);
    if plan.layers.is_empty() {
        return Err(QuantizeError::NoConvolution);
    }
    let threads = parallel::threads(options.threads);
    let (for_cures, judged) = divide(pictures, options);
    let hash = dataset::sha256(pictures);
    let journal = journal(options, &[parent, &hash, &options.settings()])?;
    if journal.found() > 0 {
        on(Event::Resumed(journal.found()));
    }
    let calibration = journal.memo("calibration", || {
        calibrate::calibrate(&model, &plan, &preprocess, pictures, threads, on)
    })?;
    let bench = Bench::new(model, plan, calibration, options, &preprocess, threads, &journal);
    let treated = treat::treat(bench, treat::Pictures { all: pictures, for_cures }, &judged, on)?;
    let record = provenance::record(options, &treated, parent, &hash);
    let file = finish(&treated, metadata, record)?;
    let met = treated.score.meets(options.target);
    let report = report::report(&treated, &file)?;
    Ok(Quantized { file, report, skipped: treated.skipped, met })
}

/// What the same run has found before it was stopped.
fn journal(options: &QuantizeOptions, run: &[&str]) -> Result<Journal, QuantizeError> {
    let Some(path) = &options.progress else { return Ok(Journal::none()) };
    let labelled = options.labelled.iter().flatten().map(|s| s.path.clone());
    let labelled = dataset::sha256(&labelled.collect::<Vec<_>>());
    let run: Vec<&str> = run.iter().copied().chain(["quantize", &labelled]).collect();
    Ok(Journal::open(path, &journal::fingerprint(&run), options.restart)?)
}

/// The model as it is written: with its history, self-test and metadata.
fn finish(
    treated: &treat::Treated<'_>,
    mut metadata: Metadata,
    record: provenance::Record,
) -> Result<OnnxFile, QuantizeError> {
    let mut file = treated.bench.file(&treated.draft, &[], &[])?;
    let mut provenance = metadata.provenance.take().unwrap_or_default();
    provenance.parent_sha256 = Some(record.parent);
    provenance.accuracy.clear();
    provenance.steps.push(record.step);
    metadata.provenance = Some(provenance);
    metadata.write(&mut file.proto);
    let tolerance = golden::tolerance(&file);
    golden::attach(&mut file, tolerance)?;
    Session::new(file.clone(), &Options::default())?;
    Ok(file)
}

/// Pictures with their classes, if they are labelled.
type Judged = Vec<(PathBuf, Option<usize>)>;

/// The pictures that cures may see and those to judge by.
fn divide(pictures: &[PathBuf], options: &QuantizeOptions) -> (Vec<PathBuf>, Judged) {
    let unlabelled = |p: &Path| (p.to_owned(), None);
    if let Some(samples) = &options.labelled {
        let labelled = samples.iter().map(|s| (s.path.clone(), Some(s.class)));
        return (pictures.to_vec(), labelled.collect());
    }
    if pictures.len() < HELD_OUT {
        return (pictures.to_vec(), pictures.iter().map(|p| unlabelled(p)).collect());
    }
    let stride = HELD_OUT.max(pictures.len().div_ceil(MOST_HELD_OUT));
    let held_out = |at: usize| at % stride == stride - 1;
    let (judged, for_cures): (Vec<_>, Vec<_>) =
        pictures.iter().enumerate().partition(|(at, _)| held_out(*at));
    let for_cures = for_cures.into_iter().map(|(_, p)| p.clone()).collect();
    (for_cures, judged.into_iter().map(|(_, p)| unlabelled(p)).collect())
}
