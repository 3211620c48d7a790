//! `kinglet-tools compress`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use kinglet_compress::dataset;
use kinglet_compress::evaluate::Skipped;
use kinglet_compress::half::{self, HalfError, TensorReport};
use kinglet_compress::import::sha256;
use kinglet_compress::quantize::{
    self, Calibrator, Cure, Cures, Diagnose, Event, QuantizeError, QuantizeOptions, Report, Score,
    Sensitivity, Step, Target,
};
use kinglet_engine::{ModelError, OnnxFile, Options, Session};

use crate::{evaluate, output, preprocess, reference};

/// Most skipped pictures that are named.
const NAMED: usize = 10;

/// Make a float model smaller and faster.
///
/// --int8 calibrates on a few hundred pictures like those that the model will see; they need no
/// labels. A run that is stopped leaves OUTPUT.progress, from which the same command goes on. --f16 halves the
/// file; the arithmetic stays in 32 bits.
#[derive(clap::Args)]
#[command(
    group = clap::ArgGroup::new("to").required(true),
    after_help = "\
Examples:
  kinglet-tools compress birds.onnx --int8 --calibration photographs/ -o birds-int8.onnx
  kinglet-tools compress birds.onnx --f16 -o birds-f16.onnx"
)]
pub(crate) struct Args {
    /// The float model
    model: PathBuf,
    /// Integers of 8 bits
    #[arg(long, group = "to", requires = "calibration")]
    int8: bool,
    /// Floats of 16 bits
    #[arg(long, group = "to")]
    f16: bool,
    /// Where to write the result
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Folder of pictures to calibrate on
    #[arg(long, value_name = "DIR", conflicts_with = "f16")]
    calibration: Option<PathBuf>,
    /// Folder of pictures as the camera will send them, at least a hundred, to notice drift by
    ///
    /// `kinglet watch` compares what it sees with them: confidence, classes and features. Without
    /// this the calibration pictures serve, but for their classes.
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Store no reference for drift
    #[arg(long, conflicts_with = "reference")]
    no_reference: bool,
    /// Print what was chosen for each layer, or write it as a web page to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    report: Option<Option<PathBuf>>,
    /// Bits of a weight; 7 keeps exact in runtimes whose 8-bit products saturate
    #[arg(long, value_name = "BITS", default_value_t = 8, conflicts_with = "f16",
        value_parser = clap::value_parser!(u8).range(7..=8))]
    weight_bits: u8,
    /// Bits of what pointwise convolutions read; 7 is faster on boards without the dot product
    /// instruction, on others as fast as 8
    ///
    /// Cores without it (Cortex-A53 and A72: Pi 3, Pi 4, Zero 2 W) add more products at once if
    /// their range is narrow. The model stays plain ONNX: a Clip before the quantization says so.
    #[arg(long, value_name = "BITS", default_value_t = 8, conflicts_with = "f16",
        value_parser = clap::value_parser!(u8).range(7..=8))]
    pointwise_bits: u8,
    /// How the range of each activation is chosen
    #[arg(long, value_enum, default_value_t = CalibratorArg::Mse, conflicts_with = "f16")]
    calibrator: CalibratorArg,
    /// Ranges reach as far below zero as above
    #[arg(long, conflicts_with = "f16")]
    symmetric: bool,
    /// Write activations as int8 instead of uint8; the results are the same
    #[arg(long, conflicts_with = "f16")]
    signed: bool,
    /// Cures for lost accuracy
    ///
    /// `auto`: one after another until the target holds; `none`; or a list of those to apply, in
    /// any order: equalize, bias, tune, float.
    #[arg(
        long,
        value_name = "LIST",
        default_value = "auto",
        value_delimiter = ',',
        conflicts_with = "f16"
    )]
    cures: Vec<CureArg>,
    /// Learn the rounding of weights for at most so many seconds (AdaRound)
    #[arg(long, value_name = "SECONDS", conflicts_with = "f16",
        value_parser = clap::value_parser!(u32).range(1..=86400))]
    adaround: Option<u32>,
    /// Points of top-1 that may be lost; without --labelled, of agreement with the float model
    ///
    /// Without this the mean cosine between the features of both models is to be at least 0.996.
    #[arg(long, value_name = "POINTS", conflicts_with = "f16", value_parser = points)]
    target_drop: Option<f64>,
    /// Folder of labelled pictures to judge by, as for `evaluate`; else a part of the calibration
    /// pictures is held out
    #[arg(long, value_name = "DIR", conflicts_with = "f16")]
    labelled: Option<PathBuf>,
    /// Longest time of a picture on this machine, one thread, that layers in float may cost
    #[arg(long, value_name = "MS", conflicts_with = "f16", value_parser = milliseconds)]
    max_latency: Option<f64>,
    /// Measure what each layer costs when it alone is in integers
    #[arg(long, conflicts_with = "f16")]
    sensitivity: bool,
    /// Seed of what is drawn at random
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "f16")]
    seed: u64,
    /// Scale weights by the largest of each channel, without a search
    #[arg(long, conflicts_with = "f16")]
    no_weight_search: bool,
    /// Leave the biases as they are
    #[arg(long, conflicts_with = "f16")]
    no_bias_correction: bool,
    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How pictures are prepared, if the model does not say it: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON", conflicts_with = "f16")]
    preprocess: Option<String>,
    /// Begin anew even where a run was stopped
    #[arg(long, conflicts_with = "f16")]
    restart: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CalibratorArg {
    /// Percentiles with the least squared error
    Mse,
    /// Least and largest value
    MinMax,
    /// All but a ten-thousandth of the values at each end
    Percentile,
    /// Percentiles with the least Kullback-Leibler divergence
    Entropy,
    /// That of these which is nearest to the float model
    Auto,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CureArg {
    Auto,
    None,
    Equalize,
    Bias,
    Tune,
    Float,
}

fn points(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|p| (0.0..=100.0).contains(p));
    number.ok_or_else(|| "a number of points from 0 to 100".into())
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|ms| (0.001..=1e6).contains(ms));
    number.ok_or_else(|| "a number of milliseconds over 0".into())
}

