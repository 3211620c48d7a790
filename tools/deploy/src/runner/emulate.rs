//! Running an executable for ARM on this machine, in qemu's user mode.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::RunError;
use crate::elf::{Elf, Machine};
use crate::ssh::exit_code;

/// The emulator for a processor, where it is installed.
///
/// # Errors
/// [`RunError::Missing`] with the package that has it; [`RunError::Machine`] for a processor that is not emulated.
pub fn emulator(machine: Machine, executable: &Path) -> Result<PathBuf, RunError> {
    let names = match machine {
        Machine::Aarch64 => ["qemu-aarch64-static", "qemu-aarch64"],
        Machine::Arm => ["qemu-arm-static", "qemu-arm"],
        other => {
            return Err(RunError::Machine {
                path: executable.to_owned(),
                built: other.name(),
                place: "the emulated board".into(),
                found: "ARM".into(),
                triple: "aarch64-unknown-linux-gnu",
            });
        }
    };
    let found = names.iter().find_map(|name| crate::programs::find(name));
    found.ok_or_else(|| RunError::Missing {
        program: names[0].to_owned(),
        package: "qemu-user-static",
    })
}

/// Runs an executable on an emulated core, such as `cortex-a76`; gives its exit code.
///
/// Its standard input is empty; it runs in the current folder and sees this machine's files.
///
/// # Errors
/// [`RunError`] where it cannot be started.
pub fn emulate(core: &str, executable: &Path, arguments: &[OsString]) -> Result<i32, RunError> {
    let elf = Elf::read(executable)?;
    let program = emulator(elf.machine, executable)?;
    if elf.interpreter.is_some() {
        return Err(RunError::Dynamic(executable.to_owned()));
    }
    let mut command = Command::new(&program);
    command.args(["-cpu", core]).arg(executable).args(arguments).stdin(Stdio::null());
    let status = command.status().map_err(super::file_error(&program))?;
    Ok(exit_code(status))
}
