//! Accuracy on real photographs: needs the folder that the variable `KINGLET_DATA` names.

#![allow(clippy::print_stderr)]

use std::path::{Path, PathBuf};

use kinglet_compress::dataset;
use kinglet_compress::evaluate::{EvaluateOptions, evaluate};
use kinglet_engine::OnnxFile;

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("KINGLET_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: KINGLET_DATA names no folder with validation/labels.csv");
    }
    folder
}

#[test]
fn the_int8_model_classifies_photographs() {
    let Some(data) = data() else { return };
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx");
    let file = OnnxFile::read(&model).unwrap_or_else(|e| panic!("{e}"));
    let labels = file.metadata().unwrap().labels.unwrap_or_default();
    let samples = dataset::labelled(&data.join("validation"), &labels, 1000).unwrap();
    let result = evaluate(&file, &samples, &EvaluateOptions::default(), &|| ()).unwrap();
    assert_eq!(result.n, 1000);
    assert!(result.top1() >= 0.892, "top-1 {}", result.top1());
}
