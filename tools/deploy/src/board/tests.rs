//! The boards of the repository, and files that are refused.

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../targets")
}

#[test]
fn every_board_of_the_repository_is_well_described() {
    let boards = Board::read_all(&repository()).unwrap();
    assert_eq!(Board::built_in().unwrap(), boards);
    let names: Vec<&str> = boards.iter().map(|b| b.name.as_str()).collect();
    for expected in ["armv7", "generic-aarch64", "pi-zero2w", "pi3", "pi4", "pi5", "virt"] {
        assert!(names.contains(&expected), "{names:?}");
    }
    for board in &boards {
        let has = |feature: &str| board.cpu.features.iter().any(|f| f == feature);
        assert_eq!(has("dotprod"), board.kernels.int8 == "neon-dot", "{}", board.name);
        assert_eq!(has("fp16"), board.kernels.f16 == "neon-fp16", "{}", board.name);
        assert!(!board.source.is_empty() && !board.title.is_empty());
        assert!(crate::elf::Machine::of_triple(&board.triple).is_some(), "{}", board.triple);
    }
}

/// The kernels that a file expects are those that the program says it would choose there.
#[test]
fn what_is_expected_is_what_the_kernels_have() {
    let isa = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/kernels/src/isa.rs");
    let code = std::fs::read_to_string(isa).unwrap();
    for board in Board::read_all(&repository()).unwrap() {
        for name in [&board.kernels.best, &board.kernels.int8, &board.kernels.f32] {
            assert!(code.contains(&format!("\"{name}\"")), "{}: {name}", board.name);
        }
    }
}

fn refused(change: impl Fn(&str) -> String) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(repository().join("pi4.toml")).unwrap();
    let path = folder.path().join("pi4.toml");
    std::fs::write(&path, change(&text)).unwrap();
    let error = Board::read(&path).unwrap_err().to_string();
    assert!(error.contains("pi4.toml"), "{error}");
    error
}

#[test]
fn a_wrong_field_is_named_with_its_file() {
    for (from, to, said) in [
        ("name = \"pi4\"", "name = \"pi9\"", "not the file's name"),
        ("title", "colour = 1\ntitle", "colour"),
        ("cores = 4", "cores = 0", "cpu.cores"),
        ("\"csi\"", "\"film\"", "film"),
        ("int8 = \"neon\"", "int8 = \"avx2\"", "kernels.int8"),
        ("triple = \"aarch64", "triple = \"mips64", "mips64"),
        ("boot_mib = 16", "boot_mib = 1", "image.boot_mib"),
        ("\"start4.elf\"", "\"../x\"", "../x"),
        ("dtb = [", "dtb = []\nother = [", "other"),
        ("console = \"tty", "console = \"a b", "image.console"),
        ("latency_ms = 74.0", "latency_ms = -1.0", "latency_ms"),
        ("precision = \"f32\"", "precision = \"f8\"", "precision"),
        ("memory_mib = [1024", "memory_mib = [0", "memory_mib"),
    ] {
        let error = refused(|text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        assert!(error.contains(said), "{to}: {error}");
    }
}

#[test]
fn an_unknown_board_is_answered_with_those_there_are() {
    assert_eq!(Board::find(&repository(), "pi5").unwrap().cpu.core, "cortex-a76");
    let error = Board::find(&repository(), "pi17").unwrap_err().to_string();
    assert!(error.contains("pi17") && error.contains("pi-zero2w, pi3"), "{error}");
}
