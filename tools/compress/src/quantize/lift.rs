//! Values in float, as few multiplications as the target needs.
//!
//! A value stays in float only with all layers around it. First the error that each value's
//! quantization causes alone, all else in float, is measured; such errors add up well enough for an
//! order: again and again those layers go to float that take away most error for their
//! multiplications. How many of the sequence the target needs is found by halving, judged by the
//! whole model; then each layer that is not needed goes back to integers.

use std::collections::BTreeSet;

use super::bench::{Bench, Draft};
use super::judge::{Judge, Score};
use super::weights::LayerCodes;
use super::{Event, QuantizeError, Target};

/// Pictures that each value is tried on.
const PICTURES: usize = 12;

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
        let layers = order.iter().take(n).flatten().copied();
        Draft { float: draft.float.iter().copied().chain(layers).collect(), ..draft.clone() }
    };
    on(Event::Start("choosing layers for float", 0));
    let mut best = (draft.clone(), held_out.score(bench, draft)?);
    let holds = |d: &Draft| -> Result<(bool, bool, Score), QuantizeError> {
        let (fits, score): (bool, Score) =
            bench.journal.memo(&format!("float {:?}", d.float), || {
                Ok::<_, QuantizeError>(((goal.fits)(d)?, held_out.score(bench, d)?))
            })?;
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
    let float = bench.lifted(&best.0);
    Ok((Draft { float, ..best.0 }, best.1))
}

/// Sets of layers in the order in which they go to float.
fn ranked(
    bench: &Bench<'_>,
    draft: &Draft,
    tuning: &Judge,
    macs: &[u64],
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Vec<BTreeSet<usize>>, QuantizeError> {
    let points: Vec<(usize, BTreeSet<usize>)> =
        (0..draft.points.len()).filter_map(|point| Some((point, bench.around(point)?))).collect();
    on(Event::Start("each value alone in integers", points.len()));
    let codes: Vec<Option<&LayerCodes>> = vec![None; draft.layers.len()];
    let errors = crate::parallel::map(bench.threads, points.len(), |at| {
        let alone = |point: usize| point == points[at].0 || bench.around(point).is_none();
        let chosen = draft.points.iter().enumerate();
        let chosen: Vec<_> =
            chosen.map(|(point, c)| alone(point).then_some(c.quantization)).collect();
        let error = bench.journal.memo(&format!("value {}", points[at].0), || {
            let file = bench.written(&chosen, &codes, bench.features().as_slice(), &[])?;
            Ok::<_, QuantizeError>(tuning.score_file(&file, PICTURES)?.error)
        });
        on(Event::Done);
        error
    })?;
    let mut float = draft.float.clone();
    let mut order: Vec<BTreeSet<usize>> = Vec::new();
    loop {
        let gain = |candidate: &BTreeSet<usize>| {
            let after: BTreeSet<usize> = float.union(candidate).copied().collect();
            let freed = points
                .iter()
                .zip(&errors)
                .filter(|((_, around), _)| around.is_subset(&after) && !around.is_subset(&float));
            let cost: u64 = candidate.difference(&float).map(|&l| macs[l]).sum();
            freed.map(|(_, error)| error).sum::<f64>() / cost.max(1) as f64
        };
        let left = points.iter().map(|(_, around)| around).filter(|a| !a.is_subset(&float));
        let best = left.map(|around| (gain(around), around)).max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, best)) = best else { return Ok(order) };
        float.extend(best);
        order.push(best.clone());
    }
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
