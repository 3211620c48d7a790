//! New classes on frozen backbones: small random networks and coloured pictures, and the shipped model
//! on photographs.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod tiny;

use std::path::Path;

use kinglet_compress::classifier::Classifier;
use kinglet_compress::quantize::{QuantizeOptions, quantize};
use kinglet_compress::retrain::{
    self, Dataset, Optimizer, RetrainError, RetrainOptions, Retrained,
};
use kinglet_engine::{OnnxFile, tensor};
use tiny::Net;

const PARENT: &str = "00ff";
const COLORS: [&str; 3] = ["blue", "green", "red"];

/// Folders of pictures that differ by colour, `n` of each class.
fn colors(dir: &Path, classes: &[&str], n: u64) {
    for class in classes {
        let at = COLORS.iter().position(|c| c == class).unwrap_or(0);
        let folder = dir.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for seed in 0..n {
            let mut picture = tiny::picture(seed * 10 + at as u64);
            for pixel in picture.rgb_mut().chunks_exact_mut(3) {
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = *value / 2 + if c == 2 - at % 3 { 110 } else { 20 };
                }
            }
            let (width, height) = (picture.width(), picture.height());
            let color = image::ExtendedColorType::Rgb8;
            let path = folder.join(format!("{seed}.png"));
            image::save_buffer(path, picture.rgb(), width, height, color).unwrap();
        }
    }
}

fn int8(file: &OnnxFile) -> OnnxFile {
    let folder = tempfile::tempdir().unwrap();
    let pictures = tiny::write_pictures(folder.path(), 12);
    quantize(file, PARENT, &pictures, &QuantizeOptions::default(), &|_| ()).unwrap().file
}

fn run(file: &OnnxFile, dir: &Path, options: &RetrainOptions) -> Result<Retrained, RetrainError> {
    retrain::check(file)?;
    let mut data = Dataset::read(dir, 0.25, options.seed)?;
    let features = retrain::features(file, &mut data, options, &|| ())?;
    let trained = retrain::train(&features, data.classes.len(), options, &|| ());
    retrain::finish(file, PARENT, &data, &features, &trained, options, &|| ())
}

