//! A button or contact that asks for one classification.

use std::time::{Duration, Instant};

use embedded_hal::digital::InputPin;

/// A level that changes more often than this bounces.
const BOUNCE: Duration = Duration::from_millis(25);

/// A button over any pin, looked at every few milliseconds.
#[derive(Debug)]
pub struct Button<P: InputPin> {
    pin: P,
    active_low: bool,
    pressed: bool,
    /// Since when the pin has said something else.
    differs: Option<Instant>,
}

impl<P: InputPin> Button<P> {
    /// `active_low`: it is pressed when the pin is low, as with a button to ground.
    pub fn new(pin: P, active_low: bool) -> Self {
        // One that is held down at the start is not a press.
        Self { pin, active_low, pressed: true, differs: None }
    }

    /// Looks at the pin; says whether the button has just been pressed.
    ///
    /// # Errors
    /// What the pin says.
    pub fn poll(&mut self, now: Instant) -> Result<bool, P::Error> {
        let pressed = self.pin.is_high()? != self.active_low;
        if pressed == self.pressed {
            self.differs = None;
            return Ok(false);
        }
        let since = *self.differs.get_or_insert(now);
        if now.saturating_duration_since(since) < BOUNCE {
            return Ok(false);
        }
        (self.pressed, self.differs) = (pressed, None);
        Ok(pressed)
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    /// Presses seen in levels that are read 10 ms apart.
    fn presses(levels: &str, active_low: bool) -> Vec<usize> {
        let level = |c| if c == '1' { State::High } else { State::Low };
        let expected: Vec<_> = levels.chars().map(|c| Transaction::get(level(c))).collect();
        let mut pin = Mock::new(&expected);
        let mut button = Button::new(pin.clone(), active_low);
        let start = Instant::now();
        let at = |i: usize| start + Duration::from_millis(10) * i as u32;
        let seen = (0..levels.len()).filter(|&i| button.poll(at(i)).unwrap()).collect();
        pin.done();
        seen
    }

    #[test]
    fn a_press_counts_once_and_bouncing_does_not() {
        assert_eq!(presses("0000111111110000001111", false), [7, 21]);
        assert_eq!(presses("0000101010111100000", false), [13]);
        assert_eq!(presses("0000110000", false), [] as [usize; 0]);
    }

    #[test]
    fn a_button_to_ground_is_pressed_when_low_and_one_held_at_the_start_is_not() {
        assert_eq!(presses("11110000", true), [7]);
        assert_eq!(presses("00000000", true), [] as [usize; 0]);
        assert_eq!(presses("000011110000", true), [11]);
    }
}
