//! First weights of a student: random, or those of a larger network, sliced.
//!
//! Slicing keeps the channels with the largest norms of their weights: the same channels wherever
//! blocks are joined by residuals. A network in a file has its batch norms folded; the student gets
//! new ones whose scale and shift are the deviation and the mean that each channel had in the larger
//! network on the training's own pictures, so that a kept channel starts with the range it had.
//!
//! Source of the norm as a measure: Li et al., "Pruning Filters for Efficient ConvNets", 2017.

use burn::tensor::{Device, Tensor};
use kinglet_compress::arch::{Conv, Padding, Part, Place};
use kinglet_compress::splitmix::SplitMix64;
use kinglet_engine::{OnnxFile, tensor};

use crate::error::DistillError;
use crate::layout;
use crate::ops::EPSILON;
use crate::spec::Spec;
use crate::student::{Mode, Role, Student, flat, values};

/// A channel of the student: which one it was, or none.
type Chosen = Vec<Option<usize>>;

/// A network to take weights from.
#[derive(Debug)]
pub struct Donor {
    /// Its graph.
    pub student: Student,
    /// Class names, if the file has them.
    pub labels: Option<Vec<String>>,
    /// Weights in training's order, then shift, of each convolution.
    folded: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Donor {
    /// Takes the weights out of a model that Kinglet imported or trained.
    ///
    /// # Errors
    /// [`DistillError::Donor`] for a model of another kind.
    pub fn new(file: &OnnxFile) -> Result<Self, DistillError> {
        let graph = file.graph();
        let bad = |why: String| DistillError::Donor { why };
        let spec: Spec = graph.name.parse().map_err(|_| {
            bad(format!("its graph '{}' is none that Kinglet imported or trained", graph.name))
        })?;
        let find = |name: &str| graph.initializer.iter().find(|t| t.name == name);
        let floats = |name: &str, size: usize| -> Result<Vec<f32>, DistillError> {
            let tensor = find(name).ok_or_else(|| bad(format!("there is no tensor '{name}'")))?;
            let values = tensor::to_f32(tensor)?;
            if values.len() != size {
                return Err(bad(format!("'{name}' has {} values, not {size}", values.len())));
            }
            Ok(values)
        };
        let classifier =
            find("classifier.weight").ok_or_else(|| bad("it has no classifier".into()))?;
        let classes = classifier.dims.first().map_or(0, |&d| usize::try_from(d).unwrap_or(0));
        let student = Student::new(spec.network(classes), Padding::Same);
        let mut folded = Vec::new();
        for conv in &student.convs {
            let name = conv.node_name();
            let weight = floats(&format!("{name}.weight"), conv.weights())?;
            let bias = floats(&format!("{name}.bias"), conv.output)?;
            folded.push((layout::to_training(conv, &weight), bias));
        }
        Ok(Self { student, labels: file.metadata()?.labels, folded })
    }

    /// Mean and variance of what each convolution gives for pictures [batch, side, side, 3].
    fn statistics(&self, pictures: Tensor<4>) -> Vec<Vec<f32>> {
        let device = pictures.device();
        let mut parameters = Vec::new();
        for (conv, (weight, shift)) in self.student.convs.iter().zip(&self.folded) {
            parameters.push(flat(weight.clone(), &device));
            if conv.norm {
                parameters.push(flat(vec![1.0; conv.output], &device));
            }
            parameters.push(flat(shift.clone(), &device));
        }
        let output = self.student.forward(&parameters, pictures, Mode::Folded);
        output.statistics.into_iter().map(values).collect()
    }
}

/// The parameters of a student, in the order of its slots. `pictures` ([batch, side, side, 3]) are
/// some of the training's; `same_classes`: the donor's outputs are the student's.
#[must_use]
pub fn parameters(
    student: &Student,
    donor: Option<&Donor>,
    same_classes: bool,
    pictures: Tensor<4>,
    seed: u64,
    device: &Device,
) -> Vec<Tensor<1>> {
    let mut random = SplitMix64::at(seed, &[1]);
    let plan = donor.map(|d| (d, Selection::new(d, student), d.statistics(pictures)));
    let mut all = Vec::new();
    for conv in &student.convs {
        let mut weight = he(conv, &mut random);
        let mut scale = vec![1.0; conv.output];
        let mut shift = vec![0.0; conv.output];
        let taken = plan.as_ref().and_then(|(donor, selection, statistics)| {
            let at = selection.donor_of(conv)?;
            (conv.norm || same_classes).then_some((*donor, selection, statistics, at))
        });
        if let Some((donor, selection, statistics, at)) = taken {
            let from = &donor.student.convs[at];
            let (inputs, outputs) = selection.channels(conv);
            slice(&mut weight, conv, &donor.folded[at].0, from, &inputs, &outputs);
            for (channel, from_channel) in outputs.iter().enumerate() {
                let Some(c) = *from_channel else { continue };
                if conv.norm {
                    let (mean, variance) = statistics[at].split_at(from.output);
                    scale[channel] = (variance[c] + EPSILON).sqrt();
                    shift[channel] = mean[c];
                } else {
                    shift[channel] = donor.folded[at].1[c];
                }
            }
        }
        all.push(flat(weight, device));
        if conv.norm {
            all.push(flat(scale, device));
        }
        all.push(flat(shift, device));
    }
    debug_assert_eq!(all.len(), student.slots().len());
    debug_assert!(student.slots().iter().any(|s| s.role == Role::Scale));
    all
}

/// Random weights after He et al., 2015; the classifier's are small.
fn he(conv: &Conv, random: &mut SplitMix64) -> Vec<f32> {
    let fan_in = (conv.weights() / conv.output) as f64;
    let gain = if conv.place == Place::Classifier { 0.01 } else { 2.0 };
    let deviation = (gain / fan_in).sqrt();
    (0..conv.weights()).map(|_| random.centred(deviation)).collect()
}

/// Copies what was chosen; both in training's order.
fn slice(
    to: &mut [f32],
    conv: &Conv,
    from: &[f32],
    donor: &Conv,
    inputs: &Chosen,
    outputs: &Chosen,
) {
    let taps = conv.weights() / conv.output / conv.input;
    for tap in 0..taps {
        for (i, from_i) in inputs.iter().enumerate() {
            for (o, from_o) in outputs.iter().enumerate() {
                if let (Some(from_i), Some(from_o)) = (from_i, from_o) {
                    to[(tap * conv.input + i) * conv.output + o] =
                        from[(tap * donor.input + from_i) * donor.output + from_o];
                }
            }
        }
    }
}

/// Which channels of the donor the student keeps.
struct Selection<'a> {
    donor: &'a Student,
    student: &'a Student,
    stem: Chosen,
    /// Of each stage's outputs.
    stages: Vec<Chosen>,
    /// Of each of the student's blocks, between expansion and projection.
    expanded: Vec<Chosen>,
    features: Chosen,
}

