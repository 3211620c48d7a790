//! What acts on decisions: lines, the log, snapshots, pins; and the second model, which does not.
//!
//! Each part belongs to a section of the configuration and is started, changed and ended on its own.
//! One more gets a field, and a line in [`Parts::start`], [`Parts::change`] and [`Parts::stopped`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kinglet_device::camera::Frame;

use super::bus::{Bus, Writer};
use super::config::{Changes, Config};
use super::decision::Decision;
use super::display;
use super::eyes::Seen;
use super::journal;
use super::mqtt::Mqtt;
use super::pins::Pins;
use super::plan::Plan;
use super::shadow::{Said, Shadow};
use super::show::{self, Lines};
use super::snapshots::Snapshots;
use super::web;
use crate::decide::State;
use crate::load::ModelArgs;

/// Decisions that may wait for a part.
const WAITING: usize = 256;
/// How long pins, files and the camera may take to be safe and closed at the end.
const FAREWELL: Duration = Duration::from_millis(1300);

/// The parts that run.
#[derive(Debug)]
pub(super) struct Parts {
    // Dropped first: whatever happens, pins are safe.
    pins: Pins,
    snapshots: Option<Snapshots>,
    log: Option<Writer>,
    lines: Writer,
    shadow: Option<Shadow>,
    web: web::Server,
    mqtt: Option<Mqtt>,
    display: Option<Writer>,
    /// Pictures that the model is unsure of.
    unsure: Option<Snapshots>,
    /// What was decided about the frame that is being looked at.
    said: Vec<Said>,
    bus: Bus,
}

