//! Imported float models against onnxruntime's outputs (tests/golden/import).
//!
//! The float models are too large for the repository: `kinglet-tools fetch efficientnet-lite0`
//! puts one into the folder that `KINGLET_MODELS` names.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;

use kinglet_engine::preprocess::InputTensor;
use kinglet_engine::{Options, Picture, Session};
use kinglet_tests::{data, golden};
use serde_json::Value;

/// Largest difference of an output, relative to the largest output.
const TOLERANCE: f64 = 1e-4;

fn model(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("KINGLET_MODELS") else {
        eprintln!("{name}: skipped, because KINGLET_MODELS does not name a folder of float models");
        return None;
    };
    let path = PathBuf::from(folder).join(format!("{name}.onnx"));
    if !path.is_file() {
        eprintln!("{name}: skipped, because {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// The picture `synthetic:K`, as the f32 tensor.
fn synthetic(session: &Session, k: usize) -> InputTensor {
    let [h, w] = session.input_size();
    let preprocess = session.metadata().preprocess.clone().unwrap();
    let sample = move |c: usize, y: usize, x: usize| {
        let v = (7 * y + 13 * x + 31 * c + k * x * y) % 256;
        (v as f32 - preprocess.mean[c]) / preprocess.std[c]
    };
    let mut values = Vec::with_capacity(3 * h * w);
    for c in 0..3 {
        for y in 0..h {
            values.extend((0..w).map(|x| sample(c, y, x)));
        }
    }
    InputTensor::F32(values)
}

fn check(name: &str) {
    let Some(path) = model(name) else { return };
    let text = std::fs::read_to_string(golden(&format!("import/{name}.json"))).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let mut session = Session::load(&path, &Options { threads: 2, ..Options::default() }).unwrap();
    let photographs = data(name).map(|d| d.join("validation"));
    let mut compared = 0;
    for sample in expected["samples"].as_array().unwrap() {
        let file = sample["file"].as_str().unwrap();
        let outputs = match (file.strip_prefix("synthetic:"), &photographs) {
            (Some(k), _) => {
                let input = synthetic(&session, k.parse().unwrap());
                session.run(&input).unwrap()
            }
            (None, Some(folder)) => {
                let picture = Picture::read(&folder.join(file)).unwrap();
                session.outputs(&picture).unwrap()
            }
            (None, None) => continue,
        };
        let largest = sample["largest"].as_f64().unwrap();
        for entry in sample["top5"].as_array().unwrap() {
            let (index, value) = (entry[0].as_u64().unwrap(), entry[1].as_f64().unwrap());
            let difference = (f64::from(outputs[index as usize]) - value).abs() / largest;
            assert!(difference <= TOLERANCE, "{name}, {file}, class {index}: {difference:.2e}");
        }
        compared += 1;
    }
    println!("{name}: {compared} pictures agree");
    assert!(compared >= if photographs.is_some() { 53 } else { 3 });
}

#[test]
fn lite0_gives_the_outputs_of_onnxruntime() {
    check("efficientnet-lite0");
}

#[test]
fn lite1_gives_the_outputs_of_onnxruntime() {
    check("efficientnet-lite1");
}

#[test]
fn lite2_gives_the_outputs_of_onnxruntime() {
    check("efficientnet-lite2");
}
