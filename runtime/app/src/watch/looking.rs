//! The loop: takes the newest frame, looks at it, hands on what was decided. Nothing here blocks but
//! the model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kinglet_device::Board;
use kinglet_device::camera::{Frame, Taken};

use super::bus::Bus;
use super::config::Config;
use super::eyes::{Blind, Eyes};
use super::parts::Parts;
use super::plan::Plan;
use super::pulse::Pulse;
use super::reload::{Fresh, Reloader};
use super::sight::Sight;
use super::web;
use crate::decide::{Governor, Heat, State};
use crate::exit::{Done, Outcome, Usage};

/// How soon the loop sees that it shall end, or that a button was pressed.
const GLANCE: Duration = Duration::from_millis(50);
/// How often the temperature is read.
const FEEL: Duration = Duration::from_secs(1);

/// What the loop has.
#[derive(Debug)]
pub(super) struct Watch {
    // Dropped first: whatever happens, pins are safe.
    pub(super) parts: Parts,
    pub(super) eyes: Eyes,
    pub(super) states: Vec<State>,
    pub(super) pace: Rhythm,
    pub(super) bus: Bus,
    /// What all this was made from.
    pub(super) config: Config,
    pub(super) sight: Sight,
    pub(super) plan: Plan,
    pub(super) reloader: Reloader,
    pub(super) stop: Arc<AtomicBool>,
    /// When it is over by itself.
    pub(super) end: Option<Instant>,
    pub(super) pulse: Pulse,
    /// Pictures that could not be used.
    pub(super) bad: u64,
}

