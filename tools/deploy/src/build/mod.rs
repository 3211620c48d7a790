//! Building a program for a board: static, reproducible, checked.
//!
//! cargo does the work; this says with which toolchain and flags, and looks at what came out. Start with
//! [`Build::run`].

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::elf::{Elf, ElfError, Machine};
use crate::{hash, programs};

mod check;
mod flags;
mod toolchain;

pub use check::{CORES, Checked, self_test};
pub use toolchain::{Here, Toolchain, World, find};

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no workspace to build.
    #[error(
        "{}: no Cargo.toml here or above; build in Kinglet's own folder, or name it: --source DIR", .0.display()
    )]
    NoWorkspace(PathBuf),
    /// Nothing here can build for the board.
    #[error("nothing here builds for {triple}: {why}\ninstall what is missing:\n  {}", commands.join("\n  "))]
    NoToolchain {
        /// The target.
        triple: String,
        /// What is missing.
        why: String,
        /// What installs it.
        commands: Vec<String>,
    },
    /// A target that nothing is known of.
    #[error("target '{0}': only aarch64, armv7 and x86_64 with Linux and glibc are built for")]
    Triple(String),
    /// cargo could not be started, or its output not be read.
    #[error("{program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// cargo said what is wrong.
    #[error("cargo build failed; what it said is above")]
    Failed,
    /// cargo built no such program.
    #[error("cargo built no program '{0}'")]
    NoProgram(String),
    /// The result is no program.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The result needs what a board may not have.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// The program.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is built, and how.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// The workspace.
    pub source: &'a Path,
    /// The target.
    pub triple: &'a str,
    /// cargo's profile.
    pub profile: &'a str,
    /// The program.
    pub bin: &'a str,
    /// Where cargo builds; its own choice without.
    pub target_dir: Option<&'a Path>,
}

/// A program that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Where cargo put it.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub sha256: String,
    /// What it needs.
    pub elf: Elf,
    /// Folders of this machine whose names are inside all the same.
    pub paths_inside: Vec<PathBuf>,
}

impl Build<'_> {
    /// Builds with a toolchain from [`find`]; cargo's messages go to standard error.
    ///
    /// # Errors
    /// [`BuildError`]; also where the result is for another processor or needs a shared library.
    pub fn run(&self, toolchain: &Toolchain) -> Result<Built, BuildError> {
        let mut cargo = self.command(toolchain);
        let failed = |source| BuildError::Run { program: "cargo".into(), source };
        let mut child = cargo.stdout(Stdio::piped()).spawn().map_err(failed)?;
        let mut found = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                found = executable(&line.map_err(failed)?, self.bin).or(found);
            }
        }
        if !child.wait().map_err(failed)?.success() {
            return Err(BuildError::Failed);
        }
        let path = found.ok_or_else(|| BuildError::NoProgram(self.bin.to_owned()))?;
        self.look_at(path)
    }

    fn command(&self, toolchain: &Toolchain) -> Command {
        let mut cargo = Command::new(&toolchain.cargo);
        cargo.current_dir(self.source).args(["build", "--locked", "--bin", self.bin]);
        cargo.args(["--profile", self.profile, "--target", self.triple]);
        cargo.arg("--message-format=json-render-diagnostics");
        if let Some(folder) = self.target_dir {
            cargo.arg("--target-dir").arg(folder);
        }
        let maps = flags::path_maps(self.source, self.target_dir, toolchain);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags::rustflags(&maps, toolchain.lld.as_deref()));
        cargo.env("CARGO_INCREMENTAL", "0").env("RUSTC", &toolchain.rustc);
        cargo.env("SOURCE_DATE_EPOCH", commit_time(self.source));
        let lower = self.triple.replace('-', "_");
        cargo.env(format!("CC_{lower}"), &toolchain.linker);
        cargo.env(format!("CFLAGS_{lower}"), flags::cflags(&maps));
        let linker = format!("CARGO_TARGET_{}_LINKER", lower.to_uppercase());
        cargo.env(linker, &toolchain.linker);
        // What the caller's shell has would make another program of the same commit.
        for name in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
            cargo.env_remove(name);
        }
        cargo
    }

    fn look_at(&self, path: PathBuf) -> Result<Built, BuildError> {
        let file = |source| BuildError::File { path: path.clone(), source };
        let content = std::fs::read(&path).map_err(file)?;
        let elf = Elf::read(&path)?;
        let unfit = |why: String| BuildError::Unfit { path: path.clone(), why };
        if Machine::of_triple(self.triple) != Some(elf.machine) {
            return Err(unfit(format!("is for {}, not for {}", elf.machine.name(), self.triple)));
        }
        if !elf.is_static() {
            let linker = elf.interpreter.as_deref().unwrap_or("none");
            return Err(unfit(format!(
                "needs {} shared libraries (dynamic linker: {linker}); it should need none",
                elf.needed
            )));
        }
        let mut paths_inside = flags::private_folders(self.source);
        paths_inside.retain(|folder| contains(&content, folder));
        Ok(Built {
            bytes: content.len() as u64,
            sha256: hash::of_file(&path).map_err(file)?,
            elf,
            paths_inside,
            path: path.clone(),
        })
    }
}

/// The executable that a line of cargo's messages speaks of, if it is that of `bin`.
fn executable(line: &str, bin: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == bin;
    is_ours.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// Time of the commit that is checked out, in seconds since 1970; 0 where there is none.
fn commit_time(source: &Path) -> String {
    let git = |program: PathBuf| {
        let mut git = Command::new(program);
        git.arg("-C").arg(source).args(["log", "-1", "--format=%ct"]).stderr(Stdio::null());
        let output = git.output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let time = programs::find("git").and_then(git);
    time.filter(|t| !t.is_empty()).unwrap_or_else(|| "0".into())
}

fn contains(content: &[u8], folder: &Path) -> bool {
    let text = OsString::from(folder).into_encoded_bytes();
    text.len() > 1 && content.windows(text.len()).any(|w| w == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"kinglet"},"executable":"/t/kinglet"}"#;
        assert_eq!(executable(line, "kinglet").unwrap(), Path::new("/t/kinglet"));
        assert_eq!(executable(line, "other"), None);
        assert_eq!(executable(&line.replace("\"/t/kinglet\"", "null"), "kinglet"), None);
        assert_eq!(executable("Compiling", "kinglet"), None);
    }

    #[test]
    fn no_workspace_names_the_way_out() {
        let error = BuildError::NoWorkspace("/tmp/x".into()).to_string();
        assert!(error.contains("/tmp/x") && error.contains("--source"), "{error}");
    }
}
