//! The trial of a new release: it decides, the model before it sees the same frames, and after a while one of them
//! stays.

use std::time::{Duration, Instant};

use super::bus::Bus;
use super::pulse::BEAT;
use super::releases::{Chosen, Keeper, Terms};
use super::reload::Reloader;
use super::shadow::Comparison;

/// Frames that both models must have seen, before their agreement says something.
const ENOUGH: u64 = 20;
/// How many times as long as a trial it is waited for them: the second model has what processor time is left.
const PATIENCE: u32 = 5;
/// And at least so much longer.
const LEAST_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What has been seen of a release so far.
#[derive(Debug, Clone, Default)]
struct Seen {
    elapsed: Duration,
    decisions: u64,
    comparison: Option<Comparison>,
    /// The second model does not run.
    alone: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    Wait,
    Passed(String),
    Failed(String),
}

impl Seen {
    /// A camera that is away, or nothing that moves, is no fault of the model: the trial waits.
    fn verdict(&self, terms: &Terms) -> Verdict {
        let Self { elapsed, decisions, comparison, alone } = self;
        if *elapsed < terms.time || *decisions == 0 {
            return Verdict::Wait;
        }
        let passed = format!("{decisions} decisions in {:.0} s", elapsed.as_secs_f64());
        if !terms.compares || *alone {
            return Verdict::Passed(passed);
        }
        let compared = comparison.as_ref().map_or(0, |comparison| comparison.compared);
        if compared < ENOUGH && *elapsed < terms.time * PATIENCE + LEAST_PATIENCE {
            return Verdict::Wait;
        }
        let Some(comparison) = comparison.as_ref().filter(|c| c.compared > 0) else {
            return Verdict::Passed(format!("{passed}; nothing could be compared"));
        };
        let agreement = comparison.same_best as f64 / compared as f64;
        // Of the one its shortest time, of the other its mean on the processor: only what is certain counts.
        let (new, old) = (comparison.first_ms.least, comparison.second_ms.mean);
        if agreement < terms.min_agreement {
            return Verdict::Failed(format!(
                "it agrees with the model before it in {:.1} % of {compared} frames, not in {:.1} %",
                100.0 * agreement,
                100.0 * terms.min_agreement
            ));
        }
        if new > old * terms.max_slowdown {
            return Verdict::Failed(format!(
                "it takes {new:.1} ms a frame, the model before it {old:.1} ms; {} times are allowed",
                terms.max_slowdown
            ));
        }
        Verdict::Passed(format!("{passed}; the same in {:.1} % of {compared}", 100.0 * agreement))
    }
}

/// Watches over a trial on a thread of its own; it ends when the release is trusted, or no longer runs.
pub(super) fn start(chosen: Chosen, keeper: Keeper, reloader: Reloader, bus: Bus) {
    let Some(terms) = chosen.terms.clone() else { return };
    let watch = move || {
        let pulse = bus.pulse("trial");
        let (begun, before) = (Instant::now(), bus.health().inferences);
        while keeper.runs(&chosen) {
            pulse.beat();
            std::thread::sleep(LOOK.min(BEAT));
            let health = bus.health();
            let seen = Seen {
                elapsed: begun.elapsed(),
                decisions: health.inferences.saturating_sub(before),
                comparison: health.shadow,
                alone: health.problems.contains_key("shadow"),
            };
            match seen.verdict(&terms) {
                Verdict::Wait => continue,
                Verdict::Passed(why) => chosen.confirm(&why),
                Verdict::Failed(why) => {
                    chosen.roll_back(&why);
                }
            }
            // Either way another model runs beside this one now, or instead of it.
            reloader.begin();
            return;
        }
    };
    if let Err(error) = std::thread::Builder::new().name("trial".into()).spawn(watch) {
        tracing::error!("update: nobody watches over the trial: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::shadow::Time;

    fn terms() -> Terms {
        let time = Duration::from_secs(10);
        Terms { time, max_slowdown: 1.5, min_agreement: 0.8, compares: true }
    }

    fn seen(elapsed: u64, compared: u64, same_best: u64, ms: [f64; 2]) -> Seen {
        let time = |ms| Time { least: ms, mean: ms, max: ms };
        let comparison = Comparison {
            compared,
            same_best,
            first_ms: time(ms[0]),
            second_ms: time(ms[1]),
            ..Comparison::default()
        };
        let elapsed = Duration::from_secs(elapsed);
        Seen { elapsed, decisions: 100, comparison: Some(comparison), alone: false }
    }

    #[test]
    fn it_waits_for_time_decisions_and_enough_to_compare() {
        assert_eq!(seen(9, 100, 100, [1.0, 1.0]).verdict(&terms()), Verdict::Wait);
        assert_eq!(seen(60, 19, 19, [1.0, 1.0]).verdict(&terms()), Verdict::Wait);
        let nothing = Seen { decisions: 0, ..seen(1000, 0, 0, [1.0, 1.0]) };
        assert_eq!(nothing.verdict(&terms()), Verdict::Wait);
        let passes = |seen: Seen| matches!(seen.verdict(&terms()), Verdict::Passed(_));
        assert!(passes(seen(10, 20, 16, [1.5, 1.0])));
        assert!(passes(seen(70, 19, 19, [1.0, 1.0])), "patience has an end");
        assert!(passes(Seen { comparison: None, ..seen(70, 0, 0, [0.0, 0.0]) }));
        assert!(passes(Seen { alone: true, comparison: None, ..seen(10, 0, 0, [0.0, 0.0]) }));
    }

    #[test]
    fn one_that_disagrees_or_is_slow_fails() {
        let why = |seen: Seen| match seen.verdict(&terms()) {
            Verdict::Failed(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(seen(10, 100, 79, [1.0, 1.0])).contains("79.0 % of 100"));
        assert!(why(seen(10, 100, 100, [1.6, 1.0])).contains("1.6 ms"));
        let alone = Terms { compares: false, ..terms() };
        let passed = seen(10, 100, 0, [9.0, 1.0]).verdict(&alone);
        assert!(matches!(passed, Verdict::Passed(_)));
    }
}
