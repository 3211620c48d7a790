//! The state machine over recorded and over random scores.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn plain() -> Settings {
    Settings {
        smoothing: Smoothing::Mean,
        window: 1,
        age: None,
        enter: 0.6,
        leave: 0.4,
        hold: Duration::ZERO,
        unknown_below: None,
        energy_below: None,
    }
}

/// Feeds the scores of class 0 (class 1 has the rest), 100 ms apart, and gives the states.
fn states(settings: Settings, scores: &[f32]) -> Vec<State> {
    let mut decider = Decider::new(settings);
    (0..)
        .zip(scores)
        .map(|(i, &score)| {
            decider.observe(MS * 100 * i, &[score, 0.0], None);
            decider.state()
        })
        .collect()
}

const ON: State = State::Class(0);
const OFF: State = State::Nothing;

#[test]
fn between_the_thresholds_the_decision_stays() {
    let seen = states(plain(), &[0.5, 0.59, 0.6, 0.45, 0.4, 0.39, 0.5, 0.7]);
    assert_eq!(seen, [OFF, OFF, ON, ON, ON, OFF, OFF, ON]);
}

#[test]
fn a_better_class_takes_over_and_a_worse_one_does_not() {
    let mut decider = Decider::new(Settings { enter: 0.3, leave: 0.2, ..plain() });
    for (scores, expected) in [
        ([0.5, 0.4, 0.0], 0),
        ([0.3, 0.29, 0.0], 0),
        ([0.25, 0.29, 0.0], 0),
        ([0.25, 0.31, 0.0], 1),
        ([0.31, 0.31, 0.0], 1),
    ] {
        decider.observe(MS, &scores, None);
        assert_eq!(decider.state(), State::Class(expected), "{scores:?}");
    }
}

#[test]
fn a_mean_needs_its_window_to_turn() {
    let settings = Settings { window: 3, ..plain() };
    let seen = states(settings, &[0.0, 0.0, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0]);
    assert_eq!(seen, [OFF, OFF, OFF, ON, ON, ON, OFF, OFF]);
}

#[test]
fn one_odd_picture_does_not_turn_a_majority() {
    let settings =
        Settings { smoothing: Smoothing::Majority, window: 5, enter: 0.6, leave: 0.5, ..plain() };
    let mut decider = Decider::new(settings);
    let mut turned = Vec::new();
    for (i, best) in [0, 0, 0, 1, 0, 1, 1, 0, 1, 1].into_iter().enumerate() {
        let mut scores = [0.01; 2];
        scores[best] = 0.02;
        decider.observe(MS * i as u32, &scores, None);
        turned.push(decider.state());
    }
    let class = State::Class;
    let (a, b) = (class(0), class(1));
    // At the seventh, two of five votes are left for the first class and three for the second.
    assert_eq!(turned, [a, a, a, a, a, a, b, b, b, b]);
}

#[test]
fn old_observations_do_not_count() {
    let settings = Settings { window: 10, age: Some(MS * 250), ..plain() };
    let mut decider = Decider::new(settings);
    decider.observe(MS, &[0.0], None);
    decider.observe(MS * 100, &[0.8], None);
    assert_eq!(decider.state(), OFF, "mean 0.4");
    decider.observe(MS * 300, &[0.8], None);
    assert_eq!(decider.state(), ON, "the first is too old");
}

#[test]
fn a_decision_is_held() {
    let settings = Settings { hold: MS * 300, ..plain() };
    let seen = states(settings, &[0.9, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9, 0.9]);
    assert_eq!(seen, [ON, ON, ON, OFF, OFF, OFF, ON, ON]);
}

#[test]
fn a_lost_camera_lets_go_at_once_even_of_what_is_held() {
    let mut decider = Decider::new(Settings { hold: MS * 1000, window: 4, ..plain() });
    decider.observe(MS, &[0.9], None);
    assert_eq!(decider.state(), ON);
    assert!(decider.lose());
    assert!(!decider.lose());
    assert_eq!(decider.state(), OFF);
    assert!(decider.observe(MS * 2, &[0.7], None), "nothing of the past counts");
}

#[test]
fn unknown_by_score_and_by_energy() {
    let settings =
        Settings { unknown_below: Some(0.3), energy_below: Some(5.0), leave: 0.2, ..plain() };
    let mut decider = Decider::new(settings);
    for (score, energy, expected) in [
        (0.29, Some(9.0), State::Unknown),
        (0.31, Some(9.0), State::Nothing),
        (0.6, Some(9.0), ON),
        (0.25, Some(9.0), ON),            // it falls by its own threshold
        (0.9, Some(4.9), State::Unknown), // sure, and wrong
        (0.9, None, ON),
        (0.1, Some(9.0), State::Unknown),
    ] {
        decider.observe(MS, &[score, 0.0], energy);
        assert_eq!(decider.state(), expected, "{score} {energy:?}");
    }
}

