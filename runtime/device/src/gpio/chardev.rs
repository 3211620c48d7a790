//! Pins through the kernel's GPIO character device, on any Linux.

use std::path::{Path, PathBuf};

use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use gpiocdev::line::{Bias, Value};
use gpiocdev::request::{Builder, Request};

use super::{AnyInput, AnyOutput, GpioError, Pin};

/// Who we are, in `gpioinfo`.
const CONSUMER: &str = "kinglet";
/// Labels of the chip behind the header of a Raspberry Pi: 5, and all before.
const HEADERS: [&str; 2] = ["pinctrl-rp1", "pinctrl-bcm"];

/// A line that was requested. The kernel takes it back when it is dropped, or when we die.
struct Line(Request);

impl ErrorType for Line {
    type Error = GpioError;
}

impl OutputPin for Line {
    fn set_low(&mut self) -> Result<(), GpioError> {
        self.0.set_lone_value(Value::Inactive).map_err(|e| GpioError(e.to_string()))
    }

    fn set_high(&mut self) -> Result<(), GpioError> {
        self.0.set_lone_value(Value::Active).map_err(|e| GpioError(e.to_string()))
    }
}

impl InputPin for Line {
    fn is_high(&mut self) -> Result<bool, GpioError> {
        let value = self.0.lone_value().map_err(|e| GpioError(e.to_string()))?;
        Ok(value == Value::Active)
    }

    fn is_low(&mut self) -> Result<bool, GpioError> {
        self.is_high().map(|high| !high)
    }
}

pub(super) fn output(pin: &Pin, high: bool) -> Result<AnyOutput, GpioError> {
    let value = if high { Value::Active } else { Value::Inactive };
    request(pin, |builder| {
        builder.as_output(value);
    })
    .map(|line| AnyOutput(Box::new(line)))
}

pub(super) fn input(pin: &Pin, pull_up: bool) -> Result<AnyInput, GpioError> {
    let bias = if pull_up { Bias::PullUp } else { Bias::PullDown };
    let with_bias = request(pin, |builder| {
        builder.as_input().with_bias(bias);
    });
    // Not every chip has resistors.
    let line = match with_bias {
        Ok(line) => line,
        Err(_) => request(pin, |builder| {
            builder.as_input();
        })?,
    };
    Ok(AnyInput(Box::new(line)))
}

fn request(pin: &Pin, configure: impl FnOnce(&mut Builder)) -> Result<Line, GpioError> {
    let chip = chip_of(pin)?;
    let mut builder = Request::builder();
    builder.on_chip(&chip).with_consumer(CONSUMER).with_line(pin.line);
    configure(&mut builder);
    builder.request().map(Line).map_err(|error| explain(pin, &chip, &error))
}

/// Refuses a pin that another program holds.
pub(super) fn free(pin: &Pin) -> Result<(), GpioError> {
    let Ok(chip) = chip_of(pin) else { return Ok(()) };
    let info = gpiocdev::Chip::from_path(&chip).and_then(|chip| chip.line_info(pin.line));
    match info {
        Ok(info) if info.used => Err(busy(pin, &info.consumer)),
        _ => Ok(()),
    }
}

fn busy(pin: &Pin, consumer: &str) -> GpioError {
    let by = if consumer.is_empty() { "the kernel or another program" } else { consumer };
    GpioError(format!("pin {pin} is in use by {by}"))
}

/// The chip of a pin.
fn chip_of(pin: &Pin) -> Result<PathBuf, GpioError> {
    if let Some(chip) = &pin.chip {
        return Ok(chip.clone());
    }
    let chips = chips();
    let header = chips.iter().find(|c| HEADERS.iter().any(|label| c.label.starts_with(label)));
    match header.or(chips.first()) {
        Some(chip) => Ok(chip.path.clone()),
        None => Err(GpioError("this machine shows no GPIO chip (/dev/gpiochip0)".into())),
    }
}

/// What the kernel's refusal means.
fn explain(pin: &Pin, chip: &Path, error: &gpiocdev::Error) -> GpioError {
    if let Err(held) = free(pin) {
        return held;
    }
    match std::fs::File::open(chip) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => GpioError(format!(
            "{}: you may not use it; `sudo usermod -aG gpio $USER`, then log in again",
            chip.display()
        )),
        Err(e) => GpioError(format!("{}: {e}", chip.display())),
        Ok(_) => GpioError(format!("pin {pin} of {}: {error}", chip.display())),
    }
}

/// A GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chip {
    /// Its device.
    pub path: PathBuf,
    /// What the kernel calls it; empty when it may not be opened.
    pub label: String,
    /// Its lines.
    pub lines: u32,
}

/// All GPIO chips of this machine.
#[must_use]
pub fn chips() -> Vec<Chip> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|p| p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"gpiochip")))
        .collect();
    paths.sort();
    let describe = |path: PathBuf| {
        let info = gpiocdev::Chip::from_path(&path).and_then(|chip| chip.info());
        let (label, lines) = info.map(|i| (i.label, i.num_lines)).unwrap_or_default();
        Chip { path, label, lines }
    };
    paths.into_iter().map(describe).collect()
}
