//! Which compiler and linker build for a target: rustup's where its target is there or can be had, else Debian's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BuildError;
use crate::elf::Machine;
use crate::programs;

/// A compiler and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Whose it is, with its version, for people.
    pub name: String,
    /// cargo.
    pub cargo: PathBuf,
    /// The compiler.
    pub rustc: PathBuf,
    /// Its own folder.
    pub sysroot: PathBuf,
    /// The C compiler for the target, which links.
    pub linker: PathBuf,
    /// The folder of LLVM's linker (`ld.lld`), where there is one: the C compiler lets it link.
    pub lld: Option<PathBuf>,
}

/// What [`find`] wants to know of a machine.
pub trait World {
    /// Where a program is.
    fn program(&self, name: &str) -> Option<PathBuf>;
    /// What a program writes to standard output, if it ends well.
    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String>;
    /// Whether a path exists.
    fn exists(&self, path: &Path) -> bool;
    /// Lets rustup add a target; false where it cannot.
    fn add_target(&self, rustup: &Path, triple: &str) -> bool;
}

/// This machine; rustup is asked in a folder, since a folder may have a toolchain of its own.
#[derive(Debug, Clone)]
pub struct Here(pub PathBuf);

impl World for Here {
    fn program(&self, name: &str) -> Option<PathBuf> {
        programs::find(name)
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.0).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn add_target(&self, rustup: &Path, triple: &str) -> bool {
        let mut command = Command::new(rustup);
        command.args(["target", "add", triple]).current_dir(&self.0).stdin(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    }
}

/// What differs by processor: names of the C compiler, of its packages and, to Debian, of the processor.
struct Names {
    gcc: &'static str,
    packages: &'static str,
    debian: &'static str,
    /// GNU's linker forgets in a program beyond 16 MB which of the C library's functions are Thumb: it dies
    /// before `main`.
    needs_lld: bool,
}

fn names(triple: &str) -> Result<Names, BuildError> {
    let refused = || BuildError::Triple(triple.to_owned());
    if !triple.contains("-linux-gnu") {
        return Err(refused());
    }
    match Machine::of_triple(triple).ok_or_else(refused)? {
        Machine::Aarch64 => Ok(Names {
            gcc: "aarch64-linux-gnu-gcc",
            packages: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
            debian: "arm64",
            needs_lld: false,
        }),
        Machine::Arm => Ok(Names {
            gcc: "arm-linux-gnueabihf-gcc",
            packages: "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
            debian: "armhf",
            needs_lld: true,
        }),
        _ => Ok(Names {
            gcc: "x86_64-linux-gnu-gcc",
            packages: "gcc libc6-dev",
            debian: "amd64",
            needs_lld: false,
        }),
    }
}

/// Finds a toolchain for a target that is at least as new as `rust_version`, such as `(1, 95)`.
///
/// # Errors
/// [`BuildError::NoToolchain`] with what is missing and the commands that install it.
pub fn find(
    world: &dyn World,
    triple: &str,
    rust_version: (u32, u32),
) -> Result<Toolchain, BuildError> {
    let names = names(triple)?;
    let linker = world.program(names.gcc).filter(|gcc| {
        // Names nothing but itself where the static C library is missing.
        let library = world.output(gcc, &["-print-file-name=libc.a"]);
        library.is_some_and(|path| path.contains('/'))
    });
    let rustup = world.program("rustup");
    let rust = match &rustup {
        Some(rustup) => of_rustup(world, rustup, triple),
        None => None,
    };
    let rust = rust.or_else(|| of_debian(world, triple));
    let new_enough =
        rust.as_ref().is_some_and(|(_, rustc, _)| version(world, rustc) >= Some(rust_version));
    let mut missing = Vec::new();
    let mut commands = Vec::new();
    if !new_enough {
        let (major, minor) = rust_version;
        missing.push(match &rust {
            Some((name, ..)) => format!("{name} is older than Rust {major}.{minor}"),
            None => "Rust's standard library for it is not installed".into(),
        });
        commands.push(match &rustup {
            Some(_) if rust.is_some() => "rustup update stable".into(),
            Some(_) => format!("rustup target add {triple}"),
            None => format!(
                "curl -sSf https://sh.rustup.rs | sh -s -- -t {triple}    (or Debian's libstd-rust-dev:{})",
                names.debian
            ),
        });
    }
    if linker.is_none() {
        missing.push(format!("{} or its static C library is not installed", names.gcc));
        commands.push(format!("sudo apt install {}", names.packages));
    }
    let sysroot = rust.as_ref().and_then(|(_, rustc, _)| sysroot(world, rustc));
    let lld = sysroot.as_ref().and_then(|sysroot| of_rust(world, sysroot)).or_else(|| {
        let lld = world.program("ld.lld")?;
        lld.parent().map(Path::to_owned)
    });
    if names.needs_lld && lld.is_none() && rust.is_some() {
        missing.push(
            "LLVM's linker is not installed, and GNU's makes programs that do not start".into(),
        );
        commands.push("sudo apt install lld".into());
    }
    match (rust, linker) {
        (Some((name, rustc, cargo)), Some(linker)) if missing.is_empty() => {
            let sysroot = sysroot.unwrap_or_default();
            Ok(Toolchain { name, cargo, rustc, sysroot, linker, lld })
        }
        _ => {
            let triple = triple.to_owned();
            Err(BuildError::NoToolchain { triple, why: missing.join("; "), commands })
        }
    }
}

type Rust = (String, PathBuf, PathBuf);

fn of_rustup(world: &dyn World, rustup: &Path, triple: &str) -> Option<Rust> {
    let installed = || {
        let list = world.output(rustup, &["target", "list", "--installed"]);
        list.is_some_and(|list| list.lines().any(|line| line.trim() == triple))
    };
    if !installed() && !world.add_target(rustup, triple) {
        return None;
    }
    let rustc = PathBuf::from(world.output(rustup, &["which", "rustc"])?);
    let cargo = PathBuf::from(world.output(rustup, &["which", "cargo"])?);
    Some((format!("rustup's {}", world.output(&rustc, &["--version"])?), rustc, cargo))
}

fn of_debian(world: &dyn World, triple: &str) -> Option<Rust> {
    let rustc = PathBuf::from("/usr/bin/rustc");
    let sysroot = PathBuf::from(world.output(&rustc, &["--print", "sysroot"])?);
    if !world.exists(&sysroot.join("lib/rustlib").join(triple)) {
        return None;
    }
    let cargo = world.program("cargo")?;
    Some((format!("Debian's {}", world.output(&rustc, &["--version"])?), rustc, cargo))
}

fn sysroot(world: &dyn World, rustc: &Path) -> Option<PathBuf> {
    world.output(rustc, &["--print", "sysroot"]).map(PathBuf::from)
}

/// The folder of the linker that comes with Rust.
fn of_rust(world: &dyn World, sysroot: &Path) -> Option<PathBuf> {
    let folder = concat!("lib/rustlib/", env!("KINGLET_THIS_MACHINE"), "/bin/gcc-ld");
    let folder = sysroot.join(folder);
    world.exists(&folder.join("ld.lld")).then_some(folder)
}

/// `rustc 1.96.0 (…)` as numbers.
fn version(world: &dyn World, rustc: &Path) -> Option<(u32, u32)> {
    let text = world.output(rustc, &["--version"])?;
    let mut parts = text.split_whitespace().nth(1)?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests;
