//! A second model that sees what the first sees and never acts: how one is tried before it is
//! trusted.
//!
//! It has a thread of the lowest priority, which gets what processor time others leave, and looks at
//! the newest frame that the first model has decided about; while it looks, others pass it by. Where
//! the first model slows down to stay cool, it rests. What both say of the same frames is counted:
//! the best class, and what would be decided if there were no other frames.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kinglet_device::camera::Frame;
use serde::Serialize;

use super::bus::Bus;
use super::config::Config;
use super::eyes::{Eyes, Seen};
use super::plan::{Plan, View};
use super::pulse::{BEAT, Pulse};
use crate::decide::Decider;
use crate::exit::one_line;
use crate::load::{ModelArgs, load};

/// How often the log says how it goes.
const TELL: Duration = Duration::from_secs(3600);

/// What the first model said of an area of a frame.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) area: usize,
    pub(super) seen: Seen,
    /// How long it took, ms.
    pub(super) ms: f64,
}

/// How the two compare.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// The second model's file.
    pub(crate) model: String,
    /// Pictures, or regions of them, that both have seen.
    pub(crate) compared: u64,
    /// Those that it left out: it was still looking at another, or resting.
    pub(crate) skipped: u64,
    /// Of those compared, with the same best class.
    pub(crate) same_best: u64,
    /// Of those compared, with the same decision, of these frames alone.
    pub(crate) same_decision: u64,
    /// Of those that the second could not look at.
    pub(crate) failed: u64,
    /// Mean and longest time that the first took to look at what was compared, ms.
    pub(crate) first_ms: Time,
    /// Of the second, on one thread: its time on the processor, since it waits for what others leave.
    pub(crate) second_ms: Time,
}

/// A mean and a maximum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Time {
    /// Mean.
    pub(crate) mean: f64,
    /// The longest.
    pub(crate) max: f64,
    /// The shortest: what disturbs makes no time shorter.
    pub(crate) least: f64,
}

impl Time {
    /// One more, of `count` with it.
    fn add(&mut self, ms: f64, count: u64) {
        self.mean += (ms - self.mean) / count as f64;
        self.max = self.max.max(ms);
        self.least = if count == 1 { ms } else { self.least.min(ms) };
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |n: u64| 100.0 * n as f64 / self.compared.max(1) as f64;
        write!(
            f,
            "shadow {}: {} compared, {} left out; the same best class in {:.1} %, the same decision in \
             {:.1} %; {:.1} ms against {:.1} ms",
            self.model,
            self.compared,
            self.skipped,
            share(self.same_best),
            share(self.same_decision),
            self.second_ms.mean,
            self.first_ms.mean
        )
    }
}