fn cures(args: &[CureArg]) -> anyhow::Result<Cures> {
    let cure = |arg: &CureArg| match arg {
        CureArg::Equalize => Some(Cure::Equalize),
        CureArg::Bias => Some(Cure::Bias),
        CureArg::Tune => Some(Cure::Tune),
        CureArg::Float => Some(Cure::Float),
        CureArg::Auto | CureArg::None => None,
    };
    match args {
        [CureArg::Auto] => Ok(Cures::Auto),
        [CureArg::None] => Ok(Cures::Only(Vec::new())),
        list => {
            let cures: Option<Vec<Cure>> = list.iter().map(cure).collect();
            let cures = cures.context("--cures: `auto` and `none` stand alone")?;
            Ok(Cures::Only(cures))
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = OnnxFile::read(&args.model)?;
    let bytes = std::fs::read(&args.model)
        .with_context(|| format!("cannot read {}", args.model.display()))?;
    let parent = sha256(&bytes);
    drop(bytes);
    match &args.calibration {
        Some(dir) if args.int8 => int8(&args, &file, &parent, dir),
        _ => f16(&args, &file, &parent),
    }
}

fn int8(args: &Args, file: &OnnxFile, parent: &str, dir: &Path) -> anyhow::Result<()> {
    let pictures = dataset::pictures(dir)?;
    let page = args.report.as_ref().and_then(Option::as_deref);
    let progress = output::progress(&args.output)?;
    let options = QuantizeOptions {
        weight_bits: args.weight_bits,
        pointwise_bits: args.pointwise_bits,
        calibrator: match args.calibrator {
            CalibratorArg::Mse => Some(Calibrator::Mse),
            CalibratorArg::MinMax => Some(Calibrator::MinMax),
            CalibratorArg::Percentile => Some(Calibrator::Percentile),
            CalibratorArg::Entropy => Some(Calibrator::Entropy),
            CalibratorArg::Auto => None,
        },
        symmetric: args.symmetric,
        signed: args.signed,
        search_weights: !args.no_weight_search,
        correct_bias: !args.no_bias_correction,
        cures: cures(&args.cures)?,
        adaround: args.adaround.map(|s| Duration::from_secs(s.into())),
        target: args.target_drop.map_or(QuantizeOptions::default().target, Target::Drop),
        labelled: args.labelled.as_deref().map(|dir| labelled(file, dir)).transpose()?,
        max_latency: args.max_latency.map(|ms| Duration::from_secs_f64(ms / 1e3)),
        diagnose: match (args.sensitivity, page) {
            (true, _) => Diagnose::Alone,
            (false, Some(_)) => Diagnose::Outputs,
            (false, None) => Diagnose::Nothing,
        },
        seed: args.seed,
        threads: args.threads.map(usize::from),
        preprocess: args.preprocess.as_deref().map(preprocess::parse).transpose()?,
        progress: Some(progress.clone()),
        restart: args.restart,
    };
    let bar = Mutex::new(ProgressBar::hidden());
    let result = quantize::quantize(file, parent, &pictures, &options, &|event| show(&bar, event));
    bar.lock().unwrap_or_else(PoisonError::into_inner).finish_and_clear();
    // A run that failed would fail again.
    if result.as_ref().is_err_and(|e| !matches!(e, QuantizeError::Progress(_))) {
        let _ = std::fs::remove_file(&progress);
    }
    let result = result.map_err(|error| match error {
        QuantizeError::Model(error) => error.into(),
        QuantizeError::NoPictures
        | QuantizeError::Plain { .. }
        | QuantizeError::Progress(_)
        | QuantizeError::Unreadable { .. } => anyhow::Error::new(error),
        other => refused(&other),
    })?;
    name_skipped(&result.skipped);
    if args.report.is_some() && page.is_none() {
        print(&result.report);
    }
    if args.sensitivity {
        print_sensitivity(&result.report.sensitivity);
    }
    for (name, why) in &result.report.left_in_float {
        say!("{name} stays in float: {why}");
    }
    if let Some(page) = page {
        let html = kinglet_compress::quantize::page(&result.report, &args.output.to_string_lossy());
        kinglet_compress::atomic::atomic_write(page, html.as_bytes())
            .with_context(|| format!("cannot write {}", page.display()))?;
        say!("{}: what was done and why", page.display());
    }
    let mut file = result.file;
    let threads = args.threads.map(usize::from);
    match &args.reference {
        Some(dir) => reference::seal_folder(&mut file, dir, threads)?,
        None if !args.no_reference => reference::seal_if_enough(&mut file, &pictures, threads)?,
        None => {}
    }
    output::save(&file, &args.output)?;
    let _ = std::fs::remove_file(&progress);
    if !result.met {
        say!("the target does not hold; `--sensitivity` shows which layers lose");
        anyhow::ensure!(args.target_drop.is_none(), "the target of --target-drop does not hold");
    }
    let folder = args.labelled.as_deref().unwrap_or(Path::new("LABELLED_PICTURES"));
    say!("next: kinglet-tools evaluate {} {}", args.output.display(), folder.display());
    Ok(())
}

/// The labelled pictures of a folder, for this model.
fn labelled(file: &OnnxFile, dir: &Path) -> anyhow::Result<Vec<dataset::Sample>> {
    let options = Options { self_test: false, ..Options::default() };
    let classes = Session::new(file.clone(), &options)?.classes();
    let labels = file.metadata()?.labels.unwrap_or_default();
    Ok(dataset::labelled(dir, &labels, classes)?)
}

/// Shows an event: a bar for what goes on, a line for what is over.
fn show(bar: &Mutex<ProgressBar>, event: Event<'_>) {
    let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::Start(what, parts) => {
            bar.finish_and_clear();
            *bar = if parts == 0 { output::spinner(what) } else { evaluate::progress(what, parts) };
        }
        Event::Done => bar.inc(1),
        Event::Resumed(results) => {
            bar.suspend(|| output::resumed(results));
        }
        Event::Step(step) => bar.suspend(|| say!("{}", line(step))),
    }
}

/// A step as a line.
fn line(step: &Step) -> String {
    let Score { pictures, cosine, agree, right, .. } = step.score;
    let right = right.map(|(float, own)| format!(", top-1 {own}/{pictures} (float {float})"));
    format!(
        "{}: cosine {cosine:.4}, agrees {agree}/{pictures}{}, {:.2} ms here{}",
        step.what,
        right.unwrap_or_default(),
        step.latency.as_secs_f64() * 1e3,
        if step.kept { "" } else { " (not kept)" }
    )
}

fn print_sensitivity(layers: &[Sensitivity]) {
    say!(
        "{:<44} {:>12} {:>13} {:>10}",
        "layer, the worst first",
        "output, dB",
        "alone, error",
        "cosine"
    );
    let error = |s: &Sensitivity| s.alone.map_or(0.0, |score| score.error);
    let mut layers: Vec<&Sensitivity> = layers.iter().collect();
    layers.sort_by(|a, b| error(b).total_cmp(&error(a)));
    for layer in layers {
        let sqnr = layer.sqnr_db.map_or_else(|| "-".to_owned(), |db| format!("{db:.1}"));
        let cosine = layer.alone.map_or(1.0, |score| score.cosine);
        say!("{:<44} {sqnr:>12} {:>13.5} {cosine:>10.5}", layer.name, error(layer));
    }
}

fn f16(args: &Args, file: &OnnxFile, parent: &str) -> anyhow::Result<()> {
    let result = half::convert(file, parent).map_err(|error| match error {
        HalfError::Model(error) => error.into(),
        other => refused(&other),
    })?;
    let kept = result.tensors.iter().filter(|t| t.kept_f32).count();
    let changed: usize = result.tensors.iter().map(|t| t.to_zero + t.subnormal).sum();
    if args.report.is_some() {
        print_tensors(&result.tensors);
    } else if changed > 0 {
        say!(
            "{changed} values of {} constants are too small for float16's full precision; \
             --report lists them",
            result.tensors.len()
        );
    }
    if kept > 0 {
        say!("{kept} constants stay in 32 bits");
    }
    let mut file = result.file;
    if let Some(dir) = &args.reference {
        reference::seal_folder(&mut file, dir, args.threads.map(usize::from))?;
    }
    output::save(&file, &args.output)
}

/// The model is to blame: the exit code says so.
fn refused(why: &dyn std::error::Error) -> anyhow::Error {
    ModelError::Unsuitable { why: why.to_string() }.into()
}

fn print_tensors(tensors: &[TensorReport]) {
    say!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "constant",
        "elements",
        "too large",
        "to zero",
        "subnormal"
    );
    for tensor in tensors {
        say!(
            "{:<44} {:>9} {:>9} {:>9} {:>9}{}",
            tensor.name,
            tensor.elements,
            tensor.too_large,
            tensor.to_zero,
            tensor.subnormal,
            if tensor.kept_f32 { "  stays f32" } else { "" }
        );
    }
}

/// Names skipped pictures, the first of many.
pub(crate) fn name_skipped(skipped: &[Skipped]) {
    for skipped in skipped.iter().take(NAMED) {
        eprintln!("skipped {}: {}", skipped.path.display(), skipped.why);
    }
    if skipped.len() > NAMED {
        eprintln!("and {} more", skipped.len() - NAMED);
    }
}

fn print(report: &Report) {
    say!(
        "{:<44} {:>9} {:>9} {:>16} {:>8}  bits, why",
        "value",
        "low",
        "high",
        "clipped",
        "SQNR dB"
    );
    for value in &report.values {
        say!(
            "{:<44} {:>9.3} {:>9.3} {:>7.3}% {:>6.3}% {:>8.1}  {}: {}",
            value.name,
            value.low,
            value.high,
            100.0 * value.clipped_low,
            100.0 * value.clipped_high,
            value.sqnr_db,
            value.bits,
            value.role
        );
    }
    say!("{:<44} {:>9} {:>44}", "weights", "channels", "SQNR dB");
    for layer in &report.layers {
        say!("{:<44} {:>9} {:>35.1}", layer.name, layer.channels, layer.sqnr_db);
    }
}