#[test]
fn float_and_int8_backbones_learn_new_classes() {
    let folder = tempfile::tempdir().unwrap();
    colors(folder.path(), &COLORS, 16);
    for (name, float) in [("lite", tiny::lite(1)), ("swish", tiny::swish(2))] {
        for (file, is_int8) in [(int8(&float), true), (float, false)] {
            for hidden in [None, Some(8)] {
                let options = RetrainOptions { hidden, ..Default::default() };
                let new = run(&file, folder.path(), &options).unwrap();
                let top1 = new.evaluation.top1();
                assert!(top1 >= 0.9, "{name}, int8 {is_int8}, {hidden:?}: {top1}");
                assert_eq!((new.is_int8, new.evaluation.n), (is_int8, 12));
                let session = tiny::session(&new.file, is_int8);
                assert_eq!(session.classes(), 3);
                if is_int8 {
                    let report = session.report();
                    let other: Vec<_> =
                        report.layers.iter().filter(|l| l.data_type != "int8").collect();
                    assert!(other.is_empty(), "{name} {hidden:?}: {other:?}");
                }
                let metadata = new.file.metadata().unwrap();
                assert_eq!(metadata.labels.unwrap(), COLORS);
                assert_eq!(metadata.golden.unwrap().samples.len(), 3);
                assert_eq!(metadata.unknown_below, Some(new.unknown_below));
                assert!((0.3..1.0).contains(&new.unknown_below), "{}", new.unknown_below);
                let provenance = metadata.provenance.unwrap();
                assert_eq!(provenance.parent_sha256.as_deref(), Some(PARENT));
                let step = provenance.steps.last().unwrap();
                assert!(step.starts_with("retrain (3 classes, 36 pictures"), "{step}");
                assert!((f64::from(provenance.accuracy[0].top1) - top1).abs() < 1e-6);
                // The old classifier is gone altogether.
                let left = new.file.graph().initializer.iter().find(|t| t.dims.contains(&10));
                assert!(left.is_none(), "{left:?}");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_file_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    colors(folder.path(), &COLORS, 8);
    let file = int8(&tiny::lite(3));
    let bytes = |threads, seed| {
        let options =
            RetrainOptions { threads: Some(threads), seed, hidden: Some(4), ..Default::default() };
        run(&file, folder.path(), &options).unwrap().file.to_bytes()
    };
    assert_eq!(bytes(1, 5), bytes(3, 5));
    assert_ne!(bytes(1, 5), bytes(1, 6));
}

#[test]
fn gradient_descent_learns_too_and_follows_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    colors(folder.path(), &COLORS, 16);
    let file = int8(&tiny::lite(1));
    for hidden in [None, Some(8)] {
        let new = |threads, seed| {
            let optimizer = Optimizer::Sgd;
            let threads = Some(threads);
            let options = RetrainOptions { optimizer, hidden, threads, seed, ..Default::default() };
            run(&file, folder.path(), &options).unwrap()
        };
        let one = new(1, 5);
        assert!(one.evaluation.top1() >= 0.9, "{hidden:?}: {}", one.evaluation.top1());
        let provenance = one.file.metadata().unwrap().provenance.unwrap();
        assert!(provenance.steps.last().unwrap().contains(", sgd, "), "{provenance:?}");
        assert_eq!(one.file.to_bytes(), new(3, 5).file.to_bytes());
        assert_ne!(one.file.to_bytes(), new(1, 6).file.to_bytes());
    }
}

/// The same pictures, once in folders and once named by a label file, make the same classifier.
#[test]
fn a_label_file_does_for_folders() {
    let folder = tempfile::tempdir().unwrap();
    colors(folder.path(), &COLORS, 8);
    let mut table = String::from("file,class\n");
    for class in COLORS {
        (0..8).for_each(|at| table += &format!("{class}/{at}.png,{class}\n"));
    }
    let options = RetrainOptions::default();
    let file = tiny::lite(3);
    let bytes = || run(&file, folder.path(), &options).unwrap().file.to_bytes();
    let of_folders = bytes();
    let labels = folder.path().join("labels.csv");
    std::fs::write(&labels, &table).unwrap();
    assert_eq!(of_folders, bytes());
    std::fs::write(&labels, table.replace(",green", ",blue").replace(",red", ",blue")).unwrap();
    let error = run(&file, folder.path(), &options).unwrap_err();
    assert!(matches!(&error, RetrainError::OneClass { .. }), "{error}");
    std::fs::write(&labels, "file\n").unwrap();
    let error = run(&file, folder.path(), &options).unwrap_err();
    assert!(error.to_string().contains("labels.csv, line 1"), "{error}");
}

#[test]
fn train_and_val_folders_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    colors(&folder.path().join("train"), &COLORS[..2], 7);
    colors(&folder.path().join("val"), &COLORS[..2], 3);
    let data = Dataset::read(folder.path(), 0.5, 0).unwrap();
    assert_eq!(data.counts(), [(7, 3), (7, 3)]);
    assert!(data.held_out.iter().all(|s| s.path.starts_with(folder.path().join("val"))));
    colors(&folder.path().join("val"), &["mauve"], 3);
    let error = Dataset::read(folder.path(), 0.5, 0).unwrap_err();
    assert!(
        matches!(&error, RetrainError::UnknownClass { class, .. } if class == "mauve"),
        "{error}"
    );
}

/// With four times as many blue pictures as green ones, green ones are still recognised.
#[test]
fn a_class_may_be_rare() {
    let folder = tempfile::tempdir().unwrap();
    colors(folder.path(), &COLORS[..1], 64);
    colors(folder.path(), &COLORS[1..2], 16);
    let new = run(&tiny::lite(1), folder.path(), &RetrainOptions::default()).unwrap();
    let green = new.evaluation.predictions.iter().skip(16);
    let right = green.filter(|p| p.is_right()).count();
    assert!(right >= 3 && new.evaluation.top1() > 0.7, "{right} of 4, {:?}", new.evaluation);
}

#[test]
fn bad_folders_are_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let read = || Dataset::read(dir, 0.2, 0).unwrap_err();
    assert!(matches!(read(), RetrainError::NoClasses { .. }), "{}", read());
    colors(dir, &COLORS[..1], 6);
    assert!(matches!(read(), RetrainError::OneClass { .. }), "{}", read());
    colors(dir, &COLORS[1..2], 4);
    let error = read();
    assert!(matches!(&error, RetrainError::TooFew { class, .. } if class == "green"), "{error}");
    std::fs::create_dir(dir.join("empty")).unwrap();
    let error = read();
    assert!(matches!(&error, RetrainError::TooFew { class, train: 0, .. } if class == "empty"));
    let error = Dataset::read(&dir.join("absent"), 0.2, 0).unwrap_err();
    assert!(matches!(error, RetrainError::Dataset(_)), "{error}");
}

#[test]
fn unreadable_pictures_are_named_and_too_many_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    colors(dir, &COLORS[..2], 20);
    std::fs::write(dir.join("blue/broken.jpg"), b"no picture").unwrap();
    let file = tiny::lite(1);
    let options = RetrainOptions::default();
    let mut data = Dataset::read(dir, 0.25, 0).unwrap();
    let features = retrain::features(&file, &mut data, &options, &|| ()).unwrap();
    assert_eq!(features.skipped.len(), 1);
    assert!(features.skipped[0].path.ends_with("blue/broken.jpg"));
    assert_eq!(data.train.len() + data.held_out.len(), 40);
    for at in 0..3 {
        std::fs::write(dir.join(format!("green/broken{at}.jpg")), b"no picture").unwrap();
    }
    let error = run(&file, dir, &options).unwrap_err();
    let expected = matches!(error, RetrainError::Unreadable { skipped: 4, pictures: 44, .. });
    assert!(expected, "{error}");
}

