//! Decisions to whoever listens; frames to whoever looks.
//!
//! This is where a server joins: [`Bus::listen`] gives decisions as they are made, [`Bus::frames`]
//! the camera's newest frame, [`Bus::health`] how everything is doing. A listener that is slow
//! loses the oldest decisions and can say how many; it never keeps the camera or the model waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kinglet_device::camera::{Feed, Status};
use serde::Serialize;

use super::decision::Decision;
use super::pulse::{BEAT, Pulse, Pulses};
use super::shadow::Comparison;
use crate::decide::DriftReport;

/// How long is waited where there is no deadline.
const A_WHILE: Duration = Duration::from_secs(3600);

/// Shared by all who publish or listen; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Bus {
    feed: Arc<Feed>,
    shared: Arc<Mutex<Shared>>,
    /// Whether the publisher waits for listeners that may ask for it.
    patient: Arc<AtomicBool>,
    pulses: Pulses,
    started: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    listeners: Vec<Arc<Queue>>,
    inferences: u64,
    problems: BTreeMap<String, String>,
    shadow: Option<Comparison>,
    drift: Option<DriftReport>,
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
    /// The second model beside the first, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shadow: Option<Comparison>,
    /// Whether pictures are still like those of the model's reference, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drift: Option<DriftReport>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    pub(crate) fn new(feed: Arc<Feed>) -> Self {
        let (shared, patient, pulses) = (Arc::default(), Arc::default(), Pulses::default());
        Self { feed, shared, patient, pulses, started: Instant::now() }
    }

    /// The camera, to look at its newest frame ([`Feed::newer_than`]).
    pub(crate) fn frames(&self) -> &Feed {
        &self.feed
    }

    /// For recordings of which nothing may be lost: the publisher waits for listeners that ask for it.
    pub(crate) fn be_patient(&self, patient: bool) {
        self.patient.store(patient, Relaxed);
    }

    /// Listens from now on; of more than `depth` decisions that wait the oldest is lost. `patient`:
    /// the publisher waits instead, if it is patient ([`Self::be_patient`]).
    pub(crate) fn listen(&self, depth: usize, patient: bool) -> Listener {
        let (inner, changed) = (Mutex::default(), Condvar::new());
        let queue = Arc::new(Queue { depth: depth.max(1), patient, inner, changed });
        lock(&self.shared).listeners.push(Arc::clone(&queue));
        Listener { queue, pulses: self.pulses.clone(), pulse: None }
    }

    /// Watches one more thread: from now on it makes progress, or the watchdog is not fed. A
    /// listener's thread has one already ([`Listener::on_thread`]).
    pub(crate) fn pulse(&self, name: &str) -> Pulse {
        self.pulses.start(name)
    }

    /// A thread that has made no progress for so long.
    pub(crate) fn stuck(&self, limit: Duration) -> Option<String> {
        self.pulses.stuck(limit)
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
            queue.push(Arc::clone(&decision), &self.patient);
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

    /// As [`Self::report`], of what was logged already.
    pub(super) fn note(&self, part: &str, problem: Option<String>) {
        let mut shared = lock(&self.shared);
        match problem {
            Some(problem) => drop(shared.problems.insert(part.to_owned(), problem)),
            None => drop(shared.problems.remove(part)),
        }
    }

    /// How the second model compares; `None`: there is none any more.
    pub(super) fn compare(&self, comparison: Option<Comparison>) {
        lock(&self.shared).shadow = comparison;
    }

    /// How pictures compare with the model's reference; `None`: they are not compared. An alarm is a
    /// problem.
    pub(super) fn drift(&self, report: Option<&DriftReport>) {
        let alarm = report.filter(|report| report.alarm).map(|report| report.verdict.clone());
        self.report("drift", alarm);
        lock(&self.shared).drift = report.cloned();
    }

    /// How everything is doing.
    pub(crate) fn health(&self) -> Health {
        let shared = lock(&self.shared);
        Health {
            uptime_s: self.started.elapsed().as_secs_f64(),
            camera: self.feed.status(),
            inferences: shared.inferences,
            problems: shared.problems.clone(),
            shadow: shared.shadow.clone(),
            drift: shared.drift.clone(),
        }
    }

    /// Tells all listeners that it is over.
    pub(crate) fn close(&self) {
        lock(&self.shared).listeners.iter().for_each(|queue| queue.close());
    }
}

impl Queue {
    fn close(&self) {
        lock(&self.inner).closed = true;
        self.changed.notify_all();
    }

    fn push(&self, decision: Arc<Decision>, patient: &AtomicBool) {
        let mut inner = lock(&self.inner);
        let waits = || self.patient && patient.load(Relaxed);
        while waits() && inner.waiting.len() >= self.depth && !inner.closed {
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
pub(crate) struct Listener {
    queue: Arc<Queue>,
    pulses: Pulses,
    pulse: Option<Pulse>,
}

impl Listener {
    /// The next decision; `None` when it is over.
    pub(crate) fn next(&self) -> Option<Arc<Decision>> {
        loop {
            match self.next_before(Instant::now() + A_WHILE) {
                Heard::Decision(decision) => return Some(decision),
                Heard::Nothing => {}
                Heard::Over => return None,
            }
        }
    }

    /// Listens on a thread of that name.
    pub(crate) fn on_thread(
        mut self,
        name: &str,
        work: impl FnOnce(Self) + Send + 'static,
    ) -> std::io::Result<Writer> {
        let queue = Arc::downgrade(&self.queue);
        self.pulse = Some(self.pulses.start(name));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(|| work(self))?;
        Ok(Writer { queue, thread })
    }

    /// The next decision, waiting until `deadline` at the latest.
    pub(crate) fn next_before(&self, deadline: Instant) -> Heard {
        let mut inner = lock(&self.queue.inner);
        loop {
            if let Some(pulse) = &self.pulse {
                pulse.beat();
            }
            if let Some(decision) = inner.waiting.pop_front() {
                self.queue.changed.notify_all();
                return Heard::Decision(decision);
            }
            if inner.closed {
                return Heard::Over;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Nothing;
            }
            let waited = self.queue.changed.wait_timeout(inner, left.min(BEAT));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many decisions were lost because they were not taken in time.
    pub(crate) fn missed(&self) -> u64 {
        lock(&self.queue.inner).missed
    }
}

/// A thread that listens, and writes. Dropping this tells it to end when it has written what waits.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Weak<Queue>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Whether it has ended.
    pub(crate) fn stopped(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.close();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A patient publisher shall not wait for somebody who has gone.
        self.queue.close();
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
        bus.be_patient(true);
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
