//! Values on a grid of 8 bits, with the straight-through gradient, on slices.

use rayon::prelude::*;

use super::vectorised::vectorised;

/// Values that one thread takes.
const CHUNK: usize = 1 << 14;

/// A grid: `step * k` within the bounds, which are on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Least value.
    pub low: f32,
    /// Largest value.
    pub high: f32,
    /// Distance of neighbours, over zero.
    pub step: f32,
}

/// Least and largest value.
pub(super) fn range(x: &[f32]) -> [f32; 2] {
    let part = |x: &[f32]| {
        let mut found = [f32::INFINITY, f32::NEG_INFINITY];
        range_of(x, &mut found);
        found
    };
    let parts = x.par_chunks(CHUNK).map(part);
    let wider = |a: [f32; 2], b: [f32; 2]| [a[0].min(b[0]), a[1].max(b[1])];
    parts.reduce(|| [f32::INFINITY, f32::NEG_INFINITY], wider)
}

vectorised! {
    fn range_of(x: &'a [f32], found: &'a mut [f32; 2]) {
        let mut lanes = [[f32::INFINITY; 16], [f32::NEG_INFINITY; 16]];
        let (blocks, rest) = x.as_chunks::<16>();
        for block in blocks {
            for lane in 0..16 {
                lanes[0][lane] = lanes[0][lane].min(block[lane]);
                lanes[1][lane] = lanes[1][lane].max(block[lane]);
            }
        }
        for &value in rest.iter().chain(&lanes[0]).chain(&lanes[1]) {
            if value.is_finite() {
                found[0] = found[0].min(value);
                found[1] = found[1].max(value);
            }
        }
    }
}

/// Each value's nearest neighbour on the grid.
pub(super) fn forward(x: &[f32], grid: Grid) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let pairs = y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    pairs.for_each(|(y, x)| round(x, grid, y));
    y
}

vectorised! {
    fn round(x: &'a [f32], grid: Grid, y: &'a mut [f32]) {
        let Grid { low, high, step } = grid;
        let inverse = 1.0 / step;
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x.max(low).min(high) * inverse).round_ties_even() * step;
        }
    }
}

/// The gradient where the value lay within the bounds.
pub(super) fn backward(x: &[f32], grad: &[f32], grid: Grid) -> Vec<f32> {
    let mut to = vec![0.0; x.len()];
    let chunks = to.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(grad.par_chunks(CHUNK));
    chunks.for_each(|((to, x), grad)| pass(x, grad, grid, to));
    to
}

vectorised! {
    fn pass(x: &'a [f32], grad: &'a [f32], grid: Grid, to: &'a mut [f32]) {
        for (to, (x, grad)) in to.iter_mut().zip(x.iter().zip(grad)) {
            *to = if *x >= grid.low && *x <= grid.high { *grad } else { 0.0 };
        }
    }
}
