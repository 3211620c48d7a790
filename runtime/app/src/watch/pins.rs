//! Pins while we watch: outputs that follow decisions, buttons that ask for one. One thread has
//! them all; a pin that cannot be had is tried again, and everything else runs on.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kinglet_device::gpio::{
    AnyInput, AnyOutput, Button, GpioError, Guard, Output, Pattern, Pin, open_input, open_output,
};

use super::bus::Bus;
use crate::decide::State;

/// How often buttons are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How often a pin that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long is waited for the thread at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// One output: its pin, and what it shows.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub(super) struct ButtonPlan {
    pub(super) pin: Pin,
    pub(super) active_low: bool,
}

/// Pins in use. Dropping it switches all outputs off, also in a panic.
#[derive(Debug)]
pub(super) struct Pins {
    shared: Arc<Shared>,
    outputs: Vec<OutputPlan>,
    has_buttons: bool,
    thread: Option<JoinHandle<()>>,
    // After the thread: it has nothing to do once that has switched all off.
    guard: Option<Guard>,
}

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Vec<bool>>,
    changed: Condvar,
    stop: AtomicBool,
    pressed: AtomicBool,
}

impl Pins {
    pub(super) fn start(
        outputs: Vec<OutputPlan>,
        buttons: Vec<ButtonPlan>,
        bus: &Bus,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let has_buttons = !buttons.is_empty();
        *shared.wanted() = vec![false; outputs.len()];
        let guard = match outputs.is_empty() {
            true => None,
            false => match Guard::start(outputs.iter().map(|plan| (&plan.pin, plan.active_low))) {
                Ok(guard) => Some(guard),
                Err(error) => {
                    bus.report("guard of pins", Some(error.to_string()));
                    None
                }
            },
        };
        let thread = if outputs.is_empty() && buttons.is_empty() {
            None
        } else {
            let (shared, plans, bus) = (Arc::clone(&shared), outputs.clone(), bus.clone());
            let thread = std::thread::Builder::new().name("pins".into());
            Some(thread.spawn(move || Keeper::new(plans, buttons, bus).run(&shared))?)
        };
        Ok(Self { shared, outputs, has_buttons, thread, guard })
    }

    /// Follows what is decided: the state of each area.
    pub(super) fn follow(&self, states: &[State]) {
        if self.outputs.is_empty() {
            return;
        }
        let mut wanted = self.shared.wanted();
        let mut changed = false;
        for (wanted, plan) in wanted.iter_mut().zip(&self.outputs) {
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
        self.has_buttons
    }

    /// Whether a button was pressed since the last call.
    pub(super) fn pressed(&self) -> bool {
        self.shared.pressed.swap(false, Relaxed)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.changed.notify_all();
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + FAREWELL;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            // The guard sees to it when we are gone.
            std::mem::forget(self.guard.take());
        }
    }
}

impl OutputPlan {
    /// Whether it is on in these states, one for each area.
    pub(super) fn wanted(&self, states: &[State]) -> bool {
        let area = |i: usize| self.area.is_none_or(|area| area == i);
        states.iter().enumerate().any(|(i, state)| area(i) && self.states.contains(state))
    }
}

impl Shared {
    fn wanted(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pin that is there, or when it is tried again.
enum Slot<T> {
    Ready(T),
    Later(Instant),
}

/// What the thread has.
struct Keeper {
    outputs: Vec<(OutputPlan, Slot<Output<AnyOutput>>)>,
    buttons: Vec<(ButtonPlan, Slot<Button<AnyInput>>)>,
    bus: Bus,
}

impl Keeper {
    fn new(outputs: Vec<OutputPlan>, buttons: Vec<ButtonPlan>, bus: Bus) -> Self {
        let now = Instant::now();
        let outputs = outputs.into_iter().map(|plan| (plan, Slot::Later(now))).collect();
        let buttons = buttons.into_iter().map(|plan| (plan, Slot::Later(now))).collect();
        Self { outputs, buttons, bus }
    }

    fn run(mut self, shared: &Shared) {
        while !shared.stop.load(Relaxed) {
            let wanted = shared.wanted().clone();
            let now = Instant::now();
            let mut next = now + Duration::from_secs(1);
            for ((plan, slot), wanted) in self.outputs.iter_mut().zip(&wanted) {
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

/// Uses a pin, opening it when it is due; reports what goes wrong and what works again.
fn keep<T, R>(
    slot: &mut Slot<T>,
    pin: &Pin,
    bus: &Bus,
    now: Instant,
    open: impl FnOnce() -> Result<T, GpioError>,
    act: impl FnOnce(&mut T) -> Result<R, GpioError>,
) -> Option<R> {
    let part = || format!("pin {pin}");
    if matches!(slot, Slot::Later(due) if now >= *due) {
        match open() {
            Ok(opened) => {
                *slot = Slot::Ready(opened);
                bus.report(&part(), None);
            }
            Err(error) => {
                *slot = Slot::Later(now + AGAIN);
                bus.report(&part(), Some(error.to_string()));
            }
        }
    }
    let Slot::Ready(ready) = slot else { return None };
    match act(ready) {
        Ok(result) => Some(result),
        Err(error) => {
            *slot = Slot::Later(now + AGAIN);
            bus.report(&part(), Some(error.to_string()));
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
