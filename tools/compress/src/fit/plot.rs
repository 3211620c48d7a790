//! Latency against accuracy as a picture.

use plotters::prelude::*;

use super::Candidate;

/// Draws all candidates, the front and the budget as SVG.
///
/// # Errors
/// What plotters says, in words.
pub fn svg(
    title: &str,
    candidates: &[Candidate],
    front: &[Candidate],
    most_ms: f64,
) -> Result<String, String> {
    let mut text = String::new();
    draw(&mut text, title, candidates, front, most_ms).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw(
    text: &mut String,
    title: &str,
    candidates: &[Candidate],
    front: &[Candidate],
    most_ms: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    // Only what is near the budget: the largest networks take a thousand times as long.
    let near = |c: &&Candidate| c.latency_ms <= 8.0 * most_ms;
    let shown: Vec<&Candidate> = candidates.iter().filter(near).collect();
    let least = |f: fn(&Candidate) -> f64| shown.iter().map(|c| f(c)).fold(f64::INFINITY, f64::min);
    let (left, bottom) = (least(|c| c.latency_ms), least(|c| c.accuracy.top1));
    let left = left.min(most_ms) * 0.9;
    let bottom = if bottom.is_finite() { bottom.max(40.0) - 1.0 } else { 40.0 };
    let root = SVGBackend::with_string(text, (960, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d((left..8.0 * most_ms).log_scale(), bottom..88.0)?;
    chart
        .configure_mesh()
        .x_desc("predicted latency, ms")
        .y_desc("ImageNet top-1, %")
        .x_label_formatter(&|v| {
            format!("{v:.3}").trim_end_matches('0').trim_end_matches('.').into()
        })
        .draw()?;
    let point = |c: &Candidate| (c.latency_ms, c.accuracy.top1);
    let dot = |c: &&Candidate| Circle::new(point(c), 2, BLACK.mix(0.25).filled());
    chart.draw_series(shown.iter().map(dot))?;
    let line: Vec<(f64, f64)> = front.iter().filter(near).map(point).collect();
    chart.draw_series([PathElement::new(line, BLUE.stroke_width(2))])?;
    let mark = |c: &Candidate| {
        // Filled where the accuracy is published.
        let style = if c.accuracy.published { BLUE.filled() } else { BLUE.stroke_width(1) };
        Circle::new(point(c), 4, style)
    };
    chart.draw_series(front.iter().filter(near).map(mark))?;
    let budget = vec![(most_ms, bottom), (most_ms, 88.0)];
    chart.draw_series([PathElement::new(budget, RED.stroke_width(1))])?;
    root.present()?;
    Ok(())
}
