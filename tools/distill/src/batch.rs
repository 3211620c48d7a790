//! The batch of a step: which views, mixed how, with their targets. All of it follows from the seed
//! and the step's number, so that a training can be continued at any step.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use kinglet_compress::splitmix::SplitMix64;

use crate::config::Config;
use crate::data::{Data, normal};
use crate::lesson::Lesson;

/// Pictures with what the student shall say of them.
#[derive(Debug)]
pub struct Batch {
    /// [batch, side, side, 3].
    pub pictures: Tensor<4>,
    /// [batch, classes]: the labels; rows of unlabelled pictures are zero.
    pub hard: Tensor<2>,
    /// Sum of `hard`: how many labelled pictures the batch has.
    pub labelled: f32,
    /// [batch, classes]: the teachers' probabilities, where any knows the classes.
    pub soft: Option<Tensor<2>>,
    /// [batch, features]: the teachers' features, where they have any.
    pub hints: Option<Tensor<2>>,
}

/// Makes batches.
#[derive(Debug)]
pub struct Batches<'a> {
    /// The pictures.
    pub data: &'a Data,
    /// The teachers' answers.
    pub lesson: &'a Lesson,
    /// The settings.
    pub config: &'a Config,
    /// Where the tensors are.
    pub device: &'a Device,
}

impl Batches<'_> {
    /// The batch of a step.
    #[must_use]
    pub fn of(&self, step: usize) -> Batch {
        let Config { batch, mixup, seed, .. } = *self.config;
        let (classes, features) = (self.lesson.classes, self.lesson.features());
        let spoken = !self.lesson.soft.is_empty();
        let mut random = SplitMix64::at(seed, &[4, step as u64]);
        let chosen = self.chosen(step, &mut random);
        let mut pictures = Vec::new();
        let (mut hard, mut soft, mut hints) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..batch {
            // One of each pair of neighbours is mixed with the other.
            let share = if mixup > 0.0 { beta(mixup, &mut random) } else { 1.0 };
            let pair = [(chosen[at], share), (chosen[at ^ 1], 1.0 - share)];
            mix(&mut pictures, pair.map(|((p, v), s)| (self.data.pixels(p, v), s)), normal);
            let labels = pair.map(|((p, _), _)| {
                let mut row = vec![0.0; classes];
                if let Some(class) = self.data.pictures[p].class {
                    row[class] = 1.0;
                }
                row
            });
            mix(&mut hard, [(&labels[0], pair[0].1), (&labels[1], pair[1].1)], |v| v);
            let of = |all: &'_ [Vec<f32>], (p, v): (usize, usize), size: usize| {
                all[p][v * size..][..size].to_vec()
            };
            if spoken {
                let rows = pair.map(|(c, _)| of(&self.lesson.soft, c, classes));
                mix(&mut soft, [(&rows[0], pair[0].1), (&rows[1], pair[1].1)], |v| v);
            }
            if features > 0 {
                let rows = pair.map(|(c, _)| of(&self.lesson.hints, c, features));
                mix(&mut hints, [(&rows[0], pair[0].1), (&rows[1], pair[1].1)], |v| v);
            }
        }
        let labelled = hard.iter().sum();
        let matrix = |values, columns: usize| {
            Tensor::from_data(TensorData::new(values, [batch, columns]), self.device)
        };
        Batch {
            pictures: self.tensor(pictures, batch),
            hard: matrix(hard, classes),
            labelled,
            soft: spoken.then(|| matrix(soft, classes)),
            hints: (features > 0).then(|| matrix(hints, features)),
        }
    }

    /// Unmixed views of some pictures, of labelled and other ones as batches have them, for
    /// statistics; other ones for each `number`.
    #[must_use]
    pub fn plain(&self, number: u64, count: usize) -> Tensor<4> {
        let mut random = SplitMix64::at(self.config.seed, &[5, number]);
        let [labelled, others] = self.kinds();
        let of_others = self.others(count);
        let mut pictures = Vec::new();
        for at in 0..count {
            let kind = if at < of_others { &others } else { &labelled };
            let picture = kind.start + random.below(kind.len());
            let view = random.below(self.data.views);
            pictures.extend(self.data.pixels(picture, view).iter().map(|&v| normal(v)));
        }
        self.tensor(pictures, count)
    }

    /// The labelled pictures and the others, as they stand in the data.
    fn kinds(&self) -> [Range<usize>; 2] {
        let labelled = self.data.labelled();
        [0..labelled, labelled..self.data.pictures.len()]
    }

    /// How many of so many places unlabelled pictures have.
    fn others(&self, places: usize) -> usize {
        let [labelled, others] = self.kinds();
        match (labelled.len(), others.len()) {
            (_, 0) => 0,
            (0, _) => places,
            _ => (places as f32 * self.config.unlabelled).round() as usize,
        }
    }

    fn tensor(&self, values: Vec<f32>, batch: usize) -> Tensor<4> {
        let side = self.data.side;
        Tensor::from_data(TensorData::new(values, [batch, side, side, 3]), self.device)
    }

    /// Picture and view of each place in the batch, labelled and others in a random order. Of each
    /// kind every picture comes once before one comes again.
    fn chosen(&self, step: usize, random: &mut SplitMix64) -> Vec<(usize, usize)> {
        // One place more than the batch where that is odd: every place has a neighbour.
        let places = self.config.batch + self.config.batch % 2;
        let ([labelled, unlabelled], others) = (self.kinds(), self.others(places));
        let mut chosen = self.next(labelled, step, places - others, random);
        chosen.extend(self.next(unlabelled, step, others, random));
        random.shuffle(&mut chosen);
        chosen
    }

    /// The pictures of a kind that a step takes: `count` each step, round after round.
    fn next(
        &self,
        kind: Range<usize>,
        step: usize,
        count: usize,
        random: &mut SplitMix64,
    ) -> Vec<(usize, usize)> {
        let mut round = usize::MAX;
        let mut order = Vec::new();
        let pick = |place: usize| {
            if place / kind.len() != round {
                round = place / kind.len();
                order = kind.clone().collect();
                let place = [3, kind.start as u64, round as u64];
                SplitMix64::at(self.config.seed, &place).shuffle(&mut order);
            }
            (order[place % kind.len()], random.below(self.data.views))
        };
        (step * count..(step + 1) * count).map(pick).collect()
    }
}

