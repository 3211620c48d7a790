//! What can be said of a count: intervals, tests, quantiles, calibration.

/// Two-sided 95 % of a normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// Bins of a calibration curve.
const BINS: usize = 10;

/// The 95 % confidence interval of a share of which `right` of `n` were seen; 0..=1 when n is 0.
///
/// Source: Wilson (1927), the score interval: unlike the normal one it is right near 0 and 1.
#[must_use]
pub fn wilson(right: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (n as f64, right as f64 / n as f64);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let (middle, scale) = (share + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
    // Where all or none were right, the end is exact but for rounding.
    let low = if right == 0 { 0.0 } else { ((middle - spread) / scale).max(0.0) };
    let high = if right as f64 >= n { 1.0 } else { ((middle + spread) / scale).min(1.0) };
    (low, high)
}

/// The two-sided p-value of McNemar's exact test: of the pictures on which two models differ,
/// `first` were right for the first alone and `second` for the second alone. 1 where there are none.
///
/// Source: McNemar (1947), with the binomial distribution in place of its normal limit.
#[must_use]
pub fn mcnemar(first: usize, second: usize) -> f64 {
    let (few, n) = (first.min(second), first + second);
    // Logarithm of C(n, k) / 2^n, from k - 1 to k.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = term.exp();
    for k in 1..=few {
        term += ((n - k + 1) as f64 / k as f64).ln();
        sum += term.exp();
    }
    (2.0 * sum).min(1.0)
}

/// The value under which `share` (0..=1) of the sorted values lie; 0 when there are none.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Mean and variance of each column of `[rows][width]`.
pub(crate) fn moments(values: &[f32], width: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = values.chunks_exact(width.max(1));
    let n = rows.len().max(1) as f64;
    let mut sums = vec![(0.0_f64, 0.0_f64); width];
    for row in rows {
        for (sum, &v) in sums.iter_mut().zip(row) {
            sum.0 += f64::from(v);
            sum.1 += f64::from(v) * f64::from(v);
        }
    }
    let moment = |(sum, square): (f64, f64)| (sum / n, (square / n - (sum / n).powi(2)).max(0.0));
    sums.into_iter().map(moment).unzip()
}

/// Predictions of about one confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Number of predictions.
    pub n: usize,
    /// How many were right.
    pub right: usize,
    /// Mean confidence, 0..=1.
    pub confidence: f64,
}

/// How far a model's confidence can be believed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calibration {
    /// Ten equally wide bins of confidence.
    pub bins: Vec<Bin>,
    /// Expected calibration error: mean distance between confidence and accuracy, 0..=1.
    pub ece: f64,
}

/// Calibration of predictions: confidence of the best class, and whether it was right.
///
/// Source: Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks.
#[must_use]
pub fn calibration(predictions: impl Iterator<Item = (f32, bool)>) -> Calibration {
    let mut bins = vec![Bin::default(); BINS];
    for (confidence, right) in predictions {
        let at = ((f64::from(confidence) * BINS as f64) as usize).min(BINS - 1);
        bins[at].n += 1;
        bins[at].right += usize::from(right);
        bins[at].confidence += f64::from(confidence);
    }
    let total = bins.iter().map(|b| b.n).sum::<usize>().max(1) as f64;
    let gap = |b: &Bin| (b.confidence - b.right as f64).abs() / total;
    let ece = bins.iter().map(gap).sum();
    for bin in &mut bins {
        bin.confidence /= bin.n.max(1) as f64;
    }
    Calibration { bins, ece }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }

    /// Values of R's `prop.test(correct = FALSE)`.
    #[test]
    fn intervals_are_those_of_the_literature() {
        let (low, high) = wilson(81, 263);
        close(low, 0.255_29);
        close(high, 0.366_20);
        let (low, high) = wilson(0, 20);
        close(low, 0.0);
        close(high, 0.161_13);
        assert_eq!(wilson(20, 20).1, 1.0);
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    /// Values of R's `binom.test(b, b + c)`.
    #[test]
    fn the_exact_test_is_the_binomial_one() {
        close(mcnemar(2, 9), 0.065_43);
        close(mcnemar(9, 2), 0.065_43);
        close(mcnemar(0, 6), 0.031_25);
        assert_eq!(mcnemar(5, 5), 1.0);
        assert_eq!(mcnemar(0, 0), 1.0);
        assert!(mcnemar(20_000, 30_000) < 1e-100);
    }

    #[test]
    fn a_calibrated_model_has_no_error() {
        let fair = (0..100).map(|i| (0.75, i % 4 != 0));
        assert!(calibration(fair).ece < 1e-6);
        let sure = calibration((0..100).map(|i| (1.0, i % 2 == 0)));
        close(sure.ece, 0.5);
        assert_eq!((sure.bins[9].n, sure.bins[9].right), (100, 50));
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 2.0), 2.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
