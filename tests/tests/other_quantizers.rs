//! Models made by onnxruntime's quantizer keep the float model's accuracy in our engine.
//!
//! Needs `KINGLET_DATA` with `validation/`, and the models in `../peers/models` beside it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::{OnnxFile, Options, Picture, Session};
use kinglet_tests::data;

/// Top-1 of the float model on the same photographs.
const FLOAT_TOP1: f64 = 0.895;
/// Three photographs of a thousand (and a rounding error of the division).
const MARGIN: f64 = 0.003 + 1e-9;

fn top1(name: &str) -> Option<f64> {
    let data = data(name)?;
    let path = data.join("../peers/models").join(name);
    if !path.is_file() {
        eprintln!("{name}: skipped, because {} is not there", path.display());
        return None;
    }
    let mut file = OnnxFile::read(&path).unwrap();
    let mut metadata = file.metadata().unwrap();
    metadata.preprocess = Some(Preprocess {
        size: [224, 224],
        filter: Filter::Bicubic,
        crop: Crop::Center { fraction: 0.875 },
        mean: [127.0; 3],
        std: [128.0; 3],
        channels: Channels::Rgb,
    });
    metadata.write(&mut file.proto);
    let options = Options { threads: 2, require_int8: true, ..Options::default() };
    let mut session = Session::new(file, &options).unwrap();
    let folder = data.join("validation");
    let labels = std::fs::read_to_string(folder.join("labels.csv")).unwrap();
    let rows: Vec<(&str, usize)> = labels
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .map(|(file, class)| (file, class.trim().parse().unwrap()))
        .collect();
    let right = rows
        .iter()
        .filter(|(file, class)| {
            let picture = Picture::read(&folder.join(file)).unwrap();
            session.classify(&picture).unwrap().top(1)[0].index == *class
        })
        .count();
    let top1 = right as f64 / rows.len() as f64;
    println!("{name}: top-1 {top1:.4} of {} photographs", rows.len());
    Some(top1)
}

/// Where 16-bit sums saturate this model falls to 0.860.
#[test]
fn eight_bit_weights_do_not_saturate() {
    if let Some(top1) = top1("lite0_qdq_u8s8.onnx") {
        assert!(top1 >= FLOAT_TOP1 - MARGIN, "{top1}");
    }
}

/// Weights of seven bits: the residuals are added before rounding here, which keeps what the file's
/// own roundings would lose.
#[test]
fn seven_bit_weights_run_right() {
    if let Some(top1) = top1("lite0_qdq_u8s7.onnx") {
        assert!(top1 >= FLOAT_TOP1 - MARGIN, "{top1}");
    }
}
