//! Charts as SVG markup for a [`crate::page::Page`], in its colours.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::page::{ACCENT, GRID, INK, SECOND};

/// Size of a chart, in units that a wide page shows as pixels and a narrow one as less.
const SIZE: (u32, u32) = (500, 300);
/// Size of text.
const FONT: (&str, u32) = ("sans-serif", 18);
/// Room for the numbers of an axis.
const MARGINS: [u32; 2] = [46, 58];

/// One axis of a chart.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// What it shows, with its unit.
    pub name: &'a str,
    /// Both ends.
    pub range: (f64, f64),
    /// Digits after the point.
    pub digits: usize,
}

/// A line through points; the second of a chart has the second colour.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Low and high end of each point's interval; empty without.
    pub intervals: Vec<(f64, f64)>,
}

/// Lines, with their intervals as upright strokes. With `diagonal`, a thin line from corner to corner.
#[must_use]
pub fn lines(x: Axis<'_>, y: Axis<'_>, series: &[Series], diagonal: bool) -> String {
    draw(|area| {
        let mut chart = mesh(area, x, y)?;
        if diagonal {
            let corners = vec![(x.range.0, y.range.0), (x.range.1, y.range.1)];
            chart.draw_series([PathElement::new(corners, color(INK).stroke_width(1))])?;
        }
        for (at, series) in series.iter().enumerate() {
            let color = color(if at == 0 { ACCENT } else { SECOND });
            let strokes = series.points.iter().zip(&series.intervals);
            chart.draw_series(strokes.map(|(&(x, _), &(low, high))| {
                PathElement::new(vec![(x, low), (x, high)], color.stroke_width(1))
            }))?;
            chart.draw_series([PathElement::new(series.points.clone(), color.stroke_width(2))])?;
            let dots = series.points.iter();
            chart.draw_series(dots.map(|&point| Circle::new(point, 3, color.filled())))?;
        }
        Ok(())
    })
}

/// A bar from the first to the second number on the x axis, each as high as the third.
#[must_use]
pub fn bars(x: Axis<'_>, y: Axis<'_>, bars: &[(f64, f64, f64)]) -> String {
    draw(|area| {
        let mut chart = mesh(area, x, y)?;
        chart.draw_series(bars.iter().filter(|bar| bar.2 > 0.0).map(|&(from, to, height)| {
            let gap = (to - from) * 0.06;
            Rectangle::new([(from + gap, 0.0), (to - gap, height)], color(ACCENT).filled())
        }))?;
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Mesh<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn mesh<'a, 'b>(
    area: &'a Area<'b>,
    x: Axis<'_>,
    y: Axis<'_>,
) -> Result<Mesh<'a, 'b>, Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(MARGINS[0])
        .y_label_area_size(MARGINS[1])
        .build_cartesian_2d(x.range.0..x.range.1, y.range.0..y.range.1)?;
    let text = FONT.into_font().color(&color(INK));
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(color(GRID))
        .axis_style(color(INK))
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|v| format!("{v:.*}", x.digits))
        .y_label_formatter(&|v| format!("{v:.*}", y.digits))
        .x_desc(x.name)
        .y_desc(y.name)
        .draw()?;
    Ok(chart)
}

/// Draws into a string, which only fails where an axis has no length; there is no chart then.
fn draw(content: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn Error>>) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = content(&area).and_then(|()| Ok(area.present()?));
    drop(area);
    if drawn.is_err() {
        svg.clear();
    }
    svg
}

fn color(hex: &str) -> RGBColor {
    let part = |at: usize| u8::from_str_radix(hex.get(at..at + 2).unwrap_or(""), 16).unwrap_or(0);
    RGBColor(part(1), part(3), part(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Axis<'_> = Axis { name: "<share>", range: (0.0, 1.0), digits: 1 };

    #[test]
    fn charts_have_the_colours_that_the_page_replaces() {
        let series =
            |y| Series { points: vec![(0.1, y), (0.9, y)], intervals: vec![(0.0, 1.0); 2] };
        let svg = lines(UNIT, UNIT, &[series(0.2), series(0.7)], true);
        for color in [INK, GRID, ACCENT, SECOND] {
            assert!(svg.contains(color), "{color} in {svg}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(!svg.contains("<share>"), "{svg}");
    }

    #[test]
    fn bars_are_as_high_as_they_say() {
        let svg = bars(UNIT, UNIT, &[(0.0, 0.5, 1.0), (0.5, 1.0, 0.0)]);
        assert_eq!(svg.matches(&format!("fill=\"{ACCENT}\"")).count(), 1, "{svg}");
    }
}
