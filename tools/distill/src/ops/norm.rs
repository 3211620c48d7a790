//! Batch norm and the activation after it as one pass over memory, with gradients, on slices.
//!
//! `y = clamp((x - mean) * scale / sqrt(variance + epsilon) + shift, low, high)` for rows of
//! channels. Written with burn's operators it reads and writes the images some twenty times.
//!
//! Source of the gradient: Ioffe and Szegedy, "Batch Normalization", 2015, section 3.

use rayon::prelude::*;

use super::vectorised::vectorised;

/// Added to a variance before the root: that of TensorFlow's EfficientNets.
pub const EPSILON: f32 = 1e-3;
/// Rows that one thread takes; sums do not depend on the number of threads.
const ROWS: usize = 256;

/// Two sums a channel over all rows: `of(chunk, first, second)` adds the rows of one chunk.
fn sums(
    rows: usize,
    channels: usize,
    of: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> [Vec<f64>; 2] {
    let part = |chunk: usize| {
        let mut sums = [vec![0.0_f32; channels], vec![0.0_f32; channels]];
        let [first, second] = &mut sums;
        of(chunk, first, second);
        sums
    };
    let parts: Vec<_> = (0..rows.div_ceil(ROWS)).into_par_iter().map(part).collect();
    let mut total = [vec![0.0_f64; channels], vec![0.0_f64; channels]];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(t, v)| *t += f64::from(v));
        }
    }
    total
}

/// The values of one chunk of rows.
fn chunk(x: &[f32], channels: usize, at: usize) -> &[f32] {
    let size = ROWS * channels;
    &x[at * size..((at + 1) * size).min(x.len())]
}

/// Mean of each channel, then its variance (of the population): 2 * channels values.
pub(super) fn statistics(x: &[f32], channels: usize) -> Vec<f32> {
    let rows = x.len() / channels;
    // Squares of differences to the first row: what is large and constant does not cancel digits.
    let base = &x[..channels];
    let [sum, square] = sums(rows, channels, |at, sum, square| {
        add_moments(chunk(x, channels, at), base, sum, square);
    });
    let n = rows as f64;
    let mean = sum.iter().zip(base).map(|(s, &b)| (s / n + f64::from(b)) as f32);
    let variance = sum.iter().zip(&square).map(|(s, q)| (q / n - (s / n).powi(2)).max(0.0) as f32);
    mean.chain(variance).collect()
}

vectorised! {
    fn add_moments(x: &'a [f32], base: &'a [f32], sum: &'a mut [f32], square: &'a mut [f32]) {
        let channels = base.len();
        let (sum, square) = (&mut sum[..channels], &mut square[..channels]);
        for x in x.chunks_exact(channels) {
            for c in 0..channels {
                let d = x[c] - base[c];
                sum[c] += d;
                square[c] += d * d;
            }
        }
    }
}

/// What the rows are multiplied by and what is added.
struct Affine {
    gain: Vec<f32>,
    offset: Vec<f32>,
}

impl Affine {
    fn new(scale: &[f32], shift: &[f32], statistics: &[f32]) -> Self {
        let (mean, variance) = statistics.split_at(scale.len());
        let gain: Vec<f32> =
            scale.iter().zip(variance).map(|(s, v)| s / (v + EPSILON).sqrt()).collect();
        let offset = (0..scale.len()).map(|c| shift[c] - mean[c] * gain[c]).collect();
        Self { gain, offset }
    }
}

/// The normalised and clamped rows.
pub(super) fn forward(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    statistics: &[f32],
    bounds: [f32; 2],
) -> Vec<f32> {
    let size = ROWS * scale.len();
    let affine = Affine::new(scale, shift, statistics);
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| apply(x, &affine, bounds, y));
    y
}

vectorised! {
    fn apply(x: &'a [f32], affine: &'a Affine, bounds: [f32; 2], y: &'a mut [f32]) {
        let channels = affine.gain.len();
        let (gain, offset) = (&affine.gain[..channels], &affine.offset[..channels]);
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            for c in 0..channels {
                y[c] = (x[c] * gain[c] + offset[c]).max(bounds[0]).min(bounds[1]);
            }
        }
    }
}

