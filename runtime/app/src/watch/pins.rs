//! Pins while we watch: outputs that follow decisions, buttons that ask for one. One thread has
//! them all; a pin that cannot be had is tried again, and everything else runs on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kinglet_device::gpio::{
    AnyInput, AnyOutput, Button, GpioError, Guard, Output, Pattern, Pin, guarded, open_input,
    open_output, switch_off,
};
use toml::Spanned;

use super::args::Args;
use super::bus::Bus;
use super::config;
use super::pulse::BEAT;
use crate::decide::State;
use crate::exit::{Done, Outcome};

/// How often buttons are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How often a pin that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long is waited for the thread at the end, and for the guard that it tells.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where the service's pins stand, in its runtime directory (systemd's), for whoever comes after it.
fn record() -> Option<PathBuf> {
    let folders = std::env::var("RUNTIME_DIRECTORY").ok()?;
    Some(Path::new(folders.split(':').next()?).join("pins"))
}

/// Switches off what a `watch` has left on: the outputs that it had, or those of the configuration.
pub(super) fn release(args: &Args) -> Outcome {
    let pins: Vec<String> = match record().and_then(|file| std::fs::read_to_string(file).ok()) {
        Some(text) => text.lines().map(str::to_owned).collect(),
        None => {
            let config = args.configuration()?;
            let wire = |output: &Spanned<config::Output>| {
                let off = output.get_ref().active_low;
                let pin = output.get_ref().pin.pin().map_err(|why| config.error(output, &why));
                pin.map(|pin| guarded(&pin, off))
            };
            config.output.iter().map(wire).collect::<Result<_, _>>()?
        }
    };
    switch_off(&pins)?;
    Ok(Done::Well)
}

/// One output: its pin, and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OutputPlan {
    pub(super) pin: Pin,
    pub(super) pattern: Pattern,
    pub(super) active_low: bool,
    /// On while one of these is decided,
    pub(super) states: Vec<State>,
    /// in this area, or in any.
    pub(super) area: Option<usize>,
}

/// One button.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ButtonPlan {
    pub(super) pin: Pin,
    pub(super) active_low: bool,
}

/// Pins in use. Dropping it switches all outputs off, also in a panic.
#[derive(Debug)]
pub(super) struct Pins {
    shared: Arc<Shared>,
    outputs: Vec<OutputPlan>,
    buttons: Vec<ButtonPlan>,
    bus: Bus,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
    stop: AtomicBool,
    pressed: AtomicBool,
}

/// What the thread is told.
#[derive(Debug, Default, Clone, PartialEq)]
struct Wanted {
    /// Whether each output is to be on.
    on: Vec<bool>,
    /// Other pins, which it has not taken yet.
    pins: Option<(Vec<OutputPlan>, Vec<ButtonPlan>)>,
}

impl Pins {
    pub(super) fn start(
        outputs: Vec<OutputPlan>,
        buttons: Vec<ButtonPlan>,
        bus: &Bus,
    ) -> std::io::Result<Self> {
        let (shared, bus) = (Arc::default(), bus.clone());
        let mut pins = Self { shared, outputs: Vec::new(), buttons: Vec::new(), bus, thread: None };
        pins.change(outputs, buttons, &[])?;
        Ok(pins)
    }

    /// Has these pins from now on, and follows the states that hold. Pins that stay the same are not
    /// let go for it.
    pub(super) fn change(
        &mut self,
        outputs: Vec<OutputPlan>,
        buttons: Vec<ButtonPlan>,
        states: &[State],
    ) -> std::io::Result<()> {
        let same = self.buttons == buttons
            && self.outputs.len() == outputs.len()
            && self.outputs.iter().zip(&outputs).all(|(old, new)| old.same_wire(new));
        if !same {
            let mut wanted = self.shared.wanted();
            wanted.on = outputs.iter().map(|plan| plan.wanted(states)).collect();
            wanted.pins = Some((outputs.clone(), buttons.clone()));
            drop(wanted);
            self.shared.changed.notify_all();
            if self.thread.is_none() {
                let (shared, bus) = (Arc::clone(&self.shared), self.bus.clone());
                let thread = std::thread::Builder::new().name("pins".into());
                self.thread = Some(thread.spawn(move || Keeper::new(bus).run(&shared))?);
            }
        }
        (self.outputs, self.buttons) = (outputs, buttons);
        self.follow(states);
        Ok(())
    }

