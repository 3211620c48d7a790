//! The steps of a training.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use kinglet_compress::splitmix::SplitMix64;

use crate::batch::{Batch, Batches};
use crate::error::DistillError;
use crate::lesson::Scale;
use crate::loss::{HintMap, loss};
use crate::optimizer::{Adam, Step};
use crate::state::State;
use crate::student::{Mode, Output, Role, Student, flat};

/// A checkpoint is written at least this often.
const EVERY: Duration = Duration::from_secs(60);
/// Batches and pictures in each that statistics are taken from.
const STATISTICS: (u64, usize) = (8, 64);

/// Where a training stands.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps that are done.
    pub step: usize,
    /// All steps.
    pub steps: usize,
    /// The loss of the last step.
    pub loss: f32,
    /// The phase on the grids of int8 has begun.
    pub quantized: bool,
}

/// Whether a training goes on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It writes a checkpoint and stops.
    Stop,
}

/// A training.
#[derive(Debug)]
pub struct Training<'a> {
    /// The student.
    pub student: &'a Student,
    /// Its batches.
    pub batches: Batches<'a>,
    /// Checkpoint and fingerprint.
    pub checkpoint: Option<(&'a Path, &'a str)>,
}

impl Training<'_> {
    /// Trains until the last step, or until `after`, called after each step, says stop. The state is
    /// then at that step; a checkpoint of it was written, if there is a place for one.
    ///
    /// # Errors
    /// [`DistillError::Diverged`], [`DistillError::Write`].
    pub fn run(
        &self,
        mut state: State,
        after: &mut dyn FnMut(Progress) -> Flow,
    ) -> Result<State, DistillError> {
        let config = self.batches.config;
        let from = config.quantized_from();
        let mut saved = Instant::now();
        while state.step < config.steps {
            if state.step == from {
                self.begin_quantized(&mut state);
            }
            let loss = self.step(&mut state)?;
            let quantized = state.step > from;
            let progress = Progress { step: state.step, steps: config.steps, loss, quantized };
            let flow = after(progress);
            let last = state.step == config.steps;
            if let Some((path, fingerprint)) = self.checkpoint
                && (flow == Flow::Stop || last || saved.elapsed() >= EVERY)
            {
                state.save(path, fingerprint)?;
                saved = Instant::now();
            }
            if flow == Flow::Stop {
                break;
            }
        }
        Ok(state)
    }

    /// One step of the optimizer; gives the loss.
    fn step(&self, state: &mut State) -> Result<f32, DistillError> {
        let config = self.batches.config;
        let batch = self.batches.of(state.step);
        let leaves: Vec<Tensor<1>> =
            state.parameters.iter().map(|p| p.clone().autodiff().require_grad()).collect();
        let mode = if state.statistics.is_empty() {
            Mode::Batch
        } else {
            Mode::Quantized(&state.statistics, &mut state.ranges)
        };
        let output = self.student.forward(&leaves, batch.pictures.clone(), mode);
        let loss = self.loss(&output, &batch, &leaves);
        let value: f32 = loss.clone().into_scalar();
        if !value.is_finite() {
            return Err(DistillError::Diverged { step: state.step, loss: value });
        }
        let mut grads = loss.backward();
        let grads: Vec<_> = leaves.iter().map(|leaf| leaf.grad_remove(&mut grads)).collect();
        let rate = config.rate_of(state.step);
        let slots = self.student.slots();
        let decays = |at: usize| slots.get(at).is_none_or(|s| s.role == Role::Weight);
        let step = |at: usize| Step { rate, decay: if decays(at) { config.decay } else { 0.0 } };
        let parameters = std::mem::take(&mut state.parameters);
        state.parameters = state.adam.update(parameters, grads, step);
        // A short training's average forgets its beginning faster.
        let updates = state.adam.updates as f32;
        let keep = config.average.min((1.0 + updates) / (10.0 + updates));
        for (average, value) in state.average.iter_mut().zip(&state.parameters) {
            *average = average.clone() * keep + value.clone() * (1.0 - keep);
        }
        state.step += 1;
        Ok(value)
    }

    /// The loss of a batch for parameters with gradients.
    #[must_use]
    pub fn loss(&self, output: &Output, batch: &Batch, leaves: &[Tensor<1>]) -> Tensor<1> {
        let student = self.student.slots().len();
        let hint = match leaves[student..] {
            [ref weight, ref bias] => {
                let sizes = [self.student.network.features, self.batches.lesson.features()];
                Some(HintMap { weight: weight.clone().reshape(sizes), bias: bias.clone() })
            }
            _ => None,
        };
        loss(output, batch, hint, self.batches.config)
    }

    /// From here on batch norms are fixed, and values lie on the grids of int8. The average so far
    /// is what goes on.
    fn begin_quantized(&self, state: &mut State) {
        state.statistics = self.statistics(&state.average);
        let hint = state.parameters.split_off(self.student.slots().len());
        state.parameters = state.average.iter().cloned().chain(hint).collect();
        state.adam = Adam::new(&state.parameters);
    }

    /// Statistics of every batch norm over several batches: what training's own wander about.
    ///
    /// Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.
    #[must_use]
    pub fn statistics(&self, parameters: &[Tensor<1>]) -> Vec<Tensor<2>> {
        let parameters: Vec<_> = parameters.iter().map(|p| p.clone().autodiff()).collect();
        let mut sums: Vec<Tensor<2>> = Vec::new();
        let (batches, pictures) = STATISTICS;
        for number in 0..batches {
            let pictures = self.batches.plain(number, pictures);
            let output = self.student.forward(&parameters, pictures, Mode::Batch);
            let squares = output.statistics.into_iter().map(to_moments);
            sums = if sums.is_empty() {
                squares.collect()
            } else {
                sums.into_iter().zip(squares).map(|(a, b)| a + b).collect()
            };
        }
        sums.into_iter().map(|sum| from_moments(sum / batches as f32)).collect()
    }
}

/// Mean and variance to mean and mean square.
fn to_moments(statistics: Tensor<2>) -> Tensor<2> {
    let [mean, variance] = halves(statistics);
    Tensor::cat(vec![mean.clone(), variance + mean.square()], 0)
}

fn from_moments(moments: Tensor<2>) -> Tensor<2> {
    let [mean, square] = halves(moments);
    let variance = (square - mean.clone().square()).clamp_min(0.0);
    Tensor::cat(vec![mean, variance], 0)
}

fn halves(pair: Tensor<2>) -> [Tensor<2>; 2] {
    let channels = pair.dims()[1];
    [pair.clone().slice([0..1, 0..channels]), pair.slice([1..2, 0..channels])]
}

/// First values of the map from the student's features to those of the teachers, both scaled alike:
/// where both are as many, as if they were the same; else random. `own` is how the student's are now.
#[must_use]
pub fn hint_map(own: &Scale, taught: usize, seed: u64, device: &Device) -> Vec<Tensor<1>> {
    let features = own.mean.len();
    let mut random = SplitMix64::at(seed, &[6]);
    let mut weight = vec![0.0; features * taught];
    if features == taught {
        (0..features).for_each(|i| weight[i * taught + i] = own.factor);
    } else {
        let deviation = f64::from(own.factor) * (1.0 / features as f64).sqrt();
        weight.iter_mut().for_each(|w| *w = random.centred(deviation));
    }
    let mut bias = vec![0.0; taught];
    for (mean, row) in own.mean.iter().zip(weight.chunks_exact(taught)) {
        bias.iter_mut().zip(row).for_each(|(b, w)| *b -= mean * w);
    }
    vec![flat(weight, device), flat(bias, device)]
}
