//! Training of the new classifier on features, and the choice of its regularisation.

use super::RetrainOptions;
use super::features::{Features, Rows};
use super::head::{Layer, Loss, Sizes};
use super::lbfgs;
use crate::parallel;
use crate::statistics::moments;

/// Strengths of the L2 penalty that are tried, strongest first; features have a variance of 1.
pub const PENALTIES: [f64; 10] = [10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4];
/// Most steps of the minimisation for one penalty.
const STEPS: usize = 200;
/// Steps without a lower loss on the held-out pictures after which it ends.
const PATIENCE: usize = 10;
/// Weaker penalties without a lower loss on the held-out pictures after which the search ends.
const PENALTY_PATIENCE: usize = 2;

/// A trained classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Layers that read the backbone's features, the last one giving a logit a class.
    pub(super) layers: Vec<Layer>,
    /// The penalty that was chosen.
    pub penalty: f64,
    /// Mean negative log-likelihood on the held-out pictures.
    pub loss: f64,
}

/// Trains a classifier for `classes` classes. `done` is called once for each of [`PENALTIES`].
#[must_use]
pub fn train(
    features: &Features,
    classes: usize,
    options: &RetrainOptions,
    done: &dyn Fn(),
) -> Trained {
    let width = features.classifier.width;
    let scaling = Scaling::of(&features.train, width);
    let (train, held_out) = (scaling.apply(&features.train), scaling.apply(&features.held_out));
    let sizes = Sizes { width, hidden: options.hidden.unwrap_or(0), classes };
    let weights = class_weights(&train, classes, options.balanced);
    let threads = parallel::threads(options.threads);
    let loss = Loss { sizes, rows: &train, weights: &weights, threads };
    let judge = Loss { sizes, rows: &held_out, weights: &weights, threads };
    let mut best = (f64::INFINITY, sizes.start(options.seed), PENALTIES[0]);
    let mut start = best.1.clone();
    let mut worse = 0;
    for penalty in PENALTIES {
        if worse < PENALTY_PATIENCE {
            let (found, parameters) = descend(&loss, &judge, penalty, start.clone());
            if found < best.0 {
                best = (found, parameters.clone(), penalty);
                worse = 0;
            } else {
                worse += 1;
            }
            // The minimum of one penalty is near that of the next; with a hidden layer there are
            // many minima, and each search begins anew.
            if sizes.hidden == 0 {
                start = parameters;
            }
        }
        done();
    }
    let (loss, parameters, penalty) = best;
    let mut layers = sizes.unpack(&parameters);
    if let Some(first) = layers.first_mut() {
        scaling.fold_into(first);
    }
    Trained { layers, penalty, loss }
}

/// Minimises for one penalty; gives the parameters that were best on the held-out rows.
fn descend(
    loss: &Loss<'_>,
    judge: &Loss<'_>,
    penalty: f64,
    mut point: Vec<f64>,
) -> (f64, Vec<f64>) {
    let mut best = (judge.value(&point, None), point.clone());
    let mut waited = 0;
    lbfgs::minimise(
        &mut point,
        STEPS,
        |at, gradient| loss.regular(penalty, at, gradient),
        |at| {
            let found = judge.value(at, None);
            if found < best.0 - 1e-6 {
                best = (found, at.to_vec());
                waited = 0;
            } else {
                waited += 1;
            }
            waited < PATIENCE
        },
    );
    best
}

/// The weight of each class: as much for all, or for all pictures.
fn class_weights(rows: &Rows, classes: usize, balanced: bool) -> Vec<f64> {
    let count = |class| rows.classes.iter().filter(|&&c| c == class).count().max(1);
    let n = rows.classes.len() as f64;
    let weight = |class| if balanced { n / (classes * count(class)) as f64 } else { 1.0 };
    (0..classes).map(weight).collect()
}

/// Features with a mean of 0 and, on average, a variance of 1. One factor for all: a feature that
/// hardly ever fires must not become large.
struct Scaling {
    mean: Vec<f32>,
    factor: f32,
}

impl Scaling {
    fn of(rows: &Rows, width: usize) -> Self {
        let (mean, variance) = moments(&rows.values, width);
        let total = variance.iter().sum::<f64>() / width.max(1) as f64;
        let factor = if total > 0.0 { (1.0 / total.sqrt()) as f32 } else { 1.0 };
        Self { mean: mean.iter().map(|&m| m as f32).collect(), factor }
    }

    fn apply(&self, rows: &Rows) -> Rows {
        let scale = |row: &[f32]| -> Vec<f32> {
            row.iter().zip(&self.mean).map(|(v, m)| (v - m) * self.factor).collect()
        };
        let values = rows.values.chunks_exact(self.mean.len().max(1)).flat_map(scale).collect();
        Rows { values, classes: rows.classes.clone() }
    }

    /// Makes a layer that reads scaled features one that reads them as they are.
    fn fold_into(&self, layer: &mut Layer) {
        let width = self.mean.len().max(1);
        for (row, bias) in layer.weights.chunks_exact_mut(width).zip(&mut layer.bias) {
            let mut shift = 0.0;
            for (weight, mean) in row.iter_mut().zip(&self.mean) {
                *weight *= self.factor;
                shift += f64::from(*weight) * f64::from(*mean);
            }
            *bias -= shift as f32;
        }
    }
}
