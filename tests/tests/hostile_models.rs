//! Damaged and malicious model files: an error, never a panic, never unbounded memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use kinglet_engine::onnx::{self, tensor_proto::DataLocation};
use kinglet_engine::{ModelError, OnnxFile, Options, Session};
use kinglet_tests::{Random, golden, repository};

const MODELS: [&str; 12] = [
    "qdq_u8_per_channel",
    "qdq_s8_per_tensor",
    "qdq_u8_u8_weights",
    "qdq_float_logits",
    "qdq_swish",
    "qdq_s8_swish",
    "qdq_mixed",
    "qlinear",
    "float_silu",
    "float_hard",
    "float_branches",
    "float_and_codes",
];

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(&format!("operators/{name}.onnx"))).unwrap()
}

/// Loads, and runs what is not too much work. Whether it loaded does not matter.
fn try_model(bytes: &[u8]) -> bool {
    let Ok(file) = OnnxFile::from_bytes(bytes) else { return false };
    let Ok(mut session) = Session::new(file, &Options::default()) else { return false };
    if session.report().macs().0 < 20_000_000 {
        let input = session.sample_input();
        let _ = session.run(&input);
    }
    true
}

/// Runs `work` with panics silent; a panic that gets out is a failure that names its input.
fn survives(what: &str, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        panic!("{what}: a panic got out");
    }
}

/// Panics inside tract are caught by the engine; their messages would only be noise here.
fn quietly(work: impl FnOnce()) {
    static HOOK: Mutex<()> = Mutex::new(());
    let _only_one = HOOK.lock();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn every_cut_of_a_small_model_is_an_error() {
    let whole = bytes("qdq_u8_per_channel");
    quietly(|| {
        for length in 0..whole.len().min(4096) {
            survives(&format!("cut to {length}"), || assert!(!try_model(&whole[..length])));
        }
    });
}

#[test]
fn cuts_of_the_shipped_model_are_errors() {
    let path = repository().join("models/efficientnet-lite0-int8.onnx");
    let whole = std::fs::read(path).unwrap();
    let seed = 20_260;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..2000 {
        let length = random.below(whole.len());
        // The reader alone: every cut must be found before anything is planned.
        let result = OnnxFile::from_bytes(&whole[..length]);
        assert!(result.is_err(), "cut to {length} of {} was accepted", whole.len());
    }
    for length in 0..4096 {
        assert!(OnnxFile::from_bytes(&whole[..length]).is_err(), "cut to {length} was accepted");
    }
}

#[test]
fn twenty_thousand_mutants_do_no_harm() {
    let seed = 4711;
    println!("seed {seed}");
    let originals: Vec<Vec<u8>> = MODELS.iter().map(|m| bytes(m)).collect();
    let mut random = Random::new(seed);
    let mut loaded = 0;
    quietly(|| {
        for i in 0..20_000 {
            let mutant = random.mutant(&originals[i % originals.len()]);
            survives(&format!("mutant {i} of seed {seed}"), || {
                loaded += usize::from(try_model(&mutant));
            });
        }
    });
    println!("{loaded} mutants still load");
    // Else the mutants are too wild to reach the planner.
    assert!(loaded > 1000, "only {loaded} mutants load");
}

#[test]
fn files_that_are_no_models_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let error = |path: &Path| OnnxFile::read(path).unwrap_err().to_string();
    assert!(error(&write("empty.onnx", b"")).contains("empty"));
    assert!(error(folder.path()).contains("not a regular file"));
    assert!(error(&folder.path().join("missing.onnx")).contains("missing.onnx"));
    let text = error(&write("text.onnx", b"hello, I am no model"));
    assert!(text.contains("not an ONNX model"), "{text}");
}

/// A model with one initializer whose data lies at `location`.
fn external(location: &str, offset: &str, length: &str) -> Vec<u8> {
    let mut file = OnnxFile::from_bytes(&bytes("qdq_u8_per_channel")).unwrap();
    let tensor = &mut file.graph_mut().initializer[0];
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.raw_data.clear();
    let entry = |key: &str, value: &str| onnx::StringStringEntryProto {
        key: key.into(),
        value: value.into(),
    };
    tensor.external_data =
        vec![entry("location", location), entry("offset", offset), entry("length", length)];
    file.to_bytes()
}

