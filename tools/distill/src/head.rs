//! A linear layer, and its training on features that do not change.

use burn::tensor::{Device, Tensor, TensorData, activation::log_softmax};

use crate::optimizer::{Adam, Step};
use crate::student::{flat, values};

/// Steps of the training, over all samples each.
const STEPS: usize = 300;
/// Its learning rate.
const RATE: f32 = 0.01;
/// Its decay of weights: features are many, samples few.
const DECAY: f32 = 1.0;

/// `y = x * weight + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Values in.
    pub inputs: usize,
    /// Values out.
    pub outputs: usize,
    /// [inputs, outputs].
    pub weight: Vec<f32>,
    /// [outputs].
    pub bias: Vec<f32>,
}

impl Linear {
    /// The outputs for one sample.
    #[must_use]
    pub fn apply(&self, input: &[f32]) -> Vec<f32> {
        let mut output = self.bias.clone();
        for (x, row) in input.iter().zip(self.weight.chunks_exact(self.outputs)) {
            output.iter_mut().zip(row).for_each(|(o, w)| *o += x * w);
        }
        output
    }

    /// Multinomial logistic regression on standardised features [samples, inputs].
    #[must_use]
    pub fn trained(features: &[f32], inputs: usize, labels: &[usize], outputs: usize) -> Self {
        let device = Device::flex().autodiff();
        let samples = labels.len();
        let x =
            Tensor::<2>::from_data(TensorData::new(features.to_vec(), [samples, inputs]), &device);
        let mut targets = vec![0.0; samples * outputs];
        for (row, &label) in labels.iter().enumerate() {
            targets[row * outputs + label] = 1.0 / samples as f32;
        }
        let targets = Tensor::<2>::from_data(TensorData::new(targets, [samples, outputs]), &device);
        let mut parameters = vec![
            flat(vec![0.0; inputs * outputs], &device.clone().inner()),
            flat(vec![0.0; outputs], &device.clone().inner()),
        ];
        let mut adam = Adam::new(&parameters);
        for step in 0..STEPS {
            let leaves: Vec<Tensor<1>> =
                parameters.iter().map(|p| p.clone().autodiff().require_grad()).collect();
            let weight = leaves[0].clone().reshape([inputs, outputs]);
            let logits = x.clone().matmul(weight) + leaves[1].clone().unsqueeze::<2>();
            let loss = (log_softmax(logits, 1) * targets.clone()).sum().neg();
            let mut grads = loss.backward();
            let grads: Vec<_> = leaves.iter().map(|l| l.grad_remove(&mut grads)).collect();
            let falling = 1.0 - step as f32 / STEPS as f32;
            let of = |at: usize| Step { rate: RATE * falling, decay: [DECAY, 0.0][at] };
            parameters = adam.update(parameters, grads, of);
        }
        let mut parameters = parameters.into_iter().map(values);
        let weight = parameters.next().unwrap_or_default();
        Self { inputs, outputs, weight, bias: parameters.next().unwrap_or_default() }
    }
}

/// Mean and deviation of each feature, to standardise by.
#[derive(Debug, Clone, PartialEq)]
pub struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    /// Of samples with `size` features each.
    #[must_use]
    pub fn of<'a>(samples: impl Iterator<Item = &'a [f32]> + Clone, size: usize) -> Self {
        let count = samples.clone().count().max(1) as f64;
        let sum = |of: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0_f64; size];
            for sample in samples.clone() {
                sums.iter_mut().enumerate().for_each(|(i, s)| *s += of(i, f64::from(sample[i])));
            }
            sums.into_iter().map(|s| s / count).collect::<Vec<f64>>()
        };
        let mean = sum(&|_, v| v);
        let deviation = sum(&|i, v| (v - mean[i]).powi(2));
        // A feature that hardly moves says nothing: it is not blown up.
        let deviation = deviation.into_iter().map(|v| v.sqrt().max(1e-3) as f32).collect();
        Self { mean: mean.into_iter().map(|v| v as f32).collect(), deviation }
    }

    /// A sample, standardised.
    #[must_use]
    pub fn apply(&self, sample: &[f32]) -> Vec<f32> {
        let scales = self.mean.iter().zip(&self.deviation);
        sample.iter().zip(scales).map(|(v, (m, d))| (v - m) / d).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separable_classes_are_separated() {
        let features: Vec<f32> = (0..40).flat_map(|i| [(i % 2) as f32 * 2.0 - 1.0, 0.1]).collect();
        let labels: Vec<usize> = (0..40).map(|i| i % 2).collect();
        let head = Linear::trained(&features, 2, &labels, 2);
        for (sample, &label) in features.chunks(2).zip(&labels) {
            let outputs = head.apply(sample);
            assert!(outputs[label] > outputs[1 - label] + 0.1, "{outputs:?}");
        }
    }

    #[test]
    fn samples_are_standardised() {
        let samples: [&[f32]; 2] = [&[1.0, 5.0], &[3.0, 5.0]];
        let standard = Standard::of(samples.into_iter(), 2);
        assert_eq!(standard.apply(samples[0]), [-1.0, 0.0]);
    }
}
