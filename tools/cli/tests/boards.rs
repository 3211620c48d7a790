//! What speaks of boards, as a user runs it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kinglet-tools"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Runs and checks the exit code; returns all that it wrote.
fn expect(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let said = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap()).concat();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{said}");
    said
}

/// The guide's own file in a folder of its own, and the guide's own commands.
#[test]
fn a_board_is_added_as_the_guide_says() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/add-a-board.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let block = |kind: &str| {
        let (_, rest) = guide.split_once(&format!("```{kind}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("my-boards")).unwrap();
    std::fs::write(folder.path().join("my-boards/beagleplay.toml"), block("toml")).unwrap();
    let commands = block("sh");
    let commands: Vec<Vec<&str>> =
        commands.lines().map(|l| l.split_whitespace().skip(1).collect()).collect();
    assert_eq!(commands.len(), 3);
    let said = expect(folder.path(), 0, &commands[0]);
    assert!(said.contains("BeaglePlay") && said.contains("4 x cortex-a53 at 1400 MHz"), "{said}");
    let said = expect(folder.path(), 0, &commands[1]);
    assert!(said.contains("BeaglePlay, 4 thread(s)"), "{said}");
    // The board is known; what lacks is a workspace.
    let said = expect(folder.path(), 1, &commands[2]);
    assert!(said.contains("no Cargo.toml here or above") && said.contains("--source"), "{said}");
    let other = [&commands[2][..4], &["toaster"]].concat();
    let said = expect(folder.path(), 1, &other);
    assert!(said.contains("no board 'toaster'") && said.contains("beagleplay"), "{said}");
}

#[test]
fn hosts_and_files_that_cannot_be_are_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("m.onnx"), "x").unwrap();
    let said = expect(at, 1, &["push", "--", "-oProxyCommand=id", "m.onnx"]);
    assert!(said.contains("begins with '-'"), "{said}");
    let said = expect(at, 1, &["push", "pi@porch", "m.onnx"]);
    assert!(said.contains("kinglet-tools sign"), "{said}");
    assert!(expect(at, 1, &["push", "m.onnx"]).contains("push HOST FILE"));
    assert!(expect(at, 2, &["rollback", "--", "-lroot"]).contains("begins with '-'"));
    assert!(expect(at, 2, &["status", "a b"]).contains("no host's name has"));
    assert!(expect(at, 2, &["bench", "--on", "pi;id"]).contains("no host's name has"));
    assert!(expect(at, 2, &["runner", "program"]).contains("--on"));
    let said = expect(at, 1, &["runner", "--emulate", "cortex-a76", "m.onnx"]);
    assert!(said.contains("m.onnx: is no ELF program"), "{said}");
    std::fs::write(at.join("hosts.toml"), "[[board]]\nhost = 'a'\nport = 1\n").unwrap();
    let said = expect(at, 1, &["status", "--all", "hosts.toml"]);
    assert!(said.contains("hosts.toml") && said.contains("port"), "{said}");
}
