//! Weights as integers: a scale for each output channel, and the bias in units of the products.

use super::range::Quantization;

/// Largest magnitude of a bias code. Far enough below 2^31 for the products to be added.
const LARGEST_BIAS: f64 = (1 << 28) as f64;
/// Smallest scale of a channel, relative to the largest of its layer. All weights of a channel
/// that this makes zero are a millionth of the layer's largest.
const LEAST_SHARE: f64 = 1e-6;
/// Clipped ranges that are tried, relative to the largest magnitude.
const STEPS: usize = 51;
/// Range between two of them.
const STEP: f64 = 0.01;

/// Weights of a layer in integers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct LayerCodes {
    /// Codes, in the order of the weights.
    pub codes: Vec<i8>,
    /// Scale of each output channel.
    pub scale: Vec<f32>,
    /// Bias of each output channel in units of input scale times weight scale.
    pub bias: Vec<i32>,
    /// Those units.
    pub bias_scale: Vec<f32>,
    /// Ratio of the weights' power to the error's, dB.
    pub sqnr_db: f64,
}

impl LayerCodes {
    /// The same layer behind an input with another scale.
    pub(super) fn with_input(&self, old: Quantization, new: Quantization) -> Self {
        let ratio = f64::from(old.scale) / f64::from(new.scale);
        let bias = self.bias.iter().map(|&b| bias_code(f64::from(b) * ratio)).collect();
        let bias_scale = self.scale.iter().map(|s| s * new.scale).collect();
        Self { bias, bias_scale, ..self.clone() }
    }

    /// Adds a real number to the bias of each channel.
    pub(super) fn shift_bias(&mut self, shift: &[f64]) {
        for ((bias, unit), shift) in self.bias.iter_mut().zip(&self.bias_scale).zip(shift) {
            *bias = bias_code(f64::from(*bias) + shift / f64::from(*unit));
        }
    }
}

/// Round half to even, in the range that leaves room for the products.
fn bias_code(code: f64) -> i32 {
    code.round_ties_even().clamp(-2.0 * LARGEST_BIAS, 2.0 * LARGEST_BIAS) as i32
}

/// A layer's weights and what is known of its input.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerWeights<'a> {
    /// One filter an output channel after another; a filter is `[inputs][taps]`.
    pub weights: &'a [f32],
    /// One an output channel.
    pub bias: &'a [f32],
    /// Quantization of the input.
    pub input: Quantization,
    /// Mean of each input channel.
    pub mean: &'a [f64],
    /// Variance of each input channel.
    pub variance: &'a [f64],
    /// Whether each output channel has one input channel of its own.
    pub depthwise: bool,
}

/// How to make integers of weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Largest magnitude of a code.
    pub largest: i8,
    /// Search the scale with the least error, instead of that of the largest weight.
    pub search: bool,
    /// Take the mean error that the rounding causes out of the bias.
    pub correct_bias: bool,
}

/// Quantizes a layer.
pub(super) fn quantize(layer: LayerWeights<'_>, rule: Rule) -> LayerCodes {
    let channels = layer.bias.len();
    let length = layer.weights.len() / channels.max(1);
    let filter = |c: usize| &layer.weights[c * length..(c + 1) * length];
    let mut scale: Vec<f64> =
        (0..channels).map(|c| best_scale(filter(c), &layer.importance(c, length), rule)).collect();
    let most = scale.iter().copied().fold(0.0, f64::max);
    let least = if most > 0.0 { most * LEAST_SHARE } else { 1.0 };
    for (scale, &bias) in scale.iter_mut().zip(layer.bias) {
        let for_bias = f64::from(bias).abs() / (f64::from(layer.input.scale) * LARGEST_BIAS);
        *scale = if *scale == 0.0 { most.max(least) } else { *scale };
        *scale = scale.max(least).max(for_bias).max(f64::from(f32::MIN_POSITIVE) * 1e6);
    }
    let scale: Vec<f32> = scale.into_iter().map(|s| s as f32).collect();
    let mut result = LayerCodes {
        codes: Vec::with_capacity(layer.weights.len()),
        bias: Vec::with_capacity(channels),
        bias_scale: scale.iter().map(|s| s * layer.input.scale).collect(),
        scale,
        sqnr_db: 0.0,
    };
    let (mut power, mut error) = (0.0, 0.0);
    for c in 0..channels {
        let unit = f64::from(result.scale[c]);
        let mut shift = 0.0;
        let means = layer.per_weight(layer.mean, c, length);
        for (&w, mean) in filter(c).iter().zip(means) {
            let code = code(f64::from(w), unit, rule.largest);
            let difference = f64::from(code) * unit - f64::from(w);
            shift += difference * mean;
            power += f64::from(w) * f64::from(w);
            error += difference * difference;
            result.codes.push(code);
        }
        let bias = f64::from(layer.bias[c]) - if rule.correct_bias { shift } else { 0.0 };
        let code = bias / (unit * f64::from(layer.input.scale));
        result.bias.push(bias_code(code));
    }
    result.sqnr_db = 10.0 * (power.max(1e-300) / error.max(1e-300)).log10();
    result
}

impl LayerWeights<'_> {
    /// What is known of each input channel, for each weight of the filter of channel `c`.
    fn per_weight(&self, of_channel: &[f64], c: usize, length: usize) -> Vec<f64> {
        if self.depthwise {
            return vec![of_channel.get(c).copied().unwrap_or(0.0); length];
        }
        let taps = (length / of_channel.len().max(1)).max(1);
        (0..length).map(|i| of_channel.get(i / taps).copied().unwrap_or(0.0)).collect()
    }

    /// How much the error of each weight matters: the power of what it is multiplied with, about
    /// its mean since the bias takes up the mean.
    fn importance(&self, c: usize, length: usize) -> Vec<f64> {
        let mut importance = self.per_weight(self.variance, c, length);
        let mean = importance.iter().sum::<f64>() / length.max(1) as f64;
        // Inputs that never varied in calibration may do so later.
        let least = if mean > 0.0 { mean * 1e-2 } else { 1.0 };
        importance.iter_mut().for_each(|v| *v = v.max(least));
        importance
    }
}

