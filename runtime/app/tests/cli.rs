//! The program as people and scripts use it: output, exit codes, bad input.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn photograph(name: &str) -> String {
    repository().join("tests/photographs").join(name).display().to_string()
}

fn kinglet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kinglet"))
        .args(arguments)
        .current_dir(repository())
        .env_remove("KINGLET_MODEL")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_photograph_is_classified_by_the_model_of_the_repository() {
    let output = kinglet(&["classify", &photograph("coffee.png")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("espresso"), "{}", stdout(&output));
    assert!(stderr(&output).contains("efficientnet-lite0-int8.onnx"), "{}", stderr(&output));
}

#[test]
fn json_is_one_line_a_picture() {
    let folder = repository().join("tests/photographs");
    let output = kinglet(&["classify", "--json", "--top", "2", folder.to_str().unwrap()]);
    let text = stdout(&output);
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        let top = line["top"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert!(top[0]["score"].as_f64().unwrap() >= top[1]["score"].as_f64().unwrap());
        assert!(top[0]["index"].is_u64() && top[0]["label"].is_string());
        assert!(line["latency_ms"].as_f64().unwrap() > 0.0 && line["image"].is_string());
    }
}

#[test]
fn a_bad_picture_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.jpg");
    std::fs::write(&text, "this is no picture").unwrap();
    let (text, missing) = (text.to_str().unwrap(), "/no/such/picture.png");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let good = photograph("coffee.png");
    let output = kinglet(&["classify", text, missing, empty.to_str().unwrap(), &good]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("espresso"), "the good one is done");
    let errors = stderr(&output);
    assert!(errors.contains("text.jpg") && errors.contains("neither"), "{errors}");
    assert!(errors.contains(missing) && errors.contains("no pictures"), "{errors}");
}

#[test]
fn wrong_usage_is_2_and_a_refused_model_3() {
    let good = photograph("coffee.png");
    assert_eq!(kinglet(&["classify"]).status.code(), Some(2));
    assert_eq!(kinglet(&["classify", "--threads", "0", &good]).status.code(), Some(2));
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::write(&model, "no model").unwrap();
    for arguments in [
        vec!["classify", "--model", model.to_str().unwrap(), &good],
        vec!["bench", "--model", "/no/such/model.onnx"],
        vec!["verify", folder.path().to_str().unwrap()],
        vec!["inspect", model.to_str().unwrap()],
    ] {
        let output = kinglet(&arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("refused"), "{}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn a_model_without_preprocessing_says_what_to_do() {
    let model = repository().join("tests/golden/operators/qdq_swish.onnx");
    let output = kinglet(&["classify", "-m", model.to_str().unwrap(), &photograph("coffee.png")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("--preprocess"), "{}", stderr(&output));
}

#[test]
fn a_picture_under_the_threshold_is_called_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = repository().join("models/efficientnet-lite0-int8.onnx");
    let mut file = kinglet_engine::OnnxFile::read(&shipped).unwrap();
    let mut metadata = file.metadata().unwrap();
    let path = folder.path().join("m.onnx");
    let model = path.to_str().unwrap();
    for (threshold, expected) in [(0.01, false), (0.99, true)] {
        metadata.unknown_below = Some(threshold);
        metadata.write(&mut file.proto);
        std::fs::write(&path, file.to_bytes()).unwrap();
        let classify = ["classify", "-m", model, &photograph("chelsea.png")];
        let text = stdout(&kinglet(&classify));
        assert_eq!(text.contains("unknown, perhaps:"), expected, "{text}");
        let output = kinglet(&[&classify[..], &["--json"]].concat());
        let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(line["unknown"], expected);
    }
}

#[test]
fn an_unknown_instruction_set_names_those_there_are() {
    let output = kinglet(&["bench", "--isa", "sse9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("scalar"), "{}", stderr(&output));
}

#[test]
fn bench_prints_the_keys_that_scripts_read() {
    let output = kinglet(&["bench", "--runs", "3", "--threads", "1", "--json"]);
    let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
    for key in ["min", "median", "p90", "p99", "load", "rss"] {
        assert!(line[key].as_f64().unwrap() > 0.0, "{key} in {line}");
    }
    assert!(line["min"].as_f64() <= line["median"].as_f64());
}

#[test]
fn verify_and_inspect_tell_the_truth_about_the_shipped_model() {
    let output = kinglet(&["verify", "--require-int8"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("samples give the expected outputs"));
    let output = kinglet(&["inspect", "--json", "--time"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["int8_macs"], 385_187_552);
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.iter().all(|l| l["data_type"] == "int8" && l["time_us"].is_f64()));
}

#[test]
fn completions_and_manual_pages_are_made() {
    let output = kinglet(&["completions", "bash"]);
    assert!(stdout(&output).contains("classify"));
    let folder = tempfile::tempdir().unwrap();
    assert!(kinglet(&["man", folder.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(folder.path().join("kinglet-classify.1")).unwrap();
    assert!(page.contains(r"\-\-top"), "{page}");
}

#[test]
fn choices_are_kept_beside_the_model_taken_up_and_never_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.onnx");
    std::fs::copy(repository().join("models/efficientnet-lite0-int8.onnx"), &model).unwrap();
    let file = folder.path().join("m.tune.toml");
    let model = model.to_str().unwrap();
    let tune = |more: &[&str]| {
        let arguments = ["tune", model, "--threads", "1", "--runs", "4"];
        let output = kinglet(&[&arguments[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    assert!(tune(&["--dry-run"]).contains("whole model"));
    assert!(!file.exists(), "a dry run writes nothing");
    assert!(tune(&[]).contains("wrote"));
    let inspect = |threads| kinglet(&["inspect", model, "--threads", threads]);
    assert!(stdout(&inspect("1")).contains("tuned: "), "{}", stdout(&inspect("1")));
    let other = inspect("2");
    assert_eq!(other.status.code(), Some(0));
    assert!(stderr(&other).contains("m.tune.toml is not used: made for"), "{}", stderr(&other));
    std::fs::write(&file, "layers = [").unwrap();
    let output = kinglet(&["bench", "--model", model, "--threads", "1", "--runs", "1"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    let output = kinglet(&["inspect", model, "--threads", "1", "--untuned"]);
    assert!(stderr(&output).is_empty() && !stdout(&output).contains("tuned: "));
}
