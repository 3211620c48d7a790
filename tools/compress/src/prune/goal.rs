//! From a budget to the channels that stay.

use kinglet_engine::OnnxFile;
use kinglet_engine::onnx::ModelProto;

use super::block::Block;
use super::select::{self, Choice, Path};
use super::{Budget, PruneError, cut, latency};
use crate::inspect;

/// Attempts at a latency.
const ATTEMPTS: usize = 5;

/// What has to be saved, and what a channel of each block saves.
pub(super) struct Goal {
    budget: Budget,
    /// Of the whole model: multiply-accumulates or milliseconds.
    all: f64,
    costs: Vec<f64>,
}

/// The cut model, the channels that stay in each block, and milliseconds before and after where a
/// latency was asked for.
pub(super) type Reached = (ModelProto, Vec<Vec<usize>>, Option<[f64; 2]>);

impl Goal {
    pub(super) fn new(
        model: &ModelProto,
        plain: &OnnxFile,
        blocks: &[Block],
        budget: Budget,
    ) -> Result<Self, PruneError> {
        let (all, costs) = match budget {
            Budget::Macs(_) => {
                let all = inspect::inspect(plain)?.macs as f64;
                (all, blocks.iter().map(|b| b.macs as f64).collect())
            }
            Budget::Latency(_) => {
                let measured = latency::measure(model, blocks)?;
                let each = measured.blocks.iter().zip(blocks);
                (measured.total, each.map(|(ms, b)| ms / b.channels as f64).collect())
            }
        };
        let goal = Self { budget, all, costs };
        let none: Vec<Path> =
            blocks.iter().map(|b| Path::from_scores(&vec![0.0; b.channels])).collect();
        let least = goal.all - select::most(&goal.choices(blocks, &none));
        if goal.saving() <= 0.0 {
            return Err(PruneError::Nothing { found: goal.words(goal.all) });
        }
        if goal.all - goal.saving() < least {
            let asked = goal.words(goal.all - goal.saving());
            return Err(PruneError::Unreachable { asked, least: goal.words(least) });
        }
        Ok(goal)
    }

    fn saving(&self) -> f64 {
        match self.budget {
            Budget::Macs(share) => self.all * (1.0 - share),
            Budget::Latency(ms) => self.all - ms,
        }
    }

    fn words(&self, amount: f64) -> String {
        match self.budget {
            Budget::Macs(_) => {
                format!("{:.3} of {:.1} M MACs", amount / self.all, self.all / 1e6)
            }
            Budget::Latency(_) => format!("{amount:.2} ms"),
        }
    }

    fn choices<'a>(&self, blocks: &[Block], paths: &'a [Path]) -> Vec<Choice<'a>> {
        let choice = |((b, p), &cost): ((&Block, &'a Path), &f64)| Choice {
            channels: b.channels,
            cost,
            path: p,
        };
        blocks.iter().zip(paths).zip(&self.costs).map(choice).collect()
    }

    /// Chooses and cuts. Where a latency is asked for, the result is measured, and more is cut
    /// until it keeps to it.
    pub(super) fn reach(
        &self,
        model: &ModelProto,
        blocks: &[Block],
        paths: &[Path],
    ) -> Result<Reached, PruneError> {
        let choices = self.choices(blocks, paths);
        let mut saving = self.saving();
        let mut best = f64::INFINITY;
        for _ in 0..ATTEMPTS {
            let gone = select::select(&choices, saving);
            let each = blocks.iter().zip(paths).zip(&gone);
            let kept: Vec<Vec<usize>> =
                each.map(|((b, p), &gone)| p.kept(b.channels, gone)).collect();
            let mut pruned = model.clone();
            if let Some(graph) = pruned.graph.as_mut() {
                cut::cut(graph, blocks, &kept)?;
            }
            let Budget::Latency(most) = self.budget else { return Ok((pruned, kept, None)) };
            let measured = latency::measure(&pruned, &[])?.total;
            if measured <= most {
                return Ok((pruned, kept, Some([self.all, measured])));
            }
            best = best.min(measured);
            saving += 1.1 * (measured - most);
        }
        let asked = self.words(self.all - self.saving());
        Err(PruneError::Unreachable { asked, least: self.words(best) })
    }
}
