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
    /// Scores from raw outputs, see [`softmax`].
    #[must_use]
    pub fn from_logits(logits: &[f32]) -> Self {
        let mut probabilities = logits.to_vec();
        softmax(&mut probabilities);
        Self { probabilities }
    }

    /// The `n` best classes, best first; of equals the lower index first.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<Ranked> {
        let mut ranked = Vec::new();
        top_into(&self.probabilities, n, &mut ranked);
        ranked
    }
}

/// Raw outputs become probabilities, in a form that cannot overflow.
pub fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|v| *v = (*v - largest).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|p| *p /= sum);
}

/// The logarithm of the sum of the exponentials of raw outputs: high where a picture is like those
/// that the model has learnt, low where it is not.
///
/// Source: the negative free energy at temperature 1 of Liu et al., "Energy-based
/// Out-of-distribution Detection", 2020, equation 4.
#[must_use]
pub fn energy(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    largest + logits.iter().map(|v| (v - largest).exp()).sum::<f32>().ln()
}

/// The `n` largest of `scores`, largest first; of equals the lower index first. `ranked` is used
/// again.
pub fn top_into(scores: &[f32], n: usize, ranked: &mut Vec<Ranked>) {
    ranked.clear();
    for (index, &score) in scores.iter().enumerate() {
        if ranked.len() == n && ranked.last().is_none_or(|worst| score <= worst.score) {
            continue;
        }
        let place = ranked.partition_point(|r| r.score >= score);
        ranked.truncate(n - 1);
        ranked.insert(place, Ranked { index, score });
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
    fn energy_is_the_logarithm_of_the_sum() {
        assert!((energy(&[1.0, 2.0, 3.0]) - 3.407_606).abs() < 1e-5);
        assert_eq!(energy(&[1e30, 0.0]), 1e30);
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
