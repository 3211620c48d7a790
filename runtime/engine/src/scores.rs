//! A model's output as scores of classes.

/// Scores of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Probability of each class, 0..=1.
    pub probabilities: Vec<f32>,
}

/// One class and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Class index.
    pub index: usize,
    /// Probability, 0..=1.
    pub score: f32,
}

impl Scores {
    /// Scores from raw outputs: softmax, in a form that cannot overflow.
    #[must_use]
    pub fn from_logits(logits: &[f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut probabilities: Vec<f32> = logits.iter().map(|v| (v - largest).exp()).collect();
        let sum: f32 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|p| *p /= sum);
        Self { probabilities }
    }

    /// The `n` best classes, best first; of equals the lower index first.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<Ranked> {
        let mut ranked: Vec<Ranked> = self
            .probabilities
            .iter()
            .enumerate()
            .map(|(index, &score)| Ranked { index, score })
            .collect();
        let order = |a: &Ranked, b: &Ranked| {
            b.score.total_cmp(&a.score).then_with(|| a.index.cmp(&b.index))
        };
        let n = n.min(ranked.len());
        if n == 0 {
            return Vec::new();
        }
        ranked.select_nth_unstable_by(n - 1, order);
        ranked.truncate(n);
        ranked.sort_by(order);
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_huge_outputs_is_finite_and_sums_to_one() {
        let scores = Scores::from_logits(&[1e30, 1e30, -1e30]);
        assert_eq!(scores.probabilities, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn equals_are_ranked_by_index() {
        let scores = Scores { probabilities: vec![0.1, 0.4, 0.1, 0.4] };
        let order: Vec<usize> = scores.top(9).iter().map(|r| r.index).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert_eq!(scores.top(1)[0].index, 1);
        assert!(scores.top(0).is_empty());
    }
}
