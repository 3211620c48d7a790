//! `kinglet-tools evaluate`.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use kinglet_compress::dataset;
use kinglet_compress::evaluate::{self, EvaluateError, EvaluateOptions, Evaluation};
use kinglet_engine::{ModelError, OnnxFile, Options, Session};

use crate::{compress, preprocess};

/// Measure a model's accuracy on labelled pictures.
///
/// DIR holds a labels.csv (header file,class_index), or one folder a class, named by a label of
/// the model or by a class index.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools evaluate efficientnet-lite0-int8.onnx photographs/
  kinglet-tools evaluate theirs.onnx photographs/ --preprocess preprocess.json --json")]
pub(crate) struct Args {
    /// The model
    model: PathBuf,
    /// Folder of labelled pictures
    dir: PathBuf,
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

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = OnnxFile::read(&args.model)?;
    let metadata = file.metadata()?;
    let preprocess = args.preprocess.as_deref().map(preprocess::parse).transpose()?;
    if metadata.preprocess.is_none() && preprocess.is_none() {
        let why = format!(
            "{} does not say how pictures are prepared; give it with --preprocess, or once for \
             all with `kinglet-tools import {} --preprocess FILE -o OUT.onnx`",
            args.model.display(),
            args.model.display()
        );
        return Err(ModelError::Unsuitable { why }.into());
    }
    let options = Options { self_test: false, ..Options::default() };
    let classes = Session::new(file.clone(), &options)?.classes();
    let labels = metadata.labels.unwrap_or_default();
    let mut samples = dataset::labelled(&args.dir, &labels, classes)?;
    samples.truncate(args.limit.map_or(usize::MAX, |n| n as usize));
    let options = EvaluateOptions { threads: args.threads.map(usize::from), preprocess };
    let bar = progress("evaluating", samples.len());
    let result = evaluate::evaluate(&file, &samples, &options, &|| bar.inc(1));
    bar.finish_and_clear();
    let result = result.map_err(|error| match error {
        EvaluateError::Model(error) => anyhow::Error::new(error),
        other => other.into(),
    })?;
    report(&result, args.json);
    Ok(())
}

fn report(result: &Evaluation, json: bool) {
    compress::name_skipped(&result.skipped);
    if json {
        let line = serde_json::json!({
            "top1": rounded(result.top1(), 1e6),
            "top5": rounded(result.top5(), 1e6),
            "n": result.n,
            "images_per_s": rounded(result.images_per_s(), 1e2),
            "skipped": result.skipped.len(),
        });
        println!("{line}");
        return;
    }
    println!(
        "top-1 {:.4}  top-5 {:.4}  {} pictures, {:.1} a second",
        result.top1(),
        result.top5(),
        result.n,
        result.images_per_s()
    );
    if !result.skipped.is_empty() {
        println!("{} pictures could not be read and do not count", result.skipped.len());
    }
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
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
