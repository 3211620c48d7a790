//! Histograms of activations that need no range beforehand.

/// Bins on each side of zero.
const HALF: i64 = 4096;
/// Smallest width of a bin: 2^-40.
const LEAST_EXPONENT: i32 = -40;
/// Bins of at most 2^60 hold every value that quantization can use.
const MOST_EXPONENT: i32 = 60;

/// Counts of values in bins of width `2^exponent` around zero.
///
/// When a value lies outside, bins are joined in pairs until it lies inside. The result depends on
/// the counted values alone, not on their order, and [`Histogram::merge`] is exact: this is what
/// makes calibration independent of the number of threads. Once some value has been counted, at
/// least 2048 bins lie between zero and the one farthest from it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Histogram {
    exponent: i32,
    bins: Vec<u64>,
    zeros: u64,
    low: f32,
    high: f32,
    not_finite: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        let bins = vec![0; 2 * HALF as usize];
        let (low, high) = (f32::INFINITY, f32::NEG_INFINITY);
        Self { exponent: LEAST_EXPONENT, bins, zeros: 0, low, high, not_finite: 0 }
    }

    /// Counts values, each `weight` times.
    pub(super) fn add(&mut self, values: &[f32], weight: u64) {
        let (mut low, mut high) = (self.low, self.high);
        for &v in values.iter().filter(|v| v.is_finite()) {
            low = low.min(v);
            high = high.max(v);
        }
        if low <= high {
            self.widen_for(low.abs().max(high.abs()));
        }
        let per_value = exp2(-self.exponent);
        for &v in values {
            let at = v * per_value;
            if v == 0.0 {
                self.zeros += weight;
            } else if at >= -HALF as f32 && at < HALF as f32 {
                // floor(), which is a call where the CPU may lack the instruction.
                let whole = at as i32;
                let floor = whole - i32::from(whole as f32 > at);
                self.bins[(floor + HALF as i32) as usize] += weight;
            } else {
                self.not_finite += weight;
            }
        }
        (self.low, self.high) = (low, high);
    }

    /// Joins bins until `bound` lies inside.
    fn widen_for(&mut self, bound: f32) {
        let mut exponent = self.exponent;
        while bound >= HALF as f32 * exp2(exponent) && exponent < MOST_EXPONENT {
            exponent += 1;
        }
        self.widen_to(exponent);
    }

    fn widen_to(&mut self, exponent: i32) {
        let shift = exponent - self.exponent;
        if shift <= 0 {
            return;
        }
        let old = std::mem::replace(&mut self.bins, vec![0; 2 * HALF as usize]);
        for (at, count) in old.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            // An arithmetic shift rounds down, as counting did.
            let index = (at as i64 - HALF) >> shift.min(62);
            self.bins[(index + HALF) as usize] += count;
        }
        self.exponent = exponent;
    }

    /// Adds the counts of another histogram.
    pub(super) fn merge(&mut self, mut other: Self) {
        let exponent = self.exponent.max(other.exponent);
        self.widen_to(exponent);
        other.widen_to(exponent);
        for (own, more) in self.bins.iter_mut().zip(&other.bins) {
            *own += more;
        }
        self.zeros += other.zeros;
        self.not_finite += other.not_finite;
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
    }

    /// Values that were not finite.
    pub(super) fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// Least and largest value, with zero among them.
    pub(super) fn range(&self) -> (f32, f32) {
        (self.low.min(0.0), self.high.max(0.0))
    }

    /// (value, count) of each bin that is not empty, ascending; the value is the bin's middle, for
    /// zeros it is 0.
    pub(super) fn points(&self) -> Vec<(f32, f64)> {
        let width = exp2(self.exponent);
        let bins = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut points: Vec<(f32, f64)> = bins
            .map(|(at, &count)| (((at as i64 - HALF) as f32 + 0.5) * width, count as f64))
            .collect();
        if self.zeros > 0 {
            let at = points.partition_point(|p| p.0 < 0.0);
            points.insert(at, (0.0, self.zeros as f64));
        }
        points
    }
}

fn exp2(exponent: i32) -> f32 {
    (f64::from(exponent)).exp2() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: u32, scale: f32) -> Vec<f32> {
        (0..n).map(|i| ((i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 0.7) * scale).collect()
    }

    #[test]
    fn order_and_parts_do_not_matter() {
        let (a, b) = (values(1000, 1e-3), values(1000, 50.0));
        let mut forth = Histogram::new();
        forth.add(&a, 1);
        forth.add(&b, 1);
        let mut back = Histogram::new();
        back.add(&b, 1);
        back.add(&a, 1);
        let (mut one, mut other) = (Histogram::new(), Histogram::new());
        one.add(&a, 1);
        other.add(&b, 1);
        other.merge(one);
        assert_eq!(forth, back);
        assert_eq!(forth, other);
        assert_eq!(forth.points().iter().map(|p| p.1).sum::<f64>(), 2000.0);
        let largest = forth.range().1.max(-forth.range().0);
        let width = exp2(forth.exponent);
        assert!(largest / width >= 2048.0, "{} bins", largest / width);
    }

    #[test]
    fn points_are_near_the_values_and_zeros_exact() {
        let mut histogram = Histogram::new();
        histogram.add(&[0.0, 0.0, 1.0, -3.0, f32::NAN, f32::INFINITY], 1);
        histogram.add(&[0.5], 3);
        assert_eq!(histogram.not_finite(), 2);
        let points = histogram.points();
        let close = |p: (f32, f64), v: f32, n: f64| (p.0 - v).abs() < 1e-3 && p.1 == n;
        assert_eq!(points.len(), 4);
        assert!(close(points[0], -3.0, 1.0) && points[1] == (0.0, 2.0));
        assert!(close(points[2], 0.5, 3.0) && close(points[3], 1.0, 1.0));
    }
}
