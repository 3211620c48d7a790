//! AdaRound (Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization"):
//! whether a weight is rounded up or down is learnt, so that the layer's result, for the inputs that
//! the quantized network has, comes nearest to that of the float weights.
//!
//! Output channels do not share weights, so each is a problem of its own: minimise
//! `|X w - y|^2 + lambda * sum(1 - |2 h - 1|^beta)` over `h = clip(1.2 * sigmoid(v) - 0.1, 0, 1)`,
//! `w = scale * (floor + h)`, by Adam on batches of sampled pixels, beta falling from 20 to 2. A
//! channel keeps nearest rounding where that is no worse on all its samples.
//!
//! Layers are taken in the order of the graph; those that the time does not suffice for keep
//! nearest rounding, so that the result depends on the machine only if the time runs out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::bench::{Bench, Draft};
use super::weights::LayerCodes;
use super::{Event, QuantizeError};
use crate::parallel;
use crate::splitmix::SplitMix64;

mod samples;

use samples::Samples;

/// Steps of Adam.
const STEPS: usize = 600;
/// Samples in a step.
const BATCH: usize = 32;
/// Step size of Adam.
const RATE: f32 = 0.02;
/// Part of the steps without the term that drives `h` to 0 or 1.
const WARM: f32 = 0.2;
/// Weight of that term when it begins.
const LAMBDA: f32 = 0.05;
/// What that weight has been multiplied by at the end: no `h` stays between 0 and 1 then.
const GROWTH: f32 = 1000.0;

/// The draft with learnt rounding, and the layers that got it.
pub(super) fn adaround(
    bench: &Bench<'_>,
    draft: &Draft,
    pictures: &[PathBuf],
    budget: Duration,
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<(Draft, Vec<usize>), QuantizeError> {
    let mut draft = draft.clone();
    let mut learnt = Vec::new();
    on(Event::Start("learning the rounding", bench.plan.layers.len()));
    // Of this run and of those that were stopped.
    let mut spent = Duration::ZERO;
    for group in samples::groups(bench, pictures.len()) {
        // What the group's layers read is collected when the first of them needs it, with the layers
        // in front as they are here.
        let before = draft.clone();
        let mut all: Option<Vec<Samples>> = None;
        for (at, &layer) in group.iter().enumerate() {
            if !draft.float.contains(&layer) {
                let begun = spent;
                let learn = || {
                    let start = Instant::now();
                    if begun >= budget {
                        return Ok::<_, QuantizeError>((None, begun));
                    }
                    if all.is_none() {
                        all = Some(samples::collect(bench, &before, &group, pictures)?);
                    }
                    let codes = match all.as_ref().and_then(|all| all.get(at)) {
                        Some(samples) if begun + start.elapsed() < budget => {
                            Some(learn(bench, &draft.layers[layer], layer, samples)?)
                        }
                        _ => None,
                    };
                    Ok((codes, begun + start.elapsed()))
                };
                let codes;
                (codes, spent) = bench.journal.memo(&format!("rounding {layer}"), learn)?;
                if let Some(codes) = codes {
                    draft.layers[layer] = codes;
                    learnt.push(layer);
                }
            }
            on(Event::Done);
        }
    }
    Ok((draft, learnt))
}

/// A layer's codes with learnt rounding; the bias takes up what is left of the mean error.
fn learn(
    bench: &Bench<'_>,
    codes: &LayerCodes,
    layer: usize,
    samples: &Samples,
) -> Result<LayerCodes, QuantizeError> {
    let (weights, _, bias) = bench.weights(layer)?;
    let length = weights.len() / bias.len().max(1);
    let largest = f32::from(bench.largest());
    let channels = parallel::map(bench.threads, bias.len(), |channel| {
        let place = channel * length..(channel + 1) * length;
        let problem = Problem {
            weights: &weights[place.clone()],
            nearest: &codes.codes[place],
            scale: codes.scale[channel],
            largest,
            inputs: samples.inputs(channel),
        };
        let random = SplitMix64::at(bench.options.seed, &[layer as u64, channel as u64]);
        Ok::<_, QuantizeError>(problem.solve(random))
    })?;
    let mut new = codes.clone();
    let mut shift = vec![0.0; bias.len()];
    for (channel, (found, mean)) in channels.into_iter().enumerate() {
        new.codes[channel * length..(channel + 1) * length].copy_from_slice(&found);
        let unit = f64::from(codes.bias_scale[channel]);
        shift[channel] = f64::from(bias[channel]) - mean - f64::from(codes.bias[channel]) * unit;
    }
    new.shift_bias(&shift);
    Ok(new)
}

/// One output channel.
struct Problem<'a> {
    weights: &'a [f32],
    nearest: &'a [i8],
    scale: f32,
    /// Largest magnitude of a code.
    largest: f32,
    /// A row a sample.
    inputs: &'a [f32],
}

