//! Pins through rppal, on a Raspberry Pi.

use std::convert::Infallible;

use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use rppal::gpio::Gpio;

use super::{AnyInput, AnyOutput, GpioError};

/// A pin of rppal, whose levels never fail.
struct Header<P>(P);

impl<P> ErrorType for Header<P> {
    type Error = GpioError;
}

impl<P: OutputPin<Error = Infallible>> OutputPin for Header<P> {
    fn set_low(&mut self) -> Result<(), GpioError> {
        self.0.set_low().map_err(|never| match never {})
    }

    fn set_high(&mut self) -> Result<(), GpioError> {
        self.0.set_high().map_err(|never| match never {})
    }
}

impl<P: InputPin<Error = Infallible>> InputPin for Header<P> {
    fn is_high(&mut self) -> Result<bool, GpioError> {
        self.0.is_high().map_err(|never| match never {})
    }

    fn is_low(&mut self) -> Result<bool, GpioError> {
        self.0.is_low().map_err(|never| match never {})
    }
}

fn pin(line: u8) -> Result<rppal::gpio::Pin, GpioError> {
    Gpio::new().and_then(|gpio| gpio.get(line)).map_err(|e| GpioError(format!("pin {line}: {e}")))
}

pub(super) fn output(line: u8, high: bool) -> Result<AnyOutput, GpioError> {
    let pin = pin(line)?;
    let mut pin = if high { pin.into_output_high() } else { pin.into_output_low() };
    // It stays an output at its safe level when we end, instead of floating.
    pin.set_reset_on_drop(false);
    Ok(AnyOutput(Box::new(Header(pin))))
}

pub(super) fn input(line: u8, pull_up: bool) -> Result<AnyInput, GpioError> {
    let pin = pin(line)?;
    let pin = if pull_up { pin.into_input_pullup() } else { pin.into_input_pulldown() };
    Ok(AnyInput(Box::new(Header(pin))))
}
