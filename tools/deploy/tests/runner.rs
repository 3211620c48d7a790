//! The cargo runner: over a real sshd to this machine, and in an emulator.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Sshd, until};
use kinglet_deploy::programs;
use kinglet_deploy::runner::{Remote, RunError, emulate};

/// What the board runs: says what it was given, then does what its first argument says.
const PROGRAM: &str = r#"
use std::io::Read;
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    let name = |n: &str| std::env::var(n).unwrap_or_default();
    let out = arguments.last().cloned().unwrap_or_default();
    let text = format!("{arguments:?} stdin={input:?} isa={} rows={} here={}", name("KINGLET_ISA"), name("ROWS"),
        std::fs::read_to_string("data/rows.txt").unwrap_or_default());
    match arguments[0].as_str() {
        "say" => std::fs::write(&out, text).unwrap(),
        "--bench" => {
            let folder = name("CRITERION_HOME") + "/group/new";
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder + "/estimates.json", "{}").unwrap();
            std::os::unix::fs::symlink("/etc/passwd", name("CRITERION_HOME") + "/link").unwrap_or(());
        }
        "sleep" => {
            std::fs::write(&out, std::process::id().to_string()).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        _ => {}
    }
    std::process::exit(arguments[1].parse().unwrap());
}
"#;

/// Compiles the program; `None` where there is no compiler for it.
fn compile(folder: &Path, rustc: &Path, options: &[&str]) -> Option<PathBuf> {
    let source = folder.join("program.rs");
    std::fs::write(&source, PROGRAM).unwrap();
    let program = folder.join("program");
    let mut command = Command::new(rustc);
    command.args(["--edition", "2021", "-o"]).arg(&program).arg(&source).args(options);
    let output = command.output().ok()?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(program)
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[test]
fn a_program_runs_on_the_board_and_its_results_come_back() {
    let Some(sshd) = Sshd::start("a_program_runs_on_the_board_and_its_results_come_back") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // A workspace with a package, laid out as cargo does.
    let deps = at("target/release/deps");
    std::fs::create_dir_all(&deps).unwrap();
    std::fs::create_dir_all(at("package/data")).unwrap();
    std::fs::write(at("Cargo.toml"), "[workspace]\n").unwrap();
    std::fs::write(at("target/.rustc_info.json"), "{}").unwrap();
    std::fs::write(at("package/data/rows.txt"), "seven").unwrap();
    let program = compile(&deps, Path::new("rustc"), &[]).expect("rustc compiles");
    let board = at("board").display().to_string();
    let (ssh, host) = (sshd.ssh(), sshd.host());
    let carry = [PathBuf::from("package/data")];
    let env = ["ROWS".to_owned()];
    let remote = Remote { ssh: &ssh, host: &host, folder: &board, carry: &carry, env: &env };
    let out = at("it's out").display().to_string();
    let run = |arguments: &[&str]| remote.run(&at("package"), &program, &words(arguments)).unwrap();
    assert_eq!(run(&["say", "42", "two words", "$HOME", "", &out]), 42);
    let said = std::fs::read_to_string(&out).unwrap();
    assert!(said.contains(r#"["say", "42", "two words", "$HOME", "", "#), "{said}");
    assert!(said.contains("stdin=\"\"") && said.contains("here=seven"), "{said}");

    // Nothing is copied twice; what changed is; a damaged copy is not used.
    let programs: Vec<PathBuf> =
        std::fs::read_dir(at("board/files")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(programs.len(), 1, "{programs:?}");
    let inode = |p: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(p).unwrap());
    let carried = at("board/tree/package/data/rows.txt");
    let before = (inode(&programs[0]), inode(&carried));
    assert_eq!(run(&["say", "0", &out]), 0);
    assert_eq!((inode(&programs[0]), inode(&carried)), before);
    std::fs::write(at("package/data/rows.txt"), "eight").unwrap();
    std::fs::write(&programs[0], "damaged").unwrap();
    assert_eq!(run(&["say", "0", &out]), 0);
    assert!(std::fs::read_to_string(&out).unwrap().contains("here=eight"));

    // Criterion's files come home; a link does not.
    assert_eq!(run(&["--bench", "0"]), 0);
    assert!(at("target/criterion/group/new/estimates.json").is_file());
    assert!(!at("target/criterion/link").exists());
    assert!(at("board/criterion/link").exists());
    // A program that a signal ends.
    assert_eq!(run(&["panic"]), 101);
}

#[test]
fn a_program_for_another_processor_is_not_sent() {
    let Some(sshd) = Sshd::start("a_program_for_another_processor_is_not_sent") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let other: u16 = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    bytes[18..20].copy_from_slice(&other.to_le_bytes());
    let program = folder.path().join("program");
    std::fs::write(&program, bytes).unwrap();
    let board = folder.path().join("board").display().to_string();
    let (ssh, host) = (sshd.ssh(), sshd.host());
    let remote = Remote { ssh: &ssh, host: &host, folder: &board, carry: &[], env: &[] };
    let error = remote.run(folder.path(), &program, &[]).unwrap_err();
    assert!(matches!(error, RunError::Machine { .. }), "{error}");
    assert!(error.to_string().contains("--target"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path().join("board/files")).unwrap().count(), 0);
}

/// Not a test by itself: what `interrupting_ends_the_program_there_too` starts as a process of its own.
#[test]
fn runs_as_a_child() {
    let Some(text) = std::env::var_os("KINGLET_TEST_CHILD") else { return };
    let text = text.into_string().unwrap();
    let [config, board, program, out] = text.split('\n').collect::<Vec<_>>()[..] else { panic!() };
    let ssh = kinglet_deploy::ssh::Ssh::default().with_config(Some(config.into()));
    let host = "board".parse().unwrap();
    let remote = Remote { ssh: &ssh, host: &host, folder: board, carry: &[], env: &[] };
    remote.run(Path::new("/"), Path::new(program), &words(&["sleep", "0", out])).unwrap();
}

#[test]
fn interrupting_ends_the_program_there_too() {
    let Some(sshd) = Sshd::start("interrupting_ends_the_program_there_too") else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), Path::new("rustc"), &[]).expect("rustc compiles");
    let board = folder.path().join("board");
    for signal in ["-INT", "-KILL"] {
        let out = folder.path().join("pid");
        let text =
            [&sshd.config(), &board, &program, &out].map(|p| p.display().to_string()).join("\n");
        // Whoever starts the tests in the background ignores SIGINT, and with it all that they start.
        let mut child = Command::new("env")
            .arg("--default-signal=INT")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "runs_as_a_child"])
            .env("KINGLET_TEST_CHILD", text)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = || std::fs::read_to_string(&out).unwrap_or_default();
        until("the program runs", || !pid().is_empty());
        let there = PathBuf::from(format!("/proc/{}", pid()));
        assert!(there.exists());
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert!(!child.wait().unwrap().success());
        until("the program has ended", || !there.exists());
        std::fs::remove_file(&out).unwrap();
    }
}

