//! An evaluation as a page: what is right, what is wrong, and how sure one can be of it.

use kinglet_engine::Picture;

use super::compare::Comparison;
use super::{Evaluation, Prediction};
use crate::chart::{self, Axis, Series};
use crate::dataset::Sample;
use crate::page::{self, Card, Cell, Page, Tone};
use crate::statistics::{calibration, quantile, wilson};

mod tables;

/// Most rows that are folded away.
const MOST_ROWS: usize = 1000;
/// Most pictures of a gallery.
const PICTURES: usize = 48;
/// Longer side of those pictures, pixels.
const SIDE: u32 = 200;
/// Bars of the latency histogram.
const BARS: usize = 24;

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The folder's name.
    pub dataset: &'a str,
    /// Class names; indices stand for those that are missing.
    pub labels: &'a [String],
    /// Best scores below this count as unknown.
    pub unknown_below: Option<f32>,
    /// What was evaluated.
    pub samples: &'a [Sample],
    /// The outcome.
    pub evaluation: &'a Evaluation,
    /// Another model's name and outcome on the same pictures.
    pub against: Option<(&'a str, &'a Evaluation)>,
}

/// Writes the page. Pictures are read again for their thumbnails.
#[must_use]
pub fn report(input: &Input<'_>) -> String {
    let Input { model, dataset, evaluation, .. } = *input;
    let mut page = Page::new(
        &format!("{model} on {dataset}"),
        &format!("{} labelled pictures, classified by Kinglet's engine", evaluation.n),
    );
    headline(&mut page, input);
    if let Some((other, second)) = input.against {
        comparison(&mut page, input, other, second);
    }
    mistakes(&mut page, input);
    tables::confusion(&mut page, input);
    tables::per_class(&mut page, input);
    trust(&mut page, evaluation);
    latency(&mut page, evaluation);
    if !evaluation.skipped.is_empty() {
        page.section("Pictures that could not be read");
        let row =
            |s: &super::Skipped| vec![Cell::text(s.path.display().to_string()), Cell::text(&s.why)];
        let rows: Vec<_> = evaluation.skipped.iter().take(MOST_ROWS).map(row).collect();
        page.table(&["file", "why"], &rows);
    }
    page.finish(&format!("Made by kinglet-tools {} evaluate.", env!("CARGO_PKG_VERSION")))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn interval(right: usize, n: usize) -> String {
    let (low, high) = wilson(right, n);
    format!("95 %: {:.1} to {:.1}", 100.0 * low, 100.0 * high)
}

fn headline(page: &mut Page, input: &Input<'_>) {
    let e = input.evaluation;
    page.section("Accuracy");
    let n = format!("{} of {}", e.right1, e.n);
    let mut figures =
        vec![("top-1", percent(e.top1()), format!("{}; {n}", interval(e.right1, e.n)))];
    if input.labels.len() > 5 || input.labels.is_empty() {
        figures.push(("top-5", percent(e.top5()), interval(e.right5, e.n)));
    }
    figures.push(("calibration error", percent(of(e).ece), "score against truth (ECE)".into()));
    let times = times(e);
    let remark = format!("slowest 5 %: over {:.1} ms", quantile(&times, 0.95));
    figures.push(("median time", format!("{:.1} ms", quantile(&times, 0.5)), remark));
    if let Some(least) = input.unknown_below {
        let known: Vec<_> = e.predictions.iter().filter(|p| p.best().score >= least).collect();
        let right = known.iter().filter(|p| p.is_right()).count();
        let value = percent(1.0 - known.len() as f64 / e.n.max(1) as f64);
        let rest = percent(right as f64 / known.len().max(1) as f64);
        figures.push((
            "unknown",
            value,
            format!("best score under {least:.3}; of the rest {rest} right"),
        ));
    }
    page.figures(&figures);
}

fn of(evaluation: &Evaluation) -> crate::statistics::Calibration {
    calibration(evaluation.predictions.iter().map(|p| (p.best().score, p.is_right())))
}

/// Milliseconds a picture, sorted.
fn times(evaluation: &Evaluation) -> Vec<f64> {
    let ms = |p: &Prediction| p.latency.as_secs_f64() * 1e3;
    let mut times: Vec<f64> = evaluation.predictions.iter().map(ms).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn label(input: &Input<'_>, class: usize) -> String {
    input.labels.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

fn comparison(page: &mut Page, input: &Input<'_>, other: &str, second: &Evaluation) {
    let c = Comparison::new(input.evaluation, second);
    page.section(&format!("Against {other}"));
    page.figures(&[
        ("top-1 of the other", percent(second.top1()), interval(second.right1, second.n)),
        ("same answer", percent(c.agreement()), interval(c.same, c.n)),
        (
            "right alone",
            format!("{} : {}", c.first_alone, c.second_alone),
            "this : the other".into(),
        ),
        (
            "McNemar's exact test",
            format!("p = {:.3}", c.p),
            c.verdict().replace("the first", "this model").replace("the second", "the other"),
        ),
    ]);
    if c.differ.is_empty() {
        return page.paragraph("There is no picture on which the two differ.");
    }
    let mut differ: Vec<_> = c
        .differ
        .iter()
        .map(|&(a, b)| (&input.evaluation.predictions[a], &second.predictions[b]))
        .collect();
    let sureness = |(a, b): &(&Prediction, &Prediction)| a.best().score + b.best().score;
    differ.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
    let shown = differ.len().min(PICTURES);
    page.paragraph(&format!(
        "Pictures on which the two differ, the surest answers first{}. Green edge: this model is \
         right; red edge: the other is; grey: neither.",
        some_of(shown, differ.len())
    ));
    let card = |(a, b): &(&Prediction, &Prediction)| {
        let sample = &input.samples[a.sample];
        let tone = match (a.is_right(), b.is_right()) {
            (true, _) => Some(Tone::Good),
            (_, true) => Some(Tone::Bad),
            _ => None,
        };
        let line = |who: &str, p: &Prediction| {
            let best = p.best();
            format!("{who}: {} {:.2}", label(input, best.index), best.score)
        };
        let lines = vec![line("this", a), line("other", b), file_name(sample)];
        Card { uri: thumbnail(sample), title: label(input, sample.class), lines, tone }
    };
    page.gallery(&differ[..shown].iter().map(card).collect::<Vec<_>>());
}

fn some_of(shown: usize, all: usize) -> String {
    if shown < all { format!(" ({shown} of {all})") } else { String::new() }
}

fn file_name(sample: &Sample) -> String {
    sample.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn thumbnail(sample: &Sample) -> String {
    Picture::read(&sample.path).map_or_else(|_| "data:,".into(), |p| page::data_uri(&p, SIDE))
}

fn mistakes(page: &mut Page, input: &Input<'_>) {
    let wrong = input.evaluation.predictions.iter().filter(|p| !p.is_right());
    let mut wrong: Vec<&Prediction> = wrong.collect();
    page.section("Mistakes");
    if wrong.is_empty() {
        return page.paragraph("There are none.");
    }
    wrong.sort_by(|a, b| b.best().score.total_cmp(&a.best().score));
    let shown = wrong.len().min(PICTURES);
    page.paragraph(&format!(
        "Pictures that the model got wrong, the surest answers first{}. Some of them may be labelled \
         wrongly.",
        some_of(shown, wrong.len())
    ));
    let card = |p: &&Prediction| {
        let sample = &input.samples[p.sample];
        let line = |r: &kinglet_engine::scores::Ranked| {
            format!("{:.2} {}", r.score, label(input, r.index))
        };
        let mut lines: Vec<String> = p.top.iter().take(3).map(line).collect();
        lines.push(file_name(sample));
        let tone = if p.rank < 5 { None } else { Some(Tone::Bad) };
        Card { uri: thumbnail(sample), title: label(input, sample.class), lines, tone }
    };
    page.gallery(&wrong[..shown].iter().map(card).collect::<Vec<_>>());
    if wrong[..shown].iter().any(|p| p.rank >= 5) {
        page.paragraph("A red edge: the right class is not among the best five.");
    }
}

fn trust(page: &mut Page, evaluation: &Evaluation) {
    let calibration = of(evaluation);
    page.section("Can the score be believed?");
    let seen: Vec<_> = calibration.bins.iter().filter(|b| b.n > 0).collect();
    let series = Series {
        points: seen.iter().map(|b| (b.confidence, b.right as f64 / b.n as f64)).collect(),
        intervals: seen.iter().map(|b| wilson(b.right, b.n)).collect(),
    };
    let x = Axis { name: "score of the best class", range: (0.0, 1.0), digits: 1 };
    let y = Axis { name: "share that was right", ..x };
    page.chart(
        &chart::lines(x, y, &[series], true),
        &format!(
            "Calibration: points on the diagonal are as right as they say, those under it too sure. \
             Strokes are 95 % intervals. The expected calibration error is {}.",
            percent(calibration.ece)
        ),
    );
    let bars: Vec<_> = calibration
        .bins
        .iter()
        .enumerate()
        .map(|(at, b)| (at as f64 / 10.0, (at + 1) as f64 / 10.0, b.n as f64))
        .collect();
    let most = bars.iter().map(|b| b.2).fold(1.0, f64::max) * 1.05;
    let y = Axis { name: "pictures", range: (0.0, most), digits: 0 };
    page.chart(&chart::bars(x, y, &bars), "How many pictures had which score.");
}

fn latency(page: &mut Page, evaluation: &Evaluation) {
    let times = times(evaluation);
    let (low, high) = (quantile(&times, 0.0), quantile(&times, 0.99));
    page.section("Time");
    if high <= low {
        return page.paragraph("There are too few pictures to show.");
    }
    let width = (high - low) / BARS as f64;
    let mut bars: Vec<_> =
        (0..BARS).map(|i| (low + width * i as f64, low + width * (i + 1) as f64, 0.0)).collect();
    for time in &times {
        let at = ((time - low) / width) as usize;
        if let Some(bar) = bars.get_mut(at) {
            bar.2 += 1.0;
        }
    }
    let most = bars.iter().map(|b| b.2).fold(1.0, f64::max) * 1.05;
    let x = Axis { name: "milliseconds a picture", range: (low, high), digits: 1 };
    let y = Axis { name: "pictures", range: (0.0, most), digits: 0 };
    page.chart(
        &chart::bars(x, y, &bars),
        &format!(
            "From the decoded picture to the scores, on the machine that made this page, with one \
             picture a thread at once; the slowest 1 % are left out. All: {:.1} pictures a second. \
             For a board's times, run kinglet bench there.",
            evaluation.images_per_s()
        ),
    );
}
