//! The command line: one enum line a subcommand, one file each.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kinglet_compress::import::ImportError;
use kinglet_compress::recipe::RecipeError;
use kinglet_engine::ModelError;

use crate::{
    boards, completions, compress, distill, evaluate, explain, fetch, fit, import, inspect, prune,
    reference, retrain, robustness, sign,
};

/// Prepares image classifiers for Raspberry Pi class boards.
#[derive(Parser)]
#[command(name = "kinglet-tools", version, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 model refused.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Download a pretrained model and import it
    Fetch(fetch::Args),
    /// Make a model file from trained weights, or add metadata to an ONNX file
    Import(import::Args),
    /// Show what is in a model file: layers, types, work, metadata
    Inspect(inspect::Args),
    /// Teach a model your own classes
    Retrain(retrain::Args),
    /// Take channels out of a float model, to a budget of work or time
    Prune(prune::Args),
    /// Make a float model smaller and faster: int8 or float16
    Compress(compress::Args),
    /// Train a smaller network, taught by larger ones
    Distill(distill::Args),
    /// Store what a model makes of pictures as they should be, to notice when they change
    Reference(reference::Args),
    /// Measure a model's accuracy on labelled pictures
    Evaluate(evaluate::Args),
    /// Show which part of a picture speaks for a class
    Explain(explain::Args),
    /// Measure how much accuracy is left when pictures get worse
    Robustness(robustness::Args),
    /// Choose a network for a board and a latency
    Fit(fit::Args),
    /// Show the boards that Kinglet knows
    Boards(boards::Args),
    /// Make a key pair that releases are signed with
    Keygen(sign::KeygenArgs),
    /// Sign a model or a program for devices
    Sign(sign::SignArgs),
    /// Verify a release as a device does
    Verify(sign::VerifyArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
    /// Write manual pages
    Man(completions::ManArgs),
}

/// The model or its weights were refused.
const REFUSED: u8 = 3;

/// Parses the command line and runs the subcommand.
pub(crate) fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Fetch(args) => fetch::run(args),
        Command::Import(args) => import::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Retrain(args) => retrain::run(args),
        Command::Compress(args) => compress::run(args),
        Command::Distill(args) => distill::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Robustness(args) => robustness::run(args),
        Command::Reference(args) => reference::run(args),
        Command::Prune(args) => prune::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Boards(args) => boards::run(args),
        Command::Keygen(args) => sign::keygen(args),
        Command::Sign(args) => sign::sign(args),
        Command::Verify(args) => sign::verify(args),
        Command::Completions(args) => completions::completions(args),
        Command::Man(args) => completions::man(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kinglet-tools: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 3 where the file is to blame, 1 where the system is.
fn exit_code(error: &anyhow::Error) -> u8 {
    use kinglet_compress::weights::WeightsError;
    for cause in error.chain() {
        if let Some(ModelError::Read { .. }) = cause.downcast_ref() {
            return 1;
        }
        if let Some(ImportError::Weights(WeightsError::Read { .. })) = cause.downcast_ref() {
            return 1;
        }
        if let Some(RecipeError::Unknown { .. } | RecipeError::Recipe { .. }) = cause.downcast_ref()
        {
            return 1;
        }
        if cause.is::<ModelError>() || cause.is::<ImportError>() || cause.is::<RecipeError>() {
            return REFUSED;
        }
    }
    1
}
