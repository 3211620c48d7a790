//! Decides how many channels each block loses.

/// Channel counts are multiples of this: what the kernels' vectors hold.
pub(super) const STEP: usize = 8;

/// The order in which a block's channels go, and what that costs.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Path {
    /// Channels, the first to go first; those that always stay are not in it.
    pub(super) order: Vec<usize>,
    /// Importance lost when the first `i` are gone; one element more than `order`.
    pub(super) lost: Vec<f64>,
}

impl Path {
    /// From importances that add up.
    pub(super) fn from_scores(scores: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(a.cmp(&b)));
        order.truncate(scores.len().saturating_sub(STEP));
        let mut lost = vec![0.0];
        for &channel in &order {
            lost.push(lost[lost.len() - 1] + scores[channel]);
        }
        Self { order, lost }
    }

    /// The channels that stay when `gone` are gone, sorted.
    pub(super) fn kept(&self, channels: usize, gone: usize) -> Vec<usize> {
        let mut stays = vec![true; channels];
        self.order[..gone].iter().for_each(|&c| stays[c] = false);
        (0..channels).filter(|&c| stays[c]).collect()
    }
}

/// A block for the decision: its channels, what one of them costs (in any unit), its path.
pub(super) struct Choice<'a> {
    pub(super) channels: usize,
    pub(super) cost: f64,
    pub(super) path: &'a Path,
}

impl Choice<'_> {
    /// The numbers of lost channels that leave a count that the kernels like.
    fn next(&self, gone: usize) -> impl Iterator<Item = usize> {
        let most = self.path.order.len();
        let rest = self.channels % STEP;
        let levels = std::iter::once(rest).chain((1..).map(move |k| rest + k * STEP));
        levels.take_while(move |&g| g <= most).filter(move |&g| g > gone)
    }

    fn most(&self) -> usize {
        self.next(0).last().unwrap_or(0)
    }
}

/// The largest saving that is possible.
pub(super) fn most(choices: &[Choice<'_>]) -> f64 {
    choices.iter().map(|c| c.most() as f64 * c.cost).sum()
}

/// How many channels each block loses so that at least `saving` is saved: again and again the
/// step with the least importance lost for what it saves, where a step may be a long one, since
/// behind a steep part of a path there may be a flat one.
pub(super) fn select(choices: &[Choice<'_>], saving: f64) -> Vec<usize> {
    let mut gone = vec![0; choices.len()];
    let mut saved = 0.0;
    while saved < saving {
        let mut best: Option<(f64, usize, usize)> = None;
        for (at, choice) in choices.iter().enumerate() {
            for next in choice.next(gone[at]) {
                let lost = choice.path.lost[next] - choice.path.lost[gone[at]];
                let rate = lost / ((next - gone[at]) as f64 * choice.cost).max(f64::MIN_POSITIVE);
                if best.is_none_or(|(least, ..)| rate < least) {
                    best = Some((rate, at, next));
                }
            }
        }
        let Some((_, at, next)) = best else { break };
        // Of a long step only as much as is needed.
        let needed = ((saving - saved) / choices[at].cost).ceil().max(1.0);
        let enough = choices[at].next(gone[at]).find(|&g| (g - gone[at]) as f64 >= needed);
        let next = enough.map_or(next, |g| g.min(next));
        saved += (next - gone[at]) as f64 * choices[at].cost;
        gone[at] = next;
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_starts_with_the_least_important_and_leaves_eight() {
        let scores: Vec<f64> = (0..20).map(|i| f64::from((i * 7) % 20)).collect();
        let path = Path::from_scores(&scores);
        assert_eq!(path.order.len(), 12);
        assert_eq!(path.lost.len(), 13);
        assert_eq!(path.lost[3], 0.0 + 1.0 + 2.0);
        let kept = path.kept(20, 4);
        assert_eq!(kept.len(), 16);
        assert!(kept.iter().all(|&c| scores[c] >= 4.0) && kept.is_sorted());
    }

    #[test]
    fn the_block_that_saves_most_for_its_importance_goes_first() {
        let cheap = Path::from_scores(&[1.0; 32]);
        let dear = Path::from_scores(&[2.0; 32]);
        let choice = |path, cost| Choice { channels: 32, cost, path };
        // The dear one's channels save three times as much.
        let choices = [choice(&cheap, 1.0), choice(&dear, 3.0)];
        assert_eq!(select(&choices, 24.0), [0, 8]);
        assert_eq!(select(&choices, 25.0), [0, 16]);
        assert_eq!(most(&choices), 24.0 + 72.0);
        assert_eq!(select(&choices, 80.0), [8, 24]);
        assert_eq!(select(&choices, 1e9), [24, 24]);
    }

    #[test]
    fn odd_counts_become_multiples_of_eight() {
        let path = Path::from_scores(&[1.0; 30]);
        let choices = [Choice { channels: 30, cost: 1.0, path: &path }];
        assert_eq!(select(&choices, 1.0), [6]);
        assert_eq!(select(&choices, 7.0), [14]);
    }
}
