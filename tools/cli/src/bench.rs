//! `kinglet-tools bench`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kinglet_deploy::bench::{self, Place, Plan};
use kinglet_deploy::files;
use kinglet_deploy::ssh::{Host, Ssh};

use crate::{boards, output};

mod page;

/// Measure the program that is installed on a board, from here: latency, first result, memory, heat.
///
/// Each figure is a process of its own there, for every model and number of threads. Temperature, clock and the
/// firmware's flags are read before and after; what was measured while the board was slowed down is marked and does
/// not count. Compares with what others published for the board, where targets/ says so.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 all figures count, 1 failed or some do not count.

Examples:
  kinglet-tools bench --on pi@porch.local
  kinglet-tools bench --on pi@porch.local --models mine.onnx,other.onnx --threads 1,4 --report pi.html")]
pub(crate) struct Args {
    /// The board: USER@HOST, HOST, an alias of ~/.ssh/config, or ssh://USER@HOST:PORT
    #[arg(long, value_name = "HOST")]
    on: Host,
    /// Models of this machine, which are sent there [default: the one that the board uses]
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    models: Vec<PathBuf>,
    /// Models of the board, by their paths there
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    models_there: Vec<String>,
    /// Numbers of threads [default: one to all cores]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Vec<u32>,
    /// Timed runs of each
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Seconds of rest before each, so that the board is as warm for all
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=3600))]
    rest: u32,
    /// Also measure a first result with an empty page cache (needs sudo -n there)
    #[arg(long)]
    drop_caches: bool,
    /// The board to compare with, as `kinglet-tools boards` names it [default: what it calls itself]
    #[arg(long, value_name = "BOARD")]
    target: Option<String>,
    /// Write all figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The device's program there
    #[arg(long, value_name = "PATH", default_value = "kinglet")]
    program: String,
    /// Folder there for models that are sent, from the home folder on
    #[arg(long, value_name = "DIR", default_value = ".cache/kinglet-bench")]
    folder: String,
    /// Another configuration file for ssh
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Folder of board descriptions
    #[arg(long, value_name = "DIR", default_value = boards::DEFAULT)]
    targets: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    // Wrong names are said before minutes of measuring.
    let named = args.target.as_deref().map(|t| boards::find(&args.targets, t)).transpose()?;
    let here = args.models.iter().cloned().map(Place::Here);
    let mut models: Vec<Place> =
        here.chain(args.models_there.iter().cloned().map(Place::There)).collect();
    if models.is_empty() {
        models.push(Place::Default);
    }
    let plan = Plan {
        program: args.program.clone(),
        folder: args.folder.clone(),
        models,
        threads: args.threads.clone(),
        runs: args.runs,
        rest: Duration::from_secs(args.rest.into()),
        drop_caches: args.drop_caches,
    };
    let ssh = Ssh::default().with_config(args.ssh_config.clone());
    let spinner = output::spinner("connecting");
    let report = bench::measure(&ssh, &args.on, &plan, |text| spinner.set_message(text.to_owned()));
    spinner.finish_and_clear();
    let report = report?;
    let board = named.or_else(|| {
        let known = boards::all(&args.targets).ok()?;
        bench::recognise(&known, &report.board).cloned()
    });
    output::print(&bench::table(&report, board.as_ref()))?;
    if let Some(path) = &args.json {
        let compared = board.as_ref().map(|board| bench::compare(board, &report));
        let target = board.as_ref().map(|b| &b.name);
        let json = serde_json::json!({ "target": target, "report": report, "published": compared });
        files::write_whole(path, (serde_json::to_string_pretty(&json)? + "\n").as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.report {
        output::save_report(&page::html(&report, board.as_ref()), path, false)?;
    }
    let (invalid, all) = report.invalid();
    ensure!(
        invalid == 0,
        "{invalid} of {all} measurements do not count: the board was slowed down. Cool it, feed it well, \
         and rest between them: --rest 30"
    );
    Ok(())
}
