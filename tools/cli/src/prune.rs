//! `kinglet-tools prune`.

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Context;
use indicatif::ProgressBar;
use kinglet_compress::dataset;
use kinglet_compress::import::sha256;
use kinglet_compress::prune::{
    self, Budget, Criterion, Progress, PruneError, PruneOptions, Pruned,
};
use kinglet_engine::{ModelError, OnnxFile, Options, Session};

use crate::{compress, evaluate, output, preprocess};

/// Take channels out of a float model, so that it does less work.
///
/// Expanded channels of inverted residuals go, those that matter least for what they cost, and the
/// projections get new weights from a few hundred pictures like those that the model will see;
/// they need no labels. Nothing is trained: large cuts want `kinglet-tools distill` afterwards. A run
/// that is stopped leaves OUTPUT.progress, from which the same command goes on.
#[derive(clap::Args)]
#[command(
    group = clap::ArgGroup::new("to").required(true),
    after_help = "\
Examples:
  kinglet-tools prune birds.onnx --budget 0.8 --calibration photographs/ -o birds-80.onnx
  kinglet-tools prune birds.onnx --max-latency 6.5 --calibration photographs/ -o birds-6ms.onnx"
)]
pub(crate) struct Args {
    /// The float model
    model: PathBuf,
    /// Share of the model's multiply-accumulates to keep, in (0, 1]
    #[arg(long, group = "to", value_name = "SHARE", value_parser = share)]
    budget: Option<f64>,
    /// Milliseconds that the float model may take on one thread of this machine
    #[arg(long, group = "to", value_name = "MS", value_parser = milliseconds)]
    max_latency: Option<f64>,
    /// Folder of pictures to calibrate on; one in ten is held out for comparison
    #[arg(long, value_name = "DIR")]
    calibration: PathBuf,
    /// Where to write the result
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What makes a channel important
    #[arg(long, value_enum, default_value_t = Kind::Taylor)]
    criterion: Kind,
    /// Folder of labelled pictures for the loss that taylor and reconstruction look at; without
    /// it the model's own probabilities serve
    #[arg(long, value_name = "DIR")]
    labelled: Option<PathBuf>,
    /// Leave the weights of the projections as they are
    #[arg(long)]
    no_reconstruction: bool,
    /// Seed of what is chosen by chance
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How pictures are prepared, if the model does not say it: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    preprocess: Option<String>,
    /// Begin anew even where a run was stopped
    #[arg(long)]
    restart: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// The norms of its filters; looks at no picture
    Norm,
    /// The loss without it, to first order: best of what was measured for large cuts
    Taylor,
    /// The error that is left when the others make good for it as well as they can: best for small
    /// cuts, down to 0.9
    Reconstruction,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("a budget is a share of the model's work, in (0, 1]".into()),
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ms) if ms > 0.0 && ms.is_finite() => Ok(ms),
        _ => Err("milliseconds are a number above 0".into()),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = OnnxFile::read(&args.model)?;
    let bytes = std::fs::read(&args.model)
        .with_context(|| format!("cannot read {}", args.model.display()))?;
    let (parent, size) = (sha256(&bytes), bytes.len());
    drop(bytes);
    let pictures = dataset::pictures(&args.calibration)?;
    let labelled = match &args.labelled {
        Some(dir) => {
            let options = Options { self_test: false, ..Options::default() };
            let classes = Session::new(file.clone(), &options)?.classes();
            let labels = file.metadata()?.labels.unwrap_or_default();
            Some(dataset::labelled(dir, &labels, classes)?)
        }
        None => None,
    };
    let progress = output::progress(&args.output)?;
    let options = PruneOptions {
        budget: match (args.budget, args.max_latency) {
            (_, Some(ms)) => Budget::Latency(ms),
            (share, None) => Budget::Macs(share.unwrap_or(1.0)),
        },
        criterion: match args.criterion {
            Kind::Norm => Criterion::Norm,
            Kind::Taylor => Criterion::Taylor,
            Kind::Reconstruction => Criterion::Reconstruction,
        },
        reconstruct: !args.no_reconstruction,
        labelled,
        seed: args.seed,
        threads: args.threads.map(usize::from),
        preprocess: args.preprocess.as_deref().map(preprocess::parse).transpose()?,
        progress: Some(progress.clone()),
        restart: args.restart,
    };
    let bars = Bars::default();
    let result = prune::prune(&file, &parent, &pictures, &options, &|p| bars.show(p));
    bars.clear();
    // A run that failed would fail again.
    if result.as_ref().is_err_and(|e| !matches!(e, PruneError::Progress(_))) {
        let _ = std::fs::remove_file(&progress);
    }
    let result = result.map_err(|error| match error {
        PruneError::Model(error) => error.into(),
        PruneError::NoPictures
        | PruneError::Unreadable { .. }
        | PruneError::Progress(_)
        | PruneError::Unreachable { .. }
        | PruneError::Nothing { .. } => anyhow::Error::new(error),
        other => ModelError::Unsuitable { why: other.to_string() }.into(),
    })?;
    report(&result);
    output::save(&result.file, &args.output)?;
    let _ = std::fs::remove_file(&progress);
    say!("the parent: {:.1} MB", size as f64 / 1e6);
    next(&args);
    Ok(())
}

/// A progress bar a pass.
#[derive(Default)]
struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn show(&self, progress: Progress<'_>) {
        let mut bar = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (progress, bar.as_ref()) {
            (Progress::Pass(text, pictures), old) => {
                if let Some(old) = old {
                    old.finish_and_clear();
                }
                *bar = Some(evaluate::progress(text, pictures));
            }
            (Progress::Resumed(results), _) => output::resumed(results),
            (Progress::Picture, Some(bar)) => bar.inc(1),
            (Progress::Picture, None) => {}
        }
    }

    fn clear(&self) {
        let bar = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn report(result: &Pruned) {
    compress::name_skipped(&result.skipped);
    say!("{:<24} {:>14} {:>17} {:>22}", "block", "channels", "M MACs", "error of the result");
    for block in &result.blocks {
        let errors = block.errors.map_or_else(String::new, |e| {
            format!("{:>7.2} % -> {:>6.2} %", 100.0 * e.before, 100.0 * e.after)
        });
        say!(
            "{:<24} {:>5} -> {:>5} {:>7.2} -> {:>6.2} {errors:>22}",
            block.name,
            block.channels[0],
            block.channels[1],
            block.macs[0] as f64 / 1e6,
            block.macs[1] as f64 / 1e6,
        );
    }
    let [before, after] = result.macs;
    say!(
        "{before} -> {after} MACs, {:.1} % of the parent's",
        100.0 * after as f64 / before.max(1) as f64
    );
    if let Some([before, after]) = result.latency {
        say!("{before:.2} -> {after:.2} ms on one thread of this machine");
    }
    let [same, all] = result.agreement;
    if all > 0 {
        say!(
            "same best class as the parent: {same} of {all} pictures held out ({:.1} %)",
            100.0 * same as f64 / all as f64
        );
    }
}

/// What to do with the result, and what brings more where too much was cut.
fn next(args: &Args) {
    let (model, pictures) = (args.output.display(), args.calibration.display());
    let stem = args.output.with_extension("");
    let stem = stem.display();
    say!(
        "next: kinglet-tools compress {model} --int8 --calibration {pictures} -o {stem}-int8.onnx\n\
         where that loses too much, a smaller network that learns from the parent keeps more:\n\
         kinglet-tools distill --teacher {} --student lite0,depth=0.5 {pictures} -o {stem}-taught.onnx",
        args.model.display(),
    );
}
