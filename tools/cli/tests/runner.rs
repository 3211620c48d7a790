//! `cargo bench` with the runner: over a real sshd to this machine, and in an emulator.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../../deploy/tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use common::Sshd;
use kinglet_deploy::programs;

const MANIFEST: &str = "[package]\nname = \"benched\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
    [[bench]]\nname = \"one\"\nharness = false\n[workspace]\n";
/// What criterion does, as far as a runner sees it.
const BENCH: &str = r#"
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("on {} with {arguments:?}: {}", std::env::consts::ARCH, std::fs::read_to_string("data.txt").unwrap());
    if let Ok(home) = std::env::var("CRITERION_HOME") {
        std::fs::create_dir_all(format!("{home}/group/new")).unwrap();
        std::fs::write(format!("{home}/group/new/estimates.json"), "{}").unwrap();
    }
    if arguments.contains(&"fail".to_owned()) { std::process::exit(3) }
}
"#;

/// A package with a benchmark that reads a file beside it.
fn package(folder: &Path) {
    for (name, text) in [
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", ""),
        ("benches/one.rs", BENCH),
        ("data.txt", "seven rows"),
    ] {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// `cargo bench` for a target with a runner; whether it ended well, and all that it said.
fn bench(
    folder: &Path,
    triple: &str,
    runner: &str,
    more: &[(&str, &str)],
    arguments: &[&str],
) -> (bool, String) {
    let mut cargo = Command::new(env!("CARGO"));
    let upper = triple.replace('-', "_").to_uppercase();
    let runner = format!("{} runner {runner}", env!("CARGO_BIN_EXE_kinglet-tools"));
    cargo.current_dir(folder).env(format!("CARGO_TARGET_{upper}_RUNNER"), runner);
    cargo.args(["bench", "--offline", "--target", triple, "--bench", "one", "--"]).args(arguments);
    cargo.env_remove("CARGO_TARGET_DIR").envs(more.iter().copied());
    let output = cargo.output().unwrap();
    let said = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    (output.status.success(), said.concat())
}

#[test]
fn cargo_bench_runs_on_a_board() {
    let Some(sshd) = Sshd::start("cargo_bench_runs_on_a_board") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("package");
    package(&at);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let runner = format!(
        "--on board --ssh-config {} --folder {} --carry data.txt",
        sshd.config().display(),
        folder.path().join("board").display()
    );
    let (well, said) = bench(&at, &triple, &runner, &[], &["--quick"]);
    assert!(well && said.contains(r#"with ["--quick", "--bench"]: seven rows"#), "{said}");
    assert!(at.join("target/criterion/group/new/estimates.json").is_file());
    let (well, said) = bench(&at, &triple, &runner, &[], &["fail"]);
    assert!(!well && said.contains("exit status: 3"), "{said}");
}

#[test]
fn cargo_bench_runs_in_the_emulator() {
    let triple = "aarch64-unknown-linux-gnu";
    let test = "cargo_bench_runs_in_the_emulator";
    let gcc = "aarch64-linux-gnu-gcc";
    if programs::find("qemu-aarch64-static").is_none() || programs::find(gcc).is_none() {
        eprintln!("{test}: skipped, because qemu-user-static or {gcc} is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let settings = [
        ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", gcc),
        ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static"),
    ];
    let (mut well, mut said) = (false, String::new());
    // rustup's compiler where it has the target, else Debian's.
    for rustc in ["rustc", "/usr/bin/rustc"] {
        let more = [&settings[..], &[("RUSTC", rustc)]].concat();
        (well, said) = bench(folder.path(), triple, "--emulate cortex-a76", &more, &["--quick"]);
        if !said.contains("E0463") && !said.contains("may not be installed") {
            break;
        }
    }
    if said.contains("E0463") || said.contains("may not be installed") {
        eprintln!("{test}: skipped, because no compiler for {triple} is installed");
        return;
    }
    assert!(
        well && said.contains(r#"on aarch64 with ["--quick", "--bench"]: seven rows"#),
        "{said}"
    );
}
