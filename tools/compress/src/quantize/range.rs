//! From a histogram to scale and zero point.

use super::histogram::Histogram;
use super::plan::Effect;

/// How codes stand for real numbers: `real = (code - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    /// Size of one code; positive.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: u8,
}

impl Quantization {
    /// The quantization whose codes span `low..=high`, widened to hold zero, which is exact.
    pub(super) fn spanning(low: f32, high: f32) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = ((high - low) / 255.0).max(1e-30);
        let zero_point = (-low / scale).round_ties_even().clamp(0.0, 255.0);
        // The zero point's rounding moved the span: the scale grows to hold both ends again.
        let below = if zero_point > 0.0 { -low / zero_point } else { 0.0 };
        let above = if zero_point < 255.0 { high / (255.0 - zero_point) } else { 0.0 };
        let scale = scale.max(below).max(above);
        let scale = if high > low { scale } else { 1.0 };
        Self { scale: scale as f32, zero_point: zero_point as u8 }
    }

    /// The code of a real number: round half to even, clamped.
    #[must_use]
    pub fn quantize(&self, real: f32) -> u8 {
        let code = (real / self.scale).round_ties_even() + f32::from(self.zero_point);
        code.clamp(0.0, 255.0) as u8
    }

    /// The real number of a code.
    #[must_use]
    pub fn dequantize(&self, code: u8) -> f32 {
        (f32::from(code) - f32::from(self.zero_point)) * self.scale
    }

    /// Least and largest number that has a code of its own.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        (self.dequantize(0), self.dequantize(255))
    }
}

/// How the range of an activation is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RangeMethod {
    /// All values that occurred.
    MinMax,
    /// The ends, among percentiles, that make the mean squared error least.
    #[default]
    Mse,
}

/// A range that was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chosen {
    /// Scale and zero point.
    pub quantization: Quantization,
    /// Share of values below the range, 0..=1.
    pub clipped_low: f64,
    /// Share of values above the range, 0..=1.
    pub clipped_high: f64,
    /// Ratio of the signal's power to the error's, dB.
    pub sqnr_db: f64,
}

/// Shares of the values that may be clipped at one end.
const CLIPPED: [f64; 10] = [0.0, 1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3];

/// Chooses the quantization of values with this histogram, clamped to `bounds` and seen through
/// `effect`.
pub(super) fn choose(
    histogram: &Histogram,
    bounds: (f32, f32),
    effect: Effect,
    method: RangeMethod,
) -> Chosen {
    let points = histogram.points();
    let (least, most) = histogram.range();
    let clamp = |v: f32| v.clamp(bounds.0.min(0.0), bounds.1.max(0.0));
    let (least, most) = (clamp(least), clamp(most));
    let mut best = Quantization::spanning(least, most);
    if method == RangeMethod::Mse {
        let total: f64 = points.iter().map(|p| p.1).sum();
        let lows = ends(points.iter(), total, least);
        let highs = ends(points.iter().rev(), total, most);
        let mut least_error = error(&points, best, effect);
        for &low in &lows {
            for &high in &highs {
                let candidate = Quantization::spanning(clamp(low), clamp(high));
                let error = error(&points, candidate, effect);
                if error < least_error {
                    (best, least_error) = (candidate, error);
                }
            }
        }
    }
    describe_points(&points, best, effect)
}

/// Ends of the range, outermost first, that clip the shares of [`CLIPPED`].
fn ends<'a>(points: impl Iterator<Item = &'a (f32, f64)>, total: f64, outermost: f32) -> Vec<f32> {
    let mut ends = vec![outermost];
    let mut beyond = 0.0;
    let mut shares = CLIPPED.iter().copied().skip(1).peekable();
    for &(value, count) in points {
        beyond += count;
        while shares.next_if(|share| beyond > share * total).is_some() {
            // Only ends on their own side of zero narrow the range.
            let end = if value.signum() == outermost.signum() { value } else { 0.0 };
            if ends.last() != Some(&end) {
                ends.push(end);
            }
        }
    }
    ends
}

/// Sum of the squared errors.
fn error(points: &[(f32, f64)], quantization: Quantization, effect: Effect) -> f64 {
    points
        .iter()
        .map(|&(value, count)| {
            let seen = effect.eval(quantization.dequantize(quantization.quantize(value)));
            let difference = f64::from(seen - effect.eval(value));
            count * difference * difference
        })
        .sum()
}

/// A quantization that was not chosen by its error, with what it does to the values.
pub(super) fn describe(
    histogram: &Histogram,
    quantization: Quantization,
    effect: Effect,
) -> Chosen {
    describe_points(&histogram.points(), quantization, effect)
}

fn describe_points(points: &[(f32, f64)], quantization: Quantization, effect: Effect) -> Chosen {
    let (low, high) = quantization.range();
    let half = quantization.scale / 2.0;
    let total = points.iter().map(|p| p.1).sum::<f64>().max(1.0);
    let share = |beyond: &dyn Fn(f32) -> bool| {
        points.iter().filter(|p| beyond(p.0)).fold(0.0, |sum, p| sum + p.1) / total
    };
    let power: f64 =
        points.iter().map(|&(v, n)| n * f64::from(effect.eval(v)).powi(2)).sum::<f64>();
    let error = error(points, quantization, effect);
    Chosen {
        quantization,
        clipped_low: share(&|v| v < low - half),
        clipped_high: share(&|v| v > high + half),
        sqnr_db: 10.0 * (power.max(1e-300) / error.max(1e-300)).log10(),
    }
}

/// The quantization of prepared pictures: that which keeps the 256 codes of each channel best,
/// exactly where mean and divisor allow it.
pub(super) fn of_pictures(mean: [f32; 3], std: [f32; 3]) -> Quantization {
    let value = |code: usize, c: usize| (code as f32 - mean[c]) / std[c];
    let all: Vec<(f32, f64)> =
        (0..3).flat_map(|c| (0..256).map(move |code| (value(code, c), 1.0))).collect();
    let low = all.iter().fold(0.0_f32, |m, p| m.min(p.0));
    let high = all.iter().fold(0.0_f32, |m, p| m.max(p.0));
    let spanning = Quantization::spanning(low, high);
    let same = (0..3).map(|c| Quantization {
        scale: 1.0 / std[c].abs(),
        zero_point: mean[c].round().clamp(0.0, 255.0) as u8,
    });
    let wider = (0..40).flat_map(|step| {
        let scale = spanning.scale * (1.0 + step as f32 * 5e-4);
        [-1_i16, 0, 1].map(|d| {
            let zero_point = (i16::from(spanning.zero_point) + d).clamp(0, 255) as u8;
            Quantization { scale, zero_point }
        })
    });
    let error = |q: &Quantization| error(&all, *q, Effect::Identity);
    let candidates = same.chain([spanning]).chain(wider).filter(|q| q.scale.is_normal());
    candidates.min_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(spanning)
}

#[cfg(test)]
mod tests;
