//! Running an executable on a board.
//!
//! On the board everything lies in one folder: `files/HASH`, `tree/` with what was carried along, laid out as in the
//! workspace, and `criterion/`. A board needs `sh`, coreutils or busybox, and `tar`.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{RunError, carry, file_error};
use crate::elf::{Elf, Machine};
use crate::ssh::{Host, Ssh, SshError, exit_code};
use crate::{hash, programs, put, workspace};

/// Runs the program with its standard input closed. Arguments: folder, hash, folder below `tree/`, number of
/// variables, variables, the program's own. Its own standard input is the line to us: when it ends, because we were
/// interrupted or killed or the network broke, so does the program.
const RUN: &str = "cd \"$1\" || exit 125; r=$(pwd); h=$2; mkdir -p \"tree/$3\" && cd \"tree/$3\" || exit 125; \
    n=$4; shift 4; while [ \"$n\" -gt 0 ]; do export \"$1\"; shift; n=$((n - 1)); done; \
    export CRITERION_HOME=\"$r/criterion\" CARGO_MANIFEST_DIR=\"$(pwd)\"; exec 3<&0; \
    \"$r/files/$h\" \"$@\" </dev/null 3<&- & p=$!; \
    (cat <&3; kill -TERM $p; sleep 3; kill -KILL $p) >/dev/null 2>&1 & w=$!; \
    exec 3<&-; wait $p; c=$?; kill $w 2>/dev/null; exit $c";

/// Gives criterion's files.
const CRITERION: &str = "cd \"$1\" && if [ -d criterion ]; then tar -cf - criterion; fi";

/// Variables that are passed on where they are set.
const VARIABLES: [&str; 4] =
    ["KINGLET_ISA", "RUST_BACKTRACE", "RUST_TEST_THREADS", "RUST_TEST_NOCAPTURE"];

/// A board, and what goes there with the executable.
#[derive(Debug, Clone)]
pub struct Remote<'a> {
    /// How to connect.
    pub ssh: &'a Ssh,
    /// The board.
    pub host: &'a Host,
    /// Folder on the board, from the home folder on.
    pub folder: &'a str,
    /// Files and folders of the workspace, from its root on, that the executable reads.
    pub carry: &'a [PathBuf],
    /// Further variables of the environment that are passed on.
    pub env: &'a [String],
}

