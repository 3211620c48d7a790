//! Whether pictures are still like those of the model's reference: windows of samples, one after
//! the other, each compared as a whole. See [`kinglet_engine::drift`] for what is compared.

use std::time::Duration;

use kinglet_engine::drift::{Distances, LOOKS, Reference, Sample, Threshold, Window, project};
use serde::Serialize;

/// Compares windows with a reference.
#[derive(Debug)]
pub(crate) struct Drift {
    reference: Reference,
    threshold: Threshold,
    /// A sample so often, in each area.
    every: Duration,
    last: Vec<Option<Duration>>,
    window: Window,
    report: Report,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// In words: of the last full window.
    pub(crate) verdict: String,
    /// The last full window was not like the reference.
    pub(crate) alarm: bool,
    /// What is compared.
    pub(crate) compared: Vec<&'static str>,
    /// Full windows, and how many of them were not like the reference.
    pub(crate) windows: u64,
    pub(crate) alarms: u64,
    /// Samples in the window that is being filled, and in a full one.
    pub(crate) samples: u32,
    pub(crate) window: u32,
    /// How far the last full window was, and how far is too far.
    pub(crate) distances: Option<Distances>,
    pub(crate) thresholds: Option<Threshold>,
}

impl Report {
    /// Nothing can be compared.
    pub(crate) fn without(why: &str) -> Self {
        Self {
            verdict: why.to_owned(),
            alarm: false,
            compared: Vec::new(),
            windows: 0,
            alarms: 0,
            samples: 0,
            window: 0,
            distances: None,
            thresholds: None,
        }
    }
}

impl Drift {
    /// Windows of this many samples, one so often. `None`: the reference has no threshold for them.
    pub(crate) fn new(reference: Reference, window: u32, every: Duration) -> Option<Self> {
        let threshold = reference.threshold(window)?;
        let report =
            Report { window, thresholds: Some(threshold), ..Report::without("no full window yet") };
        let window = Window::new(&reference);
        Some(Self { reference, threshold, every, last: Vec::new(), window, report })
    }

    /// Whether a picture of an area is to be a sample.
    pub(crate) fn is_due(&self, area: usize, at: Duration) -> bool {
        let last = self.last.get(area).copied().flatten();
        last.is_none_or(|last| at.saturating_sub(last) >= self.every)
    }

    /// Takes a sample: the best class with its probability, what the picture looks like, and the
    /// features if they are at hand.
    /// Says whether a window became full.
    pub(crate) fn observe(
        &mut self,
        area: usize,
        at: Duration,
        (class, confidence): (usize, f32),
        looks: [f32; LOOKS],
        features: Option<&[f32]>,
    ) -> bool {
        if self.last.len() <= area {
            self.last.resize(area + 1, None);
        }
        self.last[area] = Some(at);
        let class = u32::try_from(class).unwrap_or(u32::MAX);
        let projections = features.map(project);
        self.window.add(&self.reference, &Sample { confidence, class, looks, projections });
        self.report.samples = self.window.pictures;
        let full = self.window.pictures >= self.threshold.window;
        if full {
            self.judge();
        }
        full
    }

    /// How it stands.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Whether the model is less sure of a picture than it was of nearly all of its reference.
    pub(crate) fn is_unsure(&self, confidence: f32) -> bool {
        confidence < self.reference.unsure
    }

    /// Compares a full window and begins the next.
    fn judge(&mut self) {
        let distances = self.window.distances(&self.reference);
        let limits = self.threshold;
        let mut found = Vec::new();
        let strange = distances.features.is_some_and(|d| d > limits.features);
        if strange || distances.looks > limits.looks {
            found.push("the pictures look different");
        }
        if distances.confidence > limits.confidence {
            found.push(if distances.fell { "confidence fell" } else { "confidence rose" });
        }
        if distances.classes.is_some_and(|d| d > limits.classes) {
            found.push("other classes than at calibration");
        }
        let report = &mut self.report;
        report.alarm = !found.is_empty();
        report.verdict = match report.alarm {
            true => found.join("; "),
            false => "as at calibration".into(),
        };
        report.windows += 1;
        report.alarms += u64::from(report.alarm);
        report.compared = vec!["confidence", "looks"];
        report.compared.extend(distances.classes.map(|_| "classes"));
        report.compared.extend(distances.features.map(|_| "features"));
        report.distances = Some(distances);
        report.samples = 0;
        self.window = Window::new(&self.reference);
    }
}

