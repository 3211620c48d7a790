//! Ranges tuned against the model's own features: what a calibrator chooses by one value's error
//! need not be best for the result.
//!
//! One value after another, those with the poorest range first, each end of its range is moved in
//! or out as long as that brings the features of the tuning pictures nearer to the float model's.

use super::bench::{Bench, Draft};
use super::bits::Role;
use super::judge::{Judge, Score};
use super::range::{self, Quantization};
use super::{Event, QuantizeError};

/// Values that are tried, at most.
const VALUES: usize = 64;
/// Factors of an end of the range.
const FACTORS: [f32; 2] = [0.75, 1.4];
/// Moves of one value, at most.
const MOVES: usize = 4;
/// A gain of less is taken for chance.
const LEAST_GAIN: f64 = 0.002;

/// The draft with tuned ranges.
pub(super) fn tune(
    bench: &Bench<'_>,
    draft: &Draft,
    tuning: &Judge,
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Draft, QuantizeError> {
    let fixed = |at: &usize| bench.roles[*at] == Role::Picture || bench.is_float(draft, *at);
    let mut order: Vec<usize> = (0..draft.points.len()).filter(|at| !fixed(at)).collect();
    order.sort_by(|&a, &b| draft.points[a].sqnr_db.total_cmp(&draft.points[b].sqnr_db));
    order.truncate(VALUES);
    on(Event::Start("tuning ranges", order.len()));
    let mut best = draft.clone();
    let mut least = tuning.score(bench, &best)?.error;
    for point in order {
        for at in 0..MOVES {
            let candidates = candidates(bench, &best, point);
            let scores: Vec<Score> = bench
                .journal
                .memo(&format!("range {point} {at}"), || tuning.scores(bench, &candidates))?;
            let scored = scores.iter().map(|s| s.error).zip(candidates);
            match scored.min_by(|a, b| a.0.total_cmp(&b.0)) {
                Some((error, draft)) if error < least * (1.0 - LEAST_GAIN) => {
                    (least, best) = (error, draft);
                }
                _ => break,
            }
        }
        describe(bench, &mut best, point);
        on(Event::Done);
    }
    Ok(best)
}

fn candidates(bench: &Bench<'_>, draft: &Draft, point: usize) -> Vec<Draft> {
    let now = draft.points[point].quantization;
    let (low, high) = now.range();
    let bounds = bench.plan.points[point].bounds;
    let clamp = |v: f32| v.clamp(bounds.0.min(0.0), bounds.1.max(0.0));
    let form = bench.form(point);
    let mut found: Vec<Quantization> = Vec::new();
    for factor in FACTORS {
        let both = [(low, high * factor), (low * factor, high)];
        for (low, high) in both.into_iter().take(if low < 0.0 { 2 } else { 1 }) {
            let new = form.spanning(clamp(low), clamp(high));
            if new != now && !found.contains(&new) {
                found.push(new);
            }
        }
    }
    found.into_iter().map(|new| bench.with_point(draft, point, new)).collect()
}

/// What the new range does to the values.
fn describe(bench: &Bench<'_>, draft: &mut Draft, point: usize) {
    let view = bench.view(point, |next| draft.points[next].quantization.range());
    let histogram = &bench.calibration.points[point].histogram;
    draft.points[point] = range::describe(histogram, draft.points[point].quantization, view);
}
