//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::{Done, Outcome};
use crate::{bench, classify, doctor, inspect, serve, tune, update, verify, watch};

/// Classifies pictures with quantized EfficientNets, on small boards.
#[derive(Debug, Parser)]
#[command(name = "kinglet", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 all well, 1 something failed, 2 usage, 3 model or release refused."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what is in pictures.
    Classify(classify::Args),
    /// Classifies pictures that come over HTTP.
    Serve(serve::Args),
    /// Watches a camera and acts on what it sees: lines, pins, files, a page.
    Watch(Box<watch::Args>),
    /// Says what this machine has, what is wrong with it, and what mends it.
    Doctor(doctor::Args),
    /// Measures latency, load time and memory.
    Bench(bench::Args),
    /// Shows which kernel runs each layer, in which type.
    Inspect(inspect::Args),
    /// Times once what may be chosen on this board, and keeps the choice beside the model.
    Tune(tune::Args),
    /// Runs the model's own self-test on this machine.
    Verify(verify::Args),
    /// Takes signed models and programs in, says how they stand, and goes back.
    Update(update::Args),
    /// Switches outputs off when `watch` has died.
    #[command(name = kinglet_device::gpio::GUARD_COMMAND, hide = true)]
    GuardPins {
        /// PIN=LEVEL
        pins: Vec<String>,
    },
    /// Prints completions for a shell.
    #[command(after_help = "Example: kinglet completions bash > \
        ~/.local/share/bash-completion/completions/kinglet")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes manual pages.
    #[command(after_help = "Example: kinglet man ~/.local/share/man/man1")]
    Man {
        /// Folder to write them to.
        folder: PathBuf,
    },
}

impl Cli {
    /// Runs the subcommand.
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Classify(args) => classify::run(&args),
            Command::Serve(args) => serve::run(&args),
            Command::Watch(args) => watch::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Tune(args) => tune::run(&args),
            Command::Verify(args) => verify::run(&args),
            Command::Update(args) => update::run(&args),
            Command::GuardPins { pins } => {
                // Whoever ends us ends `watch` too; what it leaves on is then our task.
                let ignored = std::sync::Arc::default();
                signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored)?;
                kinglet_device::gpio::run_guard(&pins)?;
                Ok(Done::Well)
            }
            Command::Completions { shell } => {
                let mut command = <Self as clap::CommandFactory>::command();
                clap_complete::generate(shell, &mut command, "kinglet", &mut std::io::stdout());
                Ok(Done::Well)
            }
            Command::Man { folder } => {
                std::fs::create_dir_all(&folder)?;
                clap_mangen::generate_to(<Self as clap::CommandFactory>::command(), &folder)?;
                Ok(Done::Well)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
