//! `kinglet-tools completions` and `kinglet-tools man`.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::Cli;

/// Print a shell's completion script.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  kinglet-tools completions bash > ~/.local/share/bash-completion/completions/kinglet-tools")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Write manual pages.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  kinglet-tools man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Folder to write them to
    dir: PathBuf,
}

pub(crate) fn completions(args: CompletionsArgs) -> anyhow::Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut std::io::stdout());
    Ok(())
}

pub(crate) fn man(args: ManArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir))
        .with_context(|| format!("cannot write manual pages to {}", args.dir.display()))
}
