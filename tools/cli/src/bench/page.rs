//! What was measured on a board, as a page.

use kinglet_compress::chart::{Axis, Series, lines};
use kinglet_compress::page::{Cell, Page, Tone};
use kinglet_deploy::Board;
use kinglet_deploy::bench::{Model, Report, Run, compare};

/// The page; with a board also what others published for it.
pub(super) fn html(report: &Report, board: Option<&Board>) -> String {
    let seen = report.board.model.as_deref().unwrap_or("an unknown machine");
    let mut page =
        Page::new(&format!("Latency on {seen}"), &format!("measured on {}", report.host));
    page.section("At a glance");
    page.figures(&glance(report));
    page.section("Models, types and threads");
    table(&mut page, report);
    page.section("More threads");
    for model in &report.models {
        page.chart(
            &chart(model),
            &format!(
                "{} ({}): blue the median, orange the 99th percentile",
                model.name, model.precision
            ),
        );
    }
    if let Some(board) = board {
        page.section("Beside others");
        references(&mut page, report, board);
    }
    page.section("How the board was");
    conditions(&mut page, report);
    page.finish("kinglet-tools bench; each line is a process of its own on the board")
}

fn valid(report: &Report) -> impl Iterator<Item = (&Model, &Run)> {
    let all = report.models.iter().flat_map(|m| m.runs.iter().map(move |r| (m, r)));
    all.filter(|(_, r)| r.invalid.is_empty())
}

fn glance(report: &Report) -> Vec<(&'static str, String, String)> {
    let mut figures = Vec::new();
    if let Some((model, run)) = valid(report).min_by(|a, b| a.1.median.total_cmp(&b.1.median)) {
        let remark = format!("{}, {} thread(s)", model.name, run.threads);
        figures.push(("fastest median", format!("{:.2} ms", run.median), remark));
    }
    if let Some((model, run)) = valid(report).min_by(|a, b| a.1.load.total_cmp(&b.1.load)) {
        figures.push(("first result", format!("{:.0} ms", run.load), model.name.clone()));
    }
    if let Some((model, run)) = valid(report).min_by(|a, b| a.1.rss.total_cmp(&b.1.rss)) {
        figures.push(("memory", format!("{:.1} MiB", run.rss), model.name.clone()));
    }
    let hottest =
        report.models.iter().flat_map(|m| &m.runs).filter_map(|r| r.after.temperature_mc).max();
    if let Some(hottest) = hottest {
        figures.push(("hottest", format!("{:.1} °C", hottest as f64 / 1e3), String::new()));
    }
    let (invalid, all) = report.invalid();
    figures.push(("measurements", all.to_string(), format!("{invalid} do not count")));
    figures
}

fn table(page: &mut Page, report: &Report) {
    let head = [
        "model",
        "type",
        "threads",
        "median ms",
        "90 % ms",
        "99 % ms",
        "first result ms",
        "memory MiB",
        "kernels",
        "counts",
    ];
    let mut rows = Vec::new();
    for model in &report.models {
        for run in &model.runs {
            let counts = match &run.invalid[..] {
                [] => Cell::text("yes"),
                why => Cell::text(format!("no: {}", why.join(", "))).shaded(Tone::Bad, 1.0),
            };
            rows.push(vec![
                Cell::text(&model.name),
                Cell::text(&model.precision),
                Cell::number(run.threads),
                Cell::number(format!("{:.2}", run.median)),
                Cell::number(format!("{:.2}", run.p90)),
                Cell::number(format!("{:.2}", run.p99)),
                Cell::number(format!("{:.1}", run.load)),
                Cell::number(format!("{:.1}", run.rss)),
                Cell::text(&run.isa),
                counts,
            ]);
        }
    }
    page.table(&head, &rows);
    for model in &report.models {
        if let Some(cold) = model.cold_ms {
            page.paragraph(&format!(
                "{}: first result {cold:.1} ms with an empty page cache.",
                model.name
            ));
        }
    }
}

fn chart(model: &Model) -> String {
    let counted = || model.runs.iter().filter(|r| r.invalid.is_empty());
    let most = counted().map(|r| r.p99).fold(0.001, f64::max);
    let threads = counted().map(|r| r.threads).max().unwrap_or(1);
    let points = |of: fn(&Run) -> f64| Series {
        points: counted().map(|r| (f64::from(r.threads), of(r))).collect(),
        intervals: Vec::new(),
    };
    let x = Axis { name: "threads", range: (0.5, f64::from(threads) + 0.5), digits: 0 };
    let digits = if most < 10.0 { 1 } else { 0 };
    let y = Axis { name: "latency, ms", range: (0.0, most * 1.1), digits };
    lines(x, y, &[points(|r| r.median), points(|r| r.p99)], false)
}

fn references(page: &mut Page, report: &Report, board: &Board) {
    let head = [
        "network",
        "type",
        "engine",
        "threads",
        "published ms",
        "here",
        "type here",
        "median ms",
        "ratio",
    ];
    let compared = compare(board, report);
    let rows: Vec<Vec<Cell>> = compared
        .iter()
        .map(|c| {
            let r = c.reference;
            let text = |value: &Option<String>| Cell::text(value.as_deref().unwrap_or("–"));
            let number = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| format!("{v:.2}"));
            let ratio = Cell::number(number(c.ratio));
            vec![
                Cell::text(&r.model),
                Cell::text(&r.precision),
                Cell::text(&r.engine),
                Cell::number(r.threads),
                Cell::number(format!("{:.1}", r.latency_ms)),
                text(&c.model),
                text(&c.precision),
                Cell::number(number(c.median_ms)),
                match c.ratio {
                    Some(r) if r < 1.0 => ratio.shaded(Tone::Good, 1.0),
                    Some(_) => ratio.shaded(Tone::Bad, 0.5),
                    None => ratio,
                },
            ]
        })
        .collect();
    if rows.is_empty() {
        page.paragraph(&format!("Nothing published for {} is known.", board.title));
        return;
    }
    page.table(&head, &rows);
    let mut sources: Vec<&str> = compared.iter().map(|c| c.reference.source.as_str()).collect();
    sources.dedup();
    page.paragraph(&format!("Published for {}. Source: {}.", board.title, sources.join("; ")));
}

fn conditions(page: &mut Page, report: &Report) {
    let head = ["model", "threads", "before", "after", "notes"];
    let mut rows = Vec::new();
    for model in &report.models {
        for run in &model.runs {
            rows.push(vec![
                Cell::text(&model.name),
                Cell::number(run.threads),
                Cell::text(run.before.line()),
                Cell::text(run.after.line()),
                Cell::text(run.notes.join("; ")),
            ]);
        }
    }
    page.fold("Temperature, clock and the firmware's flags, before and after each");
    page.table(&head, &rows);
    page.unfold();
}
