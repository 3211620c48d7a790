//! `kinglet-tools fit`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use kinglet_compress::atomic::atomic_write;
use kinglet_compress::fit::{self, Candidate, Check, Precision, Variant};
use kinglet_deploy::Speed;

use crate::{boards, evaluate, output};

/// Name of the machine that this runs on, as a target.
const HOST: &str = "host";
/// Lines of the table at most, around what was chosen.
const LINES: usize = 24;

/// Choose the most accurate network that keeps to a latency on a board.
///
/// Compares families, widths, depths, resolutions and types by predicted latency and by published
/// or interpolated accuracy. The target `host` is this machine: its rates are measured first, with
/// networks of random weights, in a minute or two; --check says how far such predictions are off.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools fit --target pi4 --max-latency 20 --svg pi4.svg
  kinglet-tools fit --target host --check")]
pub(crate) struct Args {
    /// The board, as `kinglet-tools boards` names it, or host
    #[arg(long, value_name = "BOARD")]
    target: String,
    /// Milliseconds that an inference may take
    #[arg(long, value_name = "MS", required_unless_present = "check", value_parser = positive)]
    max_latency: Option<f64>,
    /// Least top-1 accuracy on ImageNet, in percent
    #[arg(long, value_name = "PERCENT", value_parser = positive)]
    min_top1: Option<f64>,
    /// Threads; by default all cores of a board, and one on the host
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: Option<u32>,
    /// Only networks of this type
    #[arg(long, value_enum, value_name = "TYPE")]
    precision: Option<Type>,
    /// Only networks whose weights are published, with the accuracy that was published with them
    #[arg(long)]
    published: bool,
    /// Draw latency against accuracy
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Compare predictions with measurements on this machine
    #[arg(long)]
    check: bool,
    /// Folder of board descriptions
    #[arg(long, value_name = "DIR", default_value = boards::DEFAULT)]
    targets: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Type {
    /// 8-bit integers
    Int8,
    /// 16-bit floats
    F16,
    /// 32-bit floats
    F32,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("not a number above 0".into()),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (title, speed, cores) = if args.target == HOST {
        ("this machine".to_owned(), host()?, 1)
    } else {
        ensure!(
            !args.check,
            "--check measures on this machine: say --target {HOST}, not {}",
            args.target
        );
        board(&args)?
    };
    if args.check {
        check(&speed)?;
    }
    match args.max_latency {
        Some(most) => choose(&args, &title, &speed, args.threads.unwrap_or(cores), most),
        None => Ok(()),
    }
}

fn board(args: &Args) -> anyhow::Result<(String, Speed, u32)> {
    let board = boards::find(&args.targets, &args.target)?;
    let speed = board.speed.clone().with_context(|| {
        format!("{}.toml has no [speed]: it says nothing about rates", board.name)
    })?;
    Ok((board.title.clone(), speed, board.cpu.cores))
}

/// Measures variants with random weights.
fn measure(text: &str, variants: &[Variant]) -> anyhow::Result<Vec<fit::Measured>> {
    let folder = tempfile::tempdir()?;
    let pictures = pictures(folder.path())?;
    let bar = evaluate::progress(text, variants.len());
    let measured = variants
        .iter()
        .map(|&variant| {
            let measured = fit::measure(variant, &pictures);
            bar.inc(1);
            measured
        })
        .collect::<Result<_, _>>();
    bar.finish_and_clear();
    Ok(measured?)
}

/// Pictures to calibrate random networks on: their content does not matter.
fn pictures(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    (0..2_u32)
        .map(|at| {
            let path = folder.join(format!("{at}.png"));
            let pixel = |x: u32, y: u32| {
                image::Rgb([(x * (at + 3)) as u8, (y * 5) as u8, ((x ^ y) * 7) as u8])
            };
            image::RgbImage::from_fn(96, 96, pixel)
                .save(&path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// This machine's rates.
fn host() -> anyhow::Result<Speed> {
    let speed = fit::calibrate(&measure("measuring this machine", &fit::fit_variants())?);
    let mut text = String::from("rates of this machine, one core (10^9 a second):\n");
    for (name, rates) in [("int8", &speed.int8), ("f32", &speed.f32)] {
        writeln!(
            text,
            "{name:>5}  pointwise {:.1}, depthwise {:.1}, dense {:.1}, swish {:.1}, elements {:.1}",
            rates.pointwise, rates.depthwise, rates.dense, rates.activation, rates.elementwise
        )?;
    }
    writeln!(
        text,
        "       memory {:.1} GB/s, cache {} KiB, {:.1} us a layer",
        speed.bandwidth_gb_s, speed.cache_kib, speed.layer_overhead_us
    )?;
    output::print(&text)?;
    Ok(speed)
}

fn check(speed: &Speed) -> anyhow::Result<()> {
    let measured = measure("checking predictions", &fit::check_variants())?;
    let one = |m: &fit::Measured| {
        let own = fit::candidates(&[m.variant], speed, 1);
        Some(Check { measured: *m, predicted_ms: own.first()?.latency_ms })
    };
    let checks: Vec<Check> = measured.iter().filter_map(one).collect();
    let mut text =
        format!("{:<46} {:>10} {:>10} {:>8}\n", "variant", "measured", "predicted", "error");
    for check in &checks {
        writeln!(
            text,
            "{:<46} {:>7.2} ms {:>7.2} ms {:>6.1} %",
            check.measured.variant.to_string(),
            check.measured.ms,
            check.predicted_ms,
            100.0 * check.error()
        )?;
    }
    let mut errors: Vec<f64> = checks.iter().map(|c| c.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    let median = errors.get(errors.len() / 2).copied().unwrap_or(0.0);
    let most = errors.last().copied().unwrap_or(0.0);
    writeln!(
        text,
        "{} variants, none of them measured before: median error {:.1} %, largest {:.1} %",
        checks.len(),
        100.0 * median,
        100.0 * most
    )?;
    output::print(&text)
}

fn choose(args: &Args, title: &str, speed: &Speed, threads: u32, most: f64) -> anyhow::Result<()> {
    let precisions: Vec<Precision> = match args.precision {
        Some(Type::Int8) => vec![Precision::Int8],
        Some(Type::F16) => vec![Precision::F16],
        Some(Type::F32) => vec![Precision::F32],
        None => vec![Precision::Int8, Precision::F16, Precision::F32],
    };
    let mut variants = fit::variants(&precisions);
    variants.retain(|v| !args.published || fit::expected(v).published);
    let candidates = fit::candidates(&variants, speed, threads);
    let front = fit::front(&candidates);
    ensure!(!front.is_empty(), "no network is of this type on {title}");
    let fits = front.iter().rposition(|c| c.latency_ms <= most);
    let at = fits.unwrap_or(0);
    let start = at.saturating_sub(LINES - 4).min(front.len().saturating_sub(LINES));
    let mut text = format!(
        "{title}, {threads} thread(s)\n  {:<46} {:>9} {:>9} {:>8} {:>8}\n",
        "network", "latency", "top-1", "M MACs", "weights"
    );
    for (line, c) in front.iter().enumerate().skip(start).take(LINES) {
        writeln!(
            text,
            "{} {:<46} {:>6.1} ms {:>6.1} %{} {:>8.0} {:>5.1} MB",
            if fits == Some(line) { '>' } else { ' ' },
            c.variant.to_string(),
            c.latency_ms,
            c.accuracy.top1,
            if c.accuracy.published { ' ' } else { '~' },
            c.macs / 1e6,
            c.megabytes
        )?;
    }
    text += "~ interpolated: the published network's, less what MobileNetV2 loses at the same share \
             of its work, less 0.7 for int8 where nothing is published. Top-1 is that of ImageNet.\n";
    writeln!(text, "Rates: {}", speed.source)?;
    output::print(&text)?;
    if let Some(path) = &args.svg {
        let svg = fit::svg(title, &candidates, &front, most).map_err(anyhow::Error::msg)?;
        atomic_write(path, svg.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        say!("{}: latency against accuracy", path.display());
    }
    let Some(best) = fits.map(|at| front[at]) else {
        bail!(
            "no network keeps to {most} ms; the fastest, {}, takes {:.1} ms",
            front[0].variant,
            front[0].latency_ms
        );
    };
    if let Some(least) = args.min_top1
        && best.accuracy.top1 < least
    {
        let next = front.iter().find(|c| c.accuracy.top1 >= least);
        let wanted = next.map_or_else(String::new, |c| {
            format!("; {least} % takes {:.1} ms ({})", c.latency_ms, c.variant)
        });
        bail!("within {most} ms {:.1} % is the most{wanted}", best.accuracy.top1);
    }
    next(&best);
    Ok(())
}

/// What to do with the choice.
fn next(best: &Candidate) {
    let Variant { arch, precision, .. } = best.variant;
    say!("chosen: {}, {:.1} ms, top-1 {:.1} %", best.variant, best.latency_ms, best.accuracy.top1);
    let fetched = kinglet_compress::recipe::Recipe::find(arch.name).is_ok();
    if best.variant.is_published() && fetched {
        say!("next: kinglet-tools fetch {} -o DIR", arch.name);
    } else if best.variant.is_published() {
        say!("next: kinglet-tools import {} WEIGHTS -o MODEL.onnx", best.variant.options());
    } else {
        say!(
            "next: train it, then kinglet-tools import; for its latency alone: kinglet-tools import \
             {} --init random -o MODEL.onnx",
            best.variant.options()
        );
    }
    match precision {
        Precision::Int8 => {
            say!("then: kinglet-tools compress MODEL.onnx --int8 --calibration DIR -o OUT.onnx");
        }
        Precision::F16 => say!("then: kinglet-tools compress MODEL.onnx --f16 -o OUT.onnx"),
        Precision::F32 => {}
    }
}
