//! Puts the boards of targets/ into the library: an installed program knows them too; and what this
//! machine is called by Rust.
#![allow(missing_docs, clippy::print_stdout)]

use std::fmt::Write;
use std::path::Path;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=../../targets");
    let this = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=KINGLET_THIS_MACHINE={this}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../targets").canonicalize()?;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut list = "[".to_owned();
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        let _ = writeln!(list, "({name:?}, include_str!({path:?})),");
    }
    list.push(']');
    let out = std::env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?;
    std::fs::write(Path::new(&out).join("boards.rs"), list)
}