#[test]
fn models_that_cannot_be_retrained_say_why() {
    let folder = tempfile::tempdir().unwrap();
    colors(folder.path(), &COLORS, 6);
    let options = RetrainOptions::default();
    let mut bare = tiny::lite(1);
    bare.proto.metadata_props.clear();
    let error = run(&bare, folder.path(), &options).unwrap_err();
    assert!(matches!(error, RetrainError::NoPreprocess), "{error}");
    let given = RetrainOptions { preprocess: Some(tiny::preprocess()), ..options.clone() };
    let new = run(&bare, folder.path(), &given).unwrap();
    assert_eq!(new.file.metadata().unwrap().preprocess, Some(tiny::preprocess()));
    let many = RetrainOptions { augment: 1 << 40, ..options.clone() };
    let error = run(&tiny::lite(1), folder.path(), &many).unwrap_err();
    assert!(matches!(error, RetrainError::TooMuch { .. }), "{error}");
    let mut nan = tiny::lite(1);
    let weights = nan.graph_mut().initializer.iter_mut().find(|t| t.name == "w0").unwrap();
    let (dims, _) = tensor::shape(weights).unwrap();
    *weights = tensor::from_f32("w0", &dims, &vec![f32::NAN; dims.iter().product()]);
    let error = run(&nan, folder.path(), &options).unwrap_err();
    assert!(matches!(error, RetrainError::Features { .. }), "{error}");
    let half = kinglet_compress::half::convert(&tiny::lite(1), PARENT).unwrap().file;
    let error = run(&half, folder.path(), &options).unwrap_err();
    assert!(matches!(error, RetrainError::Half { .. }), "{error}");
    let mut net = Net::new(1);
    let x = net.conv("input", [3, 10], 3, 2, false);
    let x = net.node("GlobalAveragePool", &[&x]);
    let x = net.node("Flatten", &[&x]);
    let headless = net.finish(&x);
    let error = run(&headless, folder.path(), &options).unwrap_err();
    assert!(matches!(error, RetrainError::NoClassifier(_)), "{error}");
    assert!(error.to_string().contains("GlobalAveragePool"), "{error}");
}

/// The same weights behind each kind of node give the same classifier, and all can be retrained.
#[test]
fn every_kind_of_classifier_is_found() {
    let folder = tempfile::tempdir().unwrap();
    colors(folder.path(), &COLORS, 8);
    let backbone = || {
        let mut net = Net::new(4);
        let x = net.conv("input", [3, 16], 3, 2, false);
        let x = net.relu6(&x);
        let x = net.node("GlobalAveragePool", &[&x]);
        (net, x)
    };
    let weight: Vec<f32> = (0..160_u8).map(|i| f32::from(i % 23) / 10.0 - 1.0).collect();
    let turned: Vec<f32> = (0..160).map(|i| weight[i % 10 * 16 + i / 10]).collect();
    let bias: Vec<f32> = (0..10_u8).map(f32::from).collect();
    let models = [0, 1, 2, 3].map(|kind| {
        let (mut net, pooled) = backbone();
        net.constants.push(tensor::from_f32("b", &[10], &bias));
        let last = match kind {
            0 => {
                net.constants.push(tensor::from_f32("w", &[10, 16, 1, 1], &weight));
                let x = net.node("Conv", &[&pooled, "w", "b"]);
                net.node("Flatten", &[&x])
            }
            1 => {
                net.constants.push(tensor::from_f32("w", &[16, 10], &turned));
                let x = net.node("Flatten", &[&pooled]);
                let x = net.node("MatMul", &[&x, "w"]);
                net.node("Add", &["b", &x])
            }
            2 => {
                net.constants.push(tensor::from_f32("w", &[16, 10], &turned));
                let x = net.node("Flatten", &[&pooled]);
                net.node("Gemm", &[&x, "w", "b"])
            }
            _ => {
                net.constants.push(tensor::from_f32("w", &[10, 16], &weight));
                let x = net.node("Flatten", &[&pooled]);
                let x = net.node("Gemm", &[&x, "w", "b"]);
                net.attribute(tiny::int("transB", 1));
                net.node("Softmax", &[&x])
            }
        };
        net.finish(&last)
    });
    for (kind, model) in models.iter().enumerate() {
        let found = Classifier::find(model).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(found.weights, weight, "{kind}");
        assert_eq!((&found.bias, found.width, found.classes()), (&bias, 16, 10), "{kind}");
        assert!(found.maps.is_some(), "{kind}");
        let new = run(model, folder.path(), &RetrainOptions::default()).unwrap();
        assert!(new.evaluation.top1() >= 0.8, "{kind}: {}", new.evaluation.top1());
    }
}

/// The shipped model tells ants from bees.
#[test]
fn ants_and_bees_are_told_apart() {
    let Some(data) = std::env::var_os("KINGLET_DATA") else {
        eprintln!("skipped: KINGLET_DATA, the folder with ants-bees/, is not set");
        return;
    };
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx");
    let file = OnnxFile::read(&model).unwrap();
    let new = run(&file, &Path::new(&data).join("ants-bees"), &RetrainOptions::default()).unwrap();
    assert_eq!(new.evaluation.n, 153);
    assert!(new.is_int8 && new.evaluation.top1() >= 0.93, "{}", new.evaluation.top1());
}
