//! Machines that have this and lack that.

use super::*;

const ARM64: &str = "aarch64-unknown-linux-gnu";
const ARM32: &str = "armv7-unknown-linux-gnueabihf";

/// A machine that is told what it has.
#[derive(Default)]
struct Told {
    programs: Vec<&'static str>,
    targets: Vec<&'static str>,
    network: bool,
    debian: Vec<&'static str>,
    /// Whether Rust brings its linker along.
    lld: bool,
    libc: bool,
    version: &'static str,
}

impl World for Told {
    fn program(&self, name: &str) -> Option<PathBuf> {
        self.programs.contains(&name).then(|| Path::new("/bin").join(name))
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        let name = program.to_str().unwrap_or_default();
        Some(match (name, arguments) {
            ("/usr/bin/rustc", _) if self.debian.is_empty() => return None,
            ("/bin/rustup", ["target", ..]) => self.targets.join("\n"),
            ("/bin/rustup", ["which", what]) => format!("/rustup/{what}"),
            (_, ["--version"]) => format!("rustc {}.0 (abc 2026-01-01)", self.version),
            ("/usr/bin/rustc", ["--print", "sysroot"]) => "/usr".into(),
            (_, ["--print", "sysroot"]) => "/rustup".into(),
            (_, ["-print-file-name=libc.a"]) if self.libc => "/lib/libc.a".into(),
            (_, ["-print-file-name=libc.a"]) => "libc.a".into(),
            other => panic!("{other:?}"),
        })
    }

    fn exists(&self, path: &Path) -> bool {
        if path.ends_with("bin/gcc-ld/ld.lld") {
            return self.lld;
        }
        self.debian.iter().any(|t| path == Path::new("/usr/lib/rustlib").join(t))
    }

    fn add_target(&self, _: &Path, _: &str) -> bool {
        self.network
    }
}

fn whole() -> Told {
    Told {
        programs: vec!["rustup", "cargo", "aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc"],
        targets: vec![ARM64],
        debian: vec![ARM64],
        lld: true,
        libc: true,
        version: "1.96",
        ..Told::default()
    }
}

#[test]
fn rustup_comes_first_and_adds_what_it_lacks() {
    assert!(find(&whole(), ARM64, (1, 95)).unwrap().name.starts_with("rustup's"));
    let asked = Told { targets: vec![], network: true, ..whole() };
    assert_eq!(find(&asked, ARM64, (1, 95)).unwrap().rustc, Path::new("/rustup/rustc"));
    let armv7 = Told { network: true, ..whole() };
    assert_eq!(
        find(&armv7, ARM32, (1, 95)).unwrap().linker,
        Path::new("/bin/arm-linux-gnueabihf-gcc")
    );
}

#[test]
fn the_linker_is_rusts_or_debians_and_32_bits_need_one() {
    let lld = |world: &Told, triple| find(world, triple, (1, 95)).unwrap().lld;
    assert!(lld(&whole(), ARM64).unwrap().starts_with("/rustup/lib/rustlib"));
    let none = || Told { lld: false, network: true, ..whole() };
    assert_eq!(lld(&none(), ARM64), None);
    let error = find(&none(), ARM32, (1, 95)).unwrap_err().to_string();
    assert!(error.contains("LLVM's linker") && error.contains("sudo apt install lld"), "{error}");
    let mut other = none();
    other.programs.push("ld.lld");
    assert_eq!(lld(&other, ARM32).unwrap(), Path::new("/bin"));
}

#[test]
fn debian_stands_in_where_rustup_cannot_download_or_is_not_there() {
    let closed = Told { targets: vec![], ..whole() };
    let found = find(&closed, ARM64, (1, 95)).unwrap();
    assert!(found.name.starts_with("Debian's") && found.rustc == Path::new("/usr/bin/rustc"));
    let bare = Told { programs: vec!["cargo", "aarch64-linux-gnu-gcc"], ..whole() };
    assert_eq!(find(&bare, ARM64, (1, 95)).unwrap().sysroot, Path::new("/usr"));
}

#[test]
fn what_is_missing_is_said_with_the_commands_that_install_it() {
    let said = |world: Told, triple: &str| find(&world, triple, (1, 95)).unwrap_err().to_string();
    let text =
        said(Told { programs: vec!["rustup"], targets: vec![], debian: vec![], ..whole() }, ARM64);
    assert!(text.contains("rustup target add aarch64-unknown-linux-gnu"), "{text}");
    assert!(text.contains("apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"), "{text}");
    let text = said(Told { libc: false, ..whole() }, ARM64);
    assert!(text.contains("static C library") && !text.contains("rustup target"), "{text}");
    let text = said(whole(), ARM32);
    assert!(text.contains("rustup target add armv7-unknown-linux-gnueabihf"), "{text}");
    let text = said(Told { programs: vec![], debian: vec![], ..whole() }, ARM32);
    assert!(text.contains("sh.rustup.rs") && text.contains("libstd-rust-dev:armhf"), "{text}");
    let text = said(Told { version: "1.85", ..whole() }, ARM64);
    assert!(text.contains("older than Rust 1.95") && text.contains("rustup update"), "{text}");
    assert!(said(whole(), "riscv64gc-unknown-linux-gnu").contains("aarch64, armv7"));
    assert!(said(whole(), "aarch64-apple-darwin").contains("aarch64, armv7"));
}
