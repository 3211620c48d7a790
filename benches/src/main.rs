//! `kinglet-benches`: what this core can do at most, and how near the kernels come to it.
#![allow(clippy::print_stdout)]

mod peak;
mod roofline;

use clap::{Parser, Subcommand};

/// What this core can do at most, and how near the kernels come to it
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Peak(peak::Args),
    Roofline(roofline::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Peak(args) => peak::run(&args),
        Command::Roofline(args) => roofline::run(&args),
    }
}