impl Problem<'_> {
    /// The codes, and the mean of what they give too much.
    fn solve(&self, mut random: SplitMix64) -> (Vec<i8>, f64) {
        let n = self.weights.len();
        let floor: Vec<f32> = self
            .weights
            .iter()
            .map(|w| (w / self.scale).floor().clamp(-self.largest, self.largest - 1.0))
            .collect();
        // h starts as the weight's own fraction.
        let mut v: Vec<f32> = self
            .weights
            .iter()
            .zip(&floor)
            .map(|(w, floor)| {
                let h = (w / self.scale - floor).clamp(0.01, 0.99);
                let s = (h + 0.1) / 1.2;
                (s / (1.0 - s)).ln()
            })
            .collect();
        let results = self.results();
        let (nearest_error, nearest_mean) = self.error(self.nearest, &results);
        let rows = results.len();
        if rows == 0 || nearest_error <= 0.0 {
            return (self.nearest.to_vec(), nearest_mean);
        }
        // Errors are measured in those of nearest rounding, spread over the weights; about their mean,
        // which the bias takes up.
        let unit = n as f32 / nearest_error as f32;
        let (inputs, results) = (centred(self.inputs, n), centred(&results, 1));
        let (mut first, mut second) = (vec![0.0_f32; n], vec![0.0_f32; n]);
        let mut gradient = vec![0.0_f32; n];
        let mut real = vec![0.0_f32; n];
        for step in 0..STEPS {
            for ((real, v), floor) in real.iter_mut().zip(&v).zip(&floor) {
                *real = self.scale * (floor + rectified(*v).0);
            }
            gradient.fill(0.0);
            for _ in 0..BATCH {
                let at = random.below(rows);
                let row = &inputs[at * n..(at + 1) * n];
                let factor =
                    2.0 * (dot(row, &real) - results[at]) / BATCH as f32 * unit * self.scale;
                for (g, x) in gradient.iter_mut().zip(row) {
                    *g += factor * x;
                }
            }
            let part = (step as f32 / STEPS as f32 - WARM) / (1.0 - WARM);
            let beta = 20.0 - 18.0 * part.max(0.0);
            let lambda = if part < 0.0 { 0.0 } else { LAMBDA * GROWTH.powf(part) };
            let (a, b) =
                (1.0 - 0.9_f32.powi(step as i32 + 1), 1.0 - 0.999_f32.powi(step as i32 + 1));
            for at in 0..n {
                let (h, slope) = rectified(v[at]);
                let d = 2.0 * h - 1.0;
                let round = -2.0 * beta * d.abs().powf(beta - 1.0) * d.signum();
                let g = (gradient[at] + lambda * round) * slope;
                first[at] += 0.1 * (g - first[at]);
                second[at] += 0.001 * (g * g - second[at]);
                v[at] -= RATE * (first[at] / a) / ((second[at] / b).sqrt() + 1e-8);
            }
        }
        let codes: Vec<i8> = v
            .iter()
            .zip(&floor)
            .map(|(v, floor)| (floor + f32::from(u8::from(rectified(*v).0 >= 0.5))) as i8)
            .collect();
        let (error, mean) = self.error(&codes, &self.results());
        if error < nearest_error { (codes, mean) } else { (self.nearest.to_vec(), nearest_mean) }
    }

    /// What the float weights give.
    fn results(&self) -> Vec<f32> {
        self.inputs.chunks_exact(self.weights.len().max(1)).map(|x| dot(x, self.weights)).collect()
    }

    /// Mean square, about its mean, of what the codes give too much, and that mean.
    fn error(&self, codes: &[i8], results: &[f32]) -> (f64, f64) {
        let real: Vec<f32> = codes.iter().map(|&c| f32::from(c) * self.scale).collect();
        let rows = self.inputs.chunks_exact(real.len().max(1)).zip(results);
        let errors: Vec<f64> = rows.map(|(row, y)| f64::from(dot(row, &real) - y)).collect();
        let n = errors.len().max(1) as f64;
        let mean = errors.iter().sum::<f64>() / n;
        (errors.iter().map(|e| (e - mean) * (e - mean)).sum::<f64>() / n, mean)
    }
}

/// Rows of `n` values less the mean row.
fn centred(rows: &[f32], n: usize) -> Vec<f32> {
    let mut mean = vec![0.0_f64; n];
    for row in rows.chunks_exact(n) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let count = (rows.len() / n.max(1)).max(1) as f64;
    let less = |(x, sum): (&f32, &f64)| (f64::from(*x) - sum / count) as f32;
    rows.chunks_exact(n).flat_map(|row| row.iter().zip(&mean).map(less)).collect()
}

/// The stretched and clipped sigmoid, and its slope.
fn rectified(v: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + (-v).exp());
    let h = 1.2 * s - 0.1;
    if h <= 0.0 {
        (0.0, 0.0)
    } else if h >= 1.0 {
        (1.0, 0.0)
    } else {
        (h, 1.2 * s * (1.0 - s))
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums: the compiler may keep them in registers of any width.
    let mut sums = [0.0_f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs that go together: rounding one weight up and its neighbour down is better than both
    /// to the nearest, and only learning sees it.
    #[test]
    fn learnt_rounding_is_better_than_nearest() {
        let n = 24;
        let mut random = SplitMix64::new(3);
        let rows = 256;
        let mut inputs = Vec::new();
        for _ in 0..rows {
            let common = random.unit() as f32;
            inputs.extend((0..n).map(|_| common + 0.1 * random.unit() as f32));
        }
        let weights: Vec<f32> = (0..n).map(|i| 0.31 + 0.1 * (i % 5) as f32).collect();
        let nearest: Vec<i8> = weights.iter().map(|w| (w / 0.25).round() as i8).collect();
        let problem = Problem {
            weights: &weights,
            nearest: &nearest,
            scale: 0.25,
            largest: 7.0,
            inputs: &inputs,
        };
        let (learnt, _) = problem.solve(SplitMix64::new(0));
        let error = |codes: &[i8]| problem.error(codes, &problem.results()).0;
        let (before, after) = (error(&nearest), error(&learnt));
        assert!(after < 0.5 * before, "{after} {before}");
        let near = |(c, w): (&i8, &f32)| (f32::from(*c) - w / 0.25).abs() < 1.0;
        assert!(learnt.iter().zip(&weights).all(near), "{learnt:?}");
        assert_eq!(learnt, problem.solve(SplitMix64::new(0)).0, "the seed decides");
    }
}
