//! Exit codes: 0 all well, 1 something failed, 2 usage, 3 model or release refused.

use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use kinglet_engine::ModelError;
use kinglet_update::UpdateError;

/// What a subcommand gives back: whether everything went well.
pub(crate) type Outcome = anyhow::Result<Done>;

/// How a subcommand ended without an error of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// All well.
    Well,
    /// Part of the work failed and was reported; the rest was done.
    PartlyFailed,
}

/// A wrong option or configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A release that is signed and whole, and still not taken: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("release refused: {0}")]
pub(crate) struct Refused(pub(crate) String);

/// Whether a release is at fault, and not this machine.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<UpdateError>().is_some_and(|error| {
        matches!(
            error,
            UpdateError::Stream(_)
                | UpdateError::Signature(_)
                | UpdateError::Release(_)
                | UpdateError::Downgrade { .. }
                | UpdateError::Damaged { .. }
        )
    })
}

/// Keeps panics inside tract silent: the engine turns them into errors, which are printed.
pub(crate) fn quiet_tract() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|l| l.file().contains("/tract-")) {
            usual(info);
        }
    }));
}

/// Prints an error and turns the outcome into an exit code.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::PartlyFailed) => ExitCode::from(1),
        Err(error) => {
            if is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            let priority = if to_journal() { "<3>" } else { "" };
            eprintln!("{priority}error: {}", one_line(&error));
            let is_usage = error.chain().any(|e| e.is::<Usage>());
            let is_model =
                error.chain().any(|e| e.is::<ModelError>() || e.is::<Refused>() || is_refused(e));
            ExitCode::from(if is_usage {
                2
            } else if is_model {
                3
            } else {
                1
            })
        }
    }
}

/// Whether standard error goes to the journal: `JOURNAL_STREAM` has its device and inode.
pub(crate) fn to_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let Some((device, inode)) = stream.as_deref().and_then(|s| s.split_once(':')) else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|m| device.parse() == Ok(m.dev()) && inode.parse() == Ok(m.ino()))
}

/// The error and its causes; a cause that the text before it ends with already is not repeated.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|c| !c.is_empty()) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The reader of our output went away (`kinglet … | head`): nothing is wrong.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
