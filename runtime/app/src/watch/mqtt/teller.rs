//! From decisions to messages: a thread that listens to the bus and fills the outbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kinglet_device::Board;
use kinglet_device::camera;
use serde::Serialize;

use super::super::bus::{Bus, Health, Heard, Listener};
use super::super::decision::Decision;
use super::outbox::{Message, Outbox};
use super::picture;
use super::settings::Content;
use crate::decide::State;

/// How often health is looked at, for changes.
const TICK: Duration = Duration::from_millis(500);
/// How often it is told when nothing changes.
const HEALTH: Duration = Duration::from_secs(30);
/// Pictures at most so often.
const PICTURE: Duration = Duration::from_secs(1);

/// What the thread has.
pub(super) struct Teller {
    content: Content,
    bus: Bus,
    outbox: Arc<Outbox>,
    listener: Listener,
    /// The state of each area, and when its scores were last told.
    areas: Vec<(State, Option<Instant>)>,
    /// Which rules were on when it was last told.
    on: Vec<Option<bool>>,
    /// A picture is to be sent, and when the last one was.
    picture: (bool, Option<Instant>),
    /// What was last told of health, and when; when it was last looked at.
    told: Option<(Key, Instant)>,
    looked: Option<Instant>,
    /// Decisions since health was told, and the last of them.
    count: u64,
    last: Option<Arc<Decision>>,
}

/// What of health is told at once when it changes.
type Key = (camera::State, BTreeMap<String, String>, u64);

/// What is published of health.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    health: &'a Health,
    /// Decisions a second since it was last told.
    fps: f64,
    latency_ms: Option<f64>,
    model_ms: Option<f64>,
    temperature_c: Option<f64>,
    throttled: Vec<&'static str>,
    /// Decisions that were not sent: too many waited for the broker.
    lost: u64,
}

impl Teller {
    pub(super) fn new(content: Content, bus: Bus, listener: Listener, outbox: Arc<Outbox>) -> Self {
        let areas = vec![(State::Nothing, None); content.areas.len()];
        let on = vec![None; content.rules.len()];
        Self {
            content,
            bus,
            outbox,
            listener,
            areas,
            on,
            picture: (false, None),
            told: None,
            looked: None,
            count: 0,
            last: None,
        }
    }

    /// Tells until the bus is closed.
    pub(super) fn run(mut self) {
        // Whatever an earlier run has left with the broker does not hold any more.
        for area in 0..self.areas.len() {
            let region = self.content.areas[area].clone();
            let nothing = Decision { region, changed: true, ..Decision::default() };
            self.state(area, &nothing);
        }
        self.rules();
        loop {
            match self.listener.next_before(Instant::now() + TICK) {
                Heard::Decision(decision) => self.decision(&decision),
                Heard::Nothing => {}
                Heard::Over => break,
            }
            self.health();
            self.picture();
        }
        self.outbox.close();
    }

    fn decision(&mut self, decision: &Arc<Decision>) {
        let now = Instant::now();
        let area = self.content.areas.iter().position(|name| *name == decision.region).unwrap_or(0);
        self.count += u64::from(!decision.lost);
        self.last = Some(Arc::clone(decision));
        if decision.changed {
            self.areas[area].0 = match (decision.index, decision.decision.is_some()) {
                (Some(index), _) => State::Class(index),
                (None, true) => State::Unknown,
                (None, false) => State::Nothing,
            };
            self.state(area, decision);
            self.rules();
            self.picture.0 = self.content.picture > 0;
        }
        let due = |last: Instant| now.duration_since(last) >= self.content.scores;
        if decision.changed || self.areas[area].1.is_none_or(due) {
            self.areas[area].1 = Some(now);
            let topic = self.content.topics.of_area(area, "scores");
            let message = Message::value(&topic, json(&**decision));
            self.outbox.put(Message { sure: false, retain: false, ..message });
        }
    }

    fn state(&self, area: usize, decision: &Decision) {
        let topic = self.content.topics.of_area(area, "state");
        self.outbox.put(Message { history: true, ..Message::value(&topic, json(decision)) });
    }

    /// Tells which rules have changed.
    fn rules(&mut self) {
        for (rule, told) in self.content.rules.iter().zip(&mut self.on) {
            let holds = |(place, (state, _)): (usize, &(State, _))| {
                rule.area.is_none_or(|area| area == place) && rule.states.contains(state)
            };
            let on = self.areas.iter().enumerate().any(holds);
            if told.replace(on) != Some(on) {
                let topic = self.content.topics.of(&format!("rule/{}", rule.id));
                self.outbox.put(Message::value(&topic, if on { "ON" } else { "OFF" }));
            }
        }
    }

    fn health(&mut self) {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now.duration_since(looked) < TICK) {
            return;
        }
        self.looked = Some(now);
        let health = self.bus.health();
        let mut problems = health.problems.clone();
        // Whoever can read it need not be told.
        problems.remove("mqtt");
        let lost = self.outbox.lost() + self.listener.missed();
        let key = (health.camera.state, problems, lost);
        let since = match &self.told {
            Some((last, when)) if *last == key => match now.duration_since(*when) {
                since if since < HEALTH => return,
                since => Some(since),
            },
            Some((_, when)) => Some(now.duration_since(*when)),
            None => None,
        };
        let board = Board::read();
        let told = Told {
            health: &Health { problems: key.1.clone(), ..health },
            fps: since.map_or(0.0, |s| self.count as f64 / s.as_secs_f64().max(1e-3)),
            latency_ms: self.last.as_ref().map(|d| d.latency_ms),
            model_ms: self.last.as_ref().map(|d| d.model_ms),
            temperature_c: board.temperature_mc.map(|t| t as f64 / 1e3),
            throttled: board.throttling.map(|flags| flags.now().collect()).unwrap_or_default(),
            lost,
        };
        let message = Message::value(&self.content.topics.of("health"), json(&told));
        self.outbox.put(Message { sure: false, ..message });
        (self.told, self.count) = (Some((key, now)), 0);
    }

    /// Sends the newest picture when one is due.
    fn picture(&mut self) {
        let now = Instant::now();
        let (due, last) = self.picture;
        if !due || last.is_some_and(|last| now.duration_since(last) < PICTURE) {
            return;
        }
        self.picture = (false, Some(now));
        let Some(frame) = self.bus.frames().newer_than(0, now) else { return };
        let made = picture::jpeg(&frame, self.content.picture);
        let problem = made.as_ref().err().map(|e| format!("{e:#}"));
        self.bus.report("picture for the broker", problem);
        if let Ok(bytes) = made {
            let message = Message::value(&self.content.topics.of("snapshot"), bytes);
            self.outbox.put(Message { sure: false, ..message });
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
