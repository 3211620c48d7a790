//! A second process that switches outputs off when the first one dies without having done so.
//!
//! The kernel takes the lines of a dead process back, but most chips leave them as they were: a
//! relay would stay on. The guard is this program once more, with [`COMMAND`] as its first
//! argument. It waits on a pipe: a word that all is well, or the pipe's end without one.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{GpioError, Pin, open_output};

/// The argument with which a program that uses a [`Guard`] calls [`run_guard`].
pub const COMMAND: &str = "guard-pins";
/// What is said when the outputs are off already.
const WELL: u8 = b'.';
/// How long a pin that is still held is asked for again.
const INSIST: Duration = Duration::from_secs(2);

/// Outputs under guard, as long as this lives.
#[derive(Debug)]
pub struct Guard {
    process: Child,
}

impl Guard {
    /// Guards outputs, each with the level at which it is off (`true`: high).
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start<'a>(pins: impl Iterator<Item = (&'a Pin, bool)>) -> std::io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND);
        command.args(pins.map(|(pin, high)| guarded(pin, high)));
        // A group of its own, so that Ctrl-C does not end it before us.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        Ok(Self { process: command.spawn()? })
    }
}

impl Drop for Guard {
    /// Says that all is well, unless we are dropped by a panic.
    fn drop(&mut self) {
        if let Some(mut pipe) = self.process.stdin.take()
            && !std::thread::panicking()
        {
            let _ = pipe.write_all(&[WELL]);
        }
        let deadline = Instant::now() + INSIST / 4;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An output as [`run_guard`] and [`switch_off`] understand it, with the level at which it is off
/// (`true`: high).
#[must_use]
pub fn guarded(pin: &Pin, high: bool) -> String {
    format!("{pin}={}", u8::from(high))
}

/// The guard's own work, with the arguments that follow [`COMMAND`]: waits, then switches off what
/// was left on.
///
/// # Errors
/// [`GpioError`] for the first pin that could not be switched off; the others are.
pub fn run_guard(arguments: &[String]) -> Result<(), GpioError> {
    let mut word = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut word);
    if word.last() == Some(&WELL) {
        return Ok(());
    }
    switch_off(arguments)
}

/// Switches outputs off, each a [`guarded`]; one that is still held is asked for again for 2 s.
///
/// # Errors
/// [`GpioError`] for the first pin that could not be switched off; the others are.
pub fn switch_off(pins: &[String]) -> Result<(), GpioError> {
    let deadline = Instant::now() + INSIST;
    let mut outcome = Ok(());
    for pin in pins {
        let Some((pin, level)) = pin.rsplit_once('=') else { continue };
        let pin = Pin::parse(pin).map_err(GpioError)?;
        loop {
            match open_output(&pin, level == "1") {
                Ok(_) => break,
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    outcome = outcome.and(Err(error));
                    break;
                }
            }
        }
    }
    outcome
}
