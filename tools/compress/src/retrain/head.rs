//! The new classifier: one or two fully connected layers, and the loss that they are trained by.

use crate::parallel;
use crate::splitmix::SplitMix64;

use super::features::Rows;

/// Parts that the rows are summed in: fixed, so that the result does not depend on the threads.
const PARTS: usize = 8;

/// Sizes of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub width: usize,
    /// Units of the hidden layer; 0 without one.
    pub hidden: usize,
    pub classes: usize,
}

/// One fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    /// `[outputs][inputs]`.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl Sizes {
    /// Outputs and inputs of each layer.
    fn layers(self) -> Vec<(usize, usize)> {
        match self.hidden {
            0 => vec![(self.classes, self.width)],
            hidden => vec![(hidden, self.width), (self.classes, hidden)],
        }
    }

    /// Number of parameters.
    fn len(self) -> usize {
        self.layers().iter().map(|(outputs, inputs)| outputs * (inputs + 1)).sum()
    }

    /// Parameters to start from: zeros for one layer, else random ones (He and others, 2015).
    pub(super) fn start(self, seed: u64) -> Vec<f64> {
        let mut start = vec![0.0; self.len()];
        if self.hidden > 0 {
            let mut random = SplitMix64::at(seed, &[u64::MAX]);
            let mut at = 0;
            for (outputs, inputs) in self.layers() {
                let deviation = (2.0 / inputs as f64).sqrt();
                let weights = &mut start[at..at + outputs * inputs];
                weights.iter_mut().for_each(|w| *w = f64::from(random.centred(deviation)));
                at += outputs * (inputs + 1);
            }
        }
        start
    }

    /// The layers that parameters stand for.
    pub(super) fn unpack(self, parameters: &[f64]) -> Vec<Layer> {
        let mut rest = parameters;
        let mut take = |n: usize| {
            let (these, others) = rest.split_at(n.min(rest.len()));
            rest = others;
            these.iter().map(|&v| v as f32).collect::<Vec<f32>>()
        };
        let layer = |(outputs, inputs)| {
            let weights = take(outputs * inputs);
            Layer { weights, bias: take(outputs) }
        };
        self.layers().into_iter().map(layer).collect()
    }
}

/// Mean negative log-likelihood of rows, each with the weight of its class.
#[derive(Clone, Copy)]
pub(super) struct Loss<'a> {
    pub sizes: Sizes,
    pub rows: &'a Rows,
    /// The rows that count.
    pub only: &'a [usize],
    /// Weight of each class.
    pub weights: &'a [f64],
    pub threads: usize,
}

impl Loss<'_> {
    /// The loss, and its gradient where `gradient` is given.
    pub(super) fn value(&self, parameters: &[f64], gradient: Option<&mut [f64]>) -> f64 {
        let layers = self.sizes.unpack(parameters);
        let n = self.only.len();
        let total = self.weight(self.only);
        let wanted = gradient.is_some();
        let parts = parallel::run(self.threads, PARTS, |queue| {
            let rows = |p: usize| &self.only[p * n / PARTS..(p + 1) * n / PARTS];
            let part = |p: usize| (p, self.part(&layers, rows(p), wanted));
            Ok::<_, std::convert::Infallible>(queue.map(part).collect::<Vec<_>>())
        });
        let Ok(parts) = parts;
        let mut parts: Vec<_> = parts.into_iter().flatten().collect();
        parts.sort_by_key(|(p, _)| *p);
        let mut loss = 0.0;
        let mut sum = gradient;
        if let Some(sum) = &mut sum {
            sum.fill(0.0);
        }
        for (_, (part, slopes)) in parts {
            loss += part / total;
            if let Some(sum) = &mut sum {
                sum.iter_mut().zip(&slopes).for_each(|(s, v)| *s += f64::from(*v) / total);
            }
        }
        loss
    }

    /// The weight of some rows together.
    fn weight(&self, rows: &[usize]) -> f64 {
        rows.iter().map(|&row| self.weights[self.rows.classes[row]]).sum()
    }

    /// The sum of some rows' losses and its gradient.
    fn part(&self, layers: &[Layer], rows: &[usize], wanted: bool) -> (f64, Vec<f32>) {
        let Sizes { width, hidden, .. } = self.sizes;
        let mut slopes = vec![0.0; if wanted { self.sizes.len() } else { 0 }];
        let mut loss = 0.0;
        for &row in rows {
            let x = &self.rows.values[row * width..(row + 1) * width];
            let class = self.rows.classes[row];
            let weight = self.weights[class];
            let inner = if hidden > 0 { relu(layers[0].apply(x)) } else { Vec::new() };
            let seen = if hidden > 0 { &inner } else { x };
            let Some(last) = layers.last() else { continue };
            let mut slope = softmax(last.apply(seen));
            loss -= weight * f64::from(slope[class].max(f32::MIN_POSITIVE)).ln();
            if !wanted {
                continue;
            }
            slope[class] -= 1.0;
            slope.iter_mut().for_each(|s| *s *= weight as f32);
            if hidden == 0 {
                add_outer(&mut slopes, &slope, x);
                continue;
            }
            let (first, second) = slopes.split_at_mut(hidden * (width + 1));
            add_outer(second, &slope, seen);
            let mut back = vec![0.0; hidden];
            for (s, row) in slope.iter().zip(last.weights.chunks_exact(hidden)) {
                back.iter_mut().zip(row).for_each(|(b, w)| *b += s * w);
            }
            back.iter_mut().zip(&inner).for_each(|(b, &h)| *b = if h > 0.0 { *b } else { 0.0 });
            add_outer(first, &back, x);
        }
        (loss, slopes)
    }

    /// The loss plus `l2 / 2` times the squares of the weights, with its gradient.
    pub(super) fn regular(&self, l2: f64, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        self.value(parameters, Some(gradient)) + self.penalise(l2, parameters, gradient)
    }

    /// The gradient of [`Loss::regular`] for some rows only, on the calling thread.
    pub(super) fn of_rows(
        &self,
        rows: &[usize],
        l2: f64,
        parameters: &[f64],
        gradient: &mut [f64],
    ) {
        let layers = self.sizes.unpack(parameters);
        let total = self.weight(rows);
        let (_, slopes) = self.part(&layers, rows, true);
        gradient.iter_mut().zip(&slopes).for_each(|(g, s)| *g = f64::from(*s) / total);
        self.penalise(l2, parameters, gradient);
    }

    /// The penalty; adds its gradient. Biases are free.
    fn penalise(&self, l2: f64, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let (mut value, mut at) = (0.0, 0);
        for (outputs, inputs) in self.sizes.layers() {
            for i in at..at + outputs * inputs {
                value += 0.5 * l2 * parameters[i] * parameters[i];
                gradient[i] += l2 * parameters[i];
            }
            at += outputs * (inputs + 1);
        }
        value
    }
}

