//! `kinglet-tools`, the host's program: makes models ready for a board.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;

mod bench;
mod boards;
mod build;
mod cli;
mod completions;
mod compress;
mod distill;
mod evaluate;
mod explain;
mod fetch;
mod fit;
mod flash;
mod image;
mod import;
mod inspect;
mod oci;
mod preprocess;
mod prune;
mod push;
mod reference;
mod retrain;
mod robustness;
mod runner;
mod sign;

fn main() -> std::process::ExitCode {
    cli::run()
}