    /// Follows what is decided: the state of each area.
    pub(super) fn follow(&self, states: &[State]) {
        if self.outputs.is_empty() {
            return;
        }
        let mut wanted = self.shared.wanted();
        let mut changed = false;
        for (wanted, plan) in wanted.on.iter_mut().zip(&self.outputs) {
            let now = plan.wanted(states);
            changed |= std::mem::replace(wanted, now) != now;
        }
        drop(wanted);
        if changed {
            self.shared.changed.notify_all();
        }
    }

    /// Whether there are buttons, so that one asks for each classification.
    pub(super) fn has_buttons(&self) -> bool {
        !self.buttons.is_empty()
    }

    /// Whether a button was pressed since the last call.
    pub(super) fn pressed(&self) -> bool {
        self.shared.pressed.swap(false, Relaxed)
    }
}

impl Pins {
    /// Tells the thread to switch all off and end; returns at once.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.changed.notify_all();
    }

    /// Whether it has.
    pub(super) fn stopped(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.stop();
        let deadline = Instant::now() + FAREWELL;
        // A guard that was not told that all is well sees to it when we are gone.
        while !self.stopped() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl OutputPlan {
    /// Whether nothing but what it shows is different.
    fn same_wire(&self, other: &Self) -> bool {
        (&self.pin, self.pattern, self.active_low) == (&other.pin, other.pattern, other.active_low)
    }

    /// Whether it is on in these states, one for each area.
    pub(super) fn wanted(&self, states: &[State]) -> bool {
        let area = |i: usize| self.area.is_none_or(|area| area == i);
        states.iter().enumerate().any(|(i, state)| area(i) && self.states.contains(state))
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pin that is there, or when it is tried again.
enum Slot<T> {
    Ready(T),
    Later(Instant),
}

/// What the thread has. Outputs are switched off before the guard is told that all is well.
struct Keeper {
    outputs: Vec<(OutputPlan, Slot<Output<AnyOutput>>)>,
    buttons: Vec<(ButtonPlan, Slot<Button<AnyInput>>)>,
    guard: Option<Guard>,
    bus: Bus,
}

impl Keeper {
    fn new(bus: Bus) -> Self {
        Self { outputs: Vec::new(), buttons: Vec::new(), guard: None, bus }
    }

    /// Takes other pins, and keeps those that it has already.
    fn take(&mut self, outputs: Vec<OutputPlan>, buttons: Vec<ButtonPlan>) {
        let wires = outputs.iter().map(|plan| (&plan.pin, plan.active_low));
        let guard = match outputs.is_empty() {
            true => Ok(None),
            false => Guard::start(wires).map(Some),
        };
        let problem = guard.as_ref().err().map(ToString::to_string);
        self.bus.report("guard of pins", problem);
        if let Some(file) = record() {
            let lines = outputs.iter().map(|plan| guarded(&plan.pin, plan.active_low) + "\n");
            let written = std::fs::write(file, lines.collect::<String>());
            self.bus.report("record of pins", written.err().map(|e| e.to_string()));
        }
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.outputs);
        for plan in outputs {
            let place = before.iter().position(|(old, _)| old.same_wire(&plan));
            let slot = place.map_or(Slot::Later(now), |place| before.swap_remove(place).1);
            self.outputs.push((plan, slot));
        }
        let mut pressed = std::mem::take(&mut self.buttons);
        for plan in buttons {
            let place = pressed.iter().position(|(old, _)| *old == plan);
            let slot = place.map_or(Slot::Later(now), |place| pressed.swap_remove(place).1);
            self.buttons.push((plan, slot));
        }
        for pin in before.iter().map(|b| &b.0.pin).chain(pressed.iter().map(|b| &b.0.pin)) {
            self.bus.report(&part(pin), None);
        }
        // What is no longer in use is off before its guard goes.
        drop(before);
        self.guard = guard.ok().flatten();
    }

    fn run(mut self, shared: &Shared) {
        let pulse = self.bus.pulse("pins");
        while !shared.stop.load(Relaxed) {
            pulse.beat();
            let mut lock = shared.wanted();
            let (other, wanted) = (lock.pins.take(), lock.clone());
            drop(lock);
            if let Some((outputs, buttons)) = other {
                self.take(outputs, buttons);
            }
            let now = Instant::now();
            let mut next = now + BEAT;
            for ((plan, slot), wanted) in self.outputs.iter_mut().zip(&wanted.on) {
                let open = |plan: &OutputPlan| {
                    let pin = open_output(&plan.pin, plan.active_low)?;
                    Output::new(pin, plan.pattern, plan.active_low)
                };
                let tick = keep(
                    slot,
                    &plan.pin,
                    &self.bus,
                    now,
                    || open(plan),
                    |output| {
                        output.want(*wanted, now);
                        output.tick(now)
                    },
                );
                next = next.min(tick.flatten().unwrap_or(next));
            }
            for (plan, slot) in &mut self.buttons {
                let open = |plan: &ButtonPlan| {
                    Ok(Button::new(open_input(&plan.pin, plan.active_low)?, plan.active_low))
                };
                let poll = |button: &mut Button<AnyInput>| button.poll(now);
                if keep(slot, &plan.pin, &self.bus, now, || open(plan), poll) == Some(true) {
                    shared.pressed.store(true, Relaxed);
                }
                next = next.min(now + LOOK);
            }
            let guard = shared.wanted();
            // What was wanted meanwhile is done at once.
            if *guard == wanted && !shared.stop.load(Relaxed) {
                let left = next.saturating_duration_since(Instant::now());
                drop(shared.changed.wait_timeout(guard, left));
            }
        }
    }
}

/// A pin's name in health.
fn part(pin: &Pin) -> String {
    format!("pin {pin}")
}

/// Uses a pin, opening it when it is due; reports what goes wrong and what works again.
fn keep<T, R>(
    slot: &mut Slot<T>,
    pin: &Pin,
    bus: &Bus,
    now: Instant,
    open: impl FnOnce() -> Result<T, GpioError>,
    act: impl FnOnce(&mut T) -> Result<R, GpioError>,
) -> Option<R> {
    if matches!(slot, Slot::Later(due) if now >= *due) {
        match open() {
            Ok(opened) => {
                *slot = Slot::Ready(opened);
                bus.report(&part(pin), None);
            }
            Err(error) => {
                *slot = Slot::Later(now + AGAIN);
                bus.report(&part(pin), Some(error.to_string()));
            }
        }
    }
    let Slot::Ready(ready) = slot else { return None };
    match act(ready) {
        Ok(result) => Some(result),
        Err(error) => {
            *slot = Slot::Later(now + AGAIN);
            bus.report(&part(pin), Some(error.to_string()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_follows_its_classes_in_its_area() {
        let plan = |area| OutputPlan {
            pin: Pin { chip: None, line: 1 },
            pattern: Pattern::Steady,
            active_low: false,
            states: vec![State::Class(3), State::Unknown],
            area,
        };
        let (any, second) = (plan(None), plan(Some(1)));
        assert!(any.wanted(&[State::Class(3), State::Nothing]));
        assert!(!second.wanted(&[State::Class(3), State::Nothing]));
        assert!(second.wanted(&[State::Nothing, State::Unknown]));
        assert!(!any.wanted(&[State::Class(2), State::Nothing]));
    }
}
