//! How much each expanded channel matters.

use kinglet_engine::onnx::ModelProto;
use kinglet_engine::session::ShapedOutput;

use super::block::Block;
use super::cut;
use super::greedy::greedy;
use super::select::Path;
use super::{Criterion, PruneError, Task};
use crate::gradient::{Backward, Values};
use crate::inspect::shapes::Shapes;
use crate::moments::Moments;
use crate::splitmix::SplitMix64;
use crate::watch::{self, Place};
use crate::{dataset::Sample, parallel};

/// Pictures that gradients are taken of, at most.
const GRADIENTS: usize = 128;
/// Pixels of a picture that are looked at in each block, at most.
const PIXELS: usize = 48;

/// The order in which the channels of each block go, and what that costs.
pub(super) fn paths(
    task: &Task<'_>,
    model: &ModelProto,
    blocks: &[Block],
    shapes: &Shapes,
) -> Result<Vec<Path>, PruneError> {
    Ok(match task.options.criterion {
        Criterion::Norm => {
            let graph = model.graph.as_ref().ok_or(PruneError::NoBlock)?;
            let norms = blocks.iter().map(|b| norms(graph, b)).collect::<Result<Vec<_>, _>>()?;
            norms.iter().map(|n| Path::from_scores(n)).collect()
        }
        Criterion::Taylor => {
            let squares = gradients(task, model, blocks, shapes, true)?;
            squares.iter().map(|s| Path::from_scores(s)).collect()
        }
        Criterion::Reconstruction => {
            let squares = gradients(task, model, blocks, shapes, false)?;
            let covariances = covariances(task, model, blocks)?;
            let graph = model.graph.as_ref().ok_or(PruneError::NoBlock)?;
            let found = parallel::run(task.pictures.threads, blocks.len(), |queue| {
                let path = |at: usize| {
                    let (weights, _) = cut::weights(graph, blocks[at].project)?;
                    let path = greedy(&covariances[at], &weights, &squares[at]);
                    Ok((at, path.ok_or_else(|| not_finite(&blocks[at]))?))
                };
                queue.map(path).collect::<Result<Vec<_>, PruneError>>()
            })?;
            let mut found: Vec<(usize, Path)> = found.into_iter().flatten().collect();
            found.sort_by_key(|(at, _)| *at);
            found.into_iter().map(|(_, path)| path).collect()
        }
    })
}

fn not_finite(block: &Block) -> PruneError {
    PruneError::NotFinite { value: block.input.clone() }
}

/// For each channel the product of the squared norms of its filters, in expansion, depthwise layer
/// and projection, as a share of the block's sum: what a channel does not share with others.
fn norms(graph: &kinglet_engine::onnx::GraphProto, block: &Block) -> Result<Vec<f64>, PruneError> {
    let mut scores = vec![1.0; block.channels];
    let square = |w: &f32| f64::from(*w) * f64::from(*w);
    for &at in [block.expand].iter().chain(&block.depthwise) {
        let (weights, _) = cut::weights(graph, at)?;
        let filter = (weights.len() / block.channels).max(1);
        for (score, filter) in scores.iter_mut().zip(weights.chunks_exact(filter)) {
            *score *= filter.iter().map(square).sum::<f64>();
        }
    }
    let (weights, _) = cut::weights(graph, block.project)?;
    for (channel, score) in scores.iter_mut().enumerate() {
        *score *= weights.iter().skip(channel).step_by(block.channels).map(square).sum::<f64>();
    }
    let sum: f64 = scores.iter().sum();
    if !sum.is_finite() {
        return Err(not_finite(block));
    }
    scores.iter_mut().for_each(|s| *s /= sum.max(f64::MIN_POSITIVE));
    Ok(scores)
}

/// Means over pictures. With `inner`, for each channel that a projection reads the square of the
/// sum over pixels of value times gradient: the first-order change of the loss when the channel is
/// gone, squared (Molchanov et al. 2019). Else, for each channel that a projection makes, the sum
/// over pixels of the squared gradient.
///
/// Where there are no labels, the gradients are those of a random function of the logits whose
/// covariance is their Fisher information, so that the squares are second-order changes (Theis et
/// al. 2018).
fn gradients(
    task: &Task<'_>,
    model: &ModelProto,
    blocks: &[Block],
    shapes: &Shapes,
    inner: bool,
) -> Result<Vec<Vec<f64>>, PruneError> {
    let graph = model.graph.as_ref().ok_or(PruneError::NoBlock)?;
    let wanted: Vec<&str> =
        blocks.iter().map(|b| if inner { &b.input } else { &b.output }.as_str()).collect();
    let backward = Backward::new(graph, shapes, &wanted)?;
    let mut names = backward.needed();
    names.push(backward.logits());
    names.extend(wanted.iter().filter(|_| inner));
    let (watched, places) = watch::watched(model, names.iter().copied())?;
    let seed = task.options.seed;
    let samples = Loss::samples(task);
    let paths: Vec<_> = samples.iter().map(|s| s.path.clone()).collect();
    let see = |number: usize, outputs: &[Vec<ShapedOutput>]| {
        let value = |place: &Place| match place {
            Place::Output(at) => outputs[0][*at].1.as_slice(),
            Place::Input => &[],
        };
        let values: Values<'_> = names.iter().copied().zip(places.iter().map(value)).collect();
        let logits = values.get(backward.logits()).copied().unwrap_or_default();
        let start = samples[number].gradient(logits, seed ^ number as u64);
        let gradients = backward.run(&values, start);
        let of_block = |name: &&str| {
            let gradient = gradients.get(name).map_or(&[][..], Vec::as_slice);
            let channels = shapes.shape(name).and_then(|s| s.get(1)).copied().unwrap_or(1);
            let pixels = (gradient.len() / channels.max(1)).max(1);
            let planes = gradient.chunks_exact(pixels);
            if inner {
                let values = values.get(name).copied().unwrap_or_default();
                let product = |(g, x): (&[f32], &[f32])| {
                    let sum: f64 = g.iter().zip(x).map(|(&g, &x)| f64::from(g * x)).sum();
                    sum * sum
                };
                planes.zip(values.chunks_exact(pixels)).map(product).collect()
            } else {
                let square = |g: &[f32]| g.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
                planes.map(square).collect()
            }
        };
        Ok(wanted.iter().map(of_block).collect::<Vec<Vec<f64>>>())
    };
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); blocks.len()];
    let mut n = 0.0;
    let mut take = |_: usize, squares: Vec<Vec<f64>>| {
        n += 1.0;
        for (sum, squares) in sums.iter_mut().zip(squares) {
            sum.resize(squares.len(), 0.0);
            sum.iter_mut().zip(squares).for_each(|(s, q)| *s += q);
        }
    };
    task.pass("gradients", Some(&paths), &[&watched], &see, &mut take)?;
    for (sum, block) in sums.iter_mut().zip(blocks) {
        sum.iter_mut().for_each(|s| *s /= f64::max(n, 1.0));
        if sum.is_empty() || sum.iter().any(|s| !s.is_finite()) {
            return Err(not_finite(block));
        }
    }
    Ok(sums)
}

