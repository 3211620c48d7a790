//! Documents: their links lead somewhere, their commands and options exist.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use kinglet_tests::repository;

/// Every document that people read.
fn documents() -> Vec<PathBuf> {
    let root = repository();
    let mut found: Vec<PathBuf> = [
        "README.md",
        "ARCHITECTURE.md",
        "models/README.md",
        "benches/README.md",
        "tests/photographs/README.md",
    ]
    .map(|name| root.join(name))
    .into();
    for entry in std::fs::read_dir(root.join("docs/src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<&str> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            // Every second piece stands between back quotes.
            for piece in line.split('`').step_by(2) {
                let targets = piece.split("](").skip(1).filter_map(|rest| rest.split(')').next());
                found.extend(targets);
            }
        }
    }
    found
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (file, heading) = link.split_once('#').map_or((link, None), |(f, h)| (f, Some(h)));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let has_heading = |name: &str| {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                text.lines().filter(|l| l.starts_with('#')).any(|l| anchor(l) == name)
            };
            if !target.exists() || heading.is_some_and(|h| !has_heading(h)) {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = std::fs::read_to_string(repository().join("docs/src/SUMMARY.md")).unwrap();
    for path in documents() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.parent().unwrap().ends_with("docs/src") && name != "SUMMARY.md" {
            assert!(links(&summary).contains(&name), "{name} is in no chapter");
        }
    }
}

/// Commands of `kinglet` and `kinglet-tools` in blocks of code, each with the words that follow.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut code = false;
    let mut before = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = line.trim_start().trim_start_matches('`').starts_with(['c', 's', 'b']) && !code;
            continue;
        }
        if !code {
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        if let Some(part) = line.strip_suffix('\\') {
            before += part;
            continue;
        }
        let line = std::mem::take(&mut before) + line;
        let command = line.split(['|', ';']).next().unwrap_or_default();
        let words: Vec<String> = command
            .split_whitespace()
            .skip_while(|w| *w == "sudo")
            .take_while(|w| *w != "&" && *w != "#" && *w != "&&")
            .map(str::to_owned)
            .collect();
        if words.first().is_some_and(|w| w == "kinglet" || w == "kinglet-tools") {
            found.push(words);
        }
    }
    found
}

/// What `PROGRAM SUBCOMMAND… --help` prints; `None` where it is refused.
fn help(program: &Path, subcommands: &[String]) -> Option<String> {
    let out = Command::new(program).args(subcommands).arg("--help").output().unwrap();
    out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
}

#[test]
fn commands_and_their_options_exist() {
    // target/release/deps/documents-… beside target/release/kinglet.
    let me = std::env::current_exe().unwrap();
    let folder = me.parent().unwrap().parent().unwrap();
    let mut known: BTreeMap<Vec<String>, Option<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in documents() {
        for words in commands(&std::fs::read_to_string(&path).unwrap()) {
            let program = folder.join(&words[0]);
            if !program.exists() {
                println!("skipped: {} is not built (cargo build --release --bins)", words[0]);
                return;
            }
            seen += 1;
            let plain = |w: &&String| w.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let mut chain: Vec<String> = words[1..2].iter().filter(plain).cloned().collect();
            // Two commands have commands of their own.
            if ["oci", "update"].contains(&chain.first().map_or("", String::as_str)) {
                chain.extend(words[2..3].iter().cloned());
            }
            let key = [&words[..1], chain.as_slice()].concat();
            let text = known.entry(key).or_insert_with(|| help(&program, &chain));
            let place = || format!("{}: {}", path.file_name().unwrap().display(), words.join(" "));
            let Some(text) = text else {
                wrong.push(format!("{}: no such command", place()));
                continue;
            };
            for word in &words[1 + chain.len()..] {
                let option = word.split('=').next().unwrap_or_default();
                let is_option = option.starts_with("--") && option.len() > 2;
                let there = text.split(|c: char| !(c.is_alphanumeric() || c == '-'));
                if is_option && !there.into_iter().any(|w| w == option) {
                    wrong.push(format!("{}: no option {option}", place()));
                }
            }
        }
    }
    assert!(seen > 20, "only {seen} commands were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
