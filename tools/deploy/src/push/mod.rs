//! New models and programs to boards: sent, watched through their trial, taken back, in waves.
//!
//! What a board does with a release is its own affair (`kinglet update`): it verifies, tests, switches and goes back by
//! itself. This is the laptop's side. Start with [`push`]; [`waves`] does it for many boards.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::ssh::{Answer, Ssh, SshError};

mod device;
mod fleet;
mod release;
mod status;
pub mod waves;

pub use device::{Device, Wishes};
pub use fleet::Fleet;
pub use kinglet_update::Kind;
pub use release::Release;
pub use status::{Last, Status, Track};

/// Why a release is not on a board, or what was asked cannot be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The file or its signature is not there.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The signature does not say what a release needs.
    #[error("{}: {why}", path.display())]
    Release {
        /// The signature, or the release.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The list of boards is wrong.
    #[error("{}: {why}", path.display())]
    Fleet {
        /// The list.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The connection, not the board.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// There is no `kinglet` on the board.
    #[error("{host}: '{program}' is not installed there")]
    NoProgram {
        /// The board.
        host: String,
        /// What was looked for.
        program: String,
    },
    /// The board refused the release, and runs what it ran before.
    #[error("{host} refused it (code {code}): {said}")]
    Refused {
        /// The board.
        host: String,
        /// The exit code.
        code: i32,
        /// What it said.
        said: String,
    },
    /// The board took the release and went back.
    #[error("{host} went back to {to}: {why}")]
    RolledBack {
        /// The board.
        host: String,
        /// What it runs now.
        to: String,
        /// Why.
        why: String,
    },
    /// The trial did not end in the time that we waited.
    #[error(
        "{host}: release {release} is still on trial after {waited_s} s; the board decides by itself"
    )]
    Undecided {
        /// The board.
        host: String,
        /// The release.
        release: u64,
        /// How long we waited.
        waited_s: u64,
    },
    /// An answer that is not understood.
    #[error("{host}: its answer is not understood: {why}")]
    Answer {
        /// The board.
        host: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What came of a push that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The board runs the release, and has decided to keep it.
    Confirmed,
    /// The board had it before.
    Already,
    /// The board runs it on trial; nobody waited.
    OnTrial,
    /// The board has it, but no `kinglet watch` runs there: its trial begins when one starts.
    Idle,
}

/// What is told while a push goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told<'a> {
    /// So many bytes have been sent, of so many.
    Sent(u64, u64),
    /// The board has done a step: `received`, `verified`, `self-tested`, `switched`.
    Step(&'a str),
    /// The release is on trial.
    Trial,
}

/// Between two questions whether a trial has ended.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Sends a release to a board and waits until the board has decided, for `wait` at most; none waits for nothing.
///
/// A board that has the release and has confirmed it is left alone.
///
/// # Errors
/// [`PushError`]; with [`PushError::Refused`] and [`PushError::RolledBack`] the board runs what it ran before.
pub fn push(
    ssh: &Ssh,
    device: &Device,
    release: &Release,
    wishes: &Wishes,
    wait: Option<Duration>,
    told: &(dyn Fn(Told<'_>) + Sync),
) -> Result<Pushed, PushError> {
    let before = device.status(ssh)?;
    match before.track(release.kind) {
        Some(track) if track.is(release) && track.state == "good" => return Ok(Pushed::Already),
        // Somebody pushed it and did not wait.
        Some(track) if track.is(release) && track.state == "trial" => {}
        _ => {
            if send(ssh, device, release, wishes, told)? == Running::No {
                return Ok(Pushed::Idle);
            }
        }
    }
    match wait {
        None => Ok(Pushed::OnTrial),
        Some(wait) => {
            told(Told::Trial);
            watch(ssh, device, release, wait)
        }
    }
}

/// Whether something on the board uses releases now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    Yes,
    No,
}

fn send(
    ssh: &Ssh,
    device: &Device,
    release: &Release,
    wishes: &Wishes,
    told: &(dyn Fn(Told<'_>) + Sync),
) -> Result<Running, PushError> {
    let words = device.install(release.kind, wishes);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let header = release.header();
    let head = header.len() as u64;
    let file = release.open()?;
    let input = (&header[..]).chain(file.take(release.bytes));
    let sent = |n: u64| told(Told::Sent(n.saturating_sub(head), release.bytes));
    let (mut switched, mut unchanged, mut running) = (false, false, Running::Yes);
    let answer = ssh.talk(&device.host, &words, input, sent, |line| {
        let Ok(said) = serde_json::from_str::<serde_json::Value>(line) else { return };
        if let Some(step) = said["step"].as_str() {
            switched |= step == "switched";
            unchanged |= said["unchanged"] == true;
            if step == "told" && said["pid"].is_null() && !unchanged {
                running = Running::No;
            }
            told(Told::Step(step));
        }
    })?;
    let host = || device.host.to_string();
    match answer {
        Answer { code: 0, .. } if switched => Ok(running),
        Answer { code: 0, .. } => {
            let why = "it ended well without having switched".to_owned();
            Err(PushError::Answer { host: host(), why })
        }
        answer => Err(device.refused(answer)),
    }
}

/// Asks until the board has decided.
fn watch(
    ssh: &Ssh,
    device: &Device,
    release: &Release,
    wait: Duration,
) -> Result<Pushed, PushError> {
    let start = Instant::now();
    loop {
        let asked = device.status(ssh);
        // A board may restart its service, or itself: it is asked again.
        let lost = matches!(asked, Err(PushError::Ssh(SshError::Connect { .. })));
        if !lost {
            let status = asked?;
            match status.track(release.kind) {
                Some(track) if track.is(release) && track.state == "good" => {
                    return Ok(Pushed::Confirmed);
                }
                // Failed only until it has gone back.
                Some(track) if track.is(release) => {}
                track => return Err(rolled_back(device, track)),
            }
        } else if start.elapsed() >= wait {
            asked?;
        }
        if start.elapsed() >= wait {
            let (host, release) = (device.host.to_string(), release.number);
            return Err(PushError::Undecided { host, release, waited_s: wait.as_secs() });
        }
        std::thread::sleep(ASK_EVERY.min(wait.saturating_sub(start.elapsed())));
    }
}

fn rolled_back(device: &Device, track: Option<&Track>) -> PushError {
    let last = track.and_then(|t| t.last.as_ref());
    let why = last.and_then(|l| l.why.clone()).unwrap_or_else(|| "it does not say why".into());
    PushError::RolledBack {
        host: device.host.to_string(),
        to: track.map_or_else(|| "what it was set up with".into(), Track::what),
        why,
    }
}

/// Lets a board go back to its other slot.
///
/// # Errors
/// [`PushError`].
pub fn rollback(ssh: &Ssh, device: &Device, kind: Kind) -> Result<(), PushError> {
    let words = device.words(&["rollback", "--kind", kind.name()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match ssh.try_ask(&device.host, &words, b"")? {
        Answer { code: 0, .. } => Ok(()),
        answer => Err(device.refused(answer)),
    }
}
