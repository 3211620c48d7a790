//! Finds the tensors of a network in a state dict and folds the batch norms into them.

use super::ImportError;
use crate::arch::{Arch, Conv, Network, Place};
use crate::weights::names::Style;
use crate::weights::{StateDict, Tensor};

/// Weights and bias of one convolution, without a batch norm.
#[derive(Debug, Clone)]
pub struct Folded {
    /// Shape as [`Conv::weight_shape`], the last axis fastest.
    pub weight: Vec<f32>,
    /// One an output channel.
    pub bias: Vec<f32>,
}

impl Folded {
    /// No value is infinite or not a number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.weight.iter().chain(&self.bias).all(|v| v.is_finite())
    }
}

/// Number of classes that the weights were trained for.
pub(super) fn classes(
    arch: &'static Arch,
    state: &StateDict,
    style: Style,
) -> Result<usize, ImportError> {
    let network = arch.network(1);
    let Some(classifier) =
        network.convolutions().into_iter().find(|c| c.place == Place::Classifier)
    else {
        unreachable!("every network has a classifier");
    };
    let tensor = format!("{}.weight", style.names(&network, &classifier).0);
    let found = state.tensors.get(&tensor).and_then(|t| t.shape.first().copied());
    let classes = found.ok_or_else(|| ImportError::Missing { tensor, arch: arch.name, style })?;
    super::check_classes(classes)?;
    Ok(classes)
}

/// Takes every tensor of the network out of the state dict; what is left over is an error.
pub(super) fn fold(
    network: &Network,
    state: StateDict,
    style: Style,
    epsilon: f64,
) -> Result<Vec<(Conv, Folded)>, ImportError> {
    let mut source = Source { arch: network.arch.name, style, state };
    let mut all = Vec::new();
    for conv in network.convolutions() {
        let folded = source.take_conv(network, &conv, epsilon)?;
        all.push((conv, folded));
    }
    source.state.tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    if let Some(tensor) = source.state.tensors.keys().next() {
        return Err(ImportError::Extra {
            tensor: tensor.clone(),
            count: source.state.tensors.len(),
            arch: source.arch,
        });
    }
    Ok(all)
}

struct Source {
    arch: &'static str,
    style: Style,
    state: StateDict,
}

impl Source {
    fn take(&mut self, tensor: String, expected: &[usize]) -> Result<Vec<f32>, ImportError> {
        let (arch, style) = (self.arch, self.style);
        let Some(Tensor { shape, data }) = self.state.tensors.remove(&tensor) else {
            return Err(ImportError::Missing { tensor, arch, style });
        };
        if shape != expected {
            let expected = expected.to_vec();
            return Err(ImportError::Shape { tensor, actual: shape, expected, arch });
        }
        Ok(data)
    }

    fn take_conv(
        &mut self,
        network: &Network,
        conv: &Conv,
        epsilon: f64,
    ) -> Result<Folded, ImportError> {
        let (name, norm) = self.style.names(network, conv);
        let weight = self.take(format!("{name}.weight"), &conv.weight_shape())?;
        let channels = [conv.output];
        let folded = match norm {
            None => Folded { weight, bias: self.take(format!("{name}.bias"), &channels)? },
            Some(norm) => {
                let norm = Norm {
                    scale: self.take(format!("{norm}.weight"), &channels)?,
                    shift: self.take(format!("{norm}.bias"), &channels)?,
                    mean: self.take(format!("{norm}.running_mean"), &channels)?,
                    variance: self.take(format!("{norm}.running_var"), &channels)?,
                    epsilon,
                };
                norm.fold(weight)
            }
        };
        if !folded.is_finite() {
            return Err(ImportError::NotFinite { tensor: format!("{name}.weight") });
        }
        Ok(folded)
    }
}

/// A batch norm as it runs after training.
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f64,
}

impl Norm {
    /// `w' = w * g` and `b' = shift - mean * g` with `g = scale / sqrt(variance + epsilon)`,
    /// computed in f64 and rounded once.
    fn fold(&self, mut weight: Vec<f32>) -> Folded {
        let channels = self.scale.len();
        let per_channel = (weight.len() / channels.max(1)).max(1);
        let mut bias = Vec::with_capacity(channels);
        for (channel, weights) in weight.chunks_mut(per_channel).enumerate() {
            let deviation = (f64::from(self.variance[channel]) + self.epsilon).sqrt();
            let gain = f64::from(self.scale[channel]) / deviation;
            let shift = f64::from(self.shift[channel]) - f64::from(self.mean[channel]) * gain;
            for w in weights {
                *w = (f64::from(*w) * gain) as f32;
            }
            bias.push(shift as f32);
        }
        Folded { weight, bias }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_batch_norm_gives_what_the_two_gave() {
        let norm = Norm {
            scale: vec![2.0, -1.0],
            shift: vec![0.5, 0.25],
            mean: vec![3.0, -2.0],
            variance: vec![4.0 - 1e-3, 0.25 - 1e-3],
            epsilon: 1e-3,
        };
        let folded = norm.fold(vec![1.0, 2.0, 3.0, 4.0]);
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(&folded.weight, &[1.0, 2.0, -6.0, -8.0]), "{folded:?}");
        assert!(close(&folded.bias, &[-2.5, -3.75]), "{folded:?}");
    }
}
