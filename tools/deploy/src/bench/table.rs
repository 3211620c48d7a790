//! What was measured as text: a table over models and types, and what is to be known of it.

use std::fmt::Write as _;

use super::{Report, compare};
use crate::board::Board;

/// The table; with a board also what others published for it.
#[must_use]
pub fn table(report: &Report, board: Option<&Board>) -> String {
    let mut text = String::new();
    let seen = report.board.model.as_deref().unwrap_or("an unknown machine");
    _ = write!(text, "{}: {seen}", report.host);
    if report.board.cores > 0 {
        _ = write!(text, ", {} cores", report.board.cores);
    }
    text.push('\n');
    let wide = report.models.iter().map(|m| m.name.chars().count()).max().unwrap_or(0).max(5);
    _ = writeln!(
        text,
        "{:<wide$}  type  threads  kernels      median ms     p90     p99  first result ms  memory MiB  before -> after",
        "model"
    );
    for model in &report.models {
        for run in &model.runs {
            let row = format!(
                "{:<wide$}  {:<4}  {:>7}  {:<11}  {:>9.2}{}{:>7.2} {:>7.2}  {:>15.1}  {:>10.1}  {} -> {}",
                model.name,
                model.precision,
                run.threads,
                run.isa,
                run.median,
                if run.invalid.is_empty() { ' ' } else { '!' },
                run.p90,
                run.p99,
                run.load,
                run.rss,
                run.before.line(),
                run.after.line(),
            );
            _ = writeln!(text, "{}", row.trim_end().trim_end_matches("->").trim_end());
        }
        if let Some(cold) = model.cold_ms {
            _ = writeln!(
                text,
                "{:<wide$}  first result {cold:.1} ms with an empty page cache",
                model.name
            );
        }
    }
    remarks(&mut text, report);
    if let Some(board) = board {
        references(&mut text, report, board);
    }
    text
}

fn remarks(text: &mut String, report: &Report) {
    let (invalid, all) = report.invalid();
    if invalid > 0 {
        _ = writeln!(text, "! {invalid} of {all} do not count, because the board was slowed down:");
    }
    let mut told: Vec<&String> = Vec::new();
    for model in &report.models {
        for run in &model.runs {
            if !run.invalid.is_empty() {
                let why = run.invalid.join(", ");
                _ = writeln!(text, "  {} on {} thread(s): {why}", model.name, run.threads);
            }
            for note in &run.notes {
                if !told.contains(&note) {
                    told.push(note);
                }
            }
        }
    }
    for note in told {
        _ = writeln!(text, "note: {note}");
    }
}

fn references(text: &mut String, report: &Report, board: &Board) {
    for run in report.models.iter().flat_map(|m| &m.runs).take(1) {
        if run.isa != board.kernels.best {
            let (isa, best) = (&run.isa, &board.kernels.best);
            _ = writeln!(text, "note: kernels {isa}, where {} should have {best}", board.title);
        }
    }
    for comparison in compare(board, report) {
        let r = comparison.reference;
        _ = write!(
            text,
            "published for {}: {} {}, {} on {} thread(s) {:.1} ms ({})",
            board.title, r.model, r.precision, r.engine, r.threads, r.latency_ms, r.source
        );
        match (&comparison.model, comparison.median_ms, comparison.ratio) {
            (Some(model), Some(median), Some(ratio)) => {
                let precision = comparison.precision.as_deref().unwrap_or_default();
                _ = writeln!(
                    text,
                    "; {model} ({precision}) here: {median:.2} ms, {ratio:.2} times that"
                );
            }
            _ => _ = writeln!(text, "; none of these models is that network on as many threads"),
        }
    }
}