#[test]
fn unknown_has_votes_too() {
    let settings = Settings {
        smoothing: Smoothing::Majority,
        window: 3,
        unknown_below: Some(0.5),
        enter: 0.6,
        leave: 0.5,
        ..plain()
    };
    let seen = states(settings, &[0.9, 0.1, 0.1, 0.9, 0.9]);
    assert_eq!(seen, [ON, ON, State::Unknown, State::Unknown, ON]);
}

/// The mean of the last `window` rows, straightforwardly.
fn mean(rows: &[Vec<f32>], window: usize) -> Vec<f32> {
    let last = &rows[rows.len().saturating_sub(window)..];
    (0..rows[0].len()).map(|c| last.iter().map(|r| r[c]).sum::<f32>() / last.len() as f32).collect()
}

proptest! {
    #[test]
    fn every_change_has_its_reason(
        rows in prop::collection::vec(prop::collection::vec(0.0f32..1.0, 3), 1..60),
        window in 1usize..6,
        (enter, share) in (0.0f32..1.0, 0.0f32..1.0),
        hold in 0u32..500,
    ) {
        let leave = enter * share;
        let settings = Settings { window, enter, leave, hold: MS * hold, ..plain() };
        let mut decider = Decider::new(settings);
        let mut changed_at: Option<Duration> = None;
        for i in 0..rows.len() {
            let (before, at) = (decider.state(), MS * 100 * i as u32);
            let changed = decider.observe(at, &rows[i], None);
            let after = decider.state();
            prop_assert_eq!(changed, before != after);
            let smoothed = mean(&rows[..=i], window);
            let most = smoothed.iter().copied().fold(0.0, f32::max);
            const ROUNDING: f32 = 1e-5;
            if changed {
                if let Some(last) = changed_at {
                    prop_assert!(at - last >= MS * hold, "changed again after {:?}", at - last);
                }
                changed_at = Some(at);
                if let State::Class(class) = after {
                    prop_assert!(smoothed[class] >= enter - ROUNDING && smoothed[class] >= most - ROUNDING);
                }
                if let State::Class(class) = before {
                    let fell = smoothed[class] < leave + ROUNDING;
                    prop_assert!(fell || (most >= enter - ROUNDING && most > smoothed[class] - ROUNDING));
                }
            } else if changed_at.is_none_or(|last| at - last >= MS * hold) {
                // It stayed although it could have changed.
                match after {
                    State::Class(class) => prop_assert!(smoothed[class] >= leave - ROUNDING),
                    _ => prop_assert!(most < enter + ROUNDING),
                }
            }
        }
    }

    #[test]
    fn the_same_picture_gives_one_change_at_most(score in 0.0f32..1.0, window in 1usize..9) {
        let seen = states(Settings { window, ..plain() }, &[score; 30]);
        prop_assert!(seen.iter().all(|s| *s == seen[0]));
    }
}

/// A video of bottles, and what tests/golden/decide/make.py says was to be decided.
#[test]
fn recorded_scores_give_the_decisions_of_another_program() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/decide/");
    let read = |name: &str| std::fs::read_to_string(format!("{golden}{name}")).unwrap();
    let rows: Vec<Vec<f32>> = read("scores.csv")
        .lines()
        .map(|line| line.split(',').map(|v| v.parse().unwrap()).collect())
        .collect();
    let expected = read("expected.csv");
    assert!(rows.len() > 200 && expected.lines().count() >= 8);
    for line in expected.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |i: usize| -> f32 { fields[i].parse().unwrap() };
        let settings = Settings {
            smoothing: if fields[0] == "mean" { Smoothing::Mean } else { Smoothing::Majority },
            window: number(1) as usize,
            age: None,
            enter: number(2),
            leave: number(3),
            hold: MS * number(4) as u32,
            unknown_below: Some(number(5)).filter(|least| *least > 0.0),
            energy_below: None,
        };
        let mut decider = Decider::new(settings);
        let mut changes = Vec::new();
        for (row, scores) in rows.iter().enumerate() {
            if decider.observe(MS * scores[0] as u32, &scores[1..], None) {
                let state = match decider.state() {
                    State::Nothing => -1,
                    State::Unknown => -2,
                    State::Class(class) => class as i32,
                };
                changes.push(format!("{row}:{state}"));
            }
        }
        assert_eq!(changes, fields[6..], "{line}");
    }
}
