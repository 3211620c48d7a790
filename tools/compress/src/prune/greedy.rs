//! The order in which channels go when the others make good for each as well as they can.

use super::select::{Path, STEP};
use crate::moments::{Cholesky, dot};

/// Ridge of the covariance, of the mean variance.
const RIDGE: f64 = 1e-4;

/// Channels go one by one, each time that whose removal adds the least error to the projection's
/// result after the best change of all other weights and the bias; `squares` weighs the results.
/// With `H` the inverse covariance of the channels that are left, `w` the weights as changed so
/// far: channel c costs `sum(f * w[c]^2) / H[c][c]`, the others' change is
/// `w[d] -= w[c] * H[d][c] / H[c][c]`, and `H` loses `H[:, c] H[c, :] / H[c][c]`.
///
/// Source: Hassibi and Stork (1993), "Optimal brain surgeon", on the squared error of one layer as
/// Frantar and Alistarh (2022) do it.
pub(super) fn greedy(covariance: &[f64], weights: &[f32], squares: &[f64]) -> Option<Path> {
    let outputs = squares.len();
    let channels = weights.len() / outputs.max(1);
    let mut h = Cholesky::new(covariance, channels, RIDGE)?.inverse();
    let weighted = |c: usize| {
        let column = weights.iter().skip(c).step_by(channels).zip(squares);
        column.map(|(&w, f)| f64::from(w) * f.sqrt()).collect::<Vec<f64>>()
    };
    let mut w: Vec<Vec<f64>> = (0..channels).map(weighted).collect();
    // Position to channel; those that are left stand in front.
    let mut left: Vec<usize> = (0..channels).collect();
    let (mut order, mut lost) = (Vec::new(), vec![0.0]);
    for n in (STEP + 1..=channels).rev() {
        let cost = |p: usize| dot(&w[p], &w[p]) / h[p * channels + p];
        let costs = (0..n).map(|p| (cost(p), p));
        let (cost, least) =
            costs.min_by(|a, b| a.0.total_cmp(&b.0).then(left[a.1].cmp(&left[b.1])))?;
        if !cost.is_finite() {
            return None;
        }
        order.push(left[least]);
        lost.push(lost[lost.len() - 1] + cost.max(0.0));
        // To the end.
        let last = n - 1;
        left.swap(least, last);
        w.swap(least, last);
        for row in h.chunks_exact_mut(channels).take(n) {
            row.swap(least, last);
        }
        let (front, back) = h.split_at_mut(last * channels);
        if least != last {
            front[least * channels..][..n].swap_with_slice(&mut back[..n]);
        }
        let pivot = back[last];
        let gone = &back[..last];
        let (w_left, w_gone) = w.split_at_mut(last);
        for ((p, row), w) in front.chunks_exact_mut(channels).enumerate().zip(w_left) {
            let factor = gone[p] / pivot;
            row[..last].iter_mut().zip(gone).for_each(|(h, g)| *h -= factor * g);
            w.iter_mut().zip(&w_gone[0]).for_each(|(w, g)| *w -= factor * g);
        }
    }
    Some(Path { order, lost })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::Moments;
    use crate::splitmix::SplitMix64;

    /// The error after the best change, by solving for it directly.
    fn error(covariance: &[f64], weights: &[f32], squares: &[f64], gone: &[usize]) -> f64 {
        let n = weights.len() / squares.len();
        let kept: Vec<usize> = (0..n).filter(|c| !gone.contains(c)).collect();
        let inner: Vec<f64> =
            kept.iter().flat_map(|&i| kept.iter().map(move |&j| covariance[i * n + j])).collect();
        let factor = Cholesky::new(&inner, kept.len(), 0.0).unwrap();
        let mut sum = 0.0;
        for (row, f) in weights.chunks_exact(n).zip(squares) {
            let full: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
            let product = |i: usize| dot(&covariance[i * n..][..n], &full);
            let target: Vec<f64> = kept.iter().map(|&i| product(i)).collect();
            let mut best = target.clone();
            factor.solve(&mut best);
            let variance: f64 = (0..n).map(|i| full[i] * product(i)).sum();
            sum += f * (variance - dot(&best, &target));
        }
        sum
    }

    #[test]
    fn greedy_costs_are_the_errors_after_the_best_change() {
        let (n, outputs) = (14, 3);
        let mut random = SplitMix64::new(9);
        let mut moments = Moments::new(n, 1);
        for _ in 0..200 {
            let common = random.centred(1.0);
            moments.add(&(0..n).map(|_| common + random.centred(1.0)).collect::<Vec<_>>());
        }
        let (_, mut covariance) = moments.finish();
        let weights: Vec<f32> = (0..n * outputs).map(|_| random.centred(1.0)).collect();
        let squares = [1.0, 2.0, 0.5];
        let path = greedy(&covariance, &weights, &squares).unwrap();
        assert_eq!(path.order.len(), n - STEP);
        // The ridge is part of what greedy minimizes.
        let mean = (0..n).map(|i| covariance[i * n + i]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| covariance[i * n + i] += RIDGE * mean);
        for gone in 1..=path.order.len() {
            let expected = error(&covariance, &weights, &squares, &path.order[..gone]);
            assert!((path.lost[gone] - expected).abs() < 1e-6 * (1.0 + expected));
        }
        let first = |c: usize| error(&covariance, &weights, &squares, &[c]);
        assert!((0..n).all(|c| first(c) >= path.lost[1] - 1e-9));
    }
}
