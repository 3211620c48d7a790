//! `kinglet-tools robustness`.

use std::fmt::Write as _;
use std::path::PathBuf;

use kinglet_compress::dataset;
use kinglet_compress::robustness::{
    self, Kind, Robustness, RobustnessError, RobustnessOptions, Subject,
};
use kinglet_compress::statistics::wilson;
use kinglet_engine::{ModelError, Picture};

use crate::{compress, evaluate, output, preprocess};

/// Measure how much accuracy is left when pictures get worse.
///
/// Blur, noise, brightness, JPEG and rotation, each at several strengths, in the model's own pixels.
/// --attack adds changes along the gradient of a float model, unseen by the eye (FGSM and PGD); those
/// of --parent are tried on the model too. DIR is labelled as for `evaluate`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools robustness efficientnet-lite0-int8.onnx photographs/ --report robustness.html
  kinglet-tools robustness int8.onnx photographs/ --parent float.onnx --attack --limit 200")]
pub(crate) struct Args {
    /// The model
    model: PathBuf,
    /// Folder of labelled pictures
    dir: PathBuf,
    /// The float model that it was made from, measured beside it
    #[arg(long, value_name = "FLOAT.onnx")]
    parent: Option<PathBuf>,
    /// Also try changes along the gradient of the float model
    #[arg(long)]
    attack: bool,
    /// Write a page with charts; a run that was stopped then goes on when it is started again
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Use only the first N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How pictures are prepared, if the model does not say it: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    preprocess: Option<String>,
    /// Begin anew even where a run was stopped
    #[arg(long, requires = "report")]
    restart: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let preprocess = args.preprocess.as_deref().map(preprocess::parse).transpose()?;
    let subject = evaluate::Subject::read(&args.model, preprocess.is_some())?;
    let parent = args.parent.as_deref();
    let parent = parent.map(|p| evaluate::Subject::read(p, preprocess.is_some())).transpose()?;
    if let Some(parent) = &parent {
        subject.check_same_classes(parent)?;
    }
    let mut samples = dataset::labelled(&args.dir, subject.labels(), subject.classes)?;
    samples.truncate(args.limit.map_or(usize::MAX, |n| n as usize));
    let subjects: Vec<&evaluate::Subject> = std::iter::once(&subject).chain(&parent).collect();
    let models: Vec<_> = subjects.iter().map(|s| &s.file).collect();
    let attacker = args.attack.then(|| parent.as_ref().map_or(&subject.file, |p| &p.file));
    let mut kinds = Kind::CORRUPTIONS.to_vec();
    if args.attack {
        kinds.extend(Kind::ATTACKS);
    }
    let threads = args.threads.map(usize::from);
    let progress = args.report.as_deref().map(output::progress).transpose()?;
    let options = RobustnessOptions {
        threads,
        seed: args.seed,
        preprocess,
        progress: progress.clone(),
        restart: args.restart,
    };
    let bar = evaluate::progress("making pictures worse", samples.len());
    let result = robustness::measure(&models, attacker, &kinds, &samples, &options, &|| bar.inc(1));
    bar.finish_and_clear();
    // A run that failed would fail again.
    if result.as_ref().is_err_and(|e| !matches!(e, RobustnessError::Progress(_))) {
        let _ = progress.as_ref().map(std::fs::remove_file);
    }
    let result = result.map_err(blame)?;
    compress::name_skipped(&result.skipped);
    let names: Vec<&str> = subjects.iter().map(|s| s.name.as_str()).collect();
    output::print(&table(&result, &names))?;
    let Some(path) = &args.report else { return Ok(()) };
    let described = options.preprocess.or_else(|| subject.metadata.preprocess.clone());
    let example = samples.iter().find_map(|s| Picture::read(&s.path).ok());
    let page = robustness::report(
        &Subject {
            models: &names,
            dataset: &evaluate::dataset_name(&args.dir),
            example: example.as_ref().zip(described.as_ref()),
        },
        &result,
    );
    output::save_report(&page, path, false)?;
    if let Some(progress) = progress {
        let _ = std::fs::remove_file(progress);
    }
    Ok(())
}

/// Where the model is to blame, the exit code says so.
fn blame(error: RobustnessError) -> anyhow::Error {
    match error {
        RobustnessError::Model(error) => error.into(),
        RobustnessError::Evaluate(error) => error.into(),
        RobustnessError::Progress(error) => error.into(),
        other => ModelError::Unsuitable { why: other.to_string() }.into(),
    }
}

/// A line a level.
fn table(result: &Robustness, models: &[&str]) -> String {
    let n = result.n;
    let mut text = format!("{:<12} {:>8}", "", "strength");
    for (who, _) in ["model", "parent"].iter().zip(models) {
        _ = write!(text, "   {who:<22}");
    }
    text = text.trim_end().to_owned() + "\n";
    for level in &result.levels {
        let name = level.kind.map_or("as they are", |k| k.name().0);
        let strength = level.kind.map_or_else(String::new, |_| level.strength.to_string());
        _ = write!(text, "{name:<12} {strength:>8}");
        for &right in &level.right {
            let (low, high) = wilson(right, n);
            let share = right as f64 / n.max(1) as f64;
            _ = write!(text, "   {share:.3} ({low:.3} to {high:.3})");
        }
        text.push('\n');
    }
    text + &format!("top-1 of {} with 95 % intervals, {n} pictures each\n", models.join(" and "))
}
