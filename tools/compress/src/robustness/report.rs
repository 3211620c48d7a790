//! Robustness as a page.

use kinglet_engine::Picture;
use kinglet_engine::metadata::Preprocess;
use kinglet_engine::preprocess::{InputKind, Preprocessor};

use super::{Kind, Level, Robustness, corrupt};
use crate::chart::{self, Axis, Series};
use crate::page::{self, Card, Cell, Page, Tone};
use crate::splitmix::SplitMix64;
use crate::statistics::wilson;

/// Longer side of the example pictures, pixels.
const SIDE: u32 = 160;

/// What the page is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Name of each model.
    pub models: &'a [&'a str],
    /// The folder's name.
    pub dataset: &'a str,
    /// A photograph to show what the strengths mean, and how it is prepared.
    pub example: Option<(&'a Picture, &'a Preprocess)>,
}

/// Writes the page.
#[must_use]
pub fn report(subject: &Subject<'_>, robustness: &Robustness) -> String {
    let Subject { models, dataset, .. } = *subject;
    let n = robustness.n;
    let model = models.first().copied().unwrap_or_default();
    let mut page = Page::new(
        &format!("Robustness of {model} on {dataset}"),
        &format!("{n} pictures, made worse in {} ways", robustness.levels.len().saturating_sub(1)),
    );
    let Some(clean) = robustness.levels.first() else { return page.finish("") };
    page.section("In short");
    let mut figures = vec![figure("as they are", clean, n)];
    for kinds in [&Kind::CORRUPTIONS[..], &Kind::ATTACKS] {
        let of_kinds = robustness.levels.iter();
        let of_kinds = of_kinds.filter(|l| l.kind.is_some_and(|kind| kinds.contains(&kind)));
        if let Some(worst) = of_kinds.min_by_key(|l| l.right.first()) {
            figures.push(figure(&format!("worst: {}", describe(worst)), worst, n));
        }
    }
    let figures: Vec<_> =
        figures.iter().map(|(a, b, c)| (a.as_str(), b.clone(), c.clone())).collect();
    page.figures(&figures);
    if let [first, second, ..] = models {
        page.paragraph(&format!("In the charts {first} is blue and {second} orange."));
    }
    page.section("Accuracy by strength");
    for kind in Kind::CORRUPTIONS.into_iter().chain(Kind::ATTACKS) {
        chart_of(&mut page, kind, robustness, models.len());
    }
    page.section("All numbers");
    table(&mut page, robustness, models);
    if let Some((picture, preprocess)) = subject.example {
        examples(&mut page, picture, preprocess);
    }
    page.finish(&format!("Made by kinglet-tools {} robustness.", env!("CARGO_PKG_VERSION")))
}

fn describe(level: &Level) -> String {
    level
        .kind
        .map_or_else(|| "as they are".into(), |k| format!("{} {}", k.name().0, level.strength))
}

fn figure(name: &str, level: &Level, n: usize) -> (String, String, String) {
    let right = level.right.first().copied().unwrap_or(0);
    let (low, high) = wilson(right, n);
    let value = format!("{:.1} %", 100.0 * right as f64 / n.max(1) as f64);
    (name.to_owned(), value, format!("95 %: {:.1} to {:.1}", 100.0 * low, 100.0 * high))
}

fn chart_of(page: &mut Page, kind: Kind, robustness: &Robustness, models: usize) {
    let mut levels: Vec<(f64, &Level)> = robustness
        .levels
        .iter()
        .filter(|l| l.kind == Some(kind))
        .map(|l| (f64::from(l.strength), l))
        .collect();
    if levels.is_empty() {
        return;
    }
    if let Some(clean) = robustness.levels.first() {
        levels.push((f64::from(kind.none()), clean));
    }
    levels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (name, unit) = kind.name();
    let most = levels.last().map_or(1.0, |l| l.0);
    let x = Axis { name: unit, range: (0.0, most * 1.04), digits: usize::from(most < 5.0) };
    let y = Axis { name: "top-1", range: (0.0, 1.0), digits: 1 };
    let n = robustness.n;
    let series = |model: usize| {
        let right = |level: &Level| level.right.get(model).copied().unwrap_or(0);
        let share = |level| right(level) as f64 / n.max(1) as f64;
        Series {
            points: levels.iter().map(|&(x, level)| (x, share(level))).collect(),
            intervals: levels.iter().map(|&(_, level)| wilson(right(level), n)).collect(),
        }
    };
    let series: Vec<Series> = (0..models.min(2)).map(series).collect();
    page.chart(
        &chart::lines(x, y, &series, false),
        &format!("Top-1 under {name}. Strokes are 95 % intervals."),
    );
}

fn table(page: &mut Page, robustness: &Robustness, models: &[&str]) {
    let n = robustness.n;
    let clean = robustness.levels.first().map(|l| l.right.clone()).unwrap_or_default();
    let mut headings = vec!["what", "strength"];
    for model in models {
        headings.extend([*model, "95 %", "lost"]);
    }
    let row = |level: &Level| {
        let name = level.kind.map_or("as they are", |k| k.name().0);
        let strength = level.kind.map_or_else(String::new, |_| level.strength.to_string());
        let mut row = vec![Cell::text(name), Cell::number(strength)];
        for (&right, &clean) in level.right.iter().zip(&clean) {
            let share = |right: usize| right as f64 / n.max(1) as f64;
            let (low, high) = wilson(right, n);
            let lost = share(clean) - share(right);
            row.push(Cell::number(format!("{:.3}", share(right))));
            row.push(Cell::number(format!("{low:.3} to {high:.3}")));
            row.push(Cell::number(format!("{lost:.3}")).shaded(Tone::Bad, lost as f32));
        }
        row
    };
    page.table(&headings, &robustness.levels.iter().map(row).collect::<Vec<_>>());
}

/// A photograph at every strength of the corruptions.
fn examples(page: &mut Page, picture: &Picture, preprocess: &Preprocess) {
    let Ok(mut preprocessor) = Preprocessor::new(preprocess, InputKind::F32Nchw) else { return };
    let [height, width] = preprocess.size;
    let seen = preprocessor.resized(picture).to_vec();
    let Ok(seen) = Picture::from_rgb(width, height, seen) else { return };
    page.section("What the strengths mean");
    let mut random = SplitMix64::new(0);
    let mut cards = Vec::new();
    for kind in Kind::CORRUPTIONS {
        for &strength in kind.strengths() {
            let worse = corrupt::corrupt(kind, strength, &seen, &mut random);
            cards.push(Card {
                uri: page::data_uri(&worse, SIDE),
                title: format!("{} {strength}", kind.name().0),
                lines: Vec::new(),
                tone: None,
            });
        }
    }
    page.gallery(&cards);
}
