//! `kinglet-tools import`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kinglet_compress::arch::{self, Arch, Padding};
use kinglet_compress::import::{self, ImportOptions, sha256};
use kinglet_engine::OnnxFile;
use kinglet_engine::metadata::Provenance;

use crate::{output, preprocess};

/// Make a model file from trained weights, or add metadata to an ONNX file.
///
/// WEIGHTS is a PyTorch state dict (.pth, .pt) or a .safetensors file with the names of
/// efficientnet_pytorch, timm or torchvision; or an .onnx file, which keeps its graph. Nothing in
/// a weights file is ever executed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools import --arch efficientnet-b0 weights.pth --labels birds.txt -o birds.onnx
  kinglet-tools import theirs.onnx --labels labels.txt --preprocess preprocess.json -o ours.onnx
  kinglet-tools import --arch efficientnet-lite0 --init random --seed 7 -o random.onnx")]
pub(crate) struct Args {
    /// Weights file, or an ONNX model
    #[arg(required_unless_present = "init", conflicts_with = "init")]
    weights: Option<PathBuf>,
    /// Architecture of the weights, such as efficientnet-lite0, efficientnet-b3, efficientnetv2-s
    #[arg(long, value_parser = parse_arch, required_unless_present = "weights")]
    arch: Option<&'static Arch>,
    /// Where to write the model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Make up weights instead of reading them
    #[arg(long, value_enum)]
    init: Option<Init>,
    /// Seed of the random weights
    #[arg(long, default_value_t = 0, requires = "init")]
    seed: u64,
    /// Factor of the channels of a network with random weights
    #[arg(long, value_name = "FACTOR", requires = "init", value_parser = parse_scale)]
    width: Option<f64>,
    /// Factor of the repeats of a network with random weights
    #[arg(long, value_name = "FACTOR", requires = "init", value_parser = parse_scale)]
    depth: Option<f64>,
    /// Number of classes; weights say it themselves
    #[arg(long)]
    classes: Option<usize>,
    /// Side of the input in pixels, if not the published one
    #[arg(long)]
    resolution: Option<u32>,
    /// Padding, `same` or `symmetric`, if not that of the weights' origin
    #[arg(long, value_parser = parse_padding, value_name = "KIND")]
    padding: Option<Padding>,
    /// Epsilon of the batch norms, if not that of the weights' origin
    #[arg(long, value_parser = parse_epsilon)]
    epsilon: Option<f64>,
    /// Class names, one a line, in the order of the outputs
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How pictures are prepared: JSON, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    preprocess: Option<String>,
    /// Name of the model
    #[arg(long)]
    name: Option<String>,
    /// Where the weights came from
    #[arg(long)]
    source: Option<String>,
    /// Licence of the weights, as an SPDX expression
    #[arg(long, alias = "license")]
    licence: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Init {
    /// Random weights that keep activations in a sane range
    Random,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let options = options(&args)?;
    let spinner = output::spinner("importing");
    let file = match (&args.weights, args.arch) {
        (None, Some(arch)) => import::import_random(arch, args.seed, &options)?,
        (Some(weights), arch) if is_onnx(weights) => {
            let graph_options = arch.is_some()
                || args.resolution.is_some()
                || args.padding.is_some()
                || args.epsilon.is_some()
                || args.classes.is_some();
            if graph_options {
                bail!(
                    "{} keeps its graph: leave out --arch, --resolution, --classes, --padding and \
                     --epsilon",
                    weights.display()
                );
            }
            adopt(weights, &options)?
        }
        (Some(weights), Some(arch)) => import::import_weights(arch, weights, &options)
            .with_context(|| format!("cannot import {}", weights.display()))?,
        (_, None) => bail!("say the weights' architecture: --arch NAME, one of {}", arch_names()),
    };
    spinner.finish_and_clear();
    if let Some(step) = file.metadata()?.provenance.and_then(|p| p.steps.last().cloned()) {
        say!("{step}");
    }
    output::save(&file, &args.output)
}

fn adopt(path: &Path, options: &ImportOptions) -> anyhow::Result<OnnxFile> {
    let file = OnnxFile::read(path)?;
    let parent = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(import::adopt(file, &sha256(&parent), options)?)
}

fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

fn options(args: &Args) -> anyhow::Result<ImportOptions> {
    let labels = args.labels.as_deref().map(read_labels).transpose()?;
    let preprocess = args.preprocess.as_deref().map(preprocess::parse).transpose()?;
    let provenance = Provenance {
        name: args.name.clone().unwrap_or_default(),
        source: args.source.clone(),
        licence: args.licence.clone(),
        ..Default::default()
    };
    Ok(ImportOptions {
        resolution: args.resolution,
        classes: args.classes,
        scale: (args.width.is_some() || args.depth.is_some())
            .then(|| [args.width.unwrap_or(1.0), args.depth.unwrap_or(1.0)]),
        padding: args.padding,
        epsilon: args.epsilon,
        labels,
        preprocess,
        provenance,
    })
}

/// One label a line; empty lines at the end do not count.
fn read_labels(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = output::read_text(path)?;
    Ok(text.trim_end().lines().map(|l| l.trim().to_owned()).collect())
}

fn arch_names() -> String {
    arch::ALL.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
}

fn parse_arch(name: &str) -> Result<&'static Arch, String> {
    Arch::find(name).ok_or_else(|| format!("known are: {}", arch_names()))
}

fn parse_padding(text: &str) -> Result<Padding, String> {
    match text {
        "same" => Ok(Padding::Same),
        "symmetric" => Ok(Padding::Symmetric),
        _ => Err("say 'same' or 'symmetric'".into()),
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if (0.1..=4.0).contains(&scale) { Ok(scale) } else { Err("not in 0.1..=4".into()) }
}

fn parse_epsilon(text: &str) -> Result<f64, String> {
    let epsilon: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if epsilon > 0.0 && epsilon < 1.0 { Ok(epsilon) } else { Err("not between 0 and 1".into()) }
}
