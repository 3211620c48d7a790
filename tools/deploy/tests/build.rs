//! Building for boards: static, and the same bytes from any folder.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;

use kinglet_deploy::build::{self, Build, BuildError, Built, Checked, Here, Toolchain, World};
use kinglet_deploy::{elf::Machine, programs};

/// A program of two packages, with what puts folders' names into programs: panics, a build script, a macro's file.
const FILES: [(&str, &str); 6] = [
    (
        "Cargo.toml",
        "[workspace]\nmembers = [\"app\", \"part\"]\nresolver = \"3\"\n[profile.release]\ndebug = 1\n",
    ),
    (
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"part\",\n]\n\n\
         [[package]]\nname = \"part\"\nversion = \"0.1.0\"\n",
    ),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n\
         part = { path = \"../part\" }\n",
    ),
    (
        "app/src/main.rs",
        "fn main() { let n = std::env::args().count(); println!(\"{} {} {}\", part::half(n), file!(), part::MADE);\
         if n > 5 { std::process::exit(9) } }\n",
    ),
    (
        "part/Cargo.toml",
        "[package]\nname = \"part\"\nversion = \"0.1.0\"\nedition = \"2024\"\nbuild = \"build.rs\"\n",
    ),
    (
        "part/src/lib.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n\
         pub fn half(n: usize) -> usize { if n == 0 { panic!(\"none\") } n.checked_div(2).unwrap() }\n",
    ),
];
const SCRIPT: &str = "fn main() { let out = std::env::var(\"OUT_DIR\").unwrap(); let made = \
    \"pub static MADE: &str = file!();\"; std::fs::write(out + \"/made.rs\", made).unwrap(); }\n";

/// This machine, without its network.
struct Offline(Here);

impl World for Offline {
    fn program(&self, name: &str) -> Option<PathBuf> {
        self.0.program(name)
    }
    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        self.0.output(program, arguments)
    }
    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }
    fn add_target(&self, _: &Path, _: &str) -> bool {
        false
    }
}

fn toolchain(test: &str, triple: &str) -> Option<Toolchain> {
    match build::find(&Offline(Here(std::env::temp_dir())), triple, (1, 85)) {
        Ok(toolchain) => Some(toolchain),
        Err(error) => {
            eprintln!("{test}: skipped, because {error}");
            None
        }
    }
}

fn write(folder: &Path) {
    for (name, text) in FILES.iter().chain(&[("part/build.rs", SCRIPT)]) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn build(source: &Path, triple: &str, toolchain: &Toolchain) -> Result<Built, BuildError> {
    Build { source, triple, profile: "release", bin: "app", target_dir: None }.run(toolchain)
}

fn same_from_two_folders(test: &str, triple: &str, cores: &[&str]) {
    let Some(toolchain) = toolchain(test, triple) else { return };
    let folder = tempfile::tempdir().unwrap();
    let folders = [folder.path().join("a"), folder.path().join("quite another/and deeper one")];
    let built = folders.map(|folder| {
        write(&folder);
        build(&folder, triple, &toolchain).unwrap()
    });
    assert_eq!(built[0].sha256, built[1].sha256, "two builds differ: {built:?}");
    assert_eq!(std::fs::read(&built[0].path).unwrap(), std::fs::read(&built[1].path).unwrap());
    assert!(built[0].elf.is_static(), "{built:?}");
    assert_eq!(Some(built[0].elf.machine), Machine::of_triple(triple));
    assert!(built[0].paths_inside.is_empty(), "{built:?}");
    let emulator =
        if triple.starts_with("arm") { "qemu-arm-static" } else { "qemu-aarch64-static" };
    let Some(emulator) = programs::find(emulator) else { return };
    for core in cores {
        let mut run = Command::new(&emulator);
        run.args(["-cpu", core]).arg(&built[0].path).args(["1", "2", "3"]);
        let output = run.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && said.starts_with("2 app/src/main.rs "),
            "{core}: {said}"
        );
        assert!(!said.contains(&folder.path().display().to_string()), "{said}");
    }
}

#[test]
fn two_builds_for_aarch64_are_the_same_bytes() {
    let cores = ["cortex-a53", "cortex-a72", "cortex-a76"];
    let test = "two_builds_for_aarch64_are_the_same_bytes";
    same_from_two_folders(test, "aarch64-unknown-linux-gnu", &cores);
}

#[test]
fn two_builds_for_armv7_are_the_same_bytes() {
    let test = "two_builds_for_armv7_are_the_same_bytes";
    same_from_two_folders(test, "armv7-unknown-linux-gnueabihf", &["cortex-a7", "cortex-a15"]);
}

#[test]
fn a_folder_in_the_program_is_found_and_a_program_that_does_not_compile_is_an_error() {
    let test = "a_folder_in_the_program_is_found_and_a_program_that_does_not_compile_is_an_error";
    let triple = "aarch64-unknown-linux-gnu";
    let Some(toolchain) = toolchain(test, triple) else { return };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let main = folder.path().join("app/src/main.rs");
    std::fs::write(&main, "fn main() { println!(\"{}\", env!(\"CARGO_MANIFEST_DIR\")); }\n")
        .unwrap();
    let built = build(folder.path(), triple, &toolchain).unwrap();
    assert_eq!(built.paths_inside, [folder.path()]);
    std::fs::write(&main, "fn main() { nonsense }\n").unwrap();
    let error = build(folder.path(), triple, &toolchain).unwrap_err();
    assert!(matches!(error, BuildError::Failed), "{error}");
}

#[test]
fn what_cannot_be_checked_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let checked = build::self_test(&this, folder.path(), |_| {}).unwrap();
    assert!(matches!(&checked[..], [Checked::Not(_)]), "{checked:?}");
}

/// The whole program, twice: half an hour and more on two cores.
/// `cargo test --release -p kinglet-deploy --test build -- --ignored --nocapture`
#[test]
#[ignore = "builds the whole program twice"]
fn two_builds_of_the_whole_program_are_the_same_bytes() {
    let test = "two_builds_of_the_whole_program_are_the_same_bytes";
    let triple = "aarch64-unknown-linux-gnu";
    let Some(toolchain) = toolchain(test, triple) else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut hashes = Vec::new();
    for name in ["one", "another/one"] {
        let copy = folder.path().join(name);
        let cloned =
            Command::new("git").args(["clone", "-q"]).arg(&root).arg(&copy).status().unwrap();
        assert!(cloned.success());
        let build =
            Build { source: &copy, triple, profile: "release", bin: "kinglet", target_dir: None };
        let built = build.run(&toolchain).unwrap();
        assert!(built.paths_inside.is_empty(), "{built:?}");
        eprintln!("{}: {} bytes, sha256 {}", copy.display(), built.bytes, built.sha256);
        let model = copy.join("models/efficientnet-lite0-int8.onnx");
        for checked in build::self_test(&built.path, &model, |c| eprintln!("{c:?}")).unwrap() {
            assert!(matches!(checked, Checked::On { outcome: Ok(_), .. } | Checked::Not(_)));
        }
        hashes.push(built.sha256);
    }
    assert_eq!(hashes[0], hashes[1]);
}