impl Remote<'_> {
    /// Runs an executable there; gives its exit code. The folder that cargo called us in is `here`.
    ///
    /// Only what changed is copied. Its output is ours; after a benchmark criterion's files come back into
    /// `target/criterion`.
    ///
    /// # Errors
    /// [`RunError`] where it cannot be copied or started, or results cannot be brought back.
    pub fn run(
        &self,
        here: &Path,
        executable: &Path,
        arguments: &[OsString],
    ) -> Result<i32, RunError> {
        let elf = Elf::read(executable)?;
        let hash = hash::of_file(executable).map_err(file_error(executable))?;
        self.bring(executable, &elf, &hash)?;
        let root = workspace::root(here).unwrap_or_else(|| here.to_owned());
        carry::bring(self, &root)?;
        let code =
            self.start(here.strip_prefix(&root).unwrap_or(Path::new("")), &hash, arguments)?;
        if arguments.iter().any(|a| a == "--bench") {
            self.fetch_criterion(&criterion_folder(executable))?;
        }
        Ok(code)
    }

    /// Copies the executable, unless it is there.
    fn bring(&self, executable: &Path, elf: &Elf, hash: &str) -> Result<(), RunError> {
        let there = put::prepare(self.ssh, self.host, self.folder, hash)?;
        let machine = there.machine.as_str();
        if !runs_on(elf.machine, machine) {
            return Err(RunError::Machine {
                path: executable.to_owned(),
                built: elf.machine.name(),
                place: self.host.to_string(),
                found: machine.to_owned(),
                triple: match machine {
                    "aarch64" => "aarch64-unknown-linux-gnu",
                    "x86_64" => "x86_64-unknown-linux-gnu",
                    _ => "armv7-unknown-linux-gnueabihf",
                },
            });
        }
        if there.has_it {
            return Ok(());
        }
        let file = File::open(executable).map_err(file_error(executable))?;
        Ok(put::send(self.ssh, self.host, self.folder, hash, file, |_| {})?)
    }

    fn start(&self, below: &Path, hash: &str, arguments: &[OsString]) -> Result<i32, RunError> {
        let below = below.to_string_lossy();
        let names = VARIABLES.iter().copied().chain(self.env.iter().map(String::as_str));
        let variables: Vec<String> =
            names.filter_map(|n| Some(format!("{n}={}", std::env::var(n).ok()?))).collect();
        let count = variables.len().to_string();
        let arguments: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        let mut words = vec!["sh", "-c", RUN, "sh", self.folder, hash, &below, &count];
        words.extend(variables.iter().map(String::as_str));
        words.extend(arguments.iter().map(AsRef::as_ref));
        let mut command = self.ssh.command(self.host, &words)?;
        // Never written to; closed when this process ends, however it ends.
        let child = command.stdin(Stdio::piped()).spawn();
        let start = |source| SshError::Start { program: "ssh".into(), source };
        let mut child = child.map_err(start)?;
        let line = child.stdin.take();
        let status = child.wait().map_err(start)?;
        drop(line);
        Ok(exit_code(status))
    }

    /// Unpacks the board's criterion folder over ours.
    fn fetch_criterion(&self, to: &Path) -> Result<(), RunError> {
        let parent = to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(file_error(parent))?;
        let staging = tempfile::tempdir_in(parent).map_err(file_error(parent))?;
        let tar = programs::find("tar")
            .ok_or(RunError::Missing { program: "tar".into(), package: "tar" })?;
        let words = ["sh", "-c", CRITERION, "sh", self.folder];
        let mut from = self.ssh.command(self.host, &words)?;
        let start = |source| SshError::Start { program: "ssh".into(), source };
        let mut from = from.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(start)?;
        let mut unpack = Command::new(&tar);
        unpack.args(["-x", "--no-same-owner", "-f", "-", "-C"]).arg(staging.path());
        if let Some(stdout) = from.stdout.take() {
            unpack.stdin(stdout);
        }
        let unpacked = unpack.output().map_err(file_error(&tar))?;
        let code = exit_code(from.wait().map_err(start)?);
        self.well("bringing criterion's files back", code, String::new())?;
        let said = String::from_utf8_lossy(&unpacked.stderr).trim().to_owned();
        let found = staging.path().join("criterion");
        if found.is_dir() {
            if !unpacked.status.success() {
                return Err(RunError::Program { program: "tar".into(), said });
            }
            merge(&found, to)?;
        }
        Ok(())
    }

    pub(super) fn well(&self, what: &str, code: i32, said: String) -> Result<(), RunError> {
        Ok(put::well(self.host, what, code, said)?)
    }
}

/// Whether a program runs on what `uname -m` calls so.
fn runs_on(machine: Machine, uname: &str) -> bool {
    match machine {
        Machine::Arm => uname.starts_with("arm") || uname == "aarch64",
        other => uname == other.name(),
    }
}

/// Where criterion would have written here.
fn criterion_folder(executable: &Path) -> PathBuf {
    let target = || {
        let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = workspace::target_folder(executable).or(named);
        target.unwrap_or_else(|| "target".into()).join("criterion")
    };
    std::env::var_os("CRITERION_HOME").map_or_else(target, PathBuf::from)
}

/// Copies plain files of a folder over those of another; nothing else, so that no link of the board leads elsewhere.
fn merge(from: &Path, to: &Path) -> Result<(), RunError> {
    std::fs::create_dir_all(to).map_err(file_error(to))?;
    for entry in std::fs::read_dir(from).map_err(file_error(from))? {
        let entry = entry.map_err(file_error(from))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(file_error(&path))?;
        if kind.is_dir() {
            merge(&path, &to)?;
        } else if kind.is_file() {
            std::fs::rename(&path, &to).map_err(file_error(&to))?;
        }
    }
    Ok(())
}
