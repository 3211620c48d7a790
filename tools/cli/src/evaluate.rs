//! `kinglet-tools evaluate`.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use kinglet_compress::dataset::{self, Sample};
use kinglet_compress::evaluate::compare::Comparison;
use kinglet_compress::evaluate::{self, EvaluateError, EvaluateOptions, Evaluation};
use kinglet_compress::statistics::wilson;
use kinglet_engine::{Metadata, ModelError, OnnxFile, Options, Session};

use crate::{compress, output, preprocess};

/// Measure a model's accuracy on labelled pictures.
///
/// DIR holds a labels.csv (header file,class_index), or one folder a class, named by a label of
/// the model or by a class index.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools evaluate efficientnet-lite0-int8.onnx photographs/
  kinglet-tools evaluate small.onnx photographs/ --against large.onnx --report report.html
  kinglet-tools evaluate theirs.onnx photographs/ --preprocess preprocess.json --json")]
pub(crate) struct Args {
    /// The model
    model: PathBuf,
    /// Folder of labelled pictures
    dir: PathBuf,
    /// Write a page with confusions, calibration, times and the pictures it gets wrong
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Compare with another model of the same classes, picture by picture
    #[arg(long, value_name = "OTHER.onnx")]
    against: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How pictures are prepared, if the model does not say it: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    preprocess: Option<String>,
    /// Use only the first N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// A model that is to be measured.
pub(crate) struct Subject {
    /// Its file's name.
    pub(crate) name: String,
    pub(crate) file: OnnxFile,
    pub(crate) metadata: Metadata,
    pub(crate) classes: usize,
}

impl Subject {
    /// Reads a model; `preprocess` says whether it was told how pictures are prepared.
    pub(crate) fn read(path: &Path, preprocess: bool) -> anyhow::Result<Self> {
        let file = OnnxFile::read(path)?;
        let metadata = file.metadata()?;
        if metadata.preprocess.is_none() && !preprocess {
            let why = format!(
                "{} does not say how pictures are prepared; give it with --preprocess, or once for \
                 all with `kinglet-tools import {} --preprocess FILE -o OUT.onnx`",
                path.display(),
                path.display()
            );
            return Err(ModelError::Unsuitable { why }.into());
        }
        let options = Options { self_test: false, ..Options::default() };
        let classes = Session::new(file.clone(), &options)?.classes();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, file, metadata, classes })
    }

    /// The model's labels; empty without.
    pub(crate) fn labels(&self) -> &[String] {
        self.metadata.labels.as_deref().unwrap_or_default()
    }

    /// Refuses another model that has other classes.
    pub(crate) fn check_same_classes(&self, other: &Self) -> anyhow::Result<()> {
        let named = !self.labels().is_empty() && !other.labels().is_empty();
        if self.classes != other.classes || (named && self.labels() != other.labels()) {
            anyhow::bail!(
                "{} has other classes than {} ({} and {}): the two cannot be compared",
                other.name,
                self.name,
                other.classes,
                self.classes
            );
        }
        Ok(())
    }

    fn evaluate(
        &self,
        samples: &[Sample],
        options: &EvaluateOptions,
    ) -> anyhow::Result<Evaluation> {
        let bar = progress(&format!("evaluating {}", self.name), samples.len());
        let result = evaluate::evaluate(&self.file, samples, options, &|| bar.inc(1));
        bar.finish_and_clear();
        result.map_err(|error| match error {
            EvaluateError::Model(error) => error.into(),
            other => other.into(),
        })
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let preprocess = args.preprocess.as_deref().map(preprocess::parse).transpose()?;
    let subject = Subject::read(&args.model, preprocess.is_some())?;
    let other = args.against.as_deref().map(|path| Subject::read(path, preprocess.is_some()));
    let other = other.transpose()?;
    if let Some(other) = &other {
        subject.check_same_classes(other)?;
    }
    let mut samples = dataset::labelled(&args.dir, subject.labels(), subject.classes)?;
    samples.truncate(args.limit.map_or(usize::MAX, |n| n as usize));
    let options = EvaluateOptions { threads: args.threads.map(usize::from), preprocess };
    let result = subject.evaluate(&samples, &options)?;
    let other = match other {
        Some(other) => Some((other.evaluate(&samples, &options)?, other.name)),
        None => None,
    };
    let against = other.as_ref().map(|(evaluation, name)| (name.as_str(), evaluation));
    print(&result, against, args.json);
    let Some(path) = &args.report else { return Ok(()) };
    let page = evaluate::report::report(&evaluate::report::Input {
        model: &subject.name,
        dataset: &dataset_name(&args.dir),
        labels: subject.labels(),
        unknown_below: subject.metadata.unknown_below,
        samples: &samples,
        evaluation: &result,
        against,
    });
    output::save_report(&page, path, args.json)
}

fn print(result: &Evaluation, against: Option<(&str, &Evaluation)>, json: bool) {
    compress::name_skipped(&result.skipped);
    let (low, high) = wilson(result.right1, result.n);
    let comparison = against.map(|(name, other)| (name, other, Comparison::new(result, other)));
    if json {
        let mut line = serde_json::json!({
            "top1": rounded(result.top1(), 1e6),
            "top1_95": [rounded(low, 1e6), rounded(high, 1e6)],
            "top5": rounded(result.top5(), 1e6),
            "n": result.n,
            "images_per_s": rounded(result.images_per_s(), 1e2),
            "skipped": result.skipped.len(),
        });
        if let Some((name, other, c)) = comparison {
            line["against"] = serde_json::json!({
                "model": name,
                "top1": rounded(other.top1(), 1e6),
                "agreement": rounded(c.agreement(), 1e6),
                "right_alone": [c.first_alone, c.second_alone],
                "mcnemar_p": rounded(c.p, 1e6),
            });
        }
        say!("{line}");
        return;
    }
    say!(
        "top-1 {:.4}  top-5 {:.4}  {} pictures, {:.1} a second",
        result.top1(),
        result.top5(),
        result.n,
        result.images_per_s()
    );
    say!("top-1 lies between {low:.4} and {high:.4} (95 %)");
    if !result.skipped.is_empty() {
        say!("{} pictures could not be read and do not count", result.skipped.len());
    }
    if let Some((name, other, c)) = comparison {
        say!(
            "\nagainst {name}: top-1 {:.4}, the same answer for {:.4}",
            other.top1(),
            c.agreement()
        );
        say!(
            "right alone: {} against {}; McNemar's exact test: p = {:.3}, {}",
            c.first_alone,
            c.second_alone,
            c.p,
            c.verdict()
        );
    }
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

/// What a folder of pictures is called: by its name, and by the folder's around it where that name only
/// says which part it is.
pub(crate) fn dataset_name(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut names = whole.iter().rev().map(|n| n.to_string_lossy().into_owned());
    let name = names.next().unwrap_or_default();
    match names.next() {
        Some(parent) if ["train", "val", "test"].contains(&name.as_str()) => {
            format!("{parent}/{name}")
        }
        _ => name,
    }
}

/// A progress bar with a text, gone when it is finished; nothing where the output is no terminal.
pub(crate) fn progress(text: &str, items: usize) -> ProgressBar {
    let bar = ProgressBar::new(items as u64).with_message(text.to_owned());
    let template = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