#[test]
fn external_data_is_read_only_from_inside_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let original = OnnxFile::from_bytes(&bytes("qdq_u8_per_channel")).unwrap();
    let data = original.graph().initializer[0].raw_data.clone();
    let length = data.len().to_string();
    std::fs::write(inner.join("weights.bin"), [b"skip".as_slice(), &data].concat()).unwrap();
    std::fs::write(folder.path().join("secret.bin"), &data).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.bin"), inner.join("link.bin")).unwrap();
    let read = |location: &str, offset: &str, length: &str| {
        let path = inner.join("model.onnx");
        std::fs::write(&path, external(location, offset, length)).unwrap();
        OnnxFile::read(&path)
    };
    let good = read("weights.bin", "4", &length).unwrap();
    assert_eq!(good.graph().initializer[0].raw_data, data);
    let absolute = folder.path().join("secret.bin");
    for (location, offset, length, expected) in [
        ("../secret.bin", "0", length.as_str(), "outside"),
        (absolute.to_str().unwrap(), "0", &length, "outside"),
        ("link.bin", "0", &length, "link"),
        ("weights.bin", "5", &length, "past the end"),
        ("weights.bin", "0", "18446744073709551615", "past the end"),
        ("weights.bin", "18446744073709551615", "2", "past the end"),
        ("weights.bin", "x", &length, "no number"),
        ("missing.bin", "0", &length, "missing.bin"),
        ("", "0", &length, "outside"),
    ] {
        let error = read(location, offset, length).unwrap_err().to_string();
        assert!(error.contains(expected), "{location}: {error}");
    }
}

/// Changes a good model and gives the error of loading it.
fn refused(change: impl FnOnce(&mut onnx::GraphProto)) -> ModelError {
    let mut file = OnnxFile::from_bytes(&bytes("qdq_u8_per_channel")).unwrap();
    change(file.graph_mut());
    OnnxFile::from_bytes(&file.to_bytes())
        .and_then(|file| Session::new(file, &Options::default()))
        .unwrap_err()
}

/// The dimensions of a graph's input.
fn dims(graph: &mut onnx::GraphProto) -> &mut Vec<onnx::tensor_shape_proto::Dimension> {
    let Some(onnx::type_proto::Value::TensorType(tensor)) =
        graph.input[0].r#type.as_mut().and_then(|t| t.value.as_mut())
    else {
        panic!("the input is a tensor")
    };
    &mut tensor.shape.as_mut().unwrap().dim
}

fn dim(value: i64) -> onnx::tensor_shape_proto::Dimension {
    onnx::tensor_shape_proto::Dimension {
        value: Some(onnx::tensor_shape_proto::dimension::Value::DimValue(value)),
        ..Default::default()
    }
}

#[test]
fn inputs_that_are_no_pictures_are_named() {
    for (shape, expected) in [
        (vec![1, 3, 18], "3 axes"),
        (vec![1, 1, 18, 18], "(1, 1, 18, 18)"),
        (vec![1, 18, 18, 3], "channels seem to come last"),
        (vec![4, 3, 18, 18], "fixed batch of 4"),
        (vec![1, 3, 18, 1 << 40], "pixels"),
    ] {
        let error = refused(|g| *dims(g) = shape.iter().map(|&d| dim(d)).collect()).to_string();
        assert!(error.contains(expected), "{shape:?}: {error}");
    }
    let error = refused(|g| {
        let Some(onnx::type_proto::Value::TensorType(t)) =
            g.input[0].r#type.as_mut().and_then(|t| t.value.as_mut())
        else {
            panic!("the input is a tensor")
        };
        t.elem_type = onnx::tensor_proto::DataType::Int64 as i32;
    });
    assert!(error.to_string().contains("INT64"), "{error}");
}

#[test]
fn an_open_batch_becomes_one() {
    let mut file = OnnxFile::from_bytes(&bytes("qdq_u8_per_channel")).unwrap();
    dims(file.graph_mut())[0].value =
        Some(onnx::tensor_shape_proto::dimension::Value::DimParam("batch".into()));
    let mut session = Session::new(file, &Options::default()).unwrap();
    let input = session.sample_input();
    assert_eq!(session.run(&input).unwrap().len(), 10);
}

#[test]
fn an_operator_that_nobody_has_is_named() {
    let error = refused(|g| {
        let node = g.node.iter_mut().find(|n| n.op_type == "GlobalAveragePool").unwrap();
        node.op_type = "FancyPool".into();
        node.domain = "org.example".into();
    });
    assert!(matches!(error, ModelError::UnsupportedOperator { .. }), "{error}");
    assert!(error.to_string().contains("org.example::FancyPool"), "{error}");
}

#[test]
fn labels_of_another_length_are_refused() {
    let mut file = OnnxFile::from_bytes(&bytes("qdq_u8_per_channel")).unwrap();
    let mut metadata = file.metadata().unwrap();
    metadata.labels = Some(vec!["one".into(), "two".into()]);
    metadata.write(&mut file.proto);
    let error = Session::new(file, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("2 labels for 10 outputs"), "{error}");
}
