//! The specification.

use super::{HALF, Layout, PRECISION_BITS, ROWS, Taps, Turned};

pub(super) fn vertical(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    vertical_from(rows, stride, weights, to, 0);
}

/// The samples from `at` on.
pub(super) fn vertical_from(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8], at: usize) {
    for (x, to) in to.iter_mut().enumerate().skip(at) {
        let sum = weights.iter().enumerate().fold(HALF, |sum, (tap, &weight)| {
            sum.wrapping_add(weight.wrapping_mul(i32::from(rows[tap * stride + x])))
        });
        *to = finish(sum);
    }
}

/// The byte columns from `at` on.
pub(super) fn turn(from: &[u8], starts: [usize; ROWS], at: usize, to: &mut [Turned]) {
    for (x, to) in to.iter_mut().enumerate().skip(at) {
        *to = starts.map(|start| from[start + x]);
    }
}

/// The byte columns from `at` on.
pub(super) fn turn_back(from: &[Turned], to: &mut [u8], rows: usize, at: usize) {
    for (x, column) in from.iter().enumerate().skip(at) {
        for (row, &sample) in column.iter().enumerate().take(rows) {
            to[row * from.len() + x] = sample;
        }
    }
}

pub(super) fn horizontal(from: &[Turned], layout: Layout, taps: &Taps, to: &mut [Turned]) {
    let Layout { first, step, channels } = layout;
    for (output, to) in to.chunks_exact_mut(channels).enumerate() {
        let (start, weights) = taps.of(output);
        for (channel, to) in to.iter_mut().enumerate() {
            let mut sums = [HALF; ROWS];
            for (tap, &weight) in weights.iter().enumerate() {
                let samples = &from[first + (start + tap) * step + channel];
                for (sum, &sample) in sums.iter_mut().zip(samples) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(sample)));
                }
            }
            *to = sums.map(finish);
        }
    }
}

/// A sum with its half added, as a sample.
fn finish(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
