//! `kinglet-tools runner`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use kinglet_deploy::runner::{self, Remote};
use kinglet_deploy::ssh::{Host, Ssh};

/// Run what cargo built for a board there, or in an emulator: a runner for `cargo bench`, `test` and `run`.
///
/// On a board: copies the executable over SSH (only if it changed), runs it with its arguments, ends it when it is
/// interrupted here, passes its exit code on, and after a benchmark brings criterion's files into target/criterion.
/// A board needs sh, tar and coreutils or busybox. Here: qemu in user mode, on the core that is named.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static'
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='kinglet-tools runner --on pi@porch.local'
  cargo bench --target aarch64-unknown-linux-gnu -p kinglet-benches --bench kernels
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='kinglet-tools runner --emulate cortex-a76' \\
    cargo test --target aarch64-unknown-linux-gnu -p kinglet-kernels")]
pub(crate) struct Args {
    /// The board: USER@HOST, HOST, an alias of ~/.ssh/config, or ssh://USER@HOST:PORT
    #[arg(long, value_name = "HOST", required_unless_present = "emulate")]
    on: Option<Host>,
    /// Emulate this core instead, such as cortex-a53, cortex-a72 or cortex-a76
    #[arg(long, value_name = "CORE", conflicts_with = "on")]
    emulate: Option<String>,
    /// Another configuration file for ssh
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Folder on the board, from the home folder on
    #[arg(long, value_name = "DIR", default_value = ".cache/kinglet-runner")]
    folder: String,
    /// File or folder of the workspace that the executable reads, from its root on; laid out alike on the board
    #[arg(long, value_name = "PATH")]
    carry: Vec<PathBuf>,
    /// Variable of the environment to pass on, besides KINGLET_ISA, RUST_BACKTRACE and RUST_TEST_THREADS
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// The executable; cargo adds it
    #[arg(value_name = "EXECUTABLE")]
    executable: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let here = std::env::current_dir().context("there is no current folder")?;
    let code = match (&args.emulate, &args.on) {
        (Some(core), _) => runner::emulate(core, &args.executable, &args.arguments)?,
        (None, Some(host)) => {
            let ssh = Ssh::default().with_config(args.ssh_config);
            let (folder, carry, env) = (&args.folder, &args.carry, &args.env);
            let remote = Remote { ssh: &ssh, host, folder, carry, env };
            remote.run(&here, &args.executable, &args.arguments)?
        }
        (None, None) => anyhow::bail!("name a board with --on HOST, or a core with --emulate CORE"),
    };
    // Codes of processes fit a byte.
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
