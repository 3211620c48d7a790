//! `kinglet-tools retrain`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use kinglet_compress::import::sha256;
use kinglet_compress::retrain::{
    self, Dataset, Optimizer, PENALTIES, RetrainError, RetrainOptions, Retrained,
};
use kinglet_compress::statistics::wilson;
use kinglet_engine::{ModelError, OnnxFile};

use crate::{compress, evaluate, output, preprocess, reference};

/// Teach a model your own classes.
///
/// DIR holds one folder of pictures for each class, or such folders under train/ and under val/
/// those to judge by; without val/, a fifth of each class is held out. Instead of folders a labels.csv
/// may name the pictures (columns file and class). The backbone stays as it is;
/// only the last layer is new, so this takes seconds and a few dozen pictures a class. An int8 model
/// stays int8. The result has labels, a self-test and a threshold for unknown pictures.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools retrain efficientnet-lite0-int8.onnx flowers/ -o flowers.onnx
  kinglet-tools retrain efficientnet-lite0-int8.onnx parts/ -o parts.onnx --hidden 64 --no-flip")]
pub(crate) struct Args {
    /// The model whose backbone is used: float or int8
    model: PathBuf,
    /// Folder with a folder of pictures for each class, or with a labels.csv
    dir: PathBuf,
    /// Where to write the new model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Put a hidden layer of N units before the outputs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    hidden: Option<u16>,
    /// How the new classifier is trained
    #[arg(long, value_enum, default_value_t = OptimizerArg::Lbfgs)]
    optimizer: OptimizerArg,
    /// Variants made of each picture: crops, mirror images, other light
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u8).range(0..=64))]
    augment: u8,
    /// Never mirror: for classes that differ by left and right, such as letters or arrows
    #[arg(long)]
    no_flip: bool,
    /// Let classes with more pictures count more
    #[arg(long)]
    unbalanced: bool,
    /// Share of each class that is held out where there is no val/
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    held_out: f64,
    /// Seed of the split, the variants, the hidden layer and the order of mini-batches
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How pictures are prepared, if the model does not say it: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    preprocess: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum OptimizerArg {
    /// L-BFGS over all pictures at once: nothing to set, few passes
    Lbfgs,
    /// Mini-batches with momentum and a cosine schedule
    Sgd,
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|v| (0.05..=0.9).contains(v));
    value.ok_or_else(|| "a share from 0.05 to 0.9".to_owned())
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = OnnxFile::read(&args.model)?;
    let bytes = std::fs::read(&args.model)
        .with_context(|| format!("cannot read {}", args.model.display()))?;
    let parent = sha256(&bytes);
    drop(bytes);
    let options = RetrainOptions {
        seed: args.seed,
        optimizer: match args.optimizer {
            OptimizerArg::Lbfgs => Optimizer::Lbfgs,
            OptimizerArg::Sgd => Optimizer::Sgd,
        },
        hidden: args.hidden.map(usize::from),
        augment: usize::from(args.augment),
        flip: !args.no_flip,
        balanced: !args.unbalanced,
        threads: args.threads.map(usize::from),
        preprocess: args.preprocess.as_deref().map(preprocess::parse).transpose()?,
    };
    retrain::check(&file).map_err(blame)?;
    let mut data = Dataset::read(&args.dir, args.held_out, args.seed).map_err(blame)?;
    let bar = evaluate::progress("reading pictures", data.train.len() + data.held_out.len());
    let features = retrain::features(&file, &mut data, &options, &|| bar.inc(1));
    bar.finish_and_clear();
    let features = features.map_err(blame)?;
    compress::name_skipped(&features.skipped);
    let bar = evaluate::progress("training", PENALTIES.len());
    let trained = retrain::train(&features, data.classes.len(), &options, &|| bar.inc(1));
    bar.finish_and_clear();
    let bar = evaluate::progress("measuring", data.held_out.len());
    let done = || bar.inc(1);
    let result = retrain::finish(&file, &parent, &data, &features, &trained, &options, &done);
    bar.finish_and_clear();
    let result = result.map_err(blame)?;
    output::print(&table(&data, &result))?;
    let held_out: Vec<PathBuf> = data.held_out.iter().map(|sample| sample.path.clone()).collect();
    let mut file = result.file;
    reference::seal_if_enough(&mut file, &held_out, options.threads)?;
    output::save(&file, &args.output)?;
    let out = args.output.display();
    output::print(&format!(
        "\nNow try it:                            kinglet classify --model {out} PHOTO.jpg\n\
         and measure it on pictures it never saw: kinglet-tools evaluate {out} DIR --report report.html\n"
    ))
}

/// Where the model is to blame, the exit code says so.
fn blame(error: RetrainError) -> anyhow::Error {
    match error {
        RetrainError::Model(error) => error.into(),
        RetrainError::NoClassifier(_) | RetrainError::Half { .. } | RetrainError::NoPreprocess => {
            ModelError::Unsuitable { why: error.to_string() }.into()
        }
        other => other.into(),
    }
}

/// A line a class: pictures, and how the finished model does on those held out.
fn table(data: &Dataset, result: &Retrained) -> String {
    let counts = data.counts();
    let wide = data.classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).clamp(5, 40);
    let mut text = format!(
        "{:<wide$}  {:>8}  {:>8}  {:>6}  accuracy (95 %)\n",
        "class", "learnt", "held out", "right"
    );
    let mut line = |name: &str, learnt: usize, right: usize, n: usize| {
        let (low, high) = wilson(right, n);
        let share = right as f64 / n.max(1) as f64;
        _ = writeln!(
            text,
            "{name:<wide$}  {learnt:>8}  {n:>8}  {right:>6}  {share:.3} ({low:.3} to {high:.3})"
        );
    };
    for (class, name) in data.classes.iter().enumerate() {
        let of_class = result.evaluation.predictions.iter();
        let of_class = of_class.filter(|p| data.held_out[p.sample].class == class);
        let (n, right) =
            of_class.fold((0, 0), |(n, right), p| (n + 1, right + usize::from(p.is_right())));
        line(name, counts[class].0, right, n);
    }
    let evaluation = &result.evaluation;
    line("all", data.train.len(), evaluation.right1, evaluation.n);
    let below = |right: bool| {
        let all = evaluation.predictions.iter().filter(|p| p.is_right() == right);
        all.filter(|p| p.best().score < result.unknown_below).count()
    };
    _ = writeln!(
        text,
        "\nA best score under {:.3} counts as unknown: so would {} of the {} right and {} of the {} \
         wrong answers above.\nThe held-out pictures chose this threshold and nothing else.\nThe classifier is {}.",
        result.unknown_below,
        below(true),
        evaluation.right1,
        below(false),
        evaluation.n - evaluation.right1,
        if result.is_int8 { "int8" } else { "float" }
    );
    text
}
