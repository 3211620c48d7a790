//! The golden self-test of a built program, on emulated cores.

use std::path::Path;
use std::process::{Command, Stdio};

use super::BuildError;
use crate::elf::{Elf, Machine};
use crate::runner::{RunError, emulator};

/// Cores whose kernels differ: without the dot product (Zero 2 W and 3, 4), with it (5); and 32-bit ones.
pub const CORES: [(Machine, &[&str]); 2] = [
    (Machine::Aarch64, &["cortex-a53", "cortex-a72", "cortex-a76"]),
    (Machine::Arm, &["cortex-a7", "cortex-a15"]),
];

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// On an emulated core: what the program said, or how it failed.
    On {
        /// The core.
        core: &'static str,
        /// Its last line, or what went wrong.
        outcome: Result<String, String>,
    },
    /// Not at all, and why.
    Not(String),
}

/// Runs `PROGRAM verify MODEL` on each core of its processor; `told` hears each outcome at once.
///
/// # Errors
/// [`BuildError`] where an emulator that is there cannot be started.
pub fn self_test(
    program: &Path,
    model: &Path,
    mut told: impl FnMut(&Checked),
) -> Result<Vec<Checked>, BuildError> {
    let elf = Elf::read(program)?;
    let mut all = Vec::new();
    let mut note = |checked: Checked| {
        told(&checked);
        all.push(checked);
    };
    let emulator = match emulator(elf.machine, program) {
        Ok(emulator) => emulator,
        Err(RunError::Missing { program, package }) => {
            note(Checked::Not(format!("{program} is not installed: sudo apt install {package}")));
            return Ok(all);
        }
        Err(_) => {
            note(Checked::Not(format!("{} is not emulated", elf.machine.name())));
            return Ok(all);
        }
    };
    if !model.is_file() {
        note(Checked::Not(format!("{}: no such model", model.display())));
        return Ok(all);
    }
    let cores = CORES.iter().find(|(machine, _)| *machine == elf.machine);
    for core in cores.map_or(&[][..], |(_, cores)| cores) {
        let mut command = Command::new(&emulator);
        command.args(["-cpu", core]).arg(program).arg("verify").arg(model);
        let output = command.stdin(Stdio::null()).output().map_err(|source| BuildError::Run {
            program: emulator.display().to_string(),
            source,
        })?;
        let last = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).trim().to_owned();
            text.lines().last().unwrap_or_default().to_owned()
        };
        let outcome = if output.status.success() {
            Ok(last(&output.stdout))
        } else {
            Err(format!("{}: {}", output.status, last(&output.stderr)))
        };
        note(Checked::On { core, outcome });
    }
    Ok(all)
}
