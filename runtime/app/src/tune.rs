//! `kinglet tune`: finds by time what is fastest here, and keeps it beside the model.

use std::path::PathBuf;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use kinglet_engine::atomic::atomic_write;
use kinglet_engine::choices::Choice;
use kinglet_engine::tune::{self, Chosen, Conditions};
use kinglet_engine::{Options, Session};

use crate::exit::{Done, Outcome, Usage};
use crate::load::{self, ModelArgs};

/// Noise beyond which a search finds little, per cent.
const BUSY: f64 = 5.0;

/// Options of `tune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kinglet tune model.onnx\n  \
    kinglet tune model.onnx --threads 1 --dry-run\n\n\
    No result changes: only what gives the same bits is chosen. The choice is kept in \
    MODEL.tune.toml and taken up at every load with the same model, CPU, instruction set and \
    threads. Let nothing else run meanwhile.")]
pub(crate) struct Args {
    /// The model; the same as --model.
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    file: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Rounds in which everything is timed in turns.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(4..=10_000))]
    runs: u16,
    /// Only print what would be chosen.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `tune`.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut model = args.model.clone();
    model.model = args.file.clone().or(model.model);
    let path = model.path()?;
    if model.public_key.is_some() {
        let why = "--public-key: tune reads the model many times; verify it before, with `kinglet verify`";
        return Err(Usage(why.into()).into());
    }
    let options = Options { tuned_for: None, ..model.options()? };
    // Loaded once as ever: the self-test runs here.
    let report = load::load(&path, &options, None)?.report();
    let options = Options { self_test: false, ..options };
    let conditions = Conditions::new(&path, &load::machine(), report.isa, report.threads)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("timing {bar:30} {percent} % {elapsed}") {
        bar.set_style(style);
    }
    let load = |choices: &_| {
        Session::load(&path, &Options { choices: Clone::clone(choices), ..options.clone() })
    };
    let chosen = tune::search(load, usize::from(args.runs), |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let mut chosen = chosen.with_context(|| format!("model {}", path.display()))?;
    print(&conditions, &chosen);
    if !chosen.pays() {
        chosen.layers.clear();
    }
    if args.dry_run {
        println!("nothing written (--dry-run)");
        return Ok(Done::Well);
    }
    let target = tune::beside(&path);
    let text = tune::text(&conditions, &chosen)?;
    atomic_write(&target, text.as_bytes())
        .with_context(|| format!("cannot write {}", target.display()))?;
    println!("wrote {}", target.display());
    Ok(Done::Well)
}

fn print(conditions: &Conditions, chosen: &Chosen) {
    println!("{}, {}, {} thread(s)", conditions.cpu, conditions.isa, conditions.threads);
    let width = chosen.layers.keys().map(String::len).max().unwrap_or(0);
    for (name, (choice, won)) in &chosen.layers {
        println!("  {name:width$}  {:24} {:5.1} % of its time won", words(choice), won * 100.0);
    }
    let margin = chosen.margin * 100.0;
    println!("a choice had to win {margin:.1} % (2, or more where times were noisy)");
    if margin > BUSY {
        println!("note: something else is running here; tune again when the machine is idle");
    }
    let [usual, tuned] = chosen.times_ms;
    let won = (1.0 - tuned / usual) * 100.0;
    if chosen.layers.is_empty() {
        println!("no layer is faster another way; the whole model takes {usual:.2} ms");
    } else if chosen.pays() {
        println!("whole model {usual:.2} -> {tuned:.2} ms, {won:.1} % won (least times)");
    } else {
        println!(
            "whole model {usual:.2} -> {tuned:.2} ms (least times): not faster, so nothing is chosen"
        );
    }
}

fn words(choice: &Choice) -> String {
    let fused = choice.fused.map(|fused| if fused { "fused" } else { "two layers" });
    let form = choice.form.map(|form| format!("form {}", form.name()));
    [fused.map(str::to_owned), form].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
