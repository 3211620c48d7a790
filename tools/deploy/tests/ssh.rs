//! The system's ssh against a real sshd.

#![allow(clippy::unwrap_used)]

mod common;

use common::Sshd;
use kinglet_deploy::ssh::{Ssh, SshError};

#[test]
fn words_arrive_as_they_are_and_codes_come_back() {
    let Some(sshd) = Sshd::start("words_arrive_as_they_are_and_codes_come_back") else { return };
    let (ssh, host) = (sshd.ssh(), sshd.host());
    let odd = ["it's", "$HOME", "two  words", "", "\\", "; exit 9", "ü*", "-x", "a\nb"];
    let words = [&["sh", "-c", "for w; do printf '%s\\0' \"$w\"; done", "sh"], &odd[..]].concat();
    let answer = ssh.ask(&host, &words, b"").unwrap();
    let back: Vec<&str> = answer.stdout.trim_end().split_terminator('\0').collect();
    assert_eq!(back, odd);
    let answer = ssh.ask(&host, &["sha256sum"], &vec![7; 3_000_000]).unwrap();
    assert_eq!(answer.stdout.trim().len(), 64 + 3);
    let failed = ssh.ask(&host, &["sh", "-c", "echo bad >&2; exit 7"], b"").unwrap_err();
    assert!(matches!(&failed, SshError::Remote { code: 7, said, .. } if said == "bad"), "{failed}");
    // A command that does not read what it is sent is not an error of ours.
    ssh.try_ask(&host, &["false"], &vec![7; 3_000_000]).unwrap();
    let mut sent = 0;
    let mut lines = Vec::new();
    let answer = ssh
        .talk(
            &host,
            &["sh", "-c", "echo one; cat >/dev/null; echo two"],
            &[1; 200_000][..],
            |n| sent = n,
            |l| {
                lines.push(l.to_owned());
            },
        )
        .unwrap();
    assert_eq!((answer.code, sent), (0, 200_000));
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn no_way_in_says_what_to_do() {
    let Some(sshd) = Sshd::start("no_way_in_says_what_to_do") else { return };
    let stranger = Ssh::default().with_config(Some(sshd.folder.path().join("stranger")));
    let error = stranger.ask(&sshd.host(), &["true"], b"").unwrap_err().to_string();
    assert!(error.contains("Permission denied") && error.contains("ssh-copy-id"), "{error}");
    let known = sshd.folder.path().join("known_hosts");
    std::fs::write(&known, "").unwrap();
    let error = sshd.ssh().ask(&sshd.host(), &["true"], b"").unwrap_err().to_string();
    assert!(error.contains("verification failed") && error.contains("by hand"), "{error}");
    let config = sshd.config();
    drop(sshd);
    // The folder went with it, and the port is closed.
    let error =
        Ssh::default().with_config(Some(config)).ask(&"board".parse().unwrap(), &["true"], b"");
    assert!(matches!(error, Err(SshError::Connect { .. })), "{error:?}");
}
