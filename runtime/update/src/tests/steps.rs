//! What each operation does when nothing goes wrong.

use super::support::{adopt, begin, install, key, payload, runs, sent, whole};
use crate::files::simulated::Simulated;
use crate::{Install, Kind, Outcome, Slot, Standing, Track, UpdateError};

fn track() -> Track<Simulated> {
    Track::new(Simulated::new(), Kind::Model)
}

#[test]
fn an_empty_store_has_nothing_to_begin() {
    let track = track();
    assert!(begin(&track).is_none());
    assert!(track.status().unwrap().current.is_none());
    assert!(matches!(track.roll_back(None, "", Some(key())), Err(UpdateError::Nothing)));
    assert!(!track.confirm("", "").unwrap());
}

#[test]
fn a_release_is_tried_confirmed_and_followed_by_the_next_in_the_other_slot() {
    let track = track();
    let done = install(&track, &sent(1), &Install::default()).unwrap();
    assert_eq!((done.slot, done.unchanged), (Slot::A, false));
    let begun = begin(&track).unwrap();
    assert_eq!(whole(&track, &begun), payload(1));
    assert_eq!((begun.held.state, begun.held.tries), (Standing::Trial, 1));
    assert!(track.confirm(&begun.held.sha256, "well").unwrap());
    for _ in 0..5 {
        assert_eq!(begin(&track).unwrap().held.state, Standing::Good);
    }
    let done = install(&track, &sent(2), &Install::default()).unwrap();
    assert_eq!(done.slot, Slot::B);
    assert_eq!(whole(&track, &track.previous(Some(key())).unwrap().unwrap()), payload(1));
    assert_eq!(track.status().unwrap().highest, 1);
    assert_eq!(runs(&track), payload(2));
}

#[test]
fn three_tries_then_the_old_one_for_good() {
    let track = track();
    adopt(&track, &sent(1));
    install(&track, &sent(2), &Install::default()).unwrap();
    for tries in 1..=3 {
        assert_eq!(begin(&track).unwrap().held.tries, tries);
    }
    for _ in 0..4 {
        assert_eq!(runs(&track), payload(1));
    }
    let last = track.status().unwrap().last.unwrap();
    assert_eq!((last.outcome, last.release), (Outcome::RolledBack, 2));
    assert!(last.why.contains("3 times"), "{}", last.why);
    // It was never confirmed, so it may be sent again.
    install(&track, &sent(2), &Install::default()).unwrap();
    assert_eq!(begin(&track).unwrap().held.tries, 1);
}

#[test]
fn without_an_old_one_the_factory_has_it_again() {
    let track = track();
    install(&track, &sent(1), &Install::default()).unwrap();
    (0..3).for_each(|_| drop(begin(&track).unwrap()));
    assert!(begin(&track).is_none());
    adopt(&track, &sent(3));
    assert_eq!(runs(&track), payload(3));
}

#[test]
fn a_trial_that_fails_goes_back_and_one_confirmed_too_late_does_not_count() {
    let track = track();
    adopt(&track, &sent(1));
    install(&track, &sent(2), &Install::default()).unwrap();
    let begun = begin(&track).unwrap();
    assert!(!track.roll_back(Some("another"), "", Some(key())).unwrap());
    assert!(track.roll_back(Some(&begun.held.sha256), "too slow", Some(key())).unwrap());
    assert!(!track.confirm(&begun.held.sha256, "").unwrap());
    assert_eq!(runs(&track), payload(1));
    assert_eq!(track.status().unwrap().last.unwrap().why, "too slow");
    // By hand, from a good one; then there is nothing left behind it but the factory's.
    assert!(track.roll_back(None, "by hand", Some(key())).unwrap());
    assert!(begin(&track).is_none());
}

#[test]
fn a_release_on_trial_never_costs_the_good_one() {
    let track = track();
    adopt(&track, &sent(1));
    for number in 2..6 {
        install(&track, &sent(number), &Install::default()).unwrap();
        assert_eq!(runs(&track), payload(number));
        assert_eq!(whole(&track, &track.previous(Some(key())).unwrap().unwrap()), payload(1));
    }
}

#[test]
fn numbers_grow_and_the_highest_is_remembered() {
    let track = track();
    adopt(&track, &sent(5));
    adopt(&track, &sent(9));
    let refused = |number| install(&track, &sent(number), &Install::default()).unwrap_err();
    assert!(matches!(refused(8), UpdateError::Downgrade { number: 8, highest: 9 }));
    let down = Install { allow_downgrade: true, ..Install::default() };
    install(&track, &sent(7), &down).unwrap();
    let begun = begin(&track).unwrap();
    assert!(track.confirm(&begun.held.sha256, "").unwrap());
    assert_eq!(track.status().unwrap().highest, 9);
    assert!(matches!(refused(8), UpdateError::Downgrade { highest: 9, .. }));
    // The very release that was confirmed may come back; the same number on other bytes may not.
    install(&track, &sent(9), &Install::default()).unwrap();
    let other = b"another file";
    let same = super::support::sign(super::support::pair(), other, &super::support::comment(9));
    let same = super::support::stream(&same, other);
    assert!(install(&track, &same, &Install::default()).is_err());
}

#[test]
fn what_is_used_already_is_not_put_in_again() {
    let track = track();
    adopt(&track, &sent(1));
    let again = install(&track, &sent(1), &Install::default()).unwrap();
    assert_eq!((again.slot, again.unchanged), (Slot::A, true));
    assert_eq!(begin(&track).unwrap().held.state, Standing::Good);
}

#[test]
fn one_update_at_a_time() {
    let track = track();
    let how = Install::default();
    let staged = track.stage(key(), &mut &*sent(1), &how, &mut |_, _| {}).unwrap();
    let second = track.stage(key(), &mut &*sent(2), &how, &mut |_, _| {});
    assert!(matches!(second, Err(UpdateError::Busy)));
    track.discard(staged).unwrap();
    adopt(&track, &sent(2));
}

#[test]
fn what_rots_is_left_and_what_the_state_forgot_is_found_by_its_signature() {
    let (files, key) = (Simulated::new(), Some(key()));
    let track = Track::new(files.clone(), Kind::Model);
    adopt(&track, &sent(1));
    adopt(&track, &sent(2));
    let state = "model/state.toml";
    files.tamper(state, |bytes| bytes[20] ^= 1);
    assert!(track.begin(None).is_err(), "without a key nothing is believed");
    let begun = begin(&track).unwrap();
    assert_eq!((whole(&track, &begun), begun.held.tries), (payload(2), 1));
    assert_eq!(track.status().unwrap().highest, 2, "as high as what is signed there");
    assert_eq!(whole(&track, &track.previous(key).unwrap().unwrap()), payload(1));

    files.tamper("model/b/model.onnx", |bytes| bytes[700] ^= 4);
    assert_eq!(runs(&track), payload(1));
    files.tamper("model/a/model.onnx", |bytes| bytes.truncate(100));
    assert!(begin(&track).is_none());
    adopt(&track, &sent(3));
    assert_eq!(runs(&track), payload(3));
}
