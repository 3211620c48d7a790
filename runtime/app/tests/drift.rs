//! `kinglet watch` with a model that has a reference: what differs from it is said, and pictures
//! that the model is unsure of are kept.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use kinglet_engine::OnnxFile;
use kinglet_engine::drift::{Bins, Classes, LOOKS, Means, Reference, Threshold};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Of pictures that were all of class 7, none of which it was unsure of, and that looked like none.
fn reference(looks: f64) -> Reference {
    let mut whiten = vec![0.0; LOOKS * LOOKS];
    (0..LOOKS).for_each(|at| whiten[at * (LOOKS + 1)] = 1.0);
    Reference {
        pictures: 100,
        confidence: Bins { edges: vec![0.01], counts: vec![0, 100] },
        unsure: 1.0,
        classes: Some(Classes { own: vec![7], seen: vec![], shares: vec![0.98, 0.01, 0.01] }),
        looks: Means { mean: vec![0.0; LOOKS], whiten },
        features: None,
        thresholds: vec![Threshold {
            window: 64,
            confidence: 1.0,
            classes: 1.0,
            looks,
            features: 0.0,
        }],
    }
}

/// Runs over the photographs for a while; gives what it said.
fn watch(model: &Path, drift: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (config, camera) = (folder.path().join("k.toml"), repository().join("tests/photographs"));
    let text = format!(
        "model = {model:?}\n[camera]\nsource = {camera:?}\nrepeat = true\n[drift]\n{drift}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
    command.args(["watch", "--seconds", "4", "--config"]).arg(&config);
    let output = command.output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_differs_is_said_and_what_is_uncertain_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = repository().join("models/efficientnet-lite0-int8.onnx");
    let model = folder.path().join("m.onnx");
    let kept = folder.path().join("kept");
    let seal = |reference: &Reference| {
        let mut file = OnnxFile::read(&shipped).unwrap();
        let mut metadata = file.metadata().unwrap();
        metadata.drift = Some(reference.clone());
        metadata.write(&mut file.proto);
        std::fs::write(&model, file.to_bytes()).unwrap();
    };
    seal(&reference(1e30));
    let often = "window = 64\nevery_ms = 0\nkeep_every_ms = 500\nfree_mib = 1\n";
    let said = watch(&model, &format!("{often}folder = {kept:?}"));
    assert!(said.contains("drift: other classes than at calibration"), "{said}");
    let pictures = std::fs::read_dir(&kept).unwrap().count();
    assert!((2..=10).contains(&pictures), "{pictures}: one each half second");
    seal(&reference(1.0));
    let said = watch(&model, often);
    let both = "drift: the pictures look different; other classes than at calibration";
    assert!(said.contains(both), "{said}");
    // Without a reference it says so, and with a window of another size too.
    let said = watch(&shipped, &format!("folder = {kept:?}"));
    assert!(said.contains("the model has no reference"), "{said}");
    let said = watch(&model, "window = 65");
    assert!(said.contains("drift: window 65: one of 64, 128"), "{said}");
}
