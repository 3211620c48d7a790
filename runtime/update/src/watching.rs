//! Who runs the store's model: whoever puts a release in tells that process.
//!
//! It holds a lock on a file, and the kernel says who does: no number is written that could be stale, or of
//! another process.

use std::fs::File;
use std::io::Result;
use std::path::Path;

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{self, Flock, FlockType, Pid};

/// The file.
const LOCK: &str = "watch.lock";

/// This process runs the store's model, for as long as this lives.
#[derive(Debug)]
pub struct Watching {
    _lock: File,
}

impl Watching {
    /// Says so. `None`: another process does already.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn start(store: &Path) -> Result<Option<Self>> {
        let lock = open(store, OFlags::CREATE)?;
        match fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _lock: lock })),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The process that does. `None`: nobody, or one that cannot be seen from here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn who(store: &Path) -> Result<Option<Pid>> {
        let lock = match open(store, OFlags::empty()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let held = process::fcntl_getlk(&lock, &Flock::from(FlockType::WriteLock))?;
        Ok(held.and_then(|held| held.pid))
    }
}

fn open(store: &Path, more: OFlags) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | more;
    Ok(fs::open(store.join(LOCK), flags, Mode::from_raw_mode(0o644))?.into())
}
