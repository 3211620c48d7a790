//! What goes on, as lines on standard error, by a thread of its own: whoever has something to say
//! does not wait for whoever reads it. Of more lines than fit the oldest are lost, and that is said.
//!
//! Where standard error is the journal, a line begins with its priority (`<4>`, sd-daemon(3)) and
//! has no time: the journal has its own.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::to_journal;

/// Lines that may wait.
const WAITING: usize = 500;
/// Bytes of a line.
const LONGEST: usize = 4096;

static SAYER: OnceLock<Sayer> = OnceLock::new();

/// Starts it; `verbose` says more. Once a process.
pub(super) fn start(verbose: bool) {
    let level = if verbose { Level::DEBUG } else { Level::INFO };
    let journal = to_journal();
    let sayer = SAYER.get_or_init(|| Sayer { shared: Arc::default(), journal });
    let shared = Arc::clone(&sayer.shared);
    let thread = std::thread::Builder::new().name("messages".into());
    // Without a thread lines wait, and are lost.
    let _ = thread.spawn(move || shared.write(&mut std::io::stderr()));
    let lines = tracing_subscriber::fmt()
        .with_writer(sayer.clone())
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false);
    // A second subscriber, in a test, changes nothing.
    let _ = match journal {
        true => lines.without_time().with_level(false).try_init(),
        false => lines.try_init(),
    };
}

/// Waits until all is said, but not for longer than that.
pub(super) fn finish(patience: Duration) {
    let Some(sayer) = SAYER.get() else { return };
    let deadline = Instant::now() + patience;
    let mut lines = sayer.shared.lines();
    while !lines.waiting.is_empty() || lines.writing {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let waited = sayer.shared.changed.wait_timeout(lines, left);
        lines = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[derive(Debug, Clone)]
struct Sayer {
    shared: Arc<Shared>,
    journal: bool,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    lost: u64,
    writing: bool,
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>) {
        let mut lines = self.lines();
        if lines.waiting.len() >= WAITING {
            lines.waiting.pop_front();
            lines.lost += 1;
        }
        lines.waiting.push_back(line);
        drop(lines);
        self.changed.notify_all();
    }

    /// Writes for ever, or until nobody reads any more.
    fn write(&self, to: &mut dyn Write) {
        let mut lines = self.lines();
        loop {
            let Some(line) = lines.waiting.pop_front() else {
                lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let lost = std::mem::take(&mut lines.lost);
            lines.writing = true;
            drop(lines);
            let mut written = Ok(());
            if lost > 0 {
                written = writeln!(to, "({lost} lines before this one were lost)");
            }
            // Where nobody reads, there is nobody to tell.
            let _ = written.and_then(|()| to.write_all(&line));
            lines = self.lines();
            lines.writing = false;
            self.changed.notify_all();
        }
    }
}

impl Sayer {
    fn line(&self, prefix: &'static str) -> Line {
        Line { shared: Arc::clone(&self.shared), prefix, text: Vec::new() }
    }
}

impl<'a> MakeWriter<'a> for Sayer {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        self.line("")
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let prefix = if self.journal { priority(*meta.level()) } else { "" };
        self.line(prefix)
    }
}

/// syslog's priority of a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// A message on its way; handed over when it is dropped.
#[derive(Debug)]
struct Line {
    shared: Arc<Shared>,
    prefix: &'static str,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = LONGEST.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut line = Vec::with_capacity(self.text.len() + 4);
        for text in self.text.split(|b| *b == b'\n').filter(|text| !text.is_empty()) {
            line.extend_from_slice(self.prefix.as_bytes());
            line.extend_from_slice(text);
            line.push(b'\n');
        }
        if !line.is_empty() {
            self.shared.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_message_has_its_priority() {
        let shared = Arc::<Shared>::default();
        let mut line = Line { shared: Arc::clone(&shared), prefix: "<4>", text: Vec::new() };
        line.write_all(b"pin 17: in use\nby another\n").unwrap();
        drop(line);
        assert_eq!(shared.lines().waiting[0], b"<4>pin 17: in use\n<4>by another\n");
    }

    #[test]
    fn who_says_much_does_not_wait_and_holds_little() {
        let shared = Arc::<Shared>::default();
        for n in 0..10 * WAITING {
            let mut line = Line { shared: Arc::clone(&shared), prefix: "", text: Vec::new() };
            writeln!(line, "{n} {}", "x".repeat(2 * LONGEST)).unwrap();
        }
        let lines = shared.lines();
        assert_eq!((lines.waiting.len(), lines.lost), (WAITING, 9 * WAITING as u64));
        assert!(lines.waiting.iter().all(|line| line.len() <= LONGEST + 1));
        assert!(lines.waiting[0].starts_with(format!("{} ", 9 * WAITING).as_bytes()));
    }
}