/// Appends a weighted sum of two rows.
fn mix<T: Copy, R: AsRef<[T]>>(to: &mut Vec<f32>, rows: [(R, f64); 2], value: impl Fn(T) -> f32) {
    let [(a, share), (b, rest)] = rows;
    let (share, rest) = (share as f32, rest as f32);
    if rest == 0.0 {
        to.extend(a.as_ref().iter().map(|&v| value(v)));
    } else {
        let both = a.as_ref().iter().zip(b.as_ref());
        to.extend(both.map(|(&a, &b)| share * value(a) + rest * value(b)));
    }
}

/// A sample of the beta distribution of (alpha, alpha), the larger of it and what is left of one.
///
/// Source: Johnk, "Erzeugung von betaverteilten und gammaverteilten Zufallszahlen", 1964.
fn beta(alpha: f64, random: &mut SplitMix64) -> f64 {
    // Nearly all pairs are taken at once for small alpha; a bound keeps bad luck finite.
    for _ in 0..1000 {
        let x = random.unit().powf(1.0 / alpha);
        let y = random.unit().powf(1.0 / alpha);
        if x + y > 0.0 && x + y <= 1.0 {
            let share = x / (x + y);
            return share.max(1.0 - share);
        }
    }
    0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_mixture_lie_between_a_half_and_one() {
        let mut random = SplitMix64::new(1);
        let shares: Vec<f64> = (0..1000).map(|_| beta(0.2, &mut random)).collect();
        assert!(shares.iter().all(|s| (0.5..=1.0).contains(s)));
        let mean = shares.iter().sum::<f64>() / 1000.0;
        assert!((0.85..0.95).contains(&mean), "{mean}");
    }
}