/// What a chunk's gradients are made with.
struct Backward<'b> {
    affine: Affine,
    mean: &'b [f32],
    bounds: [f32; 2],
    /// Mean of the gradient, once it is known.
    average: Vec<f32>,
    /// Mean of the gradient times the centred value, over the variance, once it is known.
    slope: Vec<f32>,
}

/// The gradient where the activation passed the value on.
#[inline(always)]
fn passed(x: f32, gain: f32, offset: f32, bounds: [f32; 2], grad: f32) -> f32 {
    let y = x * gain + offset;
    if y > bounds[0] && y < bounds[1] { grad } else { 0.0 }
}

/// Gradients of the rows, of scale and of shift from that of the result, where the statistics are
/// those of the rows themselves.
pub(super) fn backward(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    statistics: &[f32],
    bounds: [f32; 2],
    grad: &[f32],
) -> [Vec<f32>; 3] {
    let channels = scale.len();
    let rows = x.len() / channels;
    let affine = Affine::new(scale, shift, statistics);
    let (mean, variance) = statistics.split_at(channels);
    let (average, slope) = (Vec::new(), Vec::new());
    let mut with = Backward { affine, mean, bounds, average, slope };
    let [grad_shift, grad_mean] = sums(rows, channels, |at, plain, centred| {
        add_gradients(chunk(x, channels, at), chunk(grad, channels, at), &with, plain, centred);
    });
    let n = rows as f64;
    let deviation: Vec<f64> = variance.iter().map(|v| f64::from(v + EPSILON).sqrt()).collect();
    with.average = grad_shift.iter().map(|s| (s / n) as f32).collect();
    with.slope = grad_mean.iter().zip(&deviation).map(|(s, d)| (s / n / (d * d)) as f32).collect();
    let mut grad_x = vec![0.0; x.len()];
    let size = ROWS * channels;
    grad_x
        .par_chunks_mut(size)
        .zip(x.par_chunks(size))
        .zip(grad.par_chunks(size))
        .for_each(|((to, x), grad)| gradient_of_rows(x, grad, &with, to));
    let grad_scale = grad_mean.iter().zip(&deviation).map(|(s, d)| (s / d) as f32).collect();
    let grad_shift = grad_shift.iter().map(|&s| s as f32).collect();
    [grad_x, grad_scale, grad_shift]
}

vectorised! {
    fn add_gradients(
        x: &'a [f32],
        grad: &'a [f32],
        with: &'a Backward<'a>,
        plain: &'a mut [f32],
        centred: &'a mut [f32],
    ) {
        let channels = with.mean.len();
        let (gain, offset) = (&with.affine.gain[..channels], &with.affine.offset[..channels]);
        let (mean, bounds) = (&with.mean[..channels], with.bounds);
        let (plain, centred) = (&mut plain[..channels], &mut centred[..channels]);
        for (x, grad) in x.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
            for c in 0..channels {
                let g = passed(x[c], gain[c], offset[c], bounds, grad[c]);
                plain[c] += g;
                centred[c] += g * (x[c] - mean[c]);
            }
        }
    }
}

vectorised! {
    /// `gain * (g - mean(g) - (x - mean) * mean(g * (x - mean)) / variance)`.
    fn gradient_of_rows(
        x: &'a [f32],
        grad: &'a [f32],
        with: &'a Backward<'a>,
        to: &'a mut [f32],
    ) {
        let channels = with.mean.len();
        let (gain, offset) = (&with.affine.gain[..channels], &with.affine.offset[..channels]);
        let (mean, bounds) = (&with.mean[..channels], with.bounds);
        let (average, slope) = (&with.average[..channels], &with.slope[..channels]);
        let rows = to.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
        for ((to, x), grad) in rows.zip(grad.chunks_exact(channels)) {
            for c in 0..channels {
                let g = passed(x[c], gain[c], offset[c], bounds, grad[c]);
                let centred = x[c] - mean[c];
                to[c] = gain[c] * (g - average[c] - centred * slope[c]);
            }
        }
    }
}
