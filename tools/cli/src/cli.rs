//! The command line: one enum line a subcommand, one file each.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kinglet_compress::import::ImportError;
use kinglet_compress::recipe::RecipeError;
use kinglet_deploy::push::PushError;
use kinglet_engine::ModelError;

use crate::{
    bench, boards, build, completions, compress, distill, evaluate, explain, fetch, fit, flash,
    image, import, inspect, oci, prune, push, reference, retrain, robustness, runner, sign,
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
    /// Make a card's image: Raspberry Pi OS with Kinglet in it, or a small system of its own
    Image(image::Args),
    /// Write an image to a card, and read it back
    Flash(flash::Args),
    /// Show the boards that Kinglet knows
    Boards(boards::Args),
    /// Make a key pair that releases are signed with
    Keygen(sign::KeygenArgs),
    /// Sign a model or a program for devices
    Sign(sign::SignArgs),
    /// Verify a release as a device does
    Verify(sign::VerifyArgs),
    /// Build the device's program for a board
    Build(build::Args),
    /// Measure the program that is installed on a board
    Bench(bench::Args),
    /// Send a signed model or program to boards, and see whether it stays
    Push(push::PushArgs),
    /// Let a board go back to the release before
    Rollback(push::RollbackArgs),
    /// Show what a board runs
    Status(push::StatusArgs),
    /// Run what cargo built for a board there, or in an emulator
    Runner(runner::Args),
    /// Make and exchange container images
    Oci(oci::Args),
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
        Command::Image(args) => image::run(args),
        Command::Flash(args) => flash::run(args),
        Command::Boards(args) => boards::run(args),
        Command::Keygen(args) => sign::keygen(args),
        Command::Sign(args) => sign::sign(args),
        Command::Verify(args) => sign::verify(args),
        Command::Build(args) => build::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Push(args) => push::run(args),
        Command::Rollback(args) => push::rollback(args),
        Command::Status(args) => push::status(args),
        Command::Runner(args) => return ended(runner::run(args)),
        Command::Oci(args) => oci::run(args),
        Command::Completions(args) => completions::completions(args),
        Command::Man(args) => completions::man(args),
    };
    ended(result.map(|()| ExitCode::SUCCESS))
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
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
        if let Some(PushError::Refused { .. } | PushError::RolledBack { .. }) = cause.downcast_ref()
        {
            return REFUSED;
        }
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
