//! From a histogram to scale and zero point.

use super::histogram::Histogram;
use super::plan::Effect;

/// How codes stand for real numbers: `real = (code - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    /// Size of one code; positive.
    pub scale: f32,
    /// The code of zero; at most `largest`.
    pub zero_point: u8,
    /// The largest code: 255, or 127 for a range of 7 bits.
    pub largest: u8,
}

impl Quantization {
    /// The quantization whose codes `0..=largest` span `low..=high`, widened to hold zero, which is
    /// exact.
    pub(super) fn spanning(low: f32, high: f32, largest: u8) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let codes = f64::from(largest);
        let scale = ((high - low) / codes).max(1e-30);
        let zero_point = (-low / scale).round_ties_even().clamp(0.0, codes);
        // The zero point's rounding moved the span: the scale grows to hold both ends again.
        let below = if zero_point > 0.0 { -low / zero_point } else { 0.0 };
        let above = if zero_point < codes { high / (codes - zero_point) } else { 0.0 };
        let scale = scale.max(below).max(above);
        let scale = if high > low { scale } else { 1.0 };
        Self { scale: scale as f32, zero_point: zero_point as u8, largest }
    }

    /// The code of a real number: round half to even, clamped.
    #[must_use]
    pub fn quantize(&self, real: f32) -> u8 {
        let code = (real / self.scale).round_ties_even() + f32::from(self.zero_point);
        code.clamp(0.0, f32::from(self.largest)) as u8
    }

    /// The real number of a code.
    #[must_use]
    pub fn dequantize(&self, code: u8) -> f32 {
        (f32::from(code) - f32::from(self.zero_point)) * self.scale
    }

    /// Least and largest number that has a code of its own.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        (self.dequantize(0), self.dequantize(self.largest))
    }
}

/// How the range of an activation is chosen. Values are counted as much as their channel matters
/// (see `importance`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calibrator {
    /// All values that occurred.
    MinMax,
    /// All but a ten-thousandth of the values at each end.
    Percentile,
    /// The ends, among percentiles, that make the mean squared error least.
    #[default]
    Mse,
    /// The ends, among percentiles, with the least Kullback-Leibler divergence between the values
    /// and their codes (Migacz 2017, "8-bit inference with TensorRT").
    Entropy,
}

impl Calibrator {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::MinMax, Self::Percentile, Self::Mse, Self::Entropy];

    /// Its name on the command line and in a model's history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "min-max",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
            Self::Entropy => "entropy",
        }
    }
}

/// What a range may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// The largest code: 255, or 127 for a range of 7 bits.
    pub largest: u8,
    /// Whether a range with negative values is as long below zero as above.
    pub symmetric: bool,
}

impl Form {
    /// The quantization of this form that spans `low..=high`, widened to hold zero.
    pub(super) fn spanning(self, low: f32, high: f32) -> Quantization {
        if !self.symmetric || low >= 0.0 {
            return Quantization::spanning(low, high, self.largest);
        }
        // -128..=127 of 8 bits: the last code below zero has no counterpart.
        let half = self.largest / 2;
        let scale = (high.max(-low) / f32::from(half)).max(1e-30);
        Quantization { scale, zero_point: half + 1, largest: self.largest }
    }
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

/// Shares of the values that may be clipped at one end. The large ones are for functions that are
/// flat there.
const CLIPPED: [f64; 18] = [
    0.0, 1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2, 0.12, 0.2,
    0.3, 0.5,
];

/// The most that [`Calibrator::Entropy`] clips at each end: of values that nearly all share one code
/// the divergence is nothing, so that without a bound it would end there.
const ENTROPY: f64 = 1e-3;

/// What [`Calibrator::Percentile`] clips at each end.
const PERCENTILE: [f64; 1] = [1e-4];

/// What becomes of a value: a function, then the range that its result is quantized with.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// The function.
    pub effect: Effect,
    /// Range of what is seen of its result.
    pub range: (f32, f32),
}

impl View {
    /// The value itself.
    pub(super) const PLAIN: Self =
        Self { effect: Effect::Identity, range: (f32::NEG_INFINITY, f32::INFINITY) };

    fn eval(self, x: f32) -> f32 {
        self.effect.eval(x).clamp(self.range.0, self.range.1)
    }
}

/// A bin of the histogram, seen through a function.
struct Bin {
    value: f32,
    count: f64,
    seen: f32,
}

fn bins(histogram: &Histogram, view: View) -> Vec<Bin> {
    let bin = |(value, count)| Bin { value, count, seen: view.eval(value) };
    histogram.points().into_iter().map(bin).collect()
}

/// Chooses the quantization of values with this histogram, clamped to `bounds` and seen through
/// `view`.
pub(super) fn choose(
    histogram: &Histogram,
    bounds: (f32, f32),
    view: View,
    calibrator: Calibrator,
    form: Form,
) -> Chosen {
    let bins = bins(histogram, view);
    let (least, most) = histogram.range();
    let clamp = |v: f32| v.clamp(bounds.0.min(0.0), bounds.1.max(0.0));
    let (least, most) = (clamp(least), clamp(most));
    let whole = form.spanning(least, most);
    let total: f64 = bins.iter().map(|b| b.count).sum();
    let best = |clipped: &[f64], cost: &dyn Fn(Quantization) -> f64| {
        let mut best = (cost(whole), whole);
        let lows = ends(bins.iter(), total, least, clipped);
        let highs = ends(bins.iter().rev(), total, most, clipped);
        for (&low, &high) in lows.iter().flat_map(|low| highs.iter().map(move |high| (low, high))) {
            let candidate = form.spanning(clamp(low), clamp(high));
            let cost = cost(candidate);
            if cost < best.0 {
                best = (cost, candidate);
            }
        }
        best.1
    };
    let quantization = match calibrator {
        Calibrator::MinMax => whole,
        Calibrator::Percentile => {
            let last = |ends: Vec<f32>| clamp(ends.last().copied().unwrap_or(0.0));
            let low = last(ends(bins.iter(), total, least, &PERCENTILE));
            let high = last(ends(bins.iter().rev(), total, most, &PERCENTILE));
            form.spanning(low, high)
        }
        Calibrator::Mse => best(&CLIPPED, &|q| error(&bins, q, view)),
        Calibrator::Entropy => {
            let few: Vec<f64> = CLIPPED.into_iter().filter(|&share| share <= ENTROPY).collect();
            best(&few, &|q| divergence(&bins, q))
        }
    };
    describe_bins(&bins, quantization, view)
}

