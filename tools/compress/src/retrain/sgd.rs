//! Stochastic gradient descent: steps along the gradients of a few rows at a time.
//!
//! Heavy-ball momentum (Polyak 1964), and a step size that falls to nothing along half a cosine
//! (Loshchilov and Hutter 2017, "SGDR", one period).

use std::f64::consts::PI;

use super::head::Loss;
use crate::splitmix::SplitMix64;

/// Passes over all rows.
const EPOCHS: usize = 30;
/// Rows of a step.
const BATCH: usize = 32;
/// Part of the last step that goes into the next.
const MOMENTUM: f64 = 0.9;
/// First step size, over the mean squared length of a row: the curvature of a linear classifier's
/// loss is at most half of that.
const RATE: f64 = 0.5;

/// Walks from `point` towards a minimum of the loss with this penalty. The order of the rows is that
/// of the seed.
pub(super) fn minimise(loss: &Loss<'_>, penalty: f64, seed: u64, point: &mut [f64]) {
    let n = loss.only.len();
    let width = loss.sizes.width;
    let values = loss.only.iter().flat_map(|row| &loss.rows.values[row * width..][..width]);
    let squares: f64 = values.map(|v| f64::from(*v) * f64::from(*v)).sum();
    let rate = RATE / (squares / n.max(1) as f64 + penalty).max(1e-12);
    let batches = n.div_ceil(BATCH);
    let steps = (EPOCHS * batches).max(1) as f64;
    let mut order = loss.only.to_vec();
    let mut gradient = vec![0.0; point.len()];
    let mut speed = vec![0.0; point.len()];
    for epoch in 0..EPOCHS {
        SplitMix64::at(seed, &[u64::MAX - 1, epoch as u64]).shuffle(&mut order);
        for (at, rows) in order.chunks(BATCH).enumerate() {
            let done = (epoch * batches + at) as f64 / steps;
            let rate = rate * 0.5 * (1.0 + (PI * done).cos());
            loss.of_rows(rows, penalty, point, &mut gradient);
            for ((p, s), g) in point.iter_mut().zip(&mut speed).zip(&gradient) {
                *s = MOMENTUM * *s - rate * g;
                *p += *s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrain::features::Rows;
    use crate::retrain::head::Sizes;
    use crate::retrain::lbfgs;

    /// Two clouds of points that overlap.
    fn rows(width: usize, n: usize) -> Rows {
        let mut random = SplitMix64::new(5);
        let classes: Vec<usize> = (0..n).map(|_| random.below(2)).collect();
        let mut value = |class: usize| random.centred(1.0) + if class == 0 { -0.3 } else { 0.3 };
        let values = classes.iter().flat_map(|&c| [c].repeat(width)).map(&mut value).collect();
        Rows { values, classes }
    }

    #[test]
    fn it_comes_near_the_minimum_and_follows_its_seed() {
        let sizes = Sizes { width: 12, hidden: 0, classes: 2 };
        let rows = rows(sizes.width, 400);
        let only: Vec<usize> = (0..400).collect();
        let loss = Loss { sizes, rows: &rows, only: &only, weights: &[1.0, 1.0], threads: 1 };
        let value = |point: &[f64]| loss.regular(0.1, point, &mut vec![0.0; point.len()]);
        let start = sizes.start(0);
        let mut least = start.clone();
        lbfgs::minimise(&mut least, 200, |at, g| loss.regular(0.1, at, g), |_| true);
        let run = |seed| {
            let mut point = start.clone();
            minimise(&loss, 0.1, seed, &mut point);
            point
        };
        let (found, begun, end) = (value(&run(1)), value(&start), value(&least));
        assert!(found - end < 0.02 * (begun - end), "{begun} {found} {end}");
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
