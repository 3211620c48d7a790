//! Decisions to whoever listens; frames to whoever looks.
//!
//! This is where a server joins: [`Bus::listen`] gives decisions as they are made, [`Bus::frames`]
//! the camera's newest frame, [`Bus::health`] how everything is doing. A listener that is slow
//! loses the oldest decisions and can say how many; it never keeps the camera or the model waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kinglet_device::camera::{Feed, Status};
use serde::Serialize;

use super::decision::Decision;

/// Shared by all who publish or listen; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Bus {
    feed: Arc<Feed>,
    shared: Arc<Mutex<Shared>>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    listeners: Vec<Arc<Queue>>,
    inferences: u64,
    problems: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Queue {
    depth: usize,
    patient: bool,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Arc<Decision>>,
    missed: u64,
    closed: bool,
}

/// How everything is doing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Health {
    /// Seconds since the start.
    pub(crate) uptime_s: f64,
    /// The camera.
    pub(crate) camera: Status,
    /// Pictures, or regions of them, that the model has seen.
    pub(crate) inferences: u64,
    /// What does not work at present, by part: a pin, the log, snapshots.
    pub(crate) problems: BTreeMap<String, String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    pub(crate) fn new(feed: Arc<Feed>) -> Self {
        Self { feed, shared: Arc::default(), started: Instant::now() }
    }

    /// The camera, to look at its newest frame ([`Feed::newer_than`]).
    pub(crate) fn frames(&self) -> &Feed {
        &self.feed
    }

    /// Listens from now on; of more than `depth` decisions that wait the oldest is lost. `patient`:
    /// the publisher waits instead, for recordings, where nothing may be lost.
    pub(crate) fn listen(&self, depth: usize, patient: bool) -> Listener {
        let (inner, changed) = (Mutex::default(), Condvar::new());
        let queue = Arc::new(Queue { depth: depth.max(1), patient, inner, changed });
        lock(&self.shared).listeners.push(Arc::clone(&queue));
        Listener(queue)
    }

    /// Hands a decision to all listeners.
    pub(crate) fn publish(&self, decision: Decision) {
        let decision = Arc::new(decision);
        let mut shared = lock(&self.shared);
        shared.inferences += u64::from(!decision.lost);
        // A queue that nobody but us holds has no listener any more.
        shared.listeners.retain(|queue| Arc::strong_count(queue) > 1);
        let listeners = shared.listeners.clone();
        drop(shared);
        for queue in listeners {
            queue.push(Arc::clone(&decision));
        }
    }

    /// Says that a part has a problem, or none any more. What is new is logged.
    pub(crate) fn report(&self, part: &str, problem: Option<String>) {
        let mut shared = lock(&self.shared);
        match problem {
            Some(problem) if shared.problems.get(part) != Some(&problem) => {
                tracing::warn!("{part}: {problem}");
                shared.problems.insert(part.to_owned(), problem);
            }
            None if shared.problems.remove(part).is_some() => tracing::info!("{part}: works again"),
            _ => {}
        }
    }

    /// How everything is doing.
    pub(crate) fn health(&self) -> Health {
        let shared = lock(&self.shared);
        Health {
            uptime_s: self.started.elapsed().as_secs_f64(),
            camera: self.feed.status(),
            inferences: shared.inferences,
            problems: shared.problems.clone(),
        }
    }

    /// Tells all listeners that it is over.
    pub(crate) fn close(&self) {
        for queue in &lock(&self.shared).listeners {
            lock(&queue.inner).closed = true;
            queue.changed.notify_all();
        }
    }
}

impl Queue {
    fn push(&self, decision: Arc<Decision>) {
        let mut inner = lock(&self.inner);
        while self.patient && inner.waiting.len() >= self.depth && !inner.closed {
            let waited = self.changed.wait_timeout(inner, Duration::from_millis(100));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.waiting.len() >= self.depth {
            inner.waiting.pop_front();
            inner.missed += 1;
        }
        inner.waiting.push_back(decision);
        drop(inner);
        self.changed.notify_all();
    }
}

/// What [`Listener::next_before`] came back with.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A decision.
    Decision(Arc<Decision>),
    /// The deadline passed.
    Nothing,
    /// Nothing more will come.
    Over,
}

/// One who listens. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Listener(Arc<Queue>);

impl Listener {
    /// The next decision; `None` when it is over.
    pub(crate) fn next(&self) -> Option<Arc<Decision>> {
        let mut inner = lock(&self.0.inner);
        loop {
            if let Some(decision) = inner.waiting.pop_front() {
                self.0.changed.notify_all();
                return Some(decision);
            }
            if inner.closed {
                return None;
            }
            inner = self.0.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next decision, waiting until `deadline` at the latest.
    pub(crate) fn next_before(&self, deadline: Instant) -> Heard {
        let mut inner = lock(&self.0.inner);
        loop {
            if let Some(decision) = inner.waiting.pop_front() {
                self.0.changed.notify_all();
                return Heard::Decision(decision);
            }
            if inner.closed {
                return Heard::Over;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Nothing;
            }
            let waited = self.0.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many decisions were lost because they were not taken in time.
    pub(crate) fn missed(&self) -> u64 {
        lock(&self.0.inner).missed
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A patient publisher shall not wait for somebody who has gone.
        lock(&self.0.inner).closed = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use kinglet_device::camera::{Pace, Patience, Source, Wanted};

    use super::*;

    fn bus() -> Bus {
        let wanted = Wanted::default();
        Bus::new(Arc::new(Feed::start(Source::Test, wanted, Pace::Newest, Patience::default())))
    }

    fn decision(frame: u64) -> Decision {
        Decision { frame, ..Decision::default() }
    }

    #[test]
    fn a_slow_listener_loses_the_oldest_and_holds_nobody_up() {
        let bus = bus();
        let (slow, quick) = (bus.listen(3, false), bus.listen(100, false));
        let begun = Instant::now();
        (1..=50).for_each(|n| bus.publish(decision(n)));
        assert!(begun.elapsed() < Duration::from_millis(500));
        bus.close();
        let rest = |l: &Listener| -> Vec<u64> {
            std::iter::from_fn(|| l.next()).map(|d| d.frame).collect()
        };
        assert_eq!(rest(&slow), [48, 49, 50]);
        assert_eq!(slow.missed(), 47);
        assert_eq!(rest(&quick), (1..=50).collect::<Vec<_>>());
        assert_eq!(bus.health().inferences, 50);
    }

    #[test]
    fn a_patient_listener_loses_nothing_and_may_leave() {
        let bus = bus();
        let patient = bus.listen(2, true);
        let taker = std::thread::spawn(move || {
            let mut frames = Vec::new();
            while frames.len() < 20 {
                std::thread::sleep(Duration::from_millis(1));
                frames.extend(patient.next().map(|d| d.frame));
            }
            frames
        });
        (1..=30).for_each(|n| bus.publish(decision(n)));
        assert_eq!(taker.join().unwrap(), (1..=20).collect::<Vec<_>>());
    }

    #[test]
    fn problems_come_and_go() {
        let bus = bus();
        bus.report("pin 17", Some("in use".into()));
        assert_eq!(bus.health().problems["pin 17"], "in use");
        bus.report("pin 17", None);
        assert!(bus.health().problems.is_empty());
        assert!(bus.frames().newer_than(0, Instant::now() + Duration::from_secs(5)).is_some());
    }
}