impl Layer {
    /// The layer's outputs.
    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(x.len().max(1));
        rows.zip(&self.bias).map(|(row, bias)| dot(row, x) + bias).collect()
    }
}

/// Below zero becomes zero.
pub(super) fn relu(mut values: Vec<f32>) -> Vec<f32> {
    values.iter_mut().for_each(|v| *v = v.max(0.0));
    values
}

fn softmax(mut logits: Vec<f32>) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|v| *v = (*v - most).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|v| *v /= sum);
    logits
}

/// Sixteen sums side by side, as vector instructions want it.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let mut sums = [0.0_f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Adds the gradient of a layer: its outputs' slopes times its inputs, then the bias.
fn add_outer(to: &mut [f32], slopes: &[f32], x: &[f32]) {
    let (weights, bias) = to.split_at_mut(slopes.len() * x.len());
    for (row, &slope) in weights.chunks_exact_mut(x.len().max(1)).zip(slopes) {
        row.iter_mut().zip(x).for_each(|(w, x)| *w += slope * x);
    }
    bias.iter_mut().zip(slopes).for_each(|(b, s)| *b += s);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(sizes: Sizes, n: usize) -> Rows {
        let mut random = SplitMix64::new(3);
        let values = (0..n * sizes.width).map(|_| random.centred(1.0)).collect();
        Rows { values, classes: (0..n).map(|_| random.below(sizes.classes)).collect() }
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        for hidden in [0, 5] {
            let sizes = Sizes { width: 19, hidden, classes: 3 };
            let rows = rows(sizes, 30);
            let only: Vec<usize> = (3..30).collect();
            let weights = &[1.0, 0.5, 2.0];
            let loss = Loss { sizes, rows: &rows, only: &only, weights, threads: 2 };
            let mut random = SplitMix64::new(7);
            let at: Vec<f64> = (0..sizes.len()).map(|_| f64::from(random.centred(0.4))).collect();
            let mut gradient = vec![0.0; at.len()];
            loss.regular(0.1, &at, &mut gradient);
            for i in (0..at.len()).step_by(7) {
                let near = |by: f64| {
                    let mut moved = at.clone();
                    moved[i] += by;
                    loss.regular(0.1, &moved, &mut vec![0.0; at.len()])
                };
                let slope = (near(1e-2) - near(-1e-2)) / 2e-2;
                assert!(
                    (slope - gradient[i]).abs() < 2e-3,
                    "{hidden} {i}: {slope} {}",
                    gradient[i]
                );
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let sizes = Sizes { width: 40, hidden: 4, classes: 2 };
        let rows = rows(sizes, 50);
        let at = sizes.start(1);
        let only: Vec<usize> = (0..50).collect();
        let run = |threads| {
            let loss = Loss { sizes, rows: &rows, only: &only, weights: &[1.0, 1.0], threads };
            let mut gradient = vec![0.0; at.len()];
            (loss.value(&at, Some(&mut gradient)), gradient)
        };
        assert_eq!(run(1), run(3));
    }
}