impl<'a> Selection<'a> {
    fn new(donor: &'a Donor, student: &'a Student) -> Self {
        let graph = &donor.student;
        let at = |place: Place| graph.convs.iter().position(|c| c.place == place);
        let norms = |place: Place| at(place).map(|at| norms(&graph.convs[at], &donor.folded[at].0));
        let stem = largest(&norms(Place::Stem).unwrap_or_default(), student.network.stem);
        let features = largest(&norms(Place::Head).unwrap_or_default(), student.network.features);
        let stages = student.network.blocks.last().map_or(0, |b| b.stage + 1);
        let stages = (0..stages).map(|stage| {
            let mut sums = Vec::new();
            let blocks = graph.network.blocks.iter().enumerate().filter(|(_, b)| b.stage == stage);
            for (index, block) in blocks {
                sums.resize(block.output, 0.0);
                let own = norms(Place::Block(index, Part::Project)).unwrap_or_default();
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own * own);
            }
            let of_student = student.network.blocks.iter().find(|b| b.stage == stage);
            largest(&sums, of_student.map_or(0, |b| b.output))
        });
        let mut selection = Self {
            donor: graph,
            student,
            stem,
            stages: stages.collect(),
            expanded: Vec::new(),
            features,
        };
        for (index, block) in student.network.blocks.iter().enumerate() {
            let own = selection.donor_block(index);
            let chosen = match own {
                _ if !block.expands() => selection.input_of(index),
                None => vec![None; block.expanded],
                Some(own) => {
                    let mut product = vec![1.0; graph.network.blocks[own].expanded];
                    for part in [Part::Expand, Part::Depthwise] {
                        let factors = norms(Place::Block(own, part)).unwrap_or_default();
                        product.iter_mut().zip(factors).for_each(|(p, f)| *p *= f);
                    }
                    largest(&product, block.expanded)
                }
            };
            selection.expanded.push(chosen);
        }
        selection
    }

    /// The donor's block in the same place of the same stage.
    fn donor_block(&self, index: usize) -> Option<usize> {
        let block = &self.student.network.blocks[index];
        let same = |b: &kinglet_compress::arch::Block| {
            (b.stage, b.within, b.kernel, b.expands())
                == (block.stage, block.within, block.kernel, block.expands())
        };
        self.donor.network.blocks.iter().position(same)
    }

    /// The donor's convolution for one of the student's.
    fn donor_of(&self, conv: &Conv) -> Option<usize> {
        let place = match conv.place {
            Place::Block(index, part) => Place::Block(self.donor_block(index)?, part),
            other => other,
        };
        self.donor.convs.iter().position(|c| c.place == place)
    }

    fn input_of(&self, block: usize) -> Chosen {
        match block.checked_sub(1) {
            None => self.stem.clone(),
            Some(before) => self.stages[self.student.network.blocks[before].stage].clone(),
        }
    }

    /// Input (of a group) and output channels of a convolution.
    fn channels(&self, conv: &Conv) -> (Chosen, Chosen) {
        let all = |n: usize| (0..n).map(Some).collect::<Chosen>();
        let blocks = &self.student.network.blocks;
        match conv.place {
            Place::Stem => (all(3), self.stem.clone()),
            Place::Head => (self.input_of(blocks.len()), self.features.clone()),
            Place::Classifier => (self.features.clone(), all(conv.output)),
            Place::Block(index, Part::Depthwise) => (all(1), self.expanded[index].clone()),
            Place::Block(index, Part::Project) => {
                (self.expanded[index].clone(), self.stages[blocks[index].stage].clone())
            }
            Place::Block(index, _) => (self.input_of(index), self.expanded[index].clone()),
        }
    }
}

/// L2 norm of each output channel's weights.
fn norms(conv: &Conv, weights: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0; conv.output];
    for row in weights.chunks(conv.output) {
        sums.iter_mut().zip(row).for_each(|(s, w)| *s += f64::from(*w).powi(2));
    }
    sums.into_iter().map(f64::sqrt).collect()
}

/// The `count` largest, in their order; where there are fewer, nothing for the rest.
fn largest(norms: &[f64], count: usize) -> Chosen {
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.sort_unstable();
    let mut chosen: Chosen = order.into_iter().map(Some).collect();
    chosen.resize(count, None);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_chosen_in_order() {
        assert_eq!(largest(&[1.0, 5.0, 2.0, 5.0], 3), [Some(1), Some(2), Some(3)]);
        assert_eq!(largest(&[1.0], 2), [Some(0), None]);
    }
}
