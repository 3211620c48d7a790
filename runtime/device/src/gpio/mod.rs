//! Pins: outputs that show a decision, inputs that ask for one.
//!
//! [`Output`] and [`Button`] speak embedded-hal 1.0 alone. [`open_output`] and [`open_input`] give
//! pins of this machine: through rppal on a Raspberry Pi, else through the kernel's GPIO character
//! device. A [`Guard`] switches outputs off when this process dies. Whoever holds an [`Output`] calls [`Output::tick`] when it says so; nothing here has a
//! thread.

mod button;
mod chardev;
mod guard;
mod output;
mod raspberry;

use std::fmt;
use std::path::PathBuf;

use embedded_hal::digital::{ErrorKind, ErrorType, InputPin, OutputPin};

use crate::Board;

pub use button::Button;
pub use chardev::{Chip, chips};
pub use guard::{COMMAND as GUARD_COMMAND, Guard, guarded, run_guard, switch_off};
pub use output::{Output, Pattern};

/// An output of this machine.
pub struct AnyOutput(Box<dyn OutputPin<Error = GpioError> + Send>);
/// An input of this machine.
pub struct AnyInput(Box<dyn InputPin<Error = GpioError> + Send>);

impl ErrorType for AnyOutput {
    type Error = GpioError;
}

impl OutputPin for AnyOutput {
    fn set_low(&mut self) -> Result<(), GpioError> {
        self.0.set_low()
    }

    fn set_high(&mut self) -> Result<(), GpioError> {
        self.0.set_high()
    }
}

impl ErrorType for AnyInput {
    type Error = GpioError;
}

impl InputPin for AnyInput {
    fn is_high(&mut self) -> Result<bool, GpioError> {
        self.0.is_high()
    }

    fn is_low(&mut self) -> Result<bool, GpioError> {
        self.0.is_low()
    }
}

/// Which pin: its number, and the chip unless it is the board's header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pin {
    /// The chip's device, such as `/dev/gpiochip1`; the header's own without.
    pub chip: Option<PathBuf>,
    /// Number of the line; on a Raspberry Pi the number behind "GPIO".
    pub line: u32,
}

impl Pin {
    /// Understands `17`, `gpiochip1:5` and `/dev/gpiochip1:5`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (chip, line) = match text.rsplit_once(':') {
            Some((chip, line)) => (Some(PathBuf::from("/dev").join(chip)), line),
            None => (None, text),
        };
        match line.parse() {
            Ok(line) => Ok(Self { chip, line }),
            Err(_) => {
                Err(format!("'{text}' is no pin; it is a number (17) or CHIP:NUMBER (gpiochip1:5)"))
            }
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.chip {
            Some(chip) => write!(f, "{}:{}", chip.display(), self.line),
            None => write!(f, "{}", self.line),
        }
    }
}

/// Why a pin cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GpioError(pub(crate) String);

impl embedded_hal::digital::Error for GpioError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// Takes a pin as an output, at a level that it has from the first moment on.
///
/// # Errors
/// [`GpioError`]: it is missing, in use, or forbidden, and what to do.
pub fn open_output(pin: &Pin, high: bool) -> Result<AnyOutput, GpioError> {
    either(pin, |line| raspberry::output(line, high), |pin| chardev::output(pin, high))
}

/// Takes a pin as an input with a resistor to `pull_up` (or down), where there is one.
///
/// # Errors
/// As [`open_output`].
pub fn open_input(pin: &Pin, pull_up: bool) -> Result<AnyInput, GpioError> {
    either(pin, |line| raspberry::input(line, pull_up), |pin| chardev::input(pin, pull_up))
}

/// rppal for the header of a Raspberry Pi, and the character device where that is not to be had.
fn either<T>(
    pin: &Pin,
    raspberry: impl FnOnce(u8) -> Result<T, GpioError>,
    chardev: impl FnOnce(&Pin) -> Result<T, GpioError>,
) -> Result<T, GpioError> {
    let is_pi = || Board::read().model.is_some_and(|model| model.starts_with("Raspberry Pi"));
    match (&pin.chip, u8::try_from(pin.line)) {
        (None, Ok(line)) if is_pi() => {
            // Its register access knows nothing of other programs; the kernel does.
            chardev::free(pin)?;
            raspberry(line).or_else(|_| chardev(pin))
        }
        _ => chardev(pin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_named_by_number_or_with_their_chip() {
        assert_eq!(Pin::parse("17").unwrap(), Pin { chip: None, line: 17 });
        let pin = Pin::parse("gpiochip1:5").unwrap();
        assert_eq!(pin, Pin { chip: Some("/dev/gpiochip1".into()), line: 5 });
        assert_eq!(pin.to_string(), "/dev/gpiochip1:5");
        assert_eq!(Pin::parse(&pin.to_string()).unwrap(), pin);
        for bad in ["", "x", "-1", "gpiochip1:", "1:2:x"] {
            assert!(Pin::parse(bad).unwrap_err().contains(bad));
        }
    }

    #[test]
    fn a_chip_that_is_not_there_is_named() {
        let pin = Pin::parse("gpiochip99:1").unwrap();
        let error = open_output(&pin, false).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("/dev/gpiochip99"), "{error}");
    }
}
