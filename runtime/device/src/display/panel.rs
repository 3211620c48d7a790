//! An SSD1306 on an I2C bus.

use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::DrawTarget;
use embedded_hal::i2c::I2c;
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig as _};
use ssd1306::prelude::{Brightness, DisplayRotation, DisplaySize128x32, DisplaySize128x64};
use ssd1306::size::DisplaySize;
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::{DisplayError, Face};

/// Sizes that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PanelSize {
    /// 128 by 64 pixels.
    #[default]
    High,
    /// 128 by 32 pixels.
    Low,
}

/// A display, ready to show something.
pub struct Panel<I>(Driven<I>);

type Driver<I, S> = Ssd1306<ssd1306::prelude::I2CInterface<I>, S, BufferedGraphicsMode<S>>;

enum Driven<I> {
    High(Box<Driver<I, DisplaySize128x64>>),
    Low(Box<Driver<I, DisplaySize128x32>>),
}

impl<I> std::fmt::Debug for Panel<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Panel")
    }
}

impl<I: I2c> Panel<I> {
    /// Switches a display on. `upside_down`: it is mounted that way.
    ///
    /// # Errors
    /// It does not answer.
    pub fn new(
        i2c: I,
        address: u8,
        size: PanelSize,
        upside_down: bool,
    ) -> Result<Self, DisplayError> {
        let interface = I2CDisplayInterface::new_custom_address(i2c, address);
        let rotation =
            if upside_down { DisplayRotation::Rotate180 } else { DisplayRotation::Rotate0 };
        let silent = || DisplayError(format!("nothing answers at address {address:#04x}"));
        let panel = match size {
            PanelSize::High => {
                let driver = Ssd1306::new(interface, DisplaySize128x64, rotation);
                let mut driver = Box::new(driver.into_buffered_graphics_mode());
                begin(&mut driver).ok_or_else(silent)?;
                Driven::High(driver)
            }
            PanelSize::Low => {
                let driver = Ssd1306::new(interface, DisplaySize128x32, rotation);
                let mut driver = Box::new(driver.into_buffered_graphics_mode());
                begin(&mut driver).ok_or_else(silent)?;
                Driven::Low(driver)
            }
        };
        Ok(Self(panel))
    }

    /// Shows this in place of what was there. Takes some 0.1 s on a slow bus.
    ///
    /// # Errors
    /// It does not answer any more.
    pub fn show(&mut self, face: &Face) -> Result<(), DisplayError> {
        let shown = match &mut self.0 {
            Driven::High(driver) => face.draw(&mut **driver).and_then(|()| driver.flush()),
            Driven::Low(driver) => face.draw(&mut **driver).and_then(|()| driver.flush()),
        };
        shown.map_err(|_| gone())
    }

    /// Darkens it.
    ///
    /// # Errors
    /// It does not answer any more.
    pub fn off(&mut self) -> Result<(), DisplayError> {
        let off = match &mut self.0 {
            Driven::High(driver) => driver.set_display_on(false),
            Driven::Low(driver) => driver.set_display_on(false),
        };
        off.map_err(|_| gone())
    }
}

fn gone() -> DisplayError {
    DisplayError("the display does not answer any more".into())
}

/// Switches it on and clears it; `None`: it does not answer.
fn begin<I: I2c, S: DisplaySize>(driver: &mut Driver<I, S>) -> Option<()> {
    driver.init().ok()?;
    driver.set_brightness(Brightness::NORMAL).ok()?;
    driver.clear(BinaryColor::Off).ok()?;
    driver.flush().ok()
}
