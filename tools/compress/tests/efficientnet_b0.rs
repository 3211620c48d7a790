//! int8 of a trained EfficientNet-B0, the network that plain quantization ruins: needs its weights
//! (`KINGLET_B0` names a .pth) and the folder that `KINGLET_DATA` names.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use kinglet_compress::arch::Arch;
use kinglet_compress::classifier::Classifier;
use kinglet_compress::dataset;
use kinglet_compress::import::{ImportOptions, import_weights};
use kinglet_compress::quantize::{Calibrator, Cures, Event, QuantizeOptions, quantize};
use kinglet_compress::retrain::{self, Dataset, RetrainOptions};
use kinglet_engine::onnx::ValueInfoProto;
use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::{OnnxFile, Options, Picture, Session};

/// Value before the classifier.
const FEATURES: &str = "pool.out";

fn setting(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {name} is not set (KINGLET_B0: weights of an EfficientNet-B0, .pth)");
    }
    path
}

/// What a model makes of pictures before its classifier.
fn features(file: &OnnxFile, pictures: &[PathBuf]) -> Vec<Vec<f32>> {
    let mut file = file.clone();
    let made = |name: &str| file.graph().node.iter().any(|n| n.output[0] == name);
    let dequantized = format!("{FEATURES}.dequantized");
    let name = if made(&dequantized) { dequantized } else { FEATURES.to_owned() };
    let mut output = ValueInfoProto { name, ..file.graph().output[0].clone() };
    if let Some(kinglet_engine::onnx::type_proto::Value::TensorType(tensor)) =
        output.r#type.as_mut().and_then(|t| t.value.as_mut())
    {
        tensor.shape = None;
    }
    file.graph_mut().output.push(output);
    file.proto.metadata_props.retain(|p| p.key != "kinglet.golden");
    let preprocess = file.metadata().unwrap().preprocess.unwrap();
    let options = Options { self_test: false, ..Options::default() };
    let mut session = Session::new(file, &options).unwrap();
    let mut preprocessor = Preprocessor::new(&preprocess, session.input_kind()).unwrap();
    let mut tensor = preprocessor.tensor();
    let one = |path: &PathBuf| {
        preprocessor.run(&Picture::read(path).unwrap(), &mut tensor);
        session.run_all(&tensor).unwrap().pop().unwrap().1
    };
    pictures.iter().map(one).collect()
}

fn mean_cosine(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    a.iter().zip(b).map(cosine).sum::<f64>() / a.len() as f64
}

/// A classifier of ants and bees on the float features, as `retrain` makes it: its penalty is chosen
/// by cross-validation on the pictures to learn from.
fn head(float: &OnnxFile, folder: &Path) -> Classifier {
    let options = RetrainOptions::default();
    let mut data = Dataset::read(folder, 0.2, 0).unwrap();
    let features = retrain::features(float, &mut data, &options, &|| ()).unwrap();
    let trained = retrain::train(&features, data.classes.len(), &options, &|| ());
    let new = retrain::finish(float, "", &data, &features, &trained, &options, &|| ()).unwrap();
    Classifier::find(&new.file).unwrap()
}

/// The class that it takes each picture for.
fn answers(head: &Classifier, features: &[Vec<f32>]) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let score = |class: usize, row: &[f32]| {
        dot(&head.weights[class * head.width..][..head.width], row) + head.bias[class]
    };
    features.iter().map(|row| usize::from(score(1, row) > score(0, row))).collect()
}

fn same(a: &[usize], b: &[usize]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

#[test]
fn the_default_command_mends_what_plain_quantization_ruins() {
    let (Some(weights), Some(data)) = (setting("KINGLET_B0"), setting("KINGLET_DATA")) else {
        return;
    };
    let arch = Arch::find("efficientnet-b0").unwrap();
    let float = import_weights(arch, &weights, &ImportOptions::default()).unwrap();
    let calibration: Vec<PathBuf> = dataset::pictures(&data.join("calibration")).unwrap();
    let validation: Vec<PathBuf> = dataset::pictures(&data.join("validation")).unwrap();
    let validation: Vec<PathBuf> = validation.into_iter().step_by(4).collect();
    let ants_and_bees = data.join("ants-bees");
    let samples = dataset::labelled(&ants_and_bees.join("val"), &[], 2).unwrap();
    let (val, classes): (Vec<PathBuf>, Vec<usize>) =
        samples.into_iter().map(|s| (s.path, s.class)).unzip();

    let head = head(&float, &ants_and_bees);
    let of_float = features(&float, &validation);
    let answers_of_float = answers(&head, &features(&float, &val));
    let right_of_float = same(&answers_of_float, &classes);
    let judge = |name: &str, options: &QuantizeOptions| {
        let on = |event: Event<'_>| {
            if let Event::Step(step) = event {
                eprintln!("{name}: {step:?}");
            }
        };
        let int8 = quantize(&float, "", &calibration, options, &on).unwrap().file;
        let cosine = mean_cosine(&of_float, &features(&int8, &validation));
        let answers = answers(&head, &features(&int8, &val));
        let right = same(&answers, &classes);
        eprintln!(
            "{name}: cosine {cosine:.4}, ants and bees {right} of {} (float {right_of_float}), \
             {} answers changed",
            classes.len(),
            classes.len() - same(&answers, &answers_of_float)
        );
        (cosine, right)
    };
    let plain = QuantizeOptions {
        calibrator: Some(Calibrator::MinMax),
        cures: Cures::Only(Vec::new()),
        ..Default::default()
    };
    let (plain_cosine, plain_right) = judge("plain min-max", &plain);
    let (cosine, right) = judge("default", &QuantizeOptions::default());
    let points = |right: usize| 100.0 * right as f64 / classes.len() as f64;
    assert!(cosine >= 0.99, "{cosine}");
    assert!(points(right) >= points(right_of_float) - 1.0, "{right}, float {right_of_float}");
    // What it is measured against means something, and plain quantization does not do.
    assert!(points(right_of_float) > 70.0, "{right_of_float}");
    assert!(plain_cosine < 0.9, "{plain_cosine}");
    assert!(points(plain_right) < points(right_of_float) - 5.0, "{plain_right}");
}
