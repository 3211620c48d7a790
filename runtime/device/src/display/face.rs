//! What a small display shows, drawn on anything that has pixels.

use embedded_graphics::mono_font::iso_8859_1::{FONT_5X8, FONT_6X10, FONT_6X13_BOLD, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};

/// What is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Face {
    /// What is decided; nothing is shown as a dash.
    pub decision: Option<String>,
    /// Score of the best class, 0..=1.
    pub score: f32,
    /// Decisions a second.
    pub fps: f64,
    /// The processor's temperature, degrees Celsius.
    pub celsius: Option<f64>,
    /// The camera is there.
    pub camera: bool,
}

impl Face {
    /// Draws all of it on a cleared display, 128 pixels wide and 32 or 64 high.
    ///
    /// # Errors
    /// What the display says.
    pub fn draw<D: DrawTarget<Color = BinaryColor>>(&self, on: &mut D) -> Result<(), D::Error> {
        let Size { width, height } = on.bounding_box().size;
        let (width, height) = (width as i32, height as i32);
        on.clear(BinaryColor::Off)?;
        let low = height < 64;
        if !self.camera {
            let font = if low { &FONT_6X13_BOLD } else { &FONT_10X20 };
            return text(on, "no camera", width / 2, height / 2, font, Alignment::Center);
        }
        let decision = self.decision.as_deref().unwrap_or("-");
        let (large, bar, bar_height) =
            if low { (&FONT_6X13_BOLD, 15, 7) } else { (&FONT_10X20, 32, 12) };
        headline(on, decision, width, bar, large)?;
        let score = if self.score.is_finite() { self.score.clamp(0.0, 1.0) } else { 0.0 };
        // The number stands beside the bar: four letters of six pixels.
        let long = width - 28;
        let frame = Rectangle::new(Point::new(0, bar), size(long, bar_height));
        frame.into_styled(PrimitiveStyle::with_stroke(BinaryColor::On, 1)).draw(on)?;
        let filled = (score * (long - 4) as f32).round() as i32;
        let inside = Rectangle::new(Point::new(2, bar + 2), size(filled, bar_height - 4));
        inside.into_styled(PrimitiveStyle::with_fill(BinaryColor::On)).draw(on)?;
        let percent = format!("{:.0}%", score * 100.0);
        text(on, &percent, width - 1, bar + bar_height / 2, &FONT_6X10, Alignment::Right)?;
        let small = if low { &FONT_5X8 } else { &FONT_6X10 };
        let line = height - if low { 4 } else { 6 };
        let fps = format!("{:.1} fps", self.fps.clamp(0.0, 999.9));
        text(on, &fps, 0, line, small, Alignment::Left)?;
        let Some(celsius) = self.celsius else { return Ok(()) };
        let degrees = format!("{:.0}\u{b0}C", celsius.clamp(-99.0, 999.0));
        text(on, &degrees, width - 1, line, small, Alignment::Right)
    }
}

/// A name in the largest letters that it fits in: one line, or two lines of small ones.
fn headline<D: DrawTarget<Color = BinaryColor>>(
    on: &mut D,
    name: &str,
    width: i32,
    height: i32,
    large: &MonoFont<'_>,
) -> Result<(), D::Error> {
    let fits = |font: &MonoFont<'_>| (width as u32 / font.character_size.width) as usize;
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= fits(large) {
        return text(on, name, 0, height / 2, large, Alignment::Left);
    }
    let most = fits(&FONT_6X10);
    if height < 20 || letters.len() <= most {
        let shown: String = letters.iter().take(most).collect();
        return text(on, &shown, 0, height / 2, &FONT_6X10, Alignment::Left);
    }
    // At a space where there is one near the middle.
    let space = letters.iter().take(most + 1).rposition(|c| *c == ' ');
    let split = space.filter(|at| letters.len() - at - 1 <= most).unwrap_or(most);
    let first: String = letters[..split].iter().collect();
    let second: String = letters[split..].iter().collect::<String>().trim_start().to_owned();
    let second: String = second.chars().take(most).collect();
    text(on, &first, 0, height / 2 - 7, &FONT_6X10, Alignment::Left)?;
    text(on, &second, 0, height / 2 + 5, &FONT_6X10, Alignment::Left)
}

fn text<D: DrawTarget<Color = BinaryColor>>(
    on: &mut D,
    what: &str,
    x: i32,
    y: i32,
    font: &MonoFont<'_>,
    alignment: Alignment,
) -> Result<(), D::Error> {
    let style = TextStyleBuilder::new().alignment(alignment).baseline(Baseline::Middle).build();
    let letters = MonoTextStyle::new(font, BinaryColor::On);
    Text::with_text_style(what, Point::new(x, y), letters, style).draw(on).map(|_| ())
}

fn size(width: i32, height: i32) -> Size {
    Size::new(width.max(0) as u32, height.max(0) as u32)
}
