//! `kinglet bench`: latency, load time and memory, with what could have disturbed them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kinglet_device::Board;
use kinglet_engine::preprocess::InputTensor;
use kinglet_engine::report::Report;
use kinglet_engine::{Picture, Session};
use serde::Serialize;

use crate::exit::{Done, Outcome};
use crate::inspect;
use crate::load::{self, ModelArgs};

/// Options of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kinglet bench\n  \
    kinglet bench --threads 1 --runs 200 --json\n  kinglet bench --image photo.jpg --report")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Timed runs.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Time preprocessing of this picture and inference together, instead of inference alone.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Also show the median time of each layer.
    #[arg(long)]
    report: bool,
    /// One JSON object on one line.
    #[arg(long, conflicts_with = "report")]
    json: bool,
}

/// Milliseconds, and MiB of memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    min: f64,
    median: f64,
    p90: f64,
    p99: f64,
    /// From the start of `main` to the first result, ms.
    load: f64,
    /// Peak resident memory of the process, MiB.
    rss: f64,
    runs: u32,
    threads: usize,
    isa: &'static str,
    /// Layers that run as `kinglet tune` chose.
    tuned: usize,
    model: PathBuf,
    /// The machine before and after the timed runs.
    before: Board,
    after: Board,
}

/// Runs `bench`.
pub(crate) fn run(args: &Args) -> Outcome {
    let picture = args.image.as_deref().map(Picture::read).transpose()?;
    let (path, mut session) = args.model.load()?;
    let input = session.sample_input();
    let mut outputs = Vec::new();
    let mut once = || match &picture {
        Some(picture) => session.outputs_into(picture, &mut outputs),
        None => session.run_into(&input, &mut outputs),
    };
    once()?;
    let load = load::since_start();
    let before = Board::read();
    // Warm-up: at least five runs and a fifth of a second, so that clocks have risen.
    let warm = Instant::now();
    let mut warm_runs = 0;
    while warm_runs < 5 || warm.elapsed() < Duration::from_millis(200) {
        once()?;
        warm_runs += 1;
    }
    let mut times = Vec::with_capacity(args.runs as usize);
    for _ in 0..args.runs {
        let start = Instant::now();
        once()?;
        times.push(start.elapsed());
    }
    let after = Board::read();
    times.sort();
    let report = session.report();
    let measured = Measured {
        min: ms(times[0]),
        median: ms(quantile(&times, 0.5)),
        p90: ms(quantile(&times, 0.9)),
        p99: ms(quantile(&times, 0.99)),
        load: ms(load),
        rss: kinglet_device::peak_memory_bytes().unwrap_or(0) as f64 / f64::from(1 << 20),
        runs: args.runs,
        threads: report.threads,
        isa: report.isa,
        tuned: load::tuned_layers(&session),
        model: path.clone(),
        before: before.clone(),
        after,
    };
    if args.json {
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(Done::Well);
    }
    println!("model   {}", path.display());
    println!("board   {before}");
    let what = if picture.is_some() { "preprocessing and inference" } else { "inference" };
    println!("timed   {what}, {} runs, {} thread(s), {}", args.runs, report.threads, report.isa);
    if let Some(tuned) = load::tuned(&session) {
        println!("tuned   {tuned}");
    }
    println!(
        "min {:.2} ms   median {:.2} ms   p90 {:.2} ms   p99 {:.2} ms",
        measured.min, measured.median, measured.p90, measured.p99
    );
    println!("start to first result {:.1} ms   peak memory {:.1} MiB", measured.load, measured.rss);
    for warning in before.disturbances(&measured.after) {
        println!("note: {warning}");
    }
    if args.report {
        let timed = profile(&mut session, &input, args.runs.min(PROFILES))?;
        inspect::print(&mut std::io::stdout().lock(), &timed)?;
    }
    Ok(Done::Well)
}

/// Runs in which layers are timed, at most.
const PROFILES: u32 = 51;

/// Each layer's median over some runs: what one run shows has been disturbed somewhere.
fn profile(session: &mut Session, input: &InputTensor, runs: u32) -> anyhow::Result<Report> {
    let profiles: Vec<Report> =
        (0..runs.max(1)).map(|_| session.profile(input)).collect::<Result<_, _>>()?;
    let mut report = profiles[0].clone();
    for (at, layer) in report.layers.iter_mut().enumerate() {
        let mut times: Vec<_> = profiles.iter().filter_map(|p| p.layers[at].time).collect();
        times.sort();
        layer.time = times.get(times.len() / 2).copied();
    }
    Ok(report)
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The smallest value that at least the share `q` of all values does not exceed.
fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let times: Vec<Duration> = (1..=10).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(5));
        assert_eq!(quantile(&times, 0.9), Duration::from_millis(9));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(10));
        assert_eq!(quantile(&times[..1], 0.5), Duration::from_millis(1));
    }
}