impl Watch {
    fn over(&self) -> bool {
        self.stop.load(Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Looks until it is over.
    pub(super) fn run(&mut self) -> Outcome {
        let mut next = Instant::now();
        let mut asked: Option<Instant> = None;
        while !self.over() {
            self.pulse.beat();
            if let Some(letter) = self.reloader.take() {
                self.renew(letter);
            }
            let now = Instant::now();
            if now < next {
                std::thread::sleep((next - now).min(GLANCE));
                continue;
            }
            match self.bus.frames().take(now + GLANCE) {
                Taken::Frame(frame) => {
                    let pins = self.parts.pins();
                    if pins.has_buttons() {
                        if pins.pressed() {
                            asked = Some(Instant::now());
                        }
                        // What is looked at was seen after the button was pressed.
                        if asked.is_none_or(|asked| frame.captured < asked) {
                            continue;
                        }
                        asked = None;
                    }
                    let begun = Instant::now();
                    self.look(&frame)?;
                    next = self.pace.after(begun);
                }
                Taken::Lost => {
                    for decision in self.eyes.lose() {
                        self.bus.publish(decision);
                    }
                    self.states.fill(State::Nothing);
                    self.parts.lose(&self.states);
                }
                Taken::Wait => {}
                Taken::End(Ok(())) => {
                    return Ok(if self.bad > 0 { Done::PartlyFailed } else { Done::Well });
                }
                // Whoever told us to end has told the camera too.
                Taken::End(Err(_)) if self.over() => {}
                Taken::End(Err(error)) => anyhow::bail!("{error}"),
            }
        }
        Ok(Done::Well)
    }

    /// Looks at all areas of a frame and acts.
    fn look(&mut self, frame: &Arc<Frame>) -> anyhow::Result<()> {
        for area in 0..self.eyes.areas() {
            match self.eyes.look(frame, area) {
                Ok(Some(decision)) => {
                    self.states[area] = self.eyes.state(area);
                    if self.eyes.is_unsure() {
                        self.parts.keep_unsure(frame, &decision, area);
                    }
                    self.eyes.tell_drift(&self.bus);
                    self.parts.act(frame, decision, area, &self.states, self.eyes.seen());
                }
                Ok(None) => {}
                Err(Blind::Frame(why)) => {
                    self.bad += 1;
                    if frame.name.is_empty() {
                        tracing::debug!("frame {}: {why}", frame.number);
                    } else {
                        tracing::error!("{}: {why}", frame.name);
                    }
                    self.bus.frames().refuse(&why);
                    return Ok(());
                }
                Err(Blind::Model(error)) => return Err(error).context("the model failed"),
            }
        }
        self.bus.frames().accept();
        self.parts.seen(frame, self.pace.is_hot());
        Ok(())
    }

    /// Takes what a reload has brought, between two frames.
    fn renew(&mut self, letter: Result<Box<Fresh>, String>) {
        let renewed = letter.and_then(|fresh| {
            let current = fresh.current.clone();
            self.change(*fresh).map_err(|error| error.to_string()).map(|()| current)
        });
        let problem = renewed.as_ref().err();
        if let Some(problem) = problem {
            tracing::error!("not reloaded, all goes on as it was: {problem}");
        }
        self.bus.note("configuration", problem.cloned());
        self.reloader.done(renewed);
    }

    /// Goes on with another configuration and model, or with the old ones and an error.
    fn change(&mut self, fresh: Fresh) -> Result<(), Usage> {
        let Fresh { config, sight, model, shadow: (shadow, other_shadow), .. } = fresh;
        let session = model.as_ref().unwrap_or(self.eyes.session());
        let mut plan = Plan::new(&config, session, sight.pictures())?;
        if model.is_none() {
            // A thousand names: others that use them need no second copy.
            plan.labels = Arc::clone(&self.plan.labels);
        }
        let facts = web::Facts::new(self.reloader.model_of(&config), session, &plan);
        // From here on nothing fails.
        let changes = self.config.changes(&config);
        let mut what: Vec<&str> = changes.names().filter(|name| *name != "model").collect();
        let other_model = model.is_some();
        if other_model {
            what.push("model");
        }
        let other_eyes = other_model || plan.view != self.plan.view;
        if other_eyes {
            let (fallen, old) = self.eyes.change(model, &plan.view);
            self.states = (0..self.eyes.areas()).map(|area| self.eyes.state(area)).collect();
            for decision in fallen {
                self.bus.publish(decision);
            }
            // Its memory and threads are given back elsewhere: that takes time.
            let _ = std::thread::Builder::new().name("old model".into()).spawn(move || drop(old));
        }
        if changes.has("rate") {
            self.pace = Rhythm::new(config.rate.max_fps, config.rate.cool_below);
        }
        self.parts.change(&changes, &config, [&self.plan, &plan], &self.states);
        self.parts.change_web(&changes, &config, facts);
        if other_shadow || (other_eyes && shadow.is_some()) {
            if other_shadow && !changes.has("shadow") {
                what.push("shadow");
            }
            self.parts.change_shadow(shadow, &config, &plan);
        }
        if sight != self.sight {
            self.bus.be_patient(sight.every());
            sight.change(self.bus.frames());
        }
        match what.is_empty() {
            true => tracing::info!("reloaded: nothing has changed"),
            false => tracing::info!("reloaded: {} changed", what.join(", ")),
        }
        (self.config, self.sight, self.plan) = (config, sight, plan);
        Ok(())
    }
}

/// When looks may begin: the governor with a clock and a thermometer.
#[derive(Debug)]
pub(super) struct Rhythm {
    governor: Governor,
    /// Whether the temperature matters.
    feels: bool,
    heat: (Heat, Option<Instant>),
    started: Instant,
}

impl Rhythm {
    /// Looks a second at most, and the temperature in °C from which on there are fewer.
    pub(super) fn new(max_fps: Option<f64>, cool_below: Option<f64>) -> Self {
        Self {
            governor: Governor::new(max_fps, cool_below),
            feels: cool_below.is_some(),
            heat: (Heat::default(), None),
            started: Instant::now(),
        }
    }

    /// Whether there are fewer looks, to stay cool.
    fn is_hot(&self) -> bool {
        !self.governor.pause().is_zero()
    }

    /// When the next look may begin, after one that began then.
    fn after(&mut self, begun: Instant) -> Instant {
        let now = Instant::now();
        if self.feels && self.heat.1.is_none_or(|last| now - last >= FEEL) {
            let board = Board::read();
            let slowed = |flag: &str| !flag.starts_with("under-voltage");
            let heat = Heat {
                celsius: board.temperature_mc.map(|t| t as f64 / 1e3),
                throttled: board.throttling.is_some_and(|flags| flags.now().any(slowed)),
            };
            self.heat = (heat, Some(now));
        }
        let before = self.governor.pause();
        let since = |at: Instant| at.saturating_duration_since(self.started);
        let next = self.started + self.governor.next(since(begun), since(now), self.heat.0);
        let pause = self.governor.pause();
        if before.is_zero() != pause.is_zero() {
            let celsius = self.heat.0.celsius.unwrap_or(f64::NAN);
            let what = if pause.is_zero() { "full speed again" } else { "slower, to stay cool" };
            tracing::info!("{celsius:.1} °C: {what}");
        }
        next
    }
}
