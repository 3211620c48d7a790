//! A process that sends frames on its standard output. What it says on standard error becomes log
//! lines. It is ended with everything that it started: politely first, then not.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::bytes::{Got, got, wait};
use super::error::CameraError;
use super::source::without_password;

/// How long a process may take to end when it is asked to.
const GRACE: Duration = Duration::from_millis(300);
/// How long one that was killed may take to be gone: a driver may hold it in the kernel.
const DEATH: Duration = Duration::from_secs(1);
/// A line that a process says is cut here, bytes.
const LONGEST_LINE: usize = 500;

/// A running process.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: std::process::Child,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    /// The line that is being read, and the last whole one.
    line: Vec<u8>,
    last: String,
}

impl Child {
    /// Starts a process. `mend` says how to install it.
    pub(super) fn start(mut command: Command, mend: &str) -> Result<Self, CameraError> {
        let program = command.get_program().to_string_lossy().into_owned();
        // A group of its own: Ctrl-C in a terminal is for us to handle, and what the process has
        // started is ended with it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut process = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                CameraError::Missing { program: program.clone(), mend: mend.to_owned() }
            }
            _ => CameraError::system(format!("starting '{program}'"))(e),
        })?;
        let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
        let (Some(stdout), stderr) = (process.stdout.take(), process.stderr.take()) else {
            unreachable!("standard output is piped");
        };
        Ok(Self { name, process, stdout, stderr, line: Vec::new(), last: String::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads from its standard output; logs what it says meanwhile.
    pub(super) fn read(&mut self, to: &mut [u8], deadline: Instant) -> Result<Got, CameraError> {
        loop {
            let words = self.stderr.as_ref().map(AsFd::as_fd);
            let (frames, words) = wait(self.stdout.as_fd(), words, deadline)?;
            if words {
                self.listen();
            }
            if frames {
                let got = got(self.stdout.read(to), &self.name)?;
                return if got == Got::End { self.ended() } else { Ok(got) };
            }
            if !words || Instant::now() >= deadline {
                return Ok(Got::Wait);
            }
        }
    }

    /// Reads what it says and logs whole lines.
    fn listen(&mut self) {
        let mut words = [0; 4096];
        let Some(stderr) = &mut self.stderr else { return };
        match stderr.read(&mut words) {
            Ok(0) | Err(_) => self.stderr = None,
            Ok(n) => {
                for &byte in &words[..n] {
                    if byte != b'\n' && byte != b'\r' {
                        if self.line.len() < LONGEST_LINE {
                            self.line.push(byte);
                        }
                        continue;
                    }
                    let line = String::from_utf8_lossy(&self.line);
                    let words: Vec<_> = line.split_whitespace().map(without_password).collect();
                    let line = words.join(" ");
                    self.line.clear();
                    if !line.is_empty() {
                        log(&self.name, &line);
                        self.last = line;
                    }
                }
            }
        }
    }

    /// Why its output ended: well, or its status and what it said last.
    fn ended(&mut self) -> Result<Got, CameraError> {
        let deadline = Instant::now() + GRACE;
        while let Some(words) = &self.stderr
            && matches!(wait(words.as_fd(), None, deadline), Ok((true, _)))
        {
            self.listen();
        }
        let status = self.wait(deadline);
        if status.is_some_and(|status| status.success()) {
            return Ok(Got::End);
        }
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let why = match (status.is_empty(), self.last.is_empty()) {
            (_, true) => status,
            (true, _) => self.last.clone(),
            _ => format!("{status}, after '{}'", self.last),
        };
        Err(CameraError::Ended { what: self.name.clone(), why })
    }

    /// Waits for it to be gone.
    fn wait(&mut self, deadline: Instant) -> Option<std::process::ExitStatus> {
        let mut pause = Duration::from_micros(200);
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(pause),
                _ => return None,
            }
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.process.id() as i32) {
            // It may be gone already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let ended = self.wait(Instant::now() + GRACE).is_some();
        // Also for what it has left behind: the group lives as long as one of its processes does.
        self.signal(Signal::KILL);
        if !ended && self.wait(Instant::now() + DEATH).is_none() {
            tracing::error!("'{}' cannot be ended; is its driver stuck?", self.name);
        }
    }
}

/// One line of a process, at the level that it seems to have.
fn log(name: &str, line: &str) {
    let has = |words: &[&str]| words.iter().any(|w| line.contains(w));
    if has(&["[error]", "[fatal]", "[panic]", "ERROR", "FATAL"]) {
        tracing::warn!("{name}: {line}");
    } else if has(&["[warning]", "WARN"]) {
        tracing::info!("{name}: {line}");
    } else {
        tracing::debug!("{name}: {line}");
    }
}
