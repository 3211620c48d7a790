//! The report as a page.

use super::report::{Cost, Report};
use crate::page::{Cell, Page, Tone};

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