/// A picture that gradients are taken of.
struct Loss {
    path: std::path::PathBuf,
    class: Option<usize>,
}

impl Loss {
    /// Labelled pictures where there are some, else those of the calibration: evenly many.
    fn samples(task: &Task<'_>) -> Vec<Self> {
        let labelled = |s: &Sample| Self { path: s.path.clone(), class: Some(s.class) };
        let plain = |p: &std::path::PathBuf| Self { path: p.clone(), class: None };
        let all: Vec<Self> = match &task.options.labelled {
            Some(samples) => samples.iter().map(labelled).collect(),
            None => task.pictures.paths.iter().map(plain).collect(),
        };
        let step = all.len().div_ceil(GRADIENTS).max(1);
        all.into_iter().step_by(step).collect()
    }

    /// The gradient of the logits: of the cross-entropy, or of a random function with their Fisher
    /// information `diag(p) - p p^T` as its covariance.
    fn gradient(&self, logits: &[f32], seed: u64) -> Vec<f32> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut p: Vec<f32> = logits.iter().map(|v| (v - largest).exp()).collect();
        let sum: f32 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
        if let Some(class) = self.class {
            if let Some(own) = p.get_mut(class) {
                *own -= 1.0;
            }
            return p;
        }
        let mut random = SplitMix64::new(seed);
        let root = |p: &f32| if random.next_u64() >> 63 == 0 { p.sqrt() } else { -p.sqrt() };
        let roots: Vec<f32> = p.iter().map(root).collect();
        let sum: f32 = p.iter().zip(&roots).map(|(p, r)| p.sqrt() * r).sum();
        p.iter().zip(&roots).map(|(p, r)| r - p * sum).collect()
    }
}

/// Covariances of what each projection reads.
fn covariances(
    task: &Task<'_>,
    model: &ModelProto,
    blocks: &[Block],
) -> Result<Vec<Vec<f64>>, PruneError> {
    let names: Vec<&str> = blocks.iter().map(|b| b.input.as_str()).collect();
    let watched = watch::only(model, &names)?;
    let seed = task.options.seed;
    let see = |number: usize, outputs: &[Vec<ShapedOutput>]| {
        let rows = |(at, output): (usize, &ShapedOutput)| {
            let places = places(pixels(output), number, seed.wrapping_add(at as u64));
            let mut rows = Vec::new();
            for place in places {
                rows.extend(column(output, place));
            }
            rows
        };
        Ok(outputs[0][1..].iter().enumerate().map(rows).collect::<Vec<_>>())
    };
    let new = |b: &Block| Moments::new(b.channels, task.pictures.threads);
    let mut moments: Vec<Moments> = blocks.iter().map(new).collect();
    let mut take = |_: usize, rows: Vec<Vec<f32>>| {
        moments.iter_mut().zip(&rows).for_each(|(m, r)| m.add(r));
    };
    task.pass("covariances", None, &[&watched], &see, &mut take)?;
    Ok(moments.into_iter().map(|m| m.finish().1).collect())
}

/// Pixels of a (1, channels, height, width) value.
pub(super) fn pixels(output: &ShapedOutput) -> usize {
    output.0.iter().skip(2).product::<usize>().max(1)
}

/// All channels of a value at one pixel.
pub(super) fn column(output: &ShapedOutput, place: usize) -> impl Iterator<Item = f32> {
    output.1.iter().skip(place).step_by(pixels(output)).copied()
}

/// Some pixels of a picture: one, by chance, of each of up to [`PIXELS`] equal parts.
pub(super) fn places(pixels: usize, picture: usize, seed: u64) -> Vec<usize> {
    let parts = pixels.min(PIXELS);
    let mut random = SplitMix64::new(seed ^ (picture as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let place = |i: usize| {
        let (start, end) = (i * pixels / parts, (i + 1) * pixels / parts);
        start + (random.next_u64() % (end - start).max(1) as u64) as usize
    };
    (0..parts).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_and_the_same_each_time() {
        assert_eq!(places(49, 3, 1).len(), PIXELS);
        assert_eq!(places(9, 3, 1), (0..9).collect::<Vec<_>>());
        let places_ = places(12544, 3, 1);
        assert_eq!(places_, places(12544, 3, 1));
        assert_ne!(places_, places(12544, 4, 1));
        assert!(places_.is_sorted() && places_[PIXELS - 1] < 12544);
    }
}
