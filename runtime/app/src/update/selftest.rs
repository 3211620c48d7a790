//! A staged release proves itself, in processes of its own: whatever it does, this one goes on.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::timed::Times;
use crate::exit::Refused;

/// How long a test may take: the largest model on the slowest board.
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes that are kept of what a test says.
const MOST_SAID: u64 = 16 << 10;

/// Runs a program; gives what it says on standard output, or what it says is wrong.
fn run(program: &Path, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<Result<String, String>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.by_ref().take(MOST_SAID).read_to_end(&mut text);
                // It shall not wait for us.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        })
    };
    let out = read(child.stdout.take().map(|s| Box::new(s) as _));
    let err = read(child.stderr.take().map(|s| Box::new(s) as _));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Err(format!("it had not ended after {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    let (out, err) = (said(out), said(err));
    Ok(match status.success() {
        true => Ok(out),
        false => {
            let last = err.lines().last().unwrap_or_default();
            Err(format!("{status}: {}", last.strip_prefix("error: ").unwrap_or(last)))
        }
    })
}

/// The model's own samples give on this machine what they gave where it was made.
pub(super) fn model(model: &Path, key: &Path) -> anyhow::Result<String> {
    let program = std::env::current_exe()?;
    let arguments =
        ["verify".as_ref(), model.as_os_str(), "--public-key".as_ref(), key.as_os_str()];
    let said = run(&program, &arguments)?;
    said.map_err(|why| Refused(format!("its self-test failed: {why}")).into())
}

/// A program starts, says what it is, and computes right with a model.
pub(super) fn app(program: &Path, model: Option<&Path>) -> anyhow::Result<String> {
    let refused = |why: String| anyhow::Error::from(Refused(why));
    let version = run(program, &["--version".as_ref()])
        .map_err(|error| refused(format!("{error:#}")))?
        .map_err(|why| refused(format!("it does not start: {why}")))?;
    if !version.starts_with("kinglet ") {
        return Err(refused(format!("it is no kinglet: it calls itself '{version}'")));
    }
    let mut arguments = vec!["verify".as_ref()];
    arguments.extend(model.map(Path::as_os_str));
    run(program, &arguments)?.map_err(|why| refused(format!("its self-test failed: {why}")))?;
    Ok(version)
}

/// The times of an old model and a new one here.
pub(super) fn times(old: &Path, new: &Path, key: &Path) -> anyhow::Result<Times> {
    let program = std::env::current_exe()?;
    let arguments = [
        "update".as_ref(),
        "time".as_ref(),
        old.as_os_str(),
        new.as_os_str(),
        "--public-key".as_ref(),
        key.as_os_str(),
    ];
    let said = run(&program, &arguments)?;
    let said = said.map_err(|why| Refused(format!("its time cannot be taken: {why}")))?;
    serde_json::from_str(&said).context("timing two models")
}
