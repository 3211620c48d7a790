//! From scores over time to a decision: smoothing, hysteresis, minimum hold, unknown.
//!
//! Pure: time comes in as a [`Duration`] since some start of a monotonic clock, and nothing here
//! reads a clock, a camera or a file. Start with [`Decider`]. What a frame-rate governor and a
//! motion gate decide stands beside it: [`governor`], [`motion`].

mod drift;
mod governor;
mod motion;
mod window;

use std::time::Duration;

use kinglet_engine::scores::{Ranked, top_into};

pub(crate) use drift::{Drift, Report as DriftReport};
pub(crate) use governor::{Governor, Heat};
pub(crate) use motion::Motion;
use window::Window;

/// How several observations become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Smoothing {
    /// The mean of the scores.
    #[default]
    Mean,
    /// Each observation is one vote for its best class (or for unknown); scores are shares.
    Majority,
}

/// How scores are judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) smoothing: Smoothing,
    /// Observations that are smoothed over, at least 1.
    pub(crate) window: usize,
    /// Observations older than this no longer count.
    pub(crate) age: Option<Duration>,
    /// A class is entered when its smoothed score is the best and at least this.
    pub(crate) enter: f32,
    /// It is left when its score falls below this; at most `enter`.
    pub(crate) leave: f32,
    /// How long a decision lasts at least.
    pub(crate) hold: Duration,
    /// Where the best score is below this, the picture is of none of the classes.
    pub(crate) unknown_below: Option<f32>,
    /// Where the energy ([`kinglet_engine::scores::energy`]) is below this, the same.
    pub(crate) energy_below: Option<f32>,
}

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// No class has reached the threshold.
    #[default]
    Nothing,
    /// What is seen is of none of the classes.
    Unknown,
    /// A class, by its index.
    Class(usize),
}

impl State {
    /// In words, with the names of classes.
    pub(crate) fn name(self, class: impl FnOnce(usize) -> Option<String>) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Unknown => Some("unknown".to_owned()),
            Self::Class(index) => class(index),
        }
    }
}

/// The state machine of one stream of scores.
#[derive(Debug)]
pub(crate) struct Decider {
    settings: Settings,
    window: Window,
    state: State,
    /// When it was entered; `None` at the start and after a loss, where nothing holds.
    since: Option<Duration>,
}

impl Decider {
    /// A machine that has seen nothing.
    pub(crate) fn new(settings: Settings) -> Self {
        let window = Window::new(settings.smoothing, settings.window, settings.age);
        Self { settings, window, state: State::Nothing, since: None }
    }

    /// Takes the scores of one picture: probabilities, and the energy if it is known. Times do not
    /// go back. Says whether the decision changed.
    pub(crate) fn observe(&mut self, at: Duration, scores: &[f32], energy: Option<f32>) -> bool {
        let Settings { unknown_below, energy_below, .. } = self.settings;
        let strange = matches!((energy, energy_below), (Some(e), Some(least)) if e < least);
        let best = scores.iter().copied().fold(0.0, f32::max);
        let unknown = strange || unknown_below.is_some_and(|least| best < least);
        self.window.add(at, scores, energy, unknown);
        let next = self.next();
        let held = self.since.is_some_and(|since| at.saturating_sub(since) < self.settings.hold);
        let changed = next != self.state && !held;
        if changed {
            (self.state, self.since) = (next, Some(at));
        }
        changed
    }

    /// Nothing is seen any more (the camera is gone): the decision falls at once. Says whether it
    /// changed.
    pub(crate) fn lose(&mut self) -> bool {
        self.window.clear();
        self.since = None;
        std::mem::take(&mut self.state) != State::Nothing
    }

    /// Goes on from a decision that another machine has made. What is observed next keeps it or lets
    /// it fall.
    pub(crate) fn go_on(&mut self, state: State) {
        self.state = state;
    }

    /// The decision that holds.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The `n` best smoothed scores, best first.
    pub(crate) fn top_into(&self, n: usize, ranked: &mut Vec<Ranked>) {
        top_into(self.window.scores(), n, ranked);
    }

    /// What the smoothed scores say, were there no hold.
    fn next(&self) -> State {
        let Settings { enter, leave, .. } = self.settings;
        let scores = self.window.scores();
        let score = |class: usize| scores.get(class).copied().unwrap_or(0.0);
        let mut best = 0;
        for class in 1..scores.len() {
            if score(class) > score(best) {
                best = class;
            }
        }
        let unknown = self.unknown(score(best));
        if unknown > 0.0 && unknown >= enter && unknown >= score(best) {
            return State::Unknown;
        }
        match self.state {
            // Of two equals the one that is decided already stays.
            State::Class(class) if score(class) >= score(best) && score(class) >= leave => {
                self.state
            }
            _ if score(best) >= enter => State::Class(best),
            State::Class(class) if score(class) >= leave => self.state,
            State::Unknown if unknown > 0.0 && unknown >= leave => self.state,
            _ => State::Nothing,
        }
    }

    /// How much speaks for unknown, 0..=1.
    fn unknown(&self, best: f32) -> f32 {
        match self.settings.smoothing {
            Smoothing::Majority => self.window.unknown_share(),
            Smoothing::Mean => {
                let Settings { unknown_below, energy_below, leave, .. } = self.settings;
                let low = |value: Option<f32>, least: Option<f32>| matches!((value, least), (Some(v), Some(least)) if v < least);
                // A class that is decided falls by its own threshold, not by that of unknown.
                let stays = matches!(self.state, State::Class(c)
                    if self.window.scores().get(c).is_some_and(|s| *s >= leave));
                let strange = low(self.window.energy(), energy_below);
                f32::from(strange || (low(Some(best), unknown_below) && !stays))
            }
        }
    }
}

#[cfg(test)]
mod tests;
