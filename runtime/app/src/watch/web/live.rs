//! Decisions and health as events that many may read, each at its own pace.
//!
//! Each event has a number and is kept for a while. Who is too slow finds that the oldest are gone,
//! and is told how many; nobody waits for anybody.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use super::super::bus::{Health, Listener, Writer};
use super::super::decision::Decision;
use super::super::pulse::BEAT;
use super::Web;
use super::figures::Figures;
use crate::http::Metrics;

/// Events that are kept.
pub(super) const KEPT: usize = 256;
/// How often health is told.
const TELL: Duration = Duration::from_secs(2);
/// Points of the curves that are kept: five minutes.
const POINTS: usize = 150;

/// One point of the curves.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Point {
    /// Mean time of the model with its preparation, since the point before; null: none ran.
    latency_ms: Option<f64>,
    temperature_c: Option<f64>,
}

/// What has happened, and what holds.
pub(super) struct Live {
    inner: Mutex<Inner>,
    /// Number of the newest event.
    newest: watch::Sender<u64>,
}

struct Inner {
    /// Of the facts that the decisions belong to.
    facts: u64,
    /// As they are sent; the last has the number `newest`.
    events: VecDeque<Bytes>,
    newest: u64,
    /// The last decision of each area.
    decisions: Vec<Option<Arc<Decision>>>,
    points: VecDeque<Point>,
    /// Sum of times since the last point, ms, and how many.
    latency: (f64, u32),
}

/// How everything is doing, as it is told.
#[derive(Serialize)]
pub(super) struct Pulse {
    #[serde(flatten)]
    health: Health,
    temperature_c: Option<f64>,
    memory_bytes: Option<u64>,
    /// Another number: model, regions or outputs are other ones.
    facts: u64,
    /// Which outputs should be on.
    outputs: Vec<bool>,
    latency_ms: Option<f64>,
}

impl Live {
    pub(super) fn new() -> Self {
        let inner = Inner {
            facts: 0,
            events: VecDeque::with_capacity(KEPT),
            newest: 0,
            decisions: Vec::new(),
            points: VecDeque::with_capacity(POINTS),
            latency: (0.0, 0),
        };
        Self { inner: Mutex::new(inner), newest: watch::Sender::new(0) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the newest event.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn tell(&self, kind: &str, what: &impl Serialize) {
        let mut inner = self.inner();
        inner.newest += 1;
        let number = inner.newest;
        let data = serde_json::to_string(what).unwrap_or_default();
        let event = format!("id: {number}\nevent: {kind}\ndata: {data}\n\n");
        if inner.events.len() == KEPT {
            inner.events.pop_front();
        }
        inner.events.push_back(event.into());
        drop(inner);
        self.newest.send_replace(number);
    }

    /// Events after number `seen`, at most `most` bytes of them or one; moves `seen` on. Gives also how
    /// many between were lost.
    pub(super) fn after(&self, seen: &mut u64, most: usize) -> (u64, Vec<u8>) {
        let inner = self.inner();
        let first = inner.newest + 1 - inner.events.len() as u64;
        let missed = first.saturating_sub(*seen + 1);
        *seen += missed;
        let mut all = Vec::new();
        let skip = (*seen + 1).saturating_sub(first) as usize;
        for event in inner.events.iter().skip(skip) {
            if !all.is_empty() && all.len() + event.len() > most {
                break;
            }
            all.extend_from_slice(event);
            *seen += 1;
        }
        (missed, all)
    }

    /// Decisions that hold, and the curves.
    pub(super) fn past(&self) -> (Vec<Decision>, Vec<Point>) {
        let inner = self.inner();
        let decisions = inner.decisions.iter().flatten().map(|d| (**d).clone()).collect();
        (decisions, inner.points.iter().copied().collect())
    }

    fn decided(&self, facts: u64, area: usize, decision: &Arc<Decision>) {
        let mut inner = self.inner();
        if inner.facts != facts {
            inner.facts = facts;
            inner.decisions.clear();
        }
        if !decision.lost {
            inner.latency.0 += decision.prepare_ms + decision.model_ms;
            inner.latency.1 += 1;
        }
        if inner.decisions.len() <= area {
            inner.decisions.resize(area + 1, None);
        }
        inner.decisions[area] = Some(Arc::clone(decision));
        drop(inner);
        self.tell("decision", &**decision);
    }
}

/// Listens to the bus.
pub(super) fn start(web: &Arc<Web>, metrics: &Metrics, listener: Listener) -> io::Result<Writer> {
    let web = Arc::clone(web);
    let (metrics, mut figures) = (metrics.clone(), Figures::new(metrics));
    listener.on_thread("http events", move |listener| {
        while let Some(decision) = listener.next() {
            figures.count(&decision);
            let facts = web.facts();
            if !decision.lost {
                let seconds = (decision.prepare_ms + decision.model_ms) / 1e3;
                metrics.classified(&facts.model, seconds);
            }
            let place =
                |name: &String| facts.regions.iter().position(|region| region.name == *name);
            let area = decision.region.as_ref().map_or(Some(0), place);
            web.live.decided(facts.number, area.unwrap_or(0), &decision);
        }
    })
}

/// Tells health again and again.
pub(super) async fn beat(web: &Web) {
    let own = web.bus.pulse("http");
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(BEAT).await;
        own.beat();
        if told.elapsed() < TELL {
            continue;
        }
        told = Instant::now();
        let board = kinglet_device::Board::read();
        let temperature_c = board.temperature_mc.map(|t| t as f64 / 1e3);
        let mut inner = web.live.inner();
        let (sum, count) = std::mem::take(&mut inner.latency);
        let latency_ms = (count > 0).then(|| (sum / f64::from(count) * 1e3).round() / 1e3);
        if inner.points.len() == POINTS {
            inner.points.pop_front();
        }
        inner.points.push_back(Point { latency_ms, temperature_c });
        drop(inner);
        web.live.tell("health", &pulse(web));
    }
}

/// How everything is doing now.
pub(super) fn pulse(web: &Web) -> Pulse {
    let facts = web.facts();
    let inner = web.live.inner();
    let state = |decision: &Option<Arc<Decision>>| {
        decision.as_ref().map_or(crate::decide::State::Nothing, |decision| decision.state())
    };
    let states: Vec<_> = inner.decisions.iter().map(state).collect();
    let last = inner.points.back().copied();
    drop(inner);
    Pulse {
        health: web.bus.health(),
        temperature_c: last.and_then(|point| point.temperature_c),
        memory_bytes: kinglet_device::memory_bytes(),
        facts: facts.number,
        outputs: facts.outputs.iter().map(|plan| plan.wanted(&states)).collect(),
        latency_ms: last.and_then(|point| point.latency_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
        let live = Live::new();
        let mut seen = 0;
        assert_eq!(live.after(&mut seen, 100), (0, Vec::new()));
        for n in 1..=KEPT as u64 + 10 {
            live.tell("x", &n);
        }
        let (missed, events) = live.after(&mut seen, 1);
        assert_eq!((missed, seen), (10, 11));
        assert_eq!(events, b"id: 11\nevent: x\ndata: 11\n\n");
        let (missed, events) = live.after(&mut seen, usize::MAX);
        assert_eq!((missed, seen), (0, KEPT as u64 + 10));
        assert!(events.starts_with(b"id: 12\n") && events.ends_with(b"data: 266\n\n"));
        assert_eq!(live.after(&mut seen, 100), (0, Vec::new()));
        assert_eq!(*live.newest().borrow(), seen);
    }
}
