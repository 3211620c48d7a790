//! Whether anything moved: the mean brightness of cells of the picture that the model would see.
//!
//! A cell's mean hardly changes with the sensor's noise, and does when something comes into it.
//! The input tensor is compared, not the frame: it is small, it is the part that the model sees,
//! and it is the same whatever format the camera has.

use std::time::Duration;

/// Cells a side.
const CELLS: usize = 16;

/// Decides whether a picture needs the model at all.
#[derive(Debug)]
pub(crate) struct Motion {
    /// Change of a cell's mean from which something moved, in samples of 0..=255.
    threshold: f32,
    /// The model runs at least this often, moved or not.
    longest: Duration,
    /// Means of the picture that the model saw last, and when.
    last: Option<([f32; CELLS * CELLS], Duration)>,
}

impl Motion {
    /// A gate that has seen nothing.
    pub(crate) fn new(threshold: f32, longest: Duration) -> Self {
        Self { threshold, longest, last: None }
    }

    /// Whether the picture differs from the last one that was let through (which it then is).
    /// `sample(row, column)` is the brightness of a pixel, 0..=255, of `height` by `width`.
    pub(crate) fn passes(
        &mut self,
        at: Duration,
        [height, width]: [usize; 2],
        sample: impl Fn(usize, usize) -> f32,
    ) -> bool {
        let mut means = [0.0; CELLS * CELLS];
        for (cell, mean) in means.iter_mut().enumerate() {
            let span = |i: usize, side: usize| {
                let begin = i * side / CELLS;
                begin..((i + 1) * side / CELLS).max(begin + 1).min(side)
            };
            let (rows, columns) = (span(cell / CELLS, height), span(cell % CELLS, width));
            let count = (rows.len() * columns.len()).max(1) as f32;
            let sum: f32 = rows.map(|y| columns.clone().map(|x| sample(y, x)).sum::<f32>()).sum();
            *mean = sum / count;
        }
        let passes = self.last.as_ref().is_none_or(|(last, when)| {
            let moved = last.iter().zip(&means).any(|(a, b)| (a - b).abs() > self.threshold);
            moved || at.saturating_sub(*when) >= self.longest
        });
        if passes {
            self.last = Some((means, at));
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [224, 224];
    const MS: Duration = Duration::from_millis(1);

    /// Noise of +-8 around a grey, the same for the same seed.
    fn noise(seed: usize) -> impl Fn(usize, usize) -> f32 {
        move |y, x| {
            let mixed = (y * 224 + x + seed * 50_176).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            120.0 + (mixed % 17) as f32 - 8.0
        }
    }

    #[test]
    fn noise_is_no_motion_and_a_small_object_is() {
        let mut gate = Motion::new(4.0, 10_000 * MS);
        assert!(gate.passes(MS, SIZE, noise(0)), "the first picture");
        for seed in 1..20 {
            assert!(!gate.passes(MS * seed, SIZE, noise(seed as usize)));
        }
        let object = |y: usize, x: usize| {
            if (100..112).contains(&y) && (50..62).contains(&x) { 40.0 } else { 120.0 }
        };
        assert!(gate.passes(21 * MS, SIZE, object));
        assert!(!gate.passes(22 * MS, SIZE, object), "it stands still");
        assert!(gate.passes(23 * MS, SIZE, noise(3)), "it is gone");
    }

    #[test]
    fn a_slow_change_adds_up_and_the_longest_pause_is_kept() {
        let mut gate = Motion::new(4.0, 1000 * MS);
        let grey = |level: f32| move |_: usize, _: usize| level;
        assert!(gate.passes(MS, SIZE, grey(100.0)));
        assert!(!gate.passes(2 * MS, SIZE, grey(102.0)));
        assert!(!gate.passes(3 * MS, SIZE, grey(104.0)));
        assert!(gate.passes(4 * MS, SIZE, grey(106.0)));
        assert!(!gate.passes(1003 * MS, SIZE, grey(106.0)));
        assert!(gate.passes(1004 * MS, SIZE, grey(106.0)));
    }

    #[test]
    fn tiny_pictures_are_compared_too() {
        let mut gate = Motion::new(1.0, 1000 * MS);
        assert!(gate.passes(MS, [1, 3], |_, x| x as f32));
        assert!(!gate.passes(2 * MS, [1, 3], |_, x| x as f32));
        assert!(gate.passes(3 * MS, [1, 3], |_, x| x as f32 * 3.0));
    }
}
