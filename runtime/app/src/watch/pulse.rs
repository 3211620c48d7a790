//! Whether every thread makes progress.
//!
//! A thread has a [`Pulse`] and beats it whenever it has done something, and while it has nothing to
//! do: it never waits for longer than [`BEAT`] without a beat. One that hangs in a write, in the
//! model or in a lock no longer beats, and [`Pulses::stuck`] says which.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest that a thread waits without a beat.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// What a thread that has died in a panic leaves behind.
const DEAD: u64 = u64::MAX;

/// All threads that are watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulses(Arc<Mutex<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    name: String,
    beats: Arc<AtomicU64>,
    seen: u64,
    since: Instant,
}

/// A thread's own. Dropping it says that the thread has ended, as it should unless it panics.
#[derive(Debug)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulses {
    /// Watches one more thread.
    pub(crate) fn start(&self, name: &str) -> Pulse {
        let beats = Arc::<AtomicU64>::default();
        let entry = Entry {
            name: name.to_owned(),
            beats: Arc::clone(&beats),
            seen: 0,
            since: Instant::now(),
        };
        self.entries().push(entry);
        Pulse(beats)
    }

    /// A thread that has not beaten for `limit`, or has died, in words. Call it often: how long a
    /// thread has been still is as exact as that.
    pub(crate) fn stuck(&self, limit: Duration) -> Option<String> {
        let now = Instant::now();
        let mut entries = self.entries();
        entries.retain(|e| Arc::strong_count(&e.beats) > 1 || e.beats.load(Relaxed) == DEAD);
        let mut stuck = None;
        for entry in entries.iter_mut() {
            let beats = entry.beats.load(Relaxed);
            if beats == DEAD {
                stuck.get_or_insert_with(|| format!("{}: its thread has died", entry.name));
            } else if beats != entry.seen {
                (entry.seen, entry.since) = (beats, now);
            } else if now - entry.since >= limit {
                let seconds = (now - entry.since).as_secs();
                let words = || format!("{}: no progress for {seconds} s", entry.name);
                stuck.get_or_insert_with(words);
            }
        }
        stuck
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// The thread makes progress, or has nothing to do.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Beats for a thread that runs futures, as long as none of them keeps it.
    pub(crate) async fn keep_beating(self) {
        loop {
            self.beat();
            tokio::time::sleep(BEAT).await;
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(DEAD, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[test]
    fn one_that_stops_beating_is_named_until_it_beats_or_ends() {
        let pulses = Pulses::default();
        let (log, pins) = (pulses.start("log"), pulses.start("pins"));
        assert_eq!(pulses.stuck(LIMIT), None);
        std::thread::sleep(LIMIT);
        log.beat();
        assert_eq!(pulses.stuck(LIMIT).unwrap(), "pins: no progress for 0 s");
        pins.beat();
        assert_eq!(pulses.stuck(LIMIT), None);
        std::thread::sleep(LIMIT);
        drop(pins);
        log.beat();
        assert_eq!(pulses.stuck(LIMIT), None, "a thread that has ended is not stuck");
    }

    #[test]
    fn a_thread_that_panics_is_never_well_again() {
        let pulses = Pulses::default();
        let pulse = pulses.start("log");
        let thread = std::thread::spawn(move || {
            let _pulse = pulse;
            panic!("as the test wants");
        });
        assert!(thread.join().is_err());
        assert_eq!(pulses.stuck(LIMIT).unwrap(), "log: its thread has died");
    }
}
