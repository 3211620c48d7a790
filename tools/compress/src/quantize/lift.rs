//! Layers in float, as few as the target needs.
//!
//! A value stays in float only with all layers around it; so for each value the layers around it
//! are one candidate. Each is tried alone; those that bring the features nearest for their
//! multiplications come first, and the shortest sequence that meets the target is found by halving.
//! Then each layer in it that is not needed goes back to integers.

use std::collections::BTreeSet;

use super::bench::{Bench, Draft};
use super::judge::{Judge, Score};
use super::{Event, QuantizeError, Target};

/// Layers that are lifted together, and what that gains for each multiplication.
struct Candidate {
    layers: BTreeSet<usize>,
    gain: f64,
}

/// When to stop.
pub(super) struct Goal<'a> {
    pub target: Target,
    /// Says whether a draft is fast enough.
    pub fits: &'a dyn Fn(&Draft) -> Result<bool, QuantizeError>,
}

/// The draft with as many layers in float as the target needs, judged by `held_out`; candidates are
/// ranked on `tuning`. `macs` are the multiplications of each layer.
pub(super) fn lift(
    bench: &Bench<'_>,
    draft: &Draft,
    (tuning, held_out): (&Judge, &Judge),
    macs: &[u64],
    goal: &Goal<'_>,
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<(Draft, Score), QuantizeError> {
    let order = ranked(bench, draft, tuning, macs, on)?;
    let prefix = |n: usize| -> Draft {
        let layers = order.iter().take(n).flat_map(|c| c.layers.iter().copied());
        Draft { float: draft.float.iter().copied().chain(layers).collect(), ..draft.clone() }
    };
    on(Event::Start("choosing layers for float", 0));
    let mut best = (draft.clone(), held_out.score(bench, draft)?);
    let holds = |d: &Draft| -> Result<(bool, bool, Score), QuantizeError> {
        let score = held_out.score(bench, d)?;
        let fits = (goal.fits)(d)?;
        Ok((score.meets(goal.target), fits, score))
    };
    // What is known not to be enough, and what is.
    let (mut low, mut high) = (0, order.len() + 1);
    while high - low > 1 {
        let middle = if low == 0 && high > 8 { (high / 8).max(1) } else { (low + high) / 2 };
        let candidate = prefix(middle);
        let (enough, fits, score) = holds(&candidate)?;
        let better = score.error < best.1.error;
        if enough || !fits {
            high = middle;
        } else {
            low = middle;
        }
        let was_met = best.1.meets(goal.target);
        if fits && (enough || (better && !was_met)) {
            best = (candidate, score);
        }
    }
    if best.1.meets(goal.target) {
        best = drop_needless(draft, best, macs, |d| {
            let (enough, fits, score) = holds(d)?;
            Ok((enough && fits).then_some(score))
        })?;
    }
    Ok(best)
}

fn ranked(
    bench: &Bench<'_>,
    draft: &Draft,
    tuning: &Judge,
    macs: &[u64],
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Vec<Candidate>, QuantizeError> {
    let sets: BTreeSet<BTreeSet<usize>> =
        (0..bench.plan.points.len()).filter_map(|point| bench.around(point)).collect();
    let sets: Vec<BTreeSet<usize>> =
        sets.into_iter().filter(|s| !s.is_subset(&draft.float)).collect();
    on(Event::Start("trying layers in float", sets.len()));
    let base = tuning.score(bench, draft)?.error;
    let errors = crate::parallel::map(bench.threads, sets.len(), |at| {
        let float = draft.float.union(&sets[at]).copied().collect();
        let score = tuning.score_alone(bench, &Draft { float, ..draft.clone() })?;
        on(Event::Done);
        Ok::<_, QuantizeError>(score.error)
    })?;
    let candidate = |(layers, error): (BTreeSet<usize>, f64)| {
        let cost: u64 = layers.iter().map(|&l| macs[l]).sum();
        Candidate { layers, gain: (base - error) / cost.max(1) as f64 }
    };
    let mut order: Vec<Candidate> = sets.into_iter().zip(errors).map(candidate).collect();
    order.retain(|c| c.gain > 0.0);
    order.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    Ok(order)
}

/// Takes back the layers that are not needed, the dearest first.
fn drop_needless(
    start: &Draft,
    mut best: (Draft, Score),
    macs: &[u64],
    holds: impl Fn(&Draft) -> Result<Option<Score>, QuantizeError>,
) -> Result<(Draft, Score), QuantizeError> {
    let mut lifted: Vec<usize> = best.0.float.difference(&start.float).copied().collect();
    lifted.sort_by_key(|&layer| std::cmp::Reverse(macs[layer]));
    for layer in lifted {
        let mut draft = best.0.clone();
        draft.float.remove(&layer);
        if let Some(score) = holds(&draft)? {
            best = (draft, score);
        }
    }
    Ok(best)
}
