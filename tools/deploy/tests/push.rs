//! Pushing over a real sshd to a device's program that is a small script.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::{PATIENCE, Sshd};
use kinglet_deploy::push::waves::{self, Fate};
use kinglet_deploy::push::{
    Device, Fleet, Kind, PushError, Pushed, Release, Told, Wishes, push, rollback,
};

/// A release of some bytes, signed by nobody: the script does not look.
fn release(folder: &Path, number: u64, bytes: usize) -> Release {
    let path = folder.join(format!("model-{number}.onnx"));
    std::fs::write(&path, vec![number as u8; bytes]).unwrap();
    let text = format!(
        "untrusted comment: of a test\nRUQAAAA\ntrusted comment: kinglet kind=model release={number} name=m.onnx\nAAAA\n"
    );
    std::fs::write(folder.join(format!("model-{number}.onnx.minisig")), text).unwrap();
    Release::read(&path).unwrap()
}

/// The script, and a board with a store of its own.
fn board(folder: &Path, host: &str) -> (Device, PathBuf) {
    let program = folder.join("kinglet");
    if !program.exists() {
        std::fs::write(&program, include_str!("common/kinglet.sh")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let store = folder.join(format!("store of {host}"));
    std::fs::create_dir_all(&store).unwrap();
    let mut device = Device::new(host.parse().unwrap());
    device.program = Some(program.display().to_string());
    device.store = Some(store.display().to_string());
    (device, store)
}

#[test]
fn a_release_is_sent_watched_and_taken_back() {
    let Some(sshd) = Sshd::start("a_release_is_sent_watched_and_taken_back") else { return };
    let (ssh, folder) = (sshd.ssh(), tempfile::tempdir().unwrap());
    let (device, store) = board(folder.path(), "board");
    let at = |name: &str| store.join(name);
    let wait = Some(PATIENCE);
    let quiet = |_: Told<'_>| {};
    let wishes = Wishes { trial_s: Some(30), max_slowdown: Some(1.5), ..Wishes::default() };
    assert_eq!(device.status(&ssh).unwrap().track(Kind::Model), None);

    let first = release(folder.path(), 1, 2_000_000);
    let heard = Mutex::new(Vec::new());
    let note = |told: Told<'_>| {
        let text = match told {
            Told::Sent(n, of) => format!("{}", n == of),
            Told::Step(step) => step.to_owned(),
            Told::Trial => "trial".into(),
        };
        let mut heard = heard.lock().unwrap();
        if heard.last() != Some(&text) {
            heard.push(text);
        }
    };
    assert_eq!(push(&ssh, &device, &first, &wishes, wait, &note).unwrap(), Pushed::Confirmed);
    let heard = heard.into_inner().unwrap();
    let expected =
        ["false", "true", "received", "verified", "self-tested", "switched", "told", "trial"];
    assert_eq!(heard, expected);
    assert_eq!(std::fs::read(at("payload")).unwrap(), std::fs::read(&first.path).unwrap());
    let asked = std::fs::read_to_string(at("wishes")).unwrap();
    assert_eq!(asked, "--trial 30\n--max-slowdown 1.5\n");
    // Once more: nothing is sent.
    std::fs::remove_file(at("payload")).unwrap();
    assert_eq!(push(&ssh, &device, &first, &wishes, wait, &quiet).unwrap(), Pushed::Already);
    assert!(!at("payload").exists());

    // One that the board does not keep.
    std::fs::write(at("go-back"), "").unwrap();
    let second = release(folder.path(), 2, 1000);
    let error = push(&ssh, &device, &second, &wishes, wait, &quiet).unwrap_err();
    assert!(
        matches!(&error, PushError::RolledBack { to, .. } if to == "release 1 (m.onnx)"),
        "{error}"
    );
    assert!(error.to_string().contains("2.4 times as slow"), "{error}");

    // One that it refuses.
    std::fs::write(at("refuse"), "").unwrap();
    let third = release(folder.path(), 3, 1000);
    let error = push(&ssh, &device, &third, &wishes, wait, &quiet).unwrap_err();
    assert!(matches!(error, PushError::Refused { code: 4, .. }), "{error}");
    assert!(error.to_string().ends_with("the signature is another key's"), "{error}");
    for name in ["refuse", "go-back"] {
        std::fs::remove_file(at(name)).unwrap();
    }

    // Where nothing runs that would use it, there is nothing to wait for.
    std::fs::write(at("idle"), "").unwrap();
    let idle = release(folder.path(), 30, 1000);
    let older = Wishes { allow_downgrade: true, ..Wishes::default() };
    assert_eq!(push(&ssh, &device, &idle, &wishes, wait, &quiet).unwrap(), Pushed::Idle);
    rollback(&ssh, &device, Kind::Model).unwrap();
    std::fs::remove_file(at("idle")).unwrap();

    // Nobody waits; then somebody does, and nothing is sent again; then it is taken back by hand.
    std::fs::write(at("trial"), "1").unwrap();
    assert_eq!(push(&ssh, &device, &third, &wishes, None, &quiet).unwrap(), Pushed::OnTrial);
    std::fs::remove_file(at("payload")).unwrap();
    assert_eq!(push(&ssh, &device, &third, &wishes, wait, &quiet).unwrap(), Pushed::Confirmed);
    assert!(!at("payload").exists());
    rollback(&ssh, &device, Kind::Model).unwrap();
    let status = device.status(&ssh).unwrap();
    assert_eq!(status.track(Kind::Model).unwrap().release, Some(1));
    let error = rollback(&ssh, &device, Kind::Model).unwrap_err();
    assert!(error.to_string().contains("nothing to go back to"), "{error}");

    // An older one only where that is wished.
    std::fs::write(at("trial"), "0").unwrap();
    let again = release(folder.path(), 1, 1000);
    let error = push(&ssh, &device, &again, &wishes, wait, &quiet).unwrap_err();
    assert!(matches!(error, PushError::Refused { code: 5, .. }), "{error}");
    assert_eq!(push(&ssh, &device, &again, &older, wait, &quiet).unwrap(), Pushed::Confirmed);

    // A trial that does not end while we wait.
    std::fs::write(at("trial"), "99").unwrap();
    let fourth = release(folder.path(), 4, 10);
    let error =
        push(&ssh, &device, &fourth, &wishes, Some(Duration::from_millis(1)), &quiet).unwrap_err();
    assert!(matches!(error, PushError::Undecided { release: 4, .. }), "{error}");
    let nowhere = Device { program: Some("/no/such/kinglet".into()), ..device };
    let error = push(&ssh, &nowhere, &fourth, &wishes, wait, &quiet).unwrap_err().to_string();
    assert!(error.contains("/no/such/kinglet' is not installed"), "{error}");
}

/// 25 boards behind one sshd; the third fails, which is in wave 2.
#[test]
fn a_fleet_stops_at_the_first_failure_and_goes_on_when_it_is_mended() {
    let test = "a_fleet_stops_at_the_first_failure_and_goes_on_when_it_is_mended";
    let Some(sshd) = Sshd::start(test) else { return };
    let (ssh, folder) = (sshd.ssh(), tempfile::tempdir().unwrap());
    let mut list = String::new();
    let mut stores = Vec::new();
    for at in 0..25 {
        let host = format!("board{at:02}");
        let (device, store) = board(folder.path(), &host);
        std::fs::write(store.join("trial"), "0").unwrap();
        list = format!("program = '{}'\n", device.program.unwrap())
            + list.split_once('\n').map_or("", |(_, boards)| boards)
            + &format!("[[board]]\nhost = '{host}'\nstore = '{}'\n", store.display());
        stores.push(store);
    }
    std::fs::write(folder.path().join("hosts.toml"), list).unwrap();
    let fleet = Fleet::read(&folder.path().join("hosts.toml")).unwrap();
    let release = release(folder.path(), 7, 100_000);
    let roll_out = || {
        let work = |device: &Device| {
            push(&ssh, device, &release, &Wishes::default(), Some(PATIENCE), &|_| {})
        };
        waves::roll_out(&fleet.boards, 6, &AtomicBool::new(false), work, |_| {})
    };
    std::fs::write(stores[2].join("refuse"), "").unwrap();
    let lines = roll_out();
    let words: Vec<&str> = lines.iter().map(|l| l.fate.word()).collect();
    assert_eq!((words[0], words[2]), ("confirmed", "refused"), "{words:?}");
    assert!(words[4..].iter().all(|w| *w == "not begun"), "{words:?}");
    assert!(stores[4..].iter().all(|s| !s.join("release").exists()));
    let text = waves::table(&lines);
    assert!(text.contains("board02     2  refused"), "{text}");
    assert!(text.contains("board02 refused it (code 4): the signature is another key's"), "{text}");
    eprintln!("{text}");

    std::fs::remove_file(stores[2].join("refuse")).unwrap();
    let lines = roll_out();
    assert!(lines.iter().all(|l| matches!(l.fate, Fate::Done(_))), "{}", waves::table(&lines));
    assert_eq!(lines[0].fate.word(), "had it");
    assert_eq!(lines.iter().filter(|l| l.wave == 3).count(), 21);
    for store in &stores {
        assert_eq!(std::fs::read_to_string(store.join("release")).unwrap().trim(), "7");
        assert_eq!(std::fs::read_to_string(store.join("state")).unwrap().trim(), "good");
    }
}
