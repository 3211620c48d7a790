//! Filter coefficients of one direction, as Pillow computes them, laid out for the passes.
//!
//! Source: Pillow's algorithm (convolution with a filter that is stretched when shrinking; weights
//! of the taps inside the picture, divided by their sum, as 22-bit fixed point).

use kinglet_kernels::resample::PRECISION_BITS;

use crate::metadata::Filter;

use super::geometry::Span;

/// The weights for each output position of one direction.
#[derive(Debug, Default)]
pub(super) struct Axis {
    /// For each output, the first input position it reads. Never falls.
    pub(super) starts: Vec<u32>,
    /// The same less `begin`.
    pub(super) offsets: Vec<u32>,
    /// For each output, how many input positions it reads, at least 1.
    pub(super) counts: Vec<u32>,
    /// The most input positions that an output reads.
    pub(super) taps: usize,
    /// The weights of all outputs, `taps` for each; those from `counts` on are zero.
    pub(super) weights: Vec<i32>,
    /// Input positions `begin..end` are read by some output.
    pub(super) begin: u32,
    pub(super) end: u32,
    /// The weights of one output, before they are rounded.
    scratch: Vec<f64>,
}

impl Axis {
    /// Computes the weights for a stretch of a picture side that is `side` pixels long. Taps may
    /// lie outside the stretch, but not outside the side.
    pub(super) fn set(&mut self, span: &Span, side: u32, filter: Filter) {
        let scale = f64::from(span.length) / span.target as f64;
        let filter_scale = scale.max(1.0);
        let support = support(filter) * filter_scale;
        let bounds = |i: u32| {
            let center = f64::from(span.start) + ((span.first + u64::from(i)) as f64 + 0.5) * scale;
            // Truncation after adding a half, and at least 0: what a cast from f64 does.
            let first = (center - support + 0.5) as u32;
            let end = ((center + support + 0.5) as u32).min(side);
            (center, first, end)
        };
        let widest = (0..span.count).map(|i| bounds(i).2 - bounds(i).1).max().unwrap_or(1);
        self.taps = widest as usize;
        self.starts.clear();
        self.counts.clear();
        self.weights.clear();
        for i in 0..span.count {
            let (center, first, end) = bounds(i);
            self.scratch.clear();
            self.scratch.extend((0..end - first).map(|tap| {
                let distance = f64::from(tap) + f64::from(first) - center + 0.5;
                weight(filter, distance * (1.0 / filter_scale))
            }));
            self.starts.push(first);
            self.counts.push(end - first);
            self.push_weights();
        }
        self.set_bounds();
    }

    /// The weights for samples that two positions share (2 i and 2 i + 1 share i): those of
    /// `whole` added up.
    pub(super) fn set_half(&mut self, whole: &Axis) {
        self.taps = whole.taps / 2 + 1;
        self.starts.clear();
        self.counts.clear();
        self.weights.clear();
        for (i, &start) in whole.starts.iter().enumerate() {
            let weights = whole.weights(i);
            let last = start + weights.len() as u32 - 1;
            self.starts.push(start / 2);
            self.counts.push(last / 2 - start / 2 + 1);
            let at = self.weights.len();
            self.weights.resize(at + self.taps, 0);
            for (tap, weight) in weights.iter().enumerate() {
                self.weights[at + (start as usize % 2 + tap) / 2] += weight;
            }
        }
        self.set_bounds();
    }

    /// From the first to the last position that is read.
    pub(super) fn length(&self) -> usize {
        (self.end - self.begin) as usize
    }

    fn set_bounds(&mut self) {
        self.begin = self.starts.first().copied().unwrap_or(0);
        self.end = self.starts.iter().zip(&self.counts).map(|(s, c)| s + c).max().unwrap_or(0);
        self.offsets.clear();
        self.offsets.extend(self.starts.iter().map(|start| start - self.begin));
    }

    /// The weights of one output: as many as its count.
    pub(super) fn weights(&self, output: usize) -> &[i32] {
        let first = output * self.taps;
        &self.weights[first..first + self.counts[output] as usize]
    }

    /// Rounds the weights in `scratch` and appends them with their padding.
    fn push_weights(&mut self) {
        let sum = self.scratch.iter().fold(0.0, |sum, w| sum + w);
        let one = f64::from(1 << PRECISION_BITS);
        self.weights.extend(self.scratch.iter().map(|w| {
            let part = if sum == 0.0 { *w } else { w / sum };
            (part * one + if part < 0.0 { -0.5 } else { 0.5 }) as i32
        }));
        self.weights.resize(self.starts.len() * self.taps, 0);
    }
}

/// How far from its centre a filter reaches, in units of the larger of input and output pixels.
fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
    }
}

/// The filter's value at a distance from its centre. The order of operations is Pillow's, so that
/// the last bit is the same.
fn weight(filter: Filter, distance: f64) -> f64 {
    let x = distance.abs();
    match filter {
        Filter::Bilinear => (1.0 - x).max(0.0),
        Filter::Bicubic => {
            let a = -0.5;
            if x < 1.0 {
                ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                (((x - 5.0) * x + 8.0) * x - 4.0) * a
            } else {
                0.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for (side, start, length, target) in
                [(1, 0, 1, 9), (9, 0, 9, 1), (1080, 67, 945, 224), (50, 3, 20, 224), (5, 4, 1, 3)]
            {
                let count = target as u32;
                let mut axis = Axis::default();
                axis.set(&Span { start, length, target, first: 0, count }, side, filter);
                for i in 0..count as usize {
                    let sum: i32 = axis.weights(i).iter().sum();
                    assert!((sum - (1 << PRECISION_BITS)).unsigned_abs() as usize <= axis.taps);
                    assert!(axis.counts[i] >= 1);
                    assert!(axis.starts[i] + axis.counts[i] <= side);
                }
                assert!(axis.starts.is_sorted());
                let mut half = Axis::default();
                half.set_half(&axis);
                for i in 0..count as usize {
                    let (weights, shared) = (axis.weights(i), half.weights(i));
                    assert_eq!(weights.iter().sum::<i32>(), shared.iter().sum::<i32>());
                    let position = |tap: usize| axis.starts[i] as usize + tap;
                    for (tap, &sum) in shared.iter().enumerate() {
                        let at = half.starts[i] as usize + tap;
                        let own = (0..weights.len()).filter(|&t| position(t) / 2 == at);
                        assert_eq!(own.map(|t| weights[t]).sum::<i32>(), sum);
                    }
                }
            }
        }
    }
}