/// The scale with the least error; 0 when all weights are 0.
fn best_scale(filter: &[f32], importance: &[f64], rule: Rule) -> f64 {
    let largest = filter.iter().fold(0.0_f64, |m, w| m.max(f64::from(w.abs())));
    let whole = largest / f64::from(rule.largest);
    if !rule.search || largest == 0.0 {
        return whole;
    }
    let error = |scale: f64| -> f64 {
        filter
            .iter()
            .zip(importance)
            .map(|(&w, importance)| {
                let code = code(f64::from(w), scale, rule.largest);
                let difference = f64::from(code) * scale - f64::from(w);
                importance * difference * difference
            })
            .sum()
    };
    let mut best = (error(whole), whole);
    for step in 1..STEPS {
        let scale = whole * (1.0 - STEP * step as f64);
        let error = error(scale);
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

/// Round half to even, clamped.
fn code(weight: f64, scale: f64, largest: i8) -> i8 {
    let largest = f64::from(largest);
    (weight / scale).round_ties_even().clamp(-largest, largest) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { largest: 127, search: true, correct_bias: true };
    const INPUT: Quantization = Quantization { scale: 0.1, zero_point: 3, largest: 255 };

    fn layer<'a>(weights: &'a [f32], bias: &'a [f32], moments: &'a [f64]) -> LayerWeights<'a> {
        LayerWeights {
            weights,
            bias,
            input: INPUT,
            mean: moments,
            variance: moments,
            depthwise: false,
        }
    }

    fn pattern(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0 * ((i % 7) as f32 + 0.1)).collect()
    }

    #[test]
    fn a_channel_of_zeros_keeps_its_bias() {
        let weights = [0.0, 0.0, 0.5, -1.0];
        let codes = quantize(layer(&weights, &[3.0, 1.0], &[1.0, 1.0]), RULE);
        assert_eq!(codes.codes[..2], [0, 0]);
        let bias = codes.bias[0] as f32 * codes.bias_scale[0];
        assert!((bias - 3.0).abs() < 1e-3, "{bias}");
        let zeros = quantize(layer(&[0.0; 4], &[3.0, 0.0], &[1.0, 1.0]), RULE);
        assert!(zeros.scale.iter().all(|s| s.is_normal()));
        assert!((zeros.bias[0] as f32 * zeros.bias_scale[0] - 3.0).abs() < 0.1);
    }

    #[test]
    fn a_tiny_channel_cannot_overflow_its_bias() {
        let weights = [1e-30, 1e-12, 0.5, -1.0];
        let codes = quantize(layer(&weights, &[500.0, 1.0], &[1.0, 1.0]), RULE);
        assert!(codes.bias.iter().all(|b| b.abs() <= 1 << 28), "{:?}", codes.bias);
        let bias = codes.bias[0] as f32 * codes.bias_scale[0];
        assert!((bias - 500.0).abs() < 1e-2, "{bias}");
    }

    #[test]
    fn the_search_is_never_worse_and_bits_bound_the_codes() {
        let mut weights = pattern(300);
        weights[17] = 40.0;
        let (bias, moments) = (vec![0.0; 3], vec![1.0; 100]);
        for largest in [63, 127] {
            let rule = Rule { largest, ..RULE };
            let searched = quantize(layer(&weights, &bias, &moments), rule);
            let whole = quantize(layer(&weights, &bias, &moments), Rule { search: false, ..rule });
            assert!(searched.sqnr_db >= whole.sqnr_db);
            assert!(searched.codes.iter().all(|c| (-largest..=largest).contains(c)));
            let back = |c: &LayerCodes, i: usize| f32::from(c.codes[i]) * c.scale[i / 100];
            for (i, &w) in weights.iter().enumerate() {
                assert!((back(&whole, i) - w).abs() <= whole.scale[i / 100] * 0.5001);
            }
        }
    }

    #[test]
    fn the_bias_takes_up_the_mean_error() {
        let weights = pattern(200);
        let mean: Vec<f64> = (0..50).map(|i| f64::from(i) / 25.0).collect();
        let variance = vec![1.0; 50];
        let layer = LayerWeights { variance: &variance, ..layer(&weights, &[0.0, 2.0], &mean) };
        // Two taps an input channel.
        let output = |weight: &dyn Fn(usize) -> f64, bias: f64, c: usize| -> f64 {
            (0..100).map(|i| weight(c * 100 + i) * mean[i / 2]).sum::<f64>() + bias
        };
        let error = |codes: &LayerCodes, c: usize| -> f64 {
            let weight = |i: usize| f64::from(codes.codes[i]) * f64::from(codes.scale[c]);
            let bias = f64::from(codes.bias[c]) * f64::from(codes.bias_scale[c]);
            let float = output(&|i| f64::from(weights[i]), f64::from(layer.bias[c]), c);
            (output(&weight, bias, c) - float).abs()
        };
        let coarse = Rule { largest: 7, ..RULE };
        let corrected = quantize(layer, coarse);
        let plain = quantize(layer, Rule { correct_bias: false, ..coarse });
        for c in 0..2 {
            let unit = f64::from(corrected.bias_scale[c]);
            assert!(error(&corrected, c) <= unit, "{}", error(&corrected, c));
        }
        assert!(error(&plain, 0) + error(&plain, 1) > 0.01);
    }
}
