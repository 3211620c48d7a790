//! `kinglet-tools build`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use kinglet_deploy::build::{self, Build, BuildError, Built, Checked, Here};
use kinglet_deploy::{files, workspace};

use crate::boards;

/// The model whose self-test judges a build.
const MODEL: &str = "models/efficientnet-lite0-int8.onnx";

/// Build the device's program for a board: static, the same bytes from any folder.
///
/// Uses rustup's target where it is installed or can be downloaded, else Debian's cross toolchain. One program runs
/// on every board of its triple: it chooses its kernels when it starts. Says the size and the hash, and proves that
/// no shared library is needed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools build --target pi4 --out kinglet-arm64 --check
  kinglet-tools build --target pi5 --profile device")]
pub(crate) struct Args {
    /// The board, as `kinglet-tools boards` names it
    #[arg(long, value_name = "BOARD")]
    target: String,
    /// Put the program there; else it stays where cargo builds
    #[arg(long, short, value_name = "PATH")]
    out: Option<PathBuf>,
    /// release builds in minutes; device is smaller and takes a quarter of an hour
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,
    /// The program
    #[arg(long, value_name = "NAME", default_value = "kinglet")]
    bin: String,
    /// Run its golden self-test on emulated cores
    #[arg(long)]
    check: bool,
    /// The model of the self-test [default: the one in the workspace]
    #[arg(long, value_name = "FILE", requires = "check")]
    model: Option<PathBuf>,
    /// The workspace [default: the one around this folder]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Folder of board descriptions
    #[arg(long, value_name = "DIR", default_value = boards::DEFAULT)]
    targets: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let board = boards::find(&args.targets, &args.target)?;
    let source = source(args.source.as_deref())?;
    let toolchain = build::find(&Here(source.clone()), &board.triple, rust_version(&source))?;
    say!("for {}: {} with {}", board.title, board.triple, toolchain.name);
    let plan = Build {
        source: &source,
        triple: &board.triple,
        profile: &args.profile,
        bin: &args.bin,
        target_dir: None,
    };
    let built = plan.run(&toolchain)?;
    let path = match &args.out {
        Some(out) => {
            files::copy_whole(&built.path, out, 0o755)
                .with_context(|| format!("cannot write {}", out.display()))?;
            out
        }
        None => &built.path,
    };
    describe(&built, path);
    if args.check { check(path, &args.model.unwrap_or_else(|| source.join(MODEL))) } else { Ok(()) }
}

fn source(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let start = match named {
        Some(folder) => folder.to_owned(),
        None => std::env::current_dir().context("there is no current folder")?,
    };
    let start = start.canonicalize().with_context(|| format!("{}", start.display()))?;
    Ok(workspace::root(&start).ok_or(BuildError::NoWorkspace(start))?)
}

/// The oldest Rust that the workspace takes; any, where it says nothing.
fn rust_version(source: &Path) -> (u32, u32) {
    let text = std::fs::read_to_string(source.join("Cargo.toml")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.trim().strip_prefix("rust-version"));
    let mut numbers = line
        .unwrap_or_default()
        .trim_matches(|c: char| !c.is_ascii_digit())
        .split('.')
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn describe(built: &Built, path: &Path) {
    say!(
        "{}: {:.1} MB, {}, no shared library",
        path.display(),
        built.bytes as f64 / 1e6,
        built.elf.machine.name()
    );
    say!("sha256 {}", built.sha256);
    for folder in &built.paths_inside {
        eprintln!(
            "note: the program contains the name of the folder {}: built elsewhere it has other bytes",
            folder.display()
        );
    }
}

fn check(program: &Path, model: &Path) -> anyhow::Result<()> {
    let all = build::self_test(program, model, |checked| match checked {
        Checked::On { core, outcome: Ok(said) } => say!("{core}: {said}"),
        Checked::On { core, outcome: Err(why) } => eprintln!("{core}: FAILED: {why}"),
        Checked::Not(why) => eprintln!("note: not checked: {why}"),
    })?;
    let failed = all.iter().filter(|c| matches!(c, Checked::On { outcome: Err(_), .. })).count();
    ensure!(failed == 0, "the self-test fails on {failed} of {} emulated cores", all.len());
    Ok(())
}
