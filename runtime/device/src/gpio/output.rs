//! A light, relay or buzzer: when its pin is high and when low.

use std::time::{Duration, Instant};

use embedded_hal::digital::{OutputPin, PinState};

/// What an output does while it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// It is on.
    #[default]
    Steady,
    /// It is on for this long, once each time that it begins to be wanted.
    Pulse(Duration),
    /// It is on for this long, then off for as long, and so on.
    Blink(Duration),
}

/// An output over any pin. It is switched off when it is dropped, also by a panic.
#[derive(Debug)]
pub struct Output<P: OutputPin> {
    pin: P,
    active_low: bool,
    pattern: Pattern,
    /// Since when it has been wanted.
    since: Option<Instant>,
    /// What the pin was set to last; `None` when that failed.
    on: Option<bool>,
}

impl<P: OutputPin> Output<P> {
    /// Takes a pin and switches it off. `active_low`: it is on when the pin is low.
    ///
    /// # Errors
    /// What the pin says.
    pub fn new(pin: P, pattern: Pattern, active_low: bool) -> Result<Self, P::Error> {
        let mut output = Self { pin, active_low, pattern, since: None, on: None };
        output.switch(false)?;
        Ok(output)
    }

    /// Says whether it is wanted from `now` on. [`Self::tick`] switches it.
    pub fn want(&mut self, wanted: bool, now: Instant) {
        match (wanted, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(_)) => self.since = None,
            _ => {}
        }
    }

    /// Switches the pin to what it should be at `now`; says when to call again, if time alone will
    /// change that.
    ///
    /// # Errors
    /// What the pin says; the next call tries again.
    pub fn tick(&mut self, now: Instant) -> Result<Option<Instant>, P::Error> {
        let (on, next) = match (self.since, self.pattern) {
            (None, _) => (false, None),
            (Some(_), Pattern::Steady) => (true, None),
            (Some(since), Pattern::Pulse(length)) => {
                let end = since + length;
                (now < end, (now < end).then_some(end))
            }
            (Some(since), Pattern::Blink(half)) => {
                let half = half.max(Duration::from_millis(1));
                let passed = now.saturating_duration_since(since).as_nanos() / half.as_nanos();
                let passed = u32::try_from(passed).unwrap_or(u32::MAX - 1);
                (passed.is_multiple_of(2), Some(since + half * (passed + 1)))
            }
        };
        if self.on != Some(on) {
            self.switch(on)?;
        }
        Ok(next)
    }

    /// Whether the pin is on.
    pub fn is_on(&self) -> bool {
        self.on == Some(true)
    }

    fn switch(&mut self, on: bool) -> Result<(), P::Error> {
        self.on = None;
        self.pin.set_state(PinState::from(on != self.active_low))?;
        self.on = Some(on);
        Ok(())
    }
}

impl<P: OutputPin> Drop for Output<P> {
    fn drop(&mut self) {
        if self.on != Some(false) {
            // There is nobody to tell; the kernel lets go of the pin anyway.
            let _ = self.switch(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::MockError;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The pin is set to these levels, and the output behaves as the closure has it.
    fn check(levels: &[State], run: impl FnOnce(Mock)) {
        let expected: Vec<_> = levels.iter().map(|level| Transaction::set(*level)).collect();
        let mut pin = Mock::new(&expected);
        run(pin.clone());
        pin.done();
    }

    use State::{High, Low};

    #[test]
    fn steady_is_on_while_it_is_wanted_and_off_when_dropped() {
        check(&[Low, High, Low, High, Low], |pin| {
            let mut output = Output::new(pin, Pattern::Steady, false).unwrap();
            let now = Instant::now();
            for wanted in [false, true, true, false, true] {
                output.want(wanted, now);
                assert_eq!(output.tick(now).unwrap(), None);
                assert_eq!(output.is_on(), wanted);
            }
        });
    }

    #[test]
    fn active_low_is_high_when_it_is_off() {
        check(&[High, Low, High], |pin| {
            let mut output = Output::new(pin, Pattern::Steady, true).unwrap();
            output.want(true, Instant::now());
            output.tick(Instant::now()).unwrap();
        });
    }

    #[test]
    fn a_pulse_comes_once_each_time() {
        check(&[Low, High, Low, High, Low], |pin| {
            let mut output = Output::new(pin, Pattern::Pulse(100 * MS), false).unwrap();
            let start = Instant::now();
            output.want(true, start);
            assert_eq!(output.tick(start).unwrap(), Some(start + 100 * MS));
            output.want(true, start + 50 * MS);
            assert_eq!(output.tick(start + 99 * MS).unwrap(), Some(start + 100 * MS));
            assert_eq!(output.tick(start + 100 * MS).unwrap(), None);
            assert_eq!(output.tick(start + 900 * MS).unwrap(), None);
            output.want(false, start + 901 * MS);
            output.want(true, start + 902 * MS);
            output.tick(start + 902 * MS).unwrap();
        });
    }

    #[test]
    fn blinking_keeps_its_rhythm_even_when_ticks_come_late() {
        check(&[Low, High, Low, High, Low], |pin| {
            let mut output = Output::new(pin, Pattern::Blink(100 * MS), false).unwrap();
            let start = Instant::now();
            output.want(true, start);
            assert_eq!(output.tick(start + 10 * MS).unwrap(), Some(start + 100 * MS));
            assert_eq!(output.tick(start + 130 * MS).unwrap(), Some(start + 200 * MS));
            assert_eq!(output.tick(start + 210 * MS).unwrap(), Some(start + 300 * MS));
            // A whole blink was missed; it is on again, as it should be.
            assert_eq!(output.tick(start + 410 * MS).unwrap(), Some(start + 500 * MS));
        });
    }

    #[test]
    fn a_panic_leaves_the_pin_off() {
        check(&[Low, High, Low], |pin| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let mut output = Output::new(pin, Pattern::Steady, false).unwrap();
                output.want(true, Instant::now());
                output.tick(Instant::now()).unwrap();
                std::panic::resume_unwind(Box::new(()));
            }));
            assert!(result.is_err());
        });
    }

    #[test]
    fn a_pin_that_fails_is_tried_again() {
        let error = MockError::Io(std::io::ErrorKind::BrokenPipe);
        let mut pin = Mock::new(&[
            Transaction::set(Low),
            Transaction::set(High).with_error(error),
            Transaction::set(High),
            Transaction::set(Low),
        ]);
        let mut output = Output::new(pin.clone(), Pattern::Steady, false).unwrap();
        output.want(true, Instant::now());
        assert!(output.tick(Instant::now()).is_err());
        assert!(output.tick(Instant::now()).is_ok());
        drop(output);
        pin.done();
    }
}
