//! Where a stream's bytes come from, read with a deadline: a child process, standard input, a
//! connection. One poll, no thread.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::child::Child;
use super::error::CameraError;
use super::http::Connection;

/// What one read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The deadline passed.
    Wait,
    /// There will be no more.
    End,
}

/// Where bytes come from.
#[derive(Debug)]
pub(super) enum Bytes {
    Child(Child),
    Stdin(std::fs::File),
    Http(Connection),
}

impl Bytes {
    /// Reads into `to`, which is not empty, waiting until `deadline` at the latest.
    pub(super) fn read(&mut self, to: &mut [u8], deadline: Instant) -> Result<Got, CameraError> {
        match self {
            Self::Child(child) => child.read(to, deadline),
            Self::Http(connection) => connection.read(to, deadline),
            Self::Stdin(file) => {
                if !wait(file.as_fd(), None, deadline)?.0 {
                    return Ok(Got::Wait);
                }
                got(file.read(to), "standard input")
            }
        }
    }

    /// For messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Child(child) => child.name(),
            Self::Stdin(_) => "standard input",
            Self::Http(_) => "the HTTP camera",
        }
    }
}

/// The result of a read as what it means here.
pub(super) fn got(read: std::io::Result<usize>, what: &str) -> Result<Got, CameraError> {
    use std::io::ErrorKind::{Interrupted, WouldBlock};
    match read {
        Ok(0) => Ok(Got::End),
        Ok(n) => Ok(Got::Bytes(n)),
        Err(e) if matches!(e.kind(), Interrupted | WouldBlock) => Ok(Got::Wait),
        Err(e) => Err(CameraError::system(format!("reading from {what}"))(e)),
    }
}

/// Waits until one of the descriptors can be read (or has ended), or the deadline has passed; says
/// which can.
pub(super) fn wait(
    first: BorrowedFd<'_>,
    second: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> Result<(bool, bool), CameraError> {
    let new = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut both = [new(first), new(second.unwrap_or(first))];
    let set = &mut both[..1 + usize::from(second.is_some())];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().min(3600) as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(set, Some(&timeout)) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(CameraError::system("waiting for a camera")(e.into())),
        }
    }
    let ready = |i: usize| set.get(i).is_some_and(|fd| !fd.revents().is_empty());
    Ok((ready(0), ready(1)))
}
