//! New weights for projections: those with which the pruned model's sums are nearest to the
//! original's.
//!
//! Block after block, so that each also makes good for the blocks before it: inputs come from the
//! model as pruned and mended so far, targets from the original. Where the projection's result is
//! added to the block's input, the target is what is missing to the original's sum.

use kinglet_engine::onnx::ModelProto;
use kinglet_engine::session::ShapedOutput;

use super::block::Block;
use super::score::{column, pixels, places};
use super::{PruneError, Task, cut};
use crate::journal;
use crate::moments::{Cholesky, Moments, dot};
use crate::watch;

/// How much old weights hold, of the mean variance of the inputs, for as many vectors as inputs.
const RIDGE: f64 = 0.1;

/// Squared error of a projection, as a share of its target's variance.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Errors {
    /// With the weights that were there.
    pub before: f64,
    /// With those found here.
    pub after: f64,
}

/// A pointwise convolution to be mended.
struct Fit<'a> {
    node: usize,
    input: &'a str,
    /// Value of the original that the result should be.
    target: &'a str,
    /// Value of the pruned model that is added to the result before that.
    added: Option<&'a str>,
}

/// Mends the projections of all blocks from the first pruned one on, and the first convolution of
/// a squeeze-and-excite that lost channels. Gives the errors of the projections.
pub(super) fn reconstruct(
    task: &Task<'_>,
    original: &ModelProto,
    pruned: &mut ModelProto,
    blocks: &[Block],
    kept: &[Vec<usize>],
) -> Result<Vec<Option<Errors>>, PruneError> {
    let mut errors = vec![None; blocks.len()];
    // Where a latency was asked for, another measurement may have cut otherwise.
    let cut = journal::fingerprint(&[&format!("{kept:?}")]);
    let lost = |at: usize| kept[at].len() < blocks[at].channels;
    let first = (0..blocks.len()).find(|&at| lost(at)).unwrap_or(blocks.len());
    for (at, block) in blocks.iter().enumerate().skip(first) {
        if let (Some(squeeze), true) = (&block.squeeze, lost(at)) {
            let (input, target) = (squeeze.input.as_str(), squeeze.output.as_str());
            let fit = Fit { node: squeeze.reduce, input, target, added: None };
            mend(task, original, pruned, &fit, &cut)?;
        }
        let fit = Fit {
            node: block.project,
            input: &block.input,
            target: block.residual.as_ref().map_or(&block.output, |[_, sum]| sum),
            added: block.residual.as_ref().map(|[other, _]| other.as_str()),
        };
        errors[at] = Some(mend(task, original, pruned, &fit, &cut)?);
    }
    Ok(errors)
}

/// Finds and sets the weights of one convolution. `cut` says which channels are gone.
fn mend(
    task: &Task<'_>,
    original: &ModelProto,
    pruned: &mut ModelProto,
    fit: &Fit<'_>,
    cut: &str,
) -> Result<Errors, PruneError> {
    let found = task.memo(&format!("weights of {} without {cut}", fit.node), || {
        weights(task, original, pruned, fit)
    })?;
    if let Some(graph) = pruned.graph.as_mut() {
        cut::set(graph, fit.node, &found.weights, &found.bias);
    }
    Ok(found.errors)
}

/// New weights of a convolution.
#[derive(serde::Serialize, serde::Deserialize)]
struct Mended {
    weights: Vec<f32>,
    bias: Vec<f32>,
    errors: Errors,
}

fn weights(
    task: &Task<'_>,
    original: &ModelProto,
    pruned: &ModelProto,
    fit: &Fit<'_>,
) -> Result<Mended, PruneError> {
    let not_finite = || PruneError::NotFinite { value: fit.input.to_owned() };
    let graph = pruned.graph.as_ref().ok_or(PruneError::NoBlock)?;
    let (old, old_bias) = cut::weights(graph, fit.node)?;
    let outputs = old_bias.len();
    let inputs = old.len() / outputs.max(1);
    let moments = observe(task, original, pruned, fit, inputs + outputs)?;
    let ridge = RIDGE * inputs as f64 / moments.rows().max(1) as f64;
    let (means, covariance) = moments.finish();
    let width = inputs + outputs;
    let inner: Vec<f64> =
        covariance.chunks_exact(width).take(inputs).flat_map(|r| &r[..inputs]).copied().collect();
    let factor = Cholesky::new(&inner, inputs, ridge).ok_or_else(not_finite)?;
    let (mut weights, mut bias) = (Vec::with_capacity(old.len()), Vec::with_capacity(outputs));
    let (mut before, mut after, mut variance) = (0.0, 0.0, 0.0);
    for o in 0..outputs {
        let target = &covariance[(inputs + o) * width..][..width];
        let own_variance = target[inputs + o];
        let old: Vec<f64> = old[o * inputs..][..inputs].iter().map(|&w| f64::from(w)).collect();
        let product =
            |w: &[f64]| -> Vec<f64> { inner.chunks_exact(inputs).map(|row| dot(row, w)).collect() };
        let error =
            |w: &[f64]| own_variance - 2.0 * dot(w, &target[..inputs]) + dot(w, &product(w));
        let explained = product(&old);
        let mut new: Vec<f64> =
            target[..inputs].iter().zip(&explained).map(|(t, e)| t - e).collect();
        factor.solve(&mut new);
        new.iter_mut().zip(&old).for_each(|(n, o)| *n += o);
        let mean = means[inputs + o];
        let shift = mean - dot(&old, &means[..inputs]) - f64::from(old_bias[o]);
        before += error(&old).max(0.0) + shift * shift;
        after += error(&new).max(0.0);
        variance += own_variance;
        bias.push((mean - dot(&new, &means[..inputs])) as f32);
        weights.extend(new.iter().map(|&w| w as f32));
    }
    if weights.iter().chain(&bias).any(|w| !w.is_finite()) {
        return Err(not_finite());
    }
    let share = |error: f64| error / variance.max(f64::MIN_POSITIVE);
    let errors = Errors { before: share(before), after: share(after) };
    Ok(Mended { weights, bias, errors })
}

/// Inputs and targets together, at some pixels of every picture.
fn observe(
    task: &Task<'_>,
    original: &ModelProto,
    pruned: &ModelProto,
    fit: &Fit<'_>,
    width: usize,
) -> Result<Moments, PruneError> {
    let original = watch::only(original, &[fit.target])?;
    let names: Vec<&str> = [fit.input].into_iter().chain(fit.added).collect();
    let pruned = watch::only(pruned, &names)?;
    let seed = task.options.seed;
    let see = |number: usize, outputs: &[Vec<ShapedOutput>]| {
        let (target, input, added) = (&outputs[0][1], &outputs[1][1], outputs[1].get(2));
        let mut rows = Vec::new();
        for place in places(pixels(target), number, seed) {
            rows.extend(column(input, place));
            match added {
                Some(added) => {
                    let both = column(target, place).zip(column(added, place));
                    rows.extend(both.map(|(t, a)| t - a));
                }
                None => rows.extend(column(target, place)),
            }
        }
        Ok(rows)
    };
    let mut moments = Moments::new(width, task.pictures.threads);
    let mut take = |_: usize, rows: Vec<f32>| moments.add(&rows);
    task.pass("reconstruction", None, &[&original, &pruned], &see, &mut take)?;
    Ok(moments)
}
