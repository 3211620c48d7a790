//! A small display (SSD1306, 128 by 64 or 32 pixels, I2C) that shows what is decided.
//!
//! [`Face`] is what is shown, and draws itself on anything; [`Panel`] is the display, behind
//! embedded-hal's I2C. [`open`] gives one on a bus of this machine. Writing takes time: whoever has
//! a panel gives it a thread of its own.

mod face;
mod panel;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use face::Face;
pub use panel::{Panel, PanelSize};

/// A display on a bus of this machine.
pub type LinuxPanel = Panel<linux_embedded_hal::I2cdev>;

/// Why a display cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DisplayError(pub(crate) String);

/// Switches on the display at an address (7 bits) of a bus, such as `/dev/i2c-1`.
///
/// # Errors
/// [`DisplayError`]: there is no such bus, it is forbidden, or nothing answers; and what to do.
pub fn open(
    bus: &Path,
    address: u8,
    size: PanelSize,
    upside_down: bool,
) -> Result<LinuxPanel, DisplayError> {
    let name = bus.display();
    if !bus.exists() {
        let why = "there is no such bus; on a Raspberry Pi: sudo raspi-config nonint do_i2c 0";
        return Err(DisplayError(format!("{name}: {why}")));
    }
    let device = linux_embedded_hal::I2cdev::new(bus).map_err(|error| {
        let hint = match error.to_string().to_lowercase().contains("permission") {
            true => "; sudo usermod -aG i2c $USER, then log in again",
            false => "",
        };
        DisplayError(format!("{name}: {error}{hint}"))
    })?;
    Panel::new(device, address, size, upside_down).map_err(|DisplayError(why)| {
        DisplayError(format!("{name}: {why}; i2cdetect shows what does"))
    })
}
