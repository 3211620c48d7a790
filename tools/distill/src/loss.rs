//! What a student is trained to make small.
//!
//! Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (soft
//! labels); Romero et al., "FitNets", 2015 (hints).

use burn::tensor::{Tensor, activation::log_softmax};

use crate::batch::Batch;
use crate::config::Config;
use crate::student::Output;

/// The learned linear map from the student's features to the teachers'.
#[derive(Debug, Clone)]
pub struct HintMap {
    /// [features, teachers' features].
    pub weight: Tensor<2>,
    /// [teachers' features].
    pub bias: Tensor<1>,
}

/// The loss of a batch: cross entropy with the labels, KL divergence from the teachers at the
/// temperature times its square, and squared distance to the teachers' features.
#[must_use]
pub fn loss(output: &Output, batch: &Batch, hint: Option<HintMap>, config: &Config) -> Tensor<1> {
    let rows = output.logits.dims()[0] as f32;
    // Where no teacher knows the classes, their labels count at their full weight.
    let hard = if batch.soft.is_some() { config.hard } else { 1.0 };
    let spoken = log_softmax(output.logits.clone(), 1);
    let right = (spoken * batch.hard.clone()).sum().neg();
    let mut total = right * (hard / batch.labelled.max(1.0));
    if let Some(taught) = &batch.soft {
        let temperature = config.temperature;
        let spoken = log_softmax(output.logits.clone() / temperature, 1);
        let known = (taught.clone() * taught.clone().clamp_min(1e-12).log()).sum();
        let divergence = known - (spoken * taught.clone()).sum();
        total = total + divergence * (config.soft * temperature * temperature / rows);
    }
    if let (Some(HintMap { weight, bias }), Some(hints)) = (hint, &batch.hints) {
        let mapped = output.features.clone().matmul(weight) + bias.unsqueeze::<2>();
        total = total + (mapped - hints.clone()).square().mean() * config.hint;
    }
    total
}