/// The thread, and the way to it.
#[derive(Debug)]
pub(super) struct Shadow {
    shared: Arc<Shared>,
    bus: Bus,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    /// The newest.
    next: Option<(Arc<Frame>, Vec<Said>)>,
    skipped: u64,
    lost: bool,
    stop: bool,
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shadow {
    /// Starts it; the model is loaded by its own thread, and when that fails health says why. It
    /// looks as the first model does, with its own threshold for unknown pictures.
    pub(super) fn start(
        model: ModelArgs,
        config: &Config,
        plan: &Plan,
        bus: &Bus,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (own, told, config) = (Arc::clone(&shared), bus.clone(), config.clone());
        let (view, labels, pictures) = (plan.view.clone(), Arc::clone(&plan.labels), plan.all);
        std::thread::Builder::new().name("shadow".into()).spawn(move || {
            kinglet_device::lower_priority(19);
            match eyes(&model, &config, pictures) {
                Ok((eyes, name)) => {
                    told.report("shadow", None);
                    let pulse = told.pulse("shadow");
                    let decider = || Decider::new(view.settings.clone());
                    let first = std::iter::repeat_with(decider).take(view.areas()).collect();
                    let pair = Pair { first, labels, start: Instant::now(), second: eyes };
                    let comparison = Comparison { model: name, ..Comparison::default() };
                    watch(pair, comparison, &own, &pulse, &told);
                }
                Err(error) => told.report("shadow", Some(one_line(&error))),
            }
        })?;
        Ok(Self { shared, bus: bus.clone() })
    }

    /// Shows it a frame, and what the first model said of it. It may be busy: then it sees the next.
    pub(super) fn offer(&self, frame: &Arc<Frame>, said: &[Said]) {
        let mut slot = self.shared.slot();
        if let Some((_, missed)) = slot.next.replace((Arc::clone(frame), said.to_vec())) {
            slot.skipped += missed.len() as u64;
        }
        drop(slot);
        self.shared.changed.notify_all();
    }

    /// It shall rest: the board is hot.
    pub(super) fn rest(&self, areas: usize) {
        self.shared.slot().skipped += areas as u64;
    }

    /// The camera is lost, and what was decided.
    pub(super) fn lose(&self) {
        let mut slot = self.shared.slot();
        (slot.next, slot.lost) = (None, true);
    }

    /// Tells it to end; returns at once.
    pub(super) fn stop(&self) {
        self.shared.slot().stop = true;
        self.shared.changed.notify_all();
    }

    /// Ends it, and what health says of it.
    pub(super) fn leave(self) {
        let mut slot = self.shared.slot();
        slot.stop = true;
        self.bus.compare(None);
        self.bus.report("shadow", None);
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The second model's eyes, and its name.
fn eyes(model: &ModelArgs, config: &Config, pictures: bool) -> anyhow::Result<(Eyes, String)> {
    let path = model.path()?;
    let session = load(&path, &model.options()?, model.key())?;
    // It sees what the first looks at: one motion gate is enough.
    let view = View { motion: None, ..View::new(config, &session, pictures)? };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((Eyes::new(session, &view), name))
}

/// Both models' decisions about the frames that both have seen.
struct Pair {
    first: Vec<Decider>,
    /// The first model's classes.
    labels: Arc<[String]>,
    start: Instant,
    second: Eyes,
}

fn watch(mut pair: Pair, mut comparison: Comparison, shared: &Shared, pulse: &Pulse, bus: &Bus) {
    let mut told = Instant::now();
    bus.compare(Some(comparison.clone()));
    loop {
        pulse.beat();
        let mut slot = shared.slot();
        if slot.stop {
            break;
        }
        comparison.skipped += std::mem::take(&mut slot.skipped);
        if std::mem::take(&mut slot.lost) {
            pair.lose();
        }
        let Some((frame, said)) = slot.next.take() else {
            drop(shared.changed.wait_timeout(slot, BEAT));
            continue;
        };
        drop(slot);
        for said in said {
            pulse.beat();
            pair.compare(&frame, &said, &mut comparison, bus);
        }
        let slot = shared.slot();
        if slot.stop {
            break;
        }
        bus.compare(Some(comparison.clone()));
        drop(slot);
        if told.elapsed() >= TELL {
            tracing::info!("{comparison}");
            told = Instant::now();
        }
    }
}

impl Pair {
    fn lose(&mut self) {
        for decider in &mut self.first {
            decider.lose();
        }
        self.second.lose();
    }

    fn compare(&mut self, frame: &Frame, said: &Said, sum: &mut Comparison, bus: &Bus) {
        let Said { area, seen, ms } = said;
        let before = processor_ms();
        match self.second.look(frame, *area) {
            Ok(Some(decision)) => {
                let spent = before.zip(processor_ms()).map(|(before, after)| after - before);
                let spent = spent.unwrap_or(decision.prepare_ms + decision.model_ms);
                let at = frame.captured.saturating_duration_since(self.start);
                let first = &mut self.first[*area];
                first.observe(at, &seen.scores, seen.energy);
                let name = |index: usize| self.labels.get(index).cloned();
                sum.compared += 1;
                sum.same_best += u64::from(name(seen.best) == Some(self.second.best()));
                sum.same_decision += u64::from(first.state().name(name) == decision.decision);
                sum.first_ms.add(*ms, sum.compared);
                sum.second_ms.add(spent, sum.compared);
                bus.report("shadow", None);
            }
            Ok(None) => sum.skipped += 1,
            Err(error) => {
                sum.failed += 1;
                bus.report("shadow", Some(error.to_string()));
            }
        }
    }
}

/// What this thread has had of a processor, ms; `None` where the kernel does not say.
fn processor_ms() -> Option<f64> {
    let facts = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(facts.split(' ').next()?.parse::<u64>().ok()? as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_in_words() {
        let mut first_ms = Time::default();
        [(1.0, 1), (2.0, 2), (6.0, 3)].iter().for_each(|(ms, count)| first_ms.add(*ms, *count));
        assert_eq!(first_ms, Time { mean: 3.0, max: 6.0, least: 1.0 });
        let comparison = Comparison {
            model: "other.onnx".into(),
            compared: 200,
            skipped: 50,
            same_best: 150,
            same_decision: 190,
            failed: 0,
            first_ms,
            second_ms: Time { mean: 8.24, max: 9.0, least: 8.0 },
        };
        assert_eq!(
            comparison.to_string(),
            "shadow other.onnx: 200 compared, 50 left out; the same best class in 75.0 %, the same \
             decision in 95.0 %; 8.2 ms against 3.0 ms"
        );
    }
}