impl Parts {
    /// Starts what the configuration asks for. When nobody reads lines any more, `stop` is set.
    pub(super) fn start(
        config: &Config,
        plan: &Plan,
        shadow: Option<ModelArgs>,
        lines: Lines,
        facts: web::Facts,
        bus: &Bus,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            lines: show::start(bus.listen(WAITING, true), lines, stop)?,
            log: log(config, bus)?,
            snapshots: snapshots(config, plan, bus)?,
            pins: Pins::start(plan.outputs.clone(), plan.buttons.clone(), bus)?,
            shadow: second(shadow, config, plan, bus)?,
            mqtt: mqtt(plan, bus, None)?,
            display: display(config, bus)?,
            unsure: config.drift.keep(plan.view.areas(), bus)?,
            web: web::Server::start(config.http.as_ref(), facts, bus)?,
            said: Vec::new(),
            bus: bus.clone(),
        })
    }

    /// Goes on with another configuration: what it changes is ended and started again, and the rest
    /// notices nothing. What cannot be started is said in health.
    pub(super) fn change(
        &mut self,
        changes: &Changes,
        config: &Config,
        [before, plan]: [&Plan; 2],
        states: &[State],
    ) {
        let bus = &self.bus;
        let mut failed = Vec::new();
        if changes.has("log") {
            // It writes what it has and ends.
            self.log = None;
            bus.report("log", None);
            self.log = log(config, bus).unwrap_or_else(|error| {
                failed.push(("log", error));
                None
            });
        }
        // Classes may have other numbers in another model.
        let same = before.snapshots == plan.snapshots && before.view.areas() == plan.view.areas();
        if changes.has("snapshots") || !same {
            self.snapshots = None;
            bus.report("snapshots", None);
            self.snapshots = snapshots(config, plan, bus).unwrap_or_else(|error| {
                failed.push(("snapshots", error));
                None
            });
        }
        if before.mqtt != plan.mqtt {
            let old = self.mqtt.take();
            bus.report("mqtt", None);
            self.mqtt = mqtt(plan, bus, old).unwrap_or_else(|error| {
                failed.push(("mqtt", error));
                None
            });
        }
        if changes.has("display") {
            self.display = None;
            bus.report("display", None);
            self.display = display(config, bus).unwrap_or_else(|error| {
                failed.push(("display", error));
                None
            });
        }
        if changes.has("drift") || before.view.areas() != plan.view.areas() {
            self.unsure = None;
            self.unsure = config.drift.keep(plan.view.areas(), bus).unwrap_or_else(|error| {
                failed.push(("drift", error));
                None
            });
        }
        let (outputs, buttons) = (plan.outputs.clone(), plan.buttons.clone());
        if let Err(error) = self.pins.change(outputs, buttons, states) {
            failed.push(("pins", error));
        }
        for (part, error) in failed {
            bus.report(part, Some(error.to_string()));
        }
    }

    /// Shows another model, other regions or outputs from now on, or serves elsewhere.
    pub(super) fn change_web(&mut self, changes: &Changes, config: &Config, facts: web::Facts) {
        self.web.tell(facts);
        if changes.has("http")
            && let Err(error) = self.web.change(config.http.clone())
        {
            self.bus.report("http", Some(error.to_string()));
        }
    }

    /// Shows the frames that come to another second model from now on, or to none.
    pub(super) fn change_shadow(&mut self, model: Option<ModelArgs>, config: &Config, plan: &Plan) {
        if let Some(old) = self.shadow.take() {
            old.leave();
        }
        self.shadow = second(model, config, plan, &self.bus).unwrap_or_else(|error| {
            self.bus.report("shadow", Some(error.to_string()));
            None
        });
    }

    /// Buttons, of which one asks for each classification.
    pub(super) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Acts on what was decided about an area of a frame: `states` of all areas, and what was seen in
    /// this one.
    pub(super) fn act(
        &mut self,
        frame: &Arc<Frame>,
        decision: Decision,
        area: usize,
        states: &[State],
        seen: &Seen,
    ) {
        self.pins.follow(states);
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.offer(frame, &decision, states[area], area);
        }
        if self.shadow.is_some() {
            let (seen, ms) = (seen.clone(), decision.prepare_ms + decision.model_ms);
            self.said.push(Said { area, seen, ms });
        }
        self.bus.publish(decision);
    }

    /// Keeps a frame of which the model is unsure, if such are kept.
    pub(super) fn keep_unsure(&mut self, frame: &Arc<Frame>, decision: &Decision, area: usize) {
        if let Some(unsure) = &mut self.unsure {
            unsure.offer_now(frame, decision, area);
        }
    }

    /// The frame was looked at. `rests`: the board is hot, and nothing more is done than must be.
    pub(super) fn seen(&mut self, frame: &Arc<Frame>, rests: bool) {
        if let Some(shadow) = &self.shadow
            && !self.said.is_empty()
        {
            match rests {
                true => shadow.rest(self.said.len()),
                false => shadow.offer(frame, &self.said),
            }
        }
        self.said.clear();
    }

    /// The camera is lost, and with it what was decided.
    pub(super) fn lose(&self, states: &[State]) {
        self.pins.follow(states);
        if let Some(shadow) = &self.shadow {
            shadow.lose();
        }
    }

    /// Ends all, the camera too: pins first, and everything at once. `lines` is how long lines and
    /// log may take to write what is left; what is slower is left behind.
    pub(super) fn end(mut self, lines: Duration) {
        self.pins.stop();
        self.bus.frames().stop();
        for snapshots in self.snapshots.iter_mut().chain(&mut self.unsure) {
            snapshots.stop();
        }
        if let Some(shadow) = &self.shadow {
            shadow.stop();
        }
        self.bus.close();
        self.web.stop();
        let begun = Instant::now();
        while !self.stopped() && begun.elapsed() < FAREWELL
            || !self.written() && begun.elapsed() < lines
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether lines, log and messages are written.
    fn written(&self) -> bool {
        self.lines.stopped()
            && self.mqtt.as_ref().is_none_or(Mqtt::stopped)
            && self.log.as_ref().is_none_or(Writer::stopped)
    }

    /// Whether all that has to be safe or closed is.
    fn stopped(&self) -> bool {
        self.pins.stopped()
            && self.snapshots.iter().chain(&self.unsure).all(Snapshots::stopped)
            && self.display.as_ref().is_none_or(Writer::stopped)
            && self.bus.frames().stopped()
            && self.web.stopped()
    }
}

fn log(config: &Config, bus: &Bus) -> std::io::Result<Option<Writer>> {
    let start = |log| journal::start(log, bus.listen(WAITING, true), bus.clone());
    config.log.as_ref().map(start).transpose()
}

fn snapshots(config: &Config, plan: &Plan, bus: &Bus) -> std::io::Result<Option<Snapshots>> {
    let (states, areas) = (&plan.snapshots, plan.view.areas());
    let start = |settings| Snapshots::start(settings, states.clone(), areas, bus.clone());
    config.snapshots.as_ref().map(start).transpose()
}

fn display(config: &Config, bus: &Bus) -> std::io::Result<Option<Writer>> {
    let start = |settings| display::start(settings, bus.listen(WAITING, false), bus.clone());
    config.display.as_ref().map(start).transpose()
}

fn mqtt(plan: &Plan, bus: &Bus, before: Option<Mqtt>) -> std::io::Result<Option<Mqtt>> {
    let start = |plan| Mqtt::start(plan, bus.listen(WAITING, false), bus.clone(), before);
    plan.mqtt.clone().map(start).transpose()
}

fn second(
    model: Option<ModelArgs>,
    config: &Config,
    plan: &Plan,
    bus: &Bus,
) -> std::io::Result<Option<Shadow>> {
    model.map(|model| Shadow::start(model, config, plan, bus)).transpose()
}
