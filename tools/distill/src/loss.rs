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
pub fn loss(
    output: &Output,
    batch: &Batch,
    hint: Option<HintMap>,
    taught: bool,
    config: &Config,
) -> Tensor<1> {
    let rows = batch.soft.dims()[0] as f32;
    let mut total = None;
    let mut add = |term: Tensor<1>, weight: f32| {
        let term = term * weight;
        total = Some(match total.take() {
            None => term,
            Some(sum) => sum + term,
        });
    };
    // Without a teacher the labels alone count, at their full weight.
    let hard = if taught { config.hard } else { 1.0 };
    let spoken = log_softmax(output.logits.clone(), 1);
    let right = (spoken * batch.hard.clone()).sum().neg();
    add(right, hard / batch.labelled.max(1.0));
    if taught {
        let temperature = config.temperature;
        let spoken = log_softmax(output.logits.clone() / temperature, 1);
        let taught = batch.soft.clone();
        let known = (taught.clone() * taught.clone().clamp_min(1e-12).log()).sum();
        let divergence = known - (spoken * taught).sum();
        add(divergence, config.soft * temperature * temperature / rows);
    }
    if let (Some(HintMap { weight, bias }), Some(hints)) = (hint, &batch.hints) {
        let mapped = output.features.clone().matmul(weight) + bias.unsqueeze::<2>();
        add((mapped - hints.clone()).square().mean(), config.hint);
    }
    total.expect("the labels' loss is always there")
}
