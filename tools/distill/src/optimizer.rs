//! AdamW. Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.

use burn::tensor::Tensor;

/// Share of the old in the mean of the gradients, and of their squares.
const BETA: [f32; 2] = [0.9, 0.999];
/// Added to the root of the mean square.
const EPSILON: f32 = 1e-8;

/// How far one parameter moves.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Learning rate.
    pub rate: f32,
    /// Decay, times the learning rate.
    pub decay: f32,
}

/// The optimizer's memory.
#[derive(Debug, Clone)]
pub struct Adam {
    /// Means of the gradients.
    pub mean: Vec<Tensor<1>>,
    /// Means of their squares.
    pub square: Vec<Tensor<1>>,
    /// Updates so far.
    pub updates: u32,
}

impl Adam {
    /// Before the first update of these parameters.
    #[must_use]
    pub fn new(parameters: &[Tensor<1>]) -> Self {
        let zeros: Vec<Tensor<1>> = parameters.iter().map(Tensor::zeros_like).collect();
        Self { mean: zeros.clone(), square: zeros, updates: 0 }
    }

    /// The parameters, moved; one without a gradient stays.
    #[must_use]
    pub fn update(
        &mut self,
        parameters: Vec<Tensor<1>>,
        grads: Vec<Option<Tensor<1>>>,
        step: impl Fn(usize) -> Step,
    ) -> Vec<Tensor<1>> {
        self.updates += 1;
        let correction = BETA.map(|b| 1.0 - f64::from(b).powi(self.updates as i32));
        let moved = parameters.into_iter().zip(grads).enumerate().map(|(at, (value, grad))| {
            let Some(grad) = grad else { return value };
            let Step { rate, decay } = step(at);
            let [mean, square] = [&mut self.mean[at], &mut self.square[at]];
            *mean = mean.clone() * BETA[0] + grad.clone() * (1.0 - BETA[0]);
            *square = square.clone() * BETA[1] + grad.square() * (1.0 - BETA[1]);
            let root = (square.clone() / correction[1]).sqrt() + EPSILON;
            let change = mean.clone() / correction[0] / root;
            let value = if decay == 0.0 { value } else { value * (1.0 - rate * decay) };
            value - change * rate
        });
        moved.collect()
    }
}