#[cfg(test)]
mod tests {
    use kinglet_engine::drift::{Bins, Classes, Means, PROJECTIONS};

    use super::*;

    fn drift(every: u64) -> Drift {
        let means = |numbers: usize| {
            let mut whiten = vec![0.0; numbers * numbers];
            (0..numbers).for_each(|at| whiten[at * (numbers + 1)] = 1.0);
            Means { mean: vec![0.0; numbers], whiten }
        };
        let reference = Reference {
            pictures: 1000,
            confidence: Bins { edges: vec![0.5], counts: vec![200, 800] },
            unsure: 0.3,
            classes: Some(Classes {
                own: vec![0, 1],
                seen: vec![],
                shares: vec![0.5, 0.5, 0.0, 0.0],
            }),
            looks: means(LOOKS),
            features: Some(means(PROJECTIONS)),
            thresholds: vec![Threshold {
                window: 64,
                confidence: 0.3,
                classes: 0.3,
                looks: 40.0,
                features: 60.0,
            }],
        };
        Drift::new(reference, 64, Duration::from_secs(every)).unwrap()
    }

    /// Windows of samples, a second apart; the verdicts.
    fn verdicts(sample: impl Fn(u64) -> (usize, f32, f32)) -> Vec<String> {
        let mut drift = drift(1);
        let mut found = Vec::new();
        for second in 0..128 {
            let (class, confidence, value) = sample(second);
            let at = Duration::from_secs(second);
            assert!(drift.is_due(0, at));
            if drift.observe(0, at, (class, confidence), [value; LOOKS], Some(&[0.0; 4])) {
                found.push(drift.report().verdict.clone());
            }
        }
        assert_eq!(drift.report().windows, 2);
        found
    }

    #[test]
    fn verdicts_are_plain() {
        let sure = |n: u64| if n.is_multiple_of(5) { 0.4 } else { 0.9 };
        let even = |n: u64| (n % 2) as usize;
        let sign = |n: u64| if n.is_multiple_of(2) { 1.0 } else { -1.0 };
        assert_eq!(verdicts(|n| (even(n), sure(n), sign(n))), ["as at calibration"; 2]);
        assert_eq!(verdicts(|n| (even(n), 0.2, sign(n))), ["confidence fell"; 2]);
        assert_eq!(verdicts(|n| (even(n), 0.99, sign(n))), ["confidence rose"; 2]);
        assert_eq!(verdicts(|n| (0, sure(n), sign(n))), ["other classes than at calibration"; 2]);
        let other = "the pictures look different; confidence fell";
        assert_eq!(verdicts(|n| (even(n), 0.2, 2.0)), [other; 2]);
        // The first window is as it should be, the second is not.
        let later = |n: u64| if n < 64 { 0 } else { 7 };
        let two = verdicts(|n| (even(n) + later(n), sure(n), sign(n)));
        assert_eq!(two, ["as at calibration", "other classes than at calibration"]);
    }

    #[test]
    fn samples_are_apart_in_time_in_each_area() {
        let mut drift = drift(10);
        let at = Duration::from_secs;
        assert!(drift.is_due(1, at(0)));
        drift.observe(1, at(0), (0, 0.9), [0.0; LOOKS], None);
        assert!(!drift.is_due(1, at(9)) && drift.is_due(1, at(10)) && drift.is_due(0, at(1)));
        assert_eq!(drift.report().samples, 1);
        assert!(drift.is_unsure(0.2) && !drift.is_unsure(0.3));
        for second in 1..64 {
            drift.observe(0, at(second), (0, 0.9), [0.0; LOOKS], None);
        }
        assert_eq!(drift.report().compared, ["confidence", "looks", "classes"], "no features");
        assert!(Drift::new(drift.reference, 65, at(1)).is_none());
    }
}