/// Ends of the range, outermost first, that clip these shares.
fn ends<'a>(
    bins: impl Iterator<Item = &'a Bin>,
    total: f64,
    outermost: f32,
    shares: &[f64],
) -> Vec<f32> {
    let mut ends = vec![outermost];
    let mut beyond = 0.0;
    let mut shares = shares.iter().copied().filter(|&s| s > 0.0).peekable();
    for &Bin { value, count, .. } in bins {
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
fn error(bins: &[Bin], quantization: Quantization, view: View) -> f64 {
    let table: [f32; 256] =
        std::array::from_fn(|code| view.eval(quantization.dequantize(code as u8)));
    let squared = |bin: &Bin| {
        let difference = f64::from(table[usize::from(quantization.quantize(bin.value))] - bin.seen);
        bin.count * difference * difference
    };
    bins.iter().map(squared).sum()
}

/// Divergence of the values, clipped ones at the ends, from what their codes tell of them: the
/// values of one code are taken for equally frequent. Zeros do not count: a Relu makes most of
/// them, and they are exact.
fn divergence(bins: &[Bin], quantization: Quantization) -> f64 {
    let (low, high) = quantization.range();
    let half = quantization.scale / 2.0;
    let inside = |v: f32| v >= low - half && v <= high + half;
    let counted: Vec<&Bin> = bins.iter().filter(|b| b.value != 0.0).collect();
    let kept: Vec<&Bin> = counted.iter().copied().filter(|b| inside(b.value)).collect();
    let beyond = |above: bool| -> f64 {
        let out = counted.iter().filter(|b| !inside(b.value) && (b.value > 0.0) == above);
        out.map(|b| b.count).sum()
    };
    let (below, above) = (beyond(false), beyond(true));
    let mut codes = [(0.0_f64, 0.0_f64); 256];
    for bin in &kept {
        let (sum, bins) = &mut codes[usize::from(quantization.quantize(bin.value))];
        (*sum, *bins) = (*sum + bin.count, *bins + 1.0);
    }
    let total: f64 = counted.iter().map(|b| b.count).sum();
    let inner = total - below - above;
    if inner <= 0.0 {
        return f64::INFINITY;
    }
    let last = kept.len() - 1;
    let of = |(at, bin): (usize, &&Bin)| {
        let ends = if at == 0 { below } else { 0.0 } + if at == last { above } else { 0.0 };
        let (sum, bins) = codes[usize::from(quantization.quantize(bin.value))];
        let (p, q) = ((bin.count + ends) / total, sum / bins / inner);
        p * (p / q).ln()
    };
    kept.iter().enumerate().map(of).sum()
}

/// A quantization that was not chosen by its error, with what it does to the values.
pub(super) fn describe(histogram: &Histogram, quantization: Quantization, view: View) -> Chosen {
    describe_bins(&bins(histogram, view), quantization, view)
}

fn describe_bins(bins: &[Bin], quantization: Quantization, view: View) -> Chosen {
    let (low, high) = quantization.range();
    let half = quantization.scale / 2.0;
    let total = bins.iter().map(|b| b.count).sum::<f64>().max(1.0);
    let share = |beyond: &dyn Fn(f32) -> bool| {
        bins.iter().filter(|b| beyond(b.value)).fold(0.0, |sum, b| sum + b.count) / total
    };
    let power: f64 = bins.iter().map(|b| b.count * f64::from(b.seen).powi(2)).sum();
    let error = error(bins, quantization, view);
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
    let bin = |value| Bin { value, count: 1.0, seen: value };
    let codes = (0..3).flat_map(|c| (0..256).map(move |code| (code, c)));
    let all: Vec<Bin> = codes.map(|(code, c)| bin(value(code, c))).collect();
    let low = all.iter().fold(0.0_f32, |m, b| m.min(b.value));
    let high = all.iter().fold(0.0_f32, |m, b| m.max(b.value));
    let spanning = Quantization::spanning(low, high, 255);
    let same = (0..3).map(|c| Quantization {
        scale: 1.0 / std[c].abs(),
        zero_point: mean[c].round().clamp(0.0, 255.0) as u8,
        largest: 255,
    });
    let wider = (0..40).flat_map(|step| {
        let scale = spanning.scale * (1.0 + step as f32 * 5e-4);
        [-1_i16, 0, 1].map(|d| {
            let zero_point = (i16::from(spanning.zero_point) + d).clamp(0, 255) as u8;
            Quantization { scale, zero_point, largest: 255 }
        })
    });
    let error = |q: &Quantization| error(&all, *q, View::PLAIN);
    let candidates = same.chain([spanning]).chain(wider).filter(|q| q.scale.is_normal());
    candidates.min_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(spanning)
}

#[cfg(test)]
mod tests;