#[test]
fn an_aarch64_program_runs_in_the_emulator() {
    let skip =
        |why: &str| println!("an_aarch64_program_runs_in_the_emulator: skipped, because {why}");
    if programs::find("qemu-aarch64-static").is_none() {
        return skip("qemu-user-static is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let options = [
        "--target",
        "aarch64-unknown-linux-gnu",
        "-C",
        "linker=aarch64-linux-gnu-gcc",
        "-C",
        "target-feature=+crt-static",
    ];
    let compilers = ["rustc", "/usr/bin/rustc"];
    let compiled =
        compilers.iter().find_map(|rustc| compile(folder.path(), Path::new(rustc), &options));
    let Some(program) = compiled else { return skip("no compiler for it is installed") };
    let out = folder.path().join("out").display().to_string();
    let code = emulate("cortex-a53", &program, &words(&["say", "5", "two words", &out])).unwrap();
    assert_eq!(code, 5);
    let said = std::fs::read_to_string(&out).unwrap();
    assert!(said.contains("\"two words\"") && said.contains("stdin=\"\""), "{said}");
}

#[test]
fn what_cannot_be_emulated_says_why() {
    let this = std::env::current_exe().unwrap();
    if cfg!(target_arch = "x86_64") {
        let error = emulate("cortex-a53", &this, &[]).unwrap_err().to_string();
        assert!(error.contains("--target aarch64"), "{error}");
    }
    assert!(emulate("cortex-a53", Path::new("/etc/hostname"), &[]).is_err());
}
