//! `kinglet-tools boards`: the boards that `targets/` describes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kinglet_deploy::{Board, BoardError, workspace};

/// Where descriptions are unless another folder is named.
pub(crate) const DEFAULT: &str = "targets";

/// Show the boards that Kinglet knows: processor, memory, kernels that will run.
#[derive(clap::Args)]
#[command(after_help = "Example: kinglet-tools boards --targets targets/")]
pub(crate) struct Args {
    /// Folder of board descriptions
    #[arg(long, value_name = "DIR", default_value = DEFAULT)]
    targets: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The board of that name, of [`all`].
pub(crate) fn find(targets: &Path, name: &str) -> Result<Board, BoardError> {
    Board::named(all(targets)?, name, targets)
}

/// The boards of a folder; of the workspace's where it is not here, and where there is none, those that
/// are built in.
pub(crate) fn all(targets: &Path) -> Result<Vec<Board>, BoardError> {
    if targets.is_dir() || targets != Path::new(DEFAULT) {
        return Board::read_all(targets);
    }
    let root = std::env::current_dir().ok().and_then(|here| workspace::root(&here));
    let folder = root.map(|root| root.join(targets)).filter(|folder| folder.is_dir());
    folder.map_or_else(Board::built_in, |folder| Board::read_all(&folder))
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let boards = all(&args.targets)?;
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
