//! The last observations, and what they are together.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Smoothing, State};

/// One observation; its scores lie in a row of [`Window::rows`].
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Duration,
    row: usize,
    energy: Option<f32>,
    vote: State,
}

/// A window over observations. Allocates nothing once it is full.
#[derive(Debug)]
pub(super) struct Window {
    smoothing: Smoothing,
    length: usize,
    age: Option<Duration>,
    seen: VecDeque<Seen>,
    rows: Vec<Vec<f32>>,
    next_row: usize,
    smoothed: Vec<f32>,
}

impl Window {
    pub(super) fn new(smoothing: Smoothing, length: usize, age: Option<Duration>) -> Self {
        let length = length.max(1);
        let (seen, rows, smoothed) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { smoothing, length, age, seen, rows, next_row: 0, smoothed }
    }

    /// Adds an observation, lets old ones go, and smooths.
    pub(super) fn add(&mut self, at: Duration, scores: &[f32], energy: Option<f32>, unknown: bool) {
        let too_old = |seen: &Seen| self.age.is_some_and(|age| at.saturating_sub(seen.at) > age);
        while self.seen.front().is_some_and(|s| self.seen.len() >= self.length || too_old(s)) {
            self.seen.pop_front();
        }
        let row = self.next_row;
        self.next_row = (row + 1) % self.length;
        if self.smoothing == Smoothing::Mean {
            if self.rows.len() <= row {
                self.rows.push(Vec::new());
            }
            self.rows[row].clear();
            self.rows[row].extend_from_slice(scores);
        }
        let vote = if unknown { State::Unknown } else { best(scores) };
        self.seen.push_back(Seen { at, row, energy, vote });
        self.smooth(scores.len());
    }

    fn smooth(&mut self, classes: usize) {
        self.smoothed.clear();
        self.smoothed.resize(classes, 0.0);
        let share = 1.0 / self.seen.len() as f32;
        for seen in &self.seen {
            match (self.smoothing, seen.vote) {
                (Smoothing::Mean, _) => {
                    for (sum, score) in self.smoothed.iter_mut().zip(&self.rows[seen.row]) {
                        *sum += score;
                    }
                }
                (Smoothing::Majority, State::Class(class)) => self.smoothed[class] += 1.0,
                (Smoothing::Majority, _) => {}
            }
        }
        self.smoothed.iter_mut().for_each(|sum| *sum *= share);
    }

    pub(super) fn clear(&mut self) {
        self.seen.clear();
        self.smoothed.clear();
        self.next_row = 0;
    }

    /// The smoothed score of each class.
    pub(super) fn scores(&self) -> &[f32] {
        &self.smoothed
    }

    /// The mean energy of the observations that have one.
    pub(super) fn energy(&self) -> Option<f32> {
        let known = || self.seen.iter().filter_map(|seen| seen.energy);
        let count = known().count();
        (count > 0).then(|| known().sum::<f32>() / count as f32)
    }

    /// The share of observations that are of no class.
    pub(super) fn unknown_share(&self) -> f32 {
        let unknown = self.seen.iter().filter(|seen| seen.vote == State::Unknown).count();
        unknown as f32 / self.seen.len().max(1) as f32
    }
}

/// The best class, of equals the first.
fn best(scores: &[f32]) -> State {
    let mut best = None;
    for (class, &score) in scores.iter().enumerate() {
        if best.is_none_or(|(_, most)| score > most) {
            best = Some((class, score));
        }
    }
    best.map_or(State::Nothing, |(class, _)| State::Class(class))
}
