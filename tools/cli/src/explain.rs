//! `kinglet-tools explain`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kinglet_compress::explain::{self, ExplainError};
use kinglet_engine::{ModelError, OnnxFile, Picture};

use crate::{evaluate, output, preprocess};

/// Show which part of a picture speaks for a class.
///
/// Bright places speak for the class. The method `cam` is exact and quick, for models that end with
/// a global mean and one linear layer, as the EfficientNets do; `occlusion` hides one part of the
/// picture after another and works for any model.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools explain efficientnet-lite0-int8.onnx cat.jpg -o heat.png
  kinglet-tools explain flowers.onnx garden.jpg -o heat.png --class tulip --method occlusion")]
pub(crate) struct Args {
    /// The model: float or int8
    model: PathBuf,
    /// The picture
    image: PathBuf,
    /// Where to write the picture with the map over it, a PNG
    #[arg(short, long, value_name = "FILE.png")]
    output: PathBuf,
    /// The class, by its label or index; the best one by default
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// How to find out
    #[arg(long, value_enum, default_value_t = Method::Cam)]
    method: Method,
    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How pictures are prepared, if the model does not say it: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    preprocess: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Method {
    /// Class activation map
    Cam,
    /// Parts hidden one after another
    Occlusion,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut file = OnnxFile::read(&args.model)?;
    let mut metadata = file.metadata()?;
    if let Some(given) = args.preprocess.as_deref().map(preprocess::parse).transpose()? {
        metadata.preprocess = Some(given);
        metadata.write(&mut file.proto);
    }
    let Some(preprocess) = &metadata.preprocess else {
        return Err(blame(ExplainError::NoPreprocess));
    };
    let labels = metadata.labels.as_deref().unwrap_or_default();
    let class = args.class.as_deref().map(|class| find(class, labels)).transpose()?;
    let picture = Picture::read(&args.image)?;
    let heat = match args.method {
        Method::Cam => explain::cam(&file, &picture, class),
        Method::Occlusion => {
            let bar = evaluate::progress("hiding parts", explain::parts());
            let threads = args.threads.map(usize::from);
            let heat = explain::occlusion(&file, &picture, class, threads, &|| bar.inc(1));
            bar.finish_and_clear();
            heat
        }
    };
    let heat = heat.map_err(blame)?;
    let bytes = explain::picture(&picture, preprocess, &heat);
    kinglet_compress::atomic::atomic_write(&args.output, &bytes)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let name = labels.get(heat.class).map_or("(no label)", String::as_str);
    output::print(&format!(
        "{name} [{}]: {:.1} %\n{}: bright places speak for it; dark at the edges is what the model does not \
         see\n",
        heat.class,
        100.0 * heat.score,
        args.output.display()
    ))
}

/// A class by its label, or by its index.
fn find(class: &str, labels: &[String]) -> anyhow::Result<usize> {
    let same = |label: &String| label.eq_ignore_ascii_case(class.trim());
    if let Some(index) = labels.iter().position(same).or_else(|| class.parse().ok()) {
        return Ok(index);
    }
    let wanted = class.to_lowercase();
    let near: Vec<&str> = labels
        .iter()
        .filter(|l| l.to_lowercase().contains(&wanted))
        .take(5)
        .map(String::as_str)
        .collect();
    match near.as_slice() {
        [] => bail!("the model has no class '{class}': give one of its labels, or an index"),
        near => bail!("the model has no class '{class}'; did you mean {}?", near.join(", ")),
    }
}

fn blame(error: ExplainError) -> anyhow::Error {
    match error {
        ExplainError::Model(error) => error.into(),
        ExplainError::Class { .. } => error.into(),
        other => ModelError::Unsuitable { why: other.to_string() }.into(),
    }
}
