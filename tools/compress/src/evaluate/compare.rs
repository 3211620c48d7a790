//! Two models on the same pictures.

use super::{Evaluation, Prediction};
use crate::statistics::mcnemar;

/// A comparison of two models, picture by picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Pictures that both classified.
    pub n: usize,
    /// Pictures for which both had the same best class.
    pub same: usize,
    /// Pictures for which only the first was right.
    pub first_alone: usize,
    /// Pictures for which only the second was right.
    pub second_alone: usize,
    /// Two-sided p-value of McNemar's exact test.
    pub p: f64,
    /// Positions of the pictures for which the best classes differ, in the predictions of each.
    pub differ: Vec<(usize, usize)>,
}

impl Comparison {
    /// Compares two evaluations of the same samples.
    #[must_use]
    pub fn new(first: &Evaluation, second: &Evaluation) -> Self {
        let mut result =
            Self { n: 0, same: 0, first_alone: 0, second_alone: 0, p: 1.0, differ: Vec::new() };
        let by_sample = |wanted: &Prediction| {
            second.predictions.binary_search_by_key(&wanted.sample, |p| p.sample).ok()
        };
        for (at, one) in first.predictions.iter().enumerate() {
            let Some(other_at) = by_sample(one) else { continue };
            let other = &second.predictions[other_at];
            result.n += 1;
            if one.best().index == other.best().index {
                result.same += 1;
            } else {
                result.differ.push((at, other_at));
            }
            result.first_alone += usize::from(one.is_right() && !other.is_right());
            result.second_alone += usize::from(!one.is_right() && other.is_right());
        }
        result.p = mcnemar(result.first_alone, result.second_alone);
        result
    }

    /// Share of the pictures for which both had the same best class, 0..=1.
    #[must_use]
    pub fn agreement(&self) -> f64 {
        self.same as f64 / self.n.max(1) as f64
    }

    /// What the test says, in words.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.p < 0.05, self.first_alone > self.second_alone) {
            (true, true) => "the first is more accurate",
            (true, false) => "the second is more accurate",
            (false, _) => "these pictures show no difference in accuracy",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kinglet_engine::scores::Ranked;

    use super::*;

    fn evaluation(of: &[(usize, usize, usize)]) -> Evaluation {
        let prediction = |&(sample, index, rank): &(usize, usize, usize)| Prediction {
            sample,
            rank,
            top: vec![Ranked { index, score: 0.5 }],
            latency: Duration::ZERO,
        };
        let predictions = of.iter().map(prediction).collect::<Vec<_>>();
        let (n, elapsed) = (of.len(), Duration::ZERO);
        Evaluation { right1: 0, right5: 0, n, predictions, skipped: vec![], elapsed }
    }

    #[test]
    fn only_pictures_that_both_saw_are_compared() {
        let first = evaluation(&[(0, 1, 0), (1, 2, 0), (3, 3, 1), (4, 4, 2)]);
        let second = evaluation(&[(0, 1, 0), (2, 2, 0), (3, 5, 0), (4, 6, 1)]);
        let comparison = Comparison::new(&first, &second);
        assert_eq!((comparison.n, comparison.same), (3, 1));
        assert_eq!((comparison.first_alone, comparison.second_alone), (0, 1));
        assert_eq!(comparison.differ, [(2, 2), (3, 3)]);
        assert_eq!(comparison.p, 1.0);
    }
}
