//! Minimises a smooth function of many numbers from its gradient.
//!
//! Source: Nocedal and Wright (2006), Numerical Optimization, algorithms 7.4 and 7.5 (L-BFGS), with a
//! backtracking line search and updates only where the curvature is positive.

use std::collections::VecDeque;

/// Steps that the curvature is estimated from.
const MEMORY: usize = 10;
/// Part of the expected decrease that a step must bring.
const SUFFICIENT: f64 = 1e-4;
/// Halvings of a step before the search gives up.
const HALVINGS: usize = 30;
/// The gradient's norm, relative to that of the point, at which the minimum is reached.
const TOLERANCE: f64 = 1e-6;

/// Walks from `point` towards a minimum for at most `steps` steps. `value` gives the function's value
/// and fills its gradient; `go_on` sees each new point and ends the walk with `false`.
pub(super) fn minimise(
    point: &mut Vec<f64>,
    steps: usize,
    mut value: impl FnMut(&[f64], &mut [f64]) -> f64,
    mut go_on: impl FnMut(&[f64]) -> bool,
) {
    let mut gradient = vec![0.0; point.len()];
    let mut height = value(point, &mut gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..steps {
        if norm(&gradient) <= TOLERANCE * norm(point).max(1.0) {
            return;
        }
        let mut direction = direction(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            memory.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        let mut length = if memory.is_empty() { 1.0 / norm(&gradient).max(1.0) } else { 1.0 };
        let mut next = vec![0.0; point.len()];
        let mut next_gradient = vec![0.0; point.len()];
        let mut found = false;
        for _ in 0..HALVINGS {
            for ((n, p), d) in next.iter_mut().zip(point.iter()).zip(&direction) {
                *n = p + length * d;
            }
            let next_height = value(&next, &mut next_gradient);
            if next_height <= height + SUFFICIENT * length * slope {
                height = next_height;
                found = true;
                break;
            }
            length *= 0.5;
        }
        if !found {
            return;
        }
        let step: Vec<f64> = next.iter().zip(point.iter()).map(|(n, p)| n - p).collect();
        let bend: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(n, g)| n - g).collect();
        if dot(&step, &bend) > 1e-10 * dot(&bend, &bend) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((step, bend));
        }
        *point = next;
        gradient = next_gradient;
        if !go_on(point) {
            return;
        }
    }
}

/// Minus the gradient, times the estimate of the inverse Hessian.
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (step, bend) in memory.iter().rev() {
        let share = dot(step, &q) / dot(step, bend);
        add(&mut q, bend, -share);
        shares.push(share);
    }
    if let Some((step, bend)) = memory.back() {
        let scale = dot(step, bend) / dot(bend, bend);
        q.iter_mut().for_each(|v| *v *= scale);
    }
    for ((step, bend), share) in memory.iter().zip(shares.into_iter().rev()) {
        let other = dot(bend, &q) / dot(step, bend);
        add(&mut q, step, share - other);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn add(to: &mut [f64], what: &[f64], times: f64) {
    to.iter_mut().zip(what).for_each(|(t, w)| *t += times * w);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's valley: the minimum is at (1, 1).
    #[test]
    fn the_end_of_a_bent_valley_is_found() {
        let mut point = vec![-1.2, 1.0];
        let value = |p: &[f64], g: &mut [f64]| {
            let (a, b) = (1.0 - p[0], p[1] - p[0] * p[0]);
            g[0] = -2.0 * a - 400.0 * p[0] * b;
            g[1] = 200.0 * b;
            a * a + 100.0 * b * b
        };
        minimise(&mut point, 200, value, |_| true);
        assert!((point[0] - 1.0).abs() < 1e-4 && (point[1] - 1.0).abs() < 1e-4, "{point:?}");
    }

    #[test]
    fn it_can_be_ended_and_the_minimum_ends_it() {
        let mut walked = 0;
        let bowl = |p: &[f64], g: &mut [f64]| {
            g[0] = p[0].powi(3);
            p[0].powi(4) / 4.0
        };
        minimise(&mut vec![9.0], 100, bowl, |_| {
            walked += 1;
            walked < 3
        });
        assert_eq!(walked, 3);
        minimise(&mut vec![0.0], 100, bowl, |_| panic!("already there"));
    }
}
