//! `kinglet-tools boards`: the boards that `targets/` describes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kinglet_deploy::{Board, BoardError, workspace};

/// Show the boards that Kinglet knows: processor, memory, kernels that will run.
#[derive(clap::Args)]
#[command(after_help = "Example: kinglet-tools boards --targets targets/")]
pub(crate) struct Args {
    /// Folder of board descriptions
    #[arg(long, value_name = "DIR", default_value = "targets")]
    targets: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The board of that name. Where the folder is not here, the workspace's is meant.
pub(crate) fn find(targets: &Path, name: &str) -> Result<Board, BoardError> {
    Board::find(&folder(targets), name)
}

/// The folder, or the workspace's where it is not here.
pub(crate) fn folder(targets: &Path) -> PathBuf {
    let root = std::env::current_dir().ok().and_then(|here| workspace::root(&here));
    match root {
        Some(root) if targets.is_relative() && !targets.is_dir() => root.join(targets),
        _ => targets.to_owned(),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let boards = Board::read_all(&folder(&args.targets))?;
    anyhow::ensure!(!boards.is_empty(), "{}: no board descriptions", args.targets.display());
    let mut text = String::new();
    if args.json {
        text = serde_json::to_string_pretty(&boards)? + "\n";
    } else {
        for b in &boards {
            let memory: Vec<String> = b.memory_mib.iter().map(u32::to_string).collect();
            writeln!(
                text,
                "{:15}  {:24}  {} x {} at {} MHz  {:9}  {} MiB",
                b.name,
                b.title,
                b.cpu.cores,
                b.cpu.core,
                b.cpu.clock_mhz,
                b.kernels.best,
                memory.join("/")
            )?;
        }
    }
    crate::output::print(&text)
}
