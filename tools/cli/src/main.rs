//! `kinglet-tools`, the host's program: makes models ready for a board.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;

mod boards;
mod cli;
mod completions;
mod compress;
mod distill;
mod evaluate;
mod explain;
mod fetch;
mod fit;
mod import;
mod inspect;
mod preprocess;
mod prune;
mod reference;
mod retrain;
mod robustness;
mod sign;

fn main() -> std::process::ExitCode {
    cli::run()
}
