//! The device's program: pictures in, labels out.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod classify;
mod cli;
mod decide;
mod default_model;
mod doctor;
mod exit;
mod http;
mod inspect;
mod load;
mod pictures;
mod serve;
mod tune;
mod update;
mod verify;
mod watch;

fn main() -> std::process::ExitCode {
    load::start_clock();
    exit::quiet_tract();
    let cli = <cli::Cli as clap::Parser>::parse();
    exit::report(cli.run())
}
