//! Training of the new classifier on features, and the choice of its regularisation.
//!
//! The penalty is chosen by cross-validation on the pictures to learn from (Stone 1974): of some
//! dozens of held-out pictures the loss says too little, and they are there to judge.

use super::RetrainOptions;
use super::features::{Features, Rows};
use super::head::{Layer, Loss, Sizes};
use super::{lbfgs, sgd};
use crate::parallel;
use crate::splitmix::SplitMix64;
use crate::statistics::moments;

/// Strengths of the L2 penalty that are tried, strongest first; features have a variance of 1.
pub const PENALTIES: [f64; 10] = [10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4];
/// Parts of the pictures, each of which judges what the others teach.
const FOLDS: usize = 5;
/// Most steps of L-BFGS where a penalty is tried; each begins where the one before ended.
const TRIAL_STEPS: usize = 50;
/// Most steps of L-BFGS in the end.
const STEPS: usize = 500;

/// How the loss is minimised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// L-BFGS on all rows at once: fewest passes, nothing to set.
    #[default]
    Lbfgs,
    /// Stochastic gradient descent with momentum and a cosine schedule, mini-batches in the order of
    /// the seed: its noise may help a hidden layer.
    Sgd,
}

impl Optimizer {
    /// Its name on the command line and in a model's history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lbfgs => "lbfgs",
            Self::Sgd => "sgd",
        }
    }
}

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
    let all: Vec<usize> = (0..train.classes.len()).collect();
    let threads = parallel::threads(options.threads);
    let loss = Loss { sizes, rows: &train, only: &all, weights: &weights, threads };
    let penalty = choose_penalty(&loss, options, done);
    let mut parameters = sizes.start(options.seed);
    minimise(&loss, penalty, STEPS, &mut parameters, options);
    let judged: Vec<usize> = (0..held_out.classes.len()).collect();
    let judge = Loss { rows: &held_out, only: &judged, ..loss };
    let loss = judge.value(&parameters, None);
    let mut layers = sizes.unpack(&parameters);
    if let Some(first) = layers.first_mut() {
        scaling.fold_into(first);
    }
    Trained { layers, penalty, loss }
}

/// The penalty with the least loss on pictures that were left out, each once. Variants, which are
/// like their picture, take no part.
fn choose_penalty(loss: &Loss<'_>, options: &RetrainOptions, done: &dyn Fn()) -> f64 {
    let folds = folds(loss, options);
    let parts: Vec<_> = (0..FOLDS)
        .map(|out| {
            let others = folds.iter().enumerate().filter(|(fold, _)| *fold != out);
            (others.flat_map(|(_, rows)| rows).copied().collect::<Vec<_>>(), &folds[out])
        })
        .filter(|(teach, judge)| !teach.is_empty() && !judge.is_empty())
        .collect();
    let mut points = vec![loss.sizes.start(options.seed); parts.len()];
    let mut best = (f64::INFINITY, PENALTIES[0]);
    for penalty in PENALTIES {
        let mut sum = 0.0;
        for ((teach, judge), point) in parts.iter().zip(&mut points) {
            // The minimum of one penalty is near that of the next; with a hidden layer there are many
            // minima, and each search begins anew, as does one whose steps are large at first.
            if loss.sizes.hidden > 0 || options.optimizer == Optimizer::Sgd {
                *point = loss.sizes.start(options.seed);
            }
            minimise(&Loss { only: teach, ..*loss }, penalty, TRIAL_STEPS, point, options);
            sum += Loss { only: judge, ..*loss }.value(point, None) * judge.len() as f64;
        }
        if sum < best.0 {
            best = (sum, penalty);
        }
        done();
    }
    best.1
}

/// Rows of pictures as they are, in parts with as many of each class as can be.
fn folds(loss: &Loss<'_>, options: &RetrainOptions) -> Vec<Vec<usize>> {
    let mut folds = vec![Vec::new(); FOLDS];
    let mut dealt = 0;
    for class in 0..loss.sizes.classes {
        let pictures = (0..loss.rows.classes.len()).step_by(options.augment + 1);
        let mut rows: Vec<usize> = pictures.filter(|&r| loss.rows.classes[r] == class).collect();
        SplitMix64::at(options.seed, &[u64::MAX - 2, class as u64]).shuffle(&mut rows);
        for row in rows {
            folds[dealt % FOLDS].push(row);
            dealt += 1;
        }
    }
    folds
}

/// Walks to a minimum of the loss with this penalty.
fn minimise(
    loss: &Loss<'_>,
    penalty: f64,
    steps: usize,
    point: &mut Vec<f64>,
    options: &RetrainOptions,
) {
    match options.optimizer {
        Optimizer::Lbfgs => {
            let value = |at: &[f64], gradient: &mut [f64]| loss.regular(penalty, at, gradient);
            lbfgs::minimise(point, steps, value, |_| true);
        }
        Optimizer::Sgd => sgd::minimise(loss, penalty, options.seed, point),
    }
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
