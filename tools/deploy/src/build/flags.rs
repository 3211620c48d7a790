//! Flags that make a program the same wherever it is built: no folder's name gets into it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Toolchain;

/// A folder of this machine, and the name that stands for it in the program.
pub(super) type Map = (PathBuf, &'static str);

/// What every folder that compilers see is called. Later ones win over earlier ones.
pub(super) fn path_maps(
    source: &Path,
    target_dir: Option<&Path>,
    toolchain: &Toolchain,
) -> Vec<Map> {
    let mut maps = vec![(toolchain.sysroot.join("lib/rustlib/src/rust"), "/rustc")];
    maps.extend(cargo_home().map(|home| (home, "/cargo")));
    maps.push((source.to_owned(), "/kinglet"));
    maps.push((source.join("target"), "/kinglet/target"));
    maps.extend(target_dir.map(|folder| (folder.to_owned(), "/kinglet/target")));
    maps
}

/// rustc's flags, as `CARGO_ENCODED_RUSTFLAGS` has them: no shared library, no symbols, no folder's name.
///
/// Nothing is said about the processor: the program runs on every one of its triple, and chooses its kernels when it
/// starts. `lld` is the folder of LLVM's linker, which makes one of functions that are alike.
pub(super) fn rustflags(maps: &[Map], lld: Option<&Path>) -> OsString {
    let mut flags = OsString::from("-Ctarget-feature=+crt-static\x1f-Cstrip=symbols");
    // Of code that is made small, LLVM makes functions of what recurs. Each has entries of 36 bytes in the
    // tables of unwinding, which LLVM does not count.
    flags.push("\x1f-Cllvm-args=--outliner-benefit-threshold=40");
    for (from, to) in maps {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    if let Some(lld) = lld {
        flags.push("\x1f-Clink-arg=-fuse-ld=lld\x1f-Clink-arg=-Wl,--icf=all\x1f-Clink-arg=-B");
        flags.push(lld);
    }
    flags
}

/// The C compiler's flags for the same; folders with a space cannot be said there.
pub(super) fn cflags(maps: &[Map]) -> String {
    let texts = maps.iter().filter_map(|(from, to)| Some((from.to_str()?, to)));
    let texts = texts.filter(|(from, _)| !from.contains(char::is_whitespace));
    texts.map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect::<Vec<_>>().join(" ")
}

/// Folders whose names should not be in the program.
pub(super) fn private_folders(source: &Path) -> Vec<PathBuf> {
    let mut folders = vec![source.to_owned()];
    folders.extend(cargo_home());
    folders
}

fn cargo_home() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}
