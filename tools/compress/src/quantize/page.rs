//! The report as a page.

use super::report::{Cost, Report};
use crate::page::{ACCENT, Cell, GRID, INK, Page, SECOND, Tone, escape};
use std::fmt::Write as _;

/// What was done to a model, and why, as one HTML page. `name` is the result's file.
#[must_use]
pub fn page(report: &Report, name: &str) -> String {
    let Report { before, after, .. } = report;
    let ms = |cost: &Cost| format!("{:.2} ms", cost.latency.as_secs_f64() * 1e3);
    let mb = |cost: &Cost| format!("{:.2} MB", cost.bytes as f64 / 1e6);
    let last = report.steps.iter().rev().find(|s| s.kept);
    let mut page = Page::new("Quantization", name);
    page.section("Result");
    let share = 100.0 * after.int8_macs as f64 / after.macs.max(1) as f64;
    let mut figures = vec![
        ("file", mb(after), format!("float: {}", mb(before))),
        ("a picture, one thread, measured here", ms(after), format!("float: {}", ms(before))),
        (
            "multiplications in int8",
            format!("{share:.1} %"),
            format!("of {:.1} million", after.macs as f64 / 1e6),
        ),
    ];
    if let Some(step) = last {
        let score = step.score;
        let pictures = format!("mean of {} pictures", score.pictures);
        figures.push(("cosine of the features", format!("{:.4}", score.cosine), pictures));
        let agree = 100.0 * score.agree as f64 / score.pictures.max(1) as f64;
        figures.push(("same best class as float", format!("{agree:.1} %"), String::new()));
        if let Some((float, own)) = score.right {
            figures.push((
                "right",
                format!("{own} of {}", score.pictures),
                format!("float: {float}"),
            ));
        }
    }
    page.figures(&figures);
    page.section("What was tried");
    let rows: Vec<Vec<Cell>> = report
        .steps
        .iter()
        .map(|step| {
            vec![
                Cell::text(step.what.clone()),
                Cell::number(format!("{:.4}", step.score.cosine)),
                Cell::number(format!("{:.2}", step.score.drop())),
                Cell::number(step.float_layers),
                Cell::number(format!("{:.2}", step.latency.as_secs_f64() * 1e3)),
                Cell::text(if step.kept { "yes" } else { "no" }),
            ]
        })
        .collect();
    page.table(&["step", "cosine", "points lost", "float layers", "ms", "kept"], &rows);
    page.section("Layers");
    if let Some(svg) = chart(report) {
        page.chart(
            &svg,
            "Signal to error of each layer's result, dB, all layers in front as chosen; layers in float \
             in the second colour. Under 10 dB little is left of a value; what the features keep of it \
             is the cosine above.",
        );
    }
    page.paragraph(
        "The range is that of the layer's result behind its activation; clipped is the share of the \
         calibration's values outside it, each channel counted as much as it matters to what follows. \
         SQNR is the ratio of signal to error: of the weights, of the result's own rounding, and of \
         the result with all layers in front quantized.",
    );
    let rows = (0..report.layers.len()).map(|at| row(report, at)).collect::<Vec<_>>();
    let headings = [
        "layer",
        "operator",
        "type",
        "M MACs",
        "low",
        "high",
        "clipped %",
        "weights dB",
        "rounding dB",
        "all in front dB",
        "done, and why",
    ];
    page.table(&headings, &rows);
    for (name, why) in &report.left_in_float {
        page.paragraph(&format!("{name} stays in float: {why}"));
    }
    page.finish(concat!("kinglet-tools ", env!("CARGO_PKG_VERSION"), " compress --int8"))
}

/// A bar a layer; `None` where nothing was measured.
fn chart(report: &Report) -> Option<String> {
    const HEIGHT: f64 = 160.0;
    const WIDTH: f64 = 640.0;
    const MOST: f64 = 40.0;
    let measured = report.sensitivity.iter().zip(&report.layers);
    let bars: Vec<(f64, bool, &str)> = measured
        .filter_map(|(s, layer)| Some((s.sqnr_db?, layer.float, layer.name.as_str())))
        .collect();
    if bars.is_empty() {
        return None;
    }
    let y = |db: f64| HEIGHT - db.clamp(0.0, MOST) / MOST * HEIGHT + 10.0;
    let (left, step) = (28.0, (WIDTH - 28.0) / bars.len() as f64);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"Signal to error, dB\">",
        HEIGHT + 16.0
    );
    for db in [0.0, 10.0, 20.0, 30.0, 40.0] {
        _ = write!(
            svg,
            "<line x1=\"{left}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"{GRID}\"/>\
             <text x=\"0\" y=\"{1:.1}\" font-size=\"12\" fill=\"{INK}\">{db}</text>",
            y(db),
            y(db) + 4.0
        );
    }
    for (at, (db, float, name)) in bars.iter().enumerate() {
        _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\">\
             <title>{}: {db:.1} dB</title></rect>",
            left + step * at as f64,
            y(*db),
            (step * 0.8).max(1.0),
            HEIGHT + 10.0 - y(*db),
            if *float { SECOND } else { ACCENT },
            escape(name)
        );
    }
    svg += "</svg>";
    Some(svg)
}

fn row(report: &Report, at: usize) -> Vec<Cell> {
    let layer = &report.layers[at];
    let value = layer.result.map(|v| &report.values[v]);
    let number = |number: Option<String>| Cell::number(number.unwrap_or_else(|| "–".into()));
    // 10 dB and less is bad, 30 and more is good.
    let db = |db: Option<f64>| {
        let cell = number(db.map(|db| format!("{db:.1}")));
        match db {
            Some(db) if db < 20.0 => cell.shaded(Tone::Bad, ((20.0 - db) / 20.0) as f32),
            _ => cell,
        }
    };
    let clipped = value.map(|v| format!("{:.3}", 100.0 * (v.clipped_low + v.clipped_high)));
    let done = if layer.done.is_empty() { "int8".to_owned() } else { layer.done.join("; ") };
    vec![
        Cell::text(layer.name.clone()),
        Cell::text(layer.operator.clone()),
        Cell::text(if layer.float { "f32" } else { "int8" }),
        Cell::number(format!("{:.2}", layer.macs as f64 / 1e6)),
        number(value.map(|v| format!("{:.3}", v.low))),
        number(value.map(|v| format!("{:.3}", v.high))),
        number(clipped),
        db((!layer.float).then_some(layer.sqnr_db)),
        db(value.map(|v| v.sqnr_db)),
        db(report.sensitivity.get(at).and_then(|s| s.sqnr_db)),
        Cell::text(done),
    ]
}
