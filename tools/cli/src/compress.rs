//! `kinglet-tools compress`.

use std::path::PathBuf;

use anyhow::Context;
use kinglet_compress::dataset;
use kinglet_compress::evaluate::Skipped;
use kinglet_compress::half::{self, HalfError, TensorReport};
use kinglet_compress::import::sha256;
use kinglet_compress::quantize::{self, QuantizeError, QuantizeOptions, RangeMethod, Report};
use kinglet_engine::{ModelError, OnnxFile};

use crate::{evaluate, output, preprocess};

/// Most skipped pictures that are named.
const NAMED: usize = 10;

/// Make a float model smaller and faster.
///
/// --int8 calibrates on a few hundred pictures like those that the model will see; they need no
/// labels. --f16 halves the file; the arithmetic stays in 32 bits.
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
    /// Print what was chosen for each layer
    #[arg(long)]
    report: bool,
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
    #[arg(long, value_enum, default_value_t = Ranges::Mse, conflicts_with = "f16")]
    ranges: Ranges,
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
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Ranges {
    /// Percentiles with the least squared error
    Mse,
    /// Least and largest value
    Minmax,
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

fn int8(args: &Args, file: &OnnxFile, parent: &str, dir: &std::path::Path) -> anyhow::Result<()> {
    let pictures = dataset::pictures(dir)?;
    let options = QuantizeOptions {
        weight_bits: args.weight_bits,
        pointwise_bits: args.pointwise_bits,
        ranges: match args.ranges {
            Ranges::Mse => RangeMethod::Mse,
            Ranges::Minmax => RangeMethod::MinMax,
        },
        search_weights: !args.no_weight_search,
        correct_bias: !args.no_bias_correction,
        threads: args.threads.map(usize::from),
        preprocess: args.preprocess.as_deref().map(preprocess::parse).transpose()?,
    };
    let bar = evaluate::progress("calibrating", pictures.len());
    let result = quantize::quantize(file, parent, &pictures, &options, &|| bar.inc(1));
    bar.finish_and_clear();
    let result = result.map_err(|error| match error {
        QuantizeError::Model(error) => error.into(),
        QuantizeError::NoPictures | QuantizeError::Unreadable { .. } => anyhow::Error::new(error),
        other => refused(&other),
    })?;
    name_skipped(&result.skipped);
    if args.report {
        print(&result.report);
    }
    for (name, why) in &result.report.left_in_float {
        println!("{name} stays in float: {why}");
    }
    output::save(&result.file, &args.output)
}

fn f16(args: &Args, file: &OnnxFile, parent: &str) -> anyhow::Result<()> {
    let result = half::convert(file, parent).map_err(|error| match error {
        HalfError::Model(error) => error.into(),
        other => refused(&other),
    })?;
    let kept = result.tensors.iter().filter(|t| t.kept_f32).count();
    let changed: usize = result.tensors.iter().map(|t| t.to_zero + t.subnormal).sum();
    if args.report {
        print_tensors(&result.tensors);
    } else if changed > 0 {
        println!(
            "{changed} values of {} constants are too small for float16's full precision; \
             --report lists them",
            result.tensors.len()
        );
    }
    if kept > 0 {
        println!("{kept} constants stay in 32 bits");
    }
    output::save(&result.file, &args.output)
}

/// The model is to blame: the exit code says so.
fn refused(why: &dyn std::error::Error) -> anyhow::Error {
    ModelError::Unsuitable { why: why.to_string() }.into()
}

fn print_tensors(tensors: &[TensorReport]) {
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "constant", "elements", "too large", "to zero", "subnormal"
    );
    for tensor in tensors {
        println!(
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
    println!(
        "{:<44} {:>9} {:>9} {:>16} {:>8}  bits, why",
        "value", "low", "high", "clipped", "SQNR dB"
    );
    for value in &report.values {
        println!(
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
    println!("{:<44} {:>9} {:>44}", "weights", "channels", "SQNR dB");
    for layer in &report.layers {
        println!("{:<44} {:>9} {:>35.1}", layer.name, layer.channels, layer.sqnr_db);
    }
}
