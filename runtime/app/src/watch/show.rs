//! Decisions as lines on standard output, by a thread of their own.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::bus::{Listener, Writer};

/// How lines look, and which there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    pub(super) json: bool,
    /// Every inference, not changes alone.
    pub(super) all: bool,
}

/// Prints until the bus is closed. When nobody reads any more, `stop` is set.
pub(super) fn start(
    listener: Listener,
    lines: Lines,
    stop: Arc<AtomicBool>,
) -> std::io::Result<Writer> {
    listener.on_thread("lines", move |listener| {
        while let Some(decision) = listener.next() {
            if !(lines.all || decision.changed) {
                continue;
            }
            let mut line = match lines.json {
                true => serde_json::to_string(&*decision).unwrap_or_default(),
                false => decision.to_string(),
            };
            line.push('\n');
            let mut out = std::io::stdout().lock();
            if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
                stop.store(true, Relaxed);
                return;
            }
        }
        let missed = listener.missed();
        if missed > 0 {
            tracing::warn!("{missed} decisions were not printed: nobody read them in time");
        }
    })
}
