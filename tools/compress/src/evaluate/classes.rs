//! An evaluation class by class.

use std::collections::BTreeMap;

use super::Evaluation;
use crate::dataset::Sample;

/// What was counted of one class that occurs as truth or answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// Its index.
    pub class: usize,
    /// Pictures of it.
    pub n: usize,
    /// Those of them that were recognised.
    pub right: usize,
    /// Pictures that were taken for it, rightly or not.
    pub answered: usize,
    /// What its pictures are mostly taken for instead, and how often.
    pub mostly: Option<(usize, usize)>,
}

impl ClassCount {
    /// Share of those taken for it that are of it, 0..=1.
    #[must_use]
    pub fn precision(&self) -> f64 {
        self.right as f64 / self.answered.max(1) as f64
    }
}

/// Number of pictures by (class, answer).
pub type Pairs = BTreeMap<(usize, usize), usize>;

/// How often each class was taken for each.
#[must_use]
pub fn confusions(samples: &[Sample], evaluation: &Evaluation) -> Pairs {
    let mut pairs = BTreeMap::new();
    for p in &evaluation.predictions {
        // By rank, not by index: of equal outputs the right one may be listed second.
        let truth = samples[p.sample].class;
        let answer = if p.is_right() { truth } else { p.best().index };
        *pairs.entry((truth, answer)).or_insert(0) += 1;
    }
    pairs
}

/// Counts of all classes that occur, by index.
#[must_use]
pub fn count(samples: &[Sample], evaluation: &Evaluation) -> Vec<ClassCount> {
    let mut counts: BTreeMap<usize, ClassCount> = BTreeMap::new();
    for ((truth, answer), n) in confusions(samples, evaluation) {
        let own = counts.entry(truth).or_default();
        own.n += n;
        if truth == answer {
            own.right += n;
        } else if own.mostly.is_none_or(|(_, most)| n > most) {
            own.mostly = Some((answer, n));
        }
        counts.entry(answer).or_default().answered += n;
    }
    counts.into_iter().map(|(class, count)| ClassCount { class, ..count }).collect()
}
