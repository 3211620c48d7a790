//! The store's program in the place of this one.
//!
//! The program that the device came with is what the service starts; it is the one that counts tries and can
//! always be gone back to. Where the store has another, it becomes that one (`exec`), and so it does again when
//! another comes.

use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kinglet_update::{Key, Kind};

use super::config::Config;
use super::releases::Settings;
use super::say;

/// Hash of the store's program that this is.
const SELF: &str = "KINGLET_STORE_PROGRAM";
/// The program that the device came with.
const FACTORY: &str = "KINGLET_FACTORY_PROGRAM";
/// How long messages may take before this program is another.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The hash of this program, if it is one of the store's.
pub(super) fn of_store() -> Option<String> {
    std::env::var(SELF).ok()
}

/// Becomes the store's program, if it has one and this is not it; a try of one on trial. Comes back if there is
/// none, or if it cannot be run.
pub(super) fn hand_over(config: &Config) {
    let Some(settings) = &config.update else { return };
    if of_store().is_some() {
        return;
    }
    if let Err(error) = become_it(settings) {
        tracing::error!("update: the store's program is not run: {error:#}");
    }
}

fn become_it(settings: &Settings) -> anyhow::Result<()> {
    let Some(track) = settings.track(Kind::App)? else { return Ok(()) };
    if track.status().is_ok_and(|status| status.current.is_none()) {
        return Ok(());
    }
    let key = Key::read(&settings.public_key)?;
    let Some(begun) = track.begin(Some(&key))? else { return Ok(()) };
    tracing::info!("update: program {} of the store takes over", begun.held.release);
    say::finish(LAST_WORDS);
    let factory = std::env::current_exe()?;
    // The very file that was verified, whatever has its name by now.
    let program = format!("/proc/self/fd/{}", begun.file.as_raw_fd());
    let error = command(program.into()).env(SELF, &begun.held.sha256).env(FACTORY, factory).exec();
    Err(error.into())
}

/// Whether the store has another program than the one that runs.
pub(super) fn is_another(settings: &Settings) -> bool {
    let current = || settings.track(Kind::App).ok()??.status().ok()?.current;
    let failed = |held: &kinglet_update::SlotState| held.state == kinglet_update::Standing::Failed;
    let stored = current().filter(|(_, held)| !failed(held)).map(|(_, held)| held.sha256);
    stored != of_store()
}

/// Begins anew with the program that the device came with, which finds the one that is to run.
pub(super) fn begin_anew() -> std::io::Error {
    let factory = std::env::var_os(FACTORY).map(PathBuf::from);
    match factory.map_or_else(std::env::current_exe, Ok) {
        Ok(program) => command(program).env_remove(SELF).env_remove(FACTORY).exec(),
        Err(error) => error,
    }
}

/// With our own arguments.
fn command(program: PathBuf) -> Command {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    command
}
