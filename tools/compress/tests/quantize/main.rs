//! Post-training quantization of small random networks: what comes out runs in int8 throughout,
//! stays near the float model, and is the same file on every machine.

#![allow(clippy::unwrap_used)]

mod bits;
mod cures;
mod graphs;
mod refused;
#[path = "../tiny/mod.rs"]
mod tiny;

use kinglet_compress::quantize::{
    Calibrator, Cure, Cures, Diagnose, Event, QuantizeError, QuantizeOptions, Quantized, Role,
    Target, quantize,
};
use kinglet_engine::onnx::{NodeProto, ValueInfoProto};
use kinglet_engine::preprocess::Preprocessor;
use kinglet_engine::{OnnxFile, tensor};
use tiny::{Net, SIDE, cosine, least_cosine, ops, session, write_pictures};

const PARENT: &str = "00ff";

/// Int8 and nothing else.
fn plain() -> QuantizeOptions {
    QuantizeOptions { cures: Cures::Only(Vec::new()), ..Default::default() }
}

/// Int8 and these cures.
fn cured(cures: &[Cure]) -> QuantizeOptions {
    QuantizeOptions { cures: Cures::Only(cures.to_vec()), ..Default::default() }
}

fn run(file: &OnnxFile, options: &QuantizeOptions) -> Result<Quantized, QuantizeError> {
    let folder = tempfile::tempdir().unwrap();
    let pictures = write_pictures(folder.path(), 12);
    quantize(file, PARENT, &pictures, options, &|_| ())
}

fn quantized(file: &OnnxFile) -> OnnxFile {
    run(file, &plain()).unwrap_or_else(|e| panic!("{e}")).file
}

/// Multiplies filters of a constant, and what belongs to them.
fn scale_channels(file: &mut OnnxFile, name: &str, axis: usize, scale: impl Fn(usize) -> f32) {
    let tensors = &mut file.graph_mut().initializer;
    let old = tensors.iter_mut().find(|t| t.name == name).unwrap();
    let (dims, _) = tensor::shape(old).unwrap();
    let inner: usize = dims[axis + 1..].iter().product();
    let mut values = tensor::to_f32(old).unwrap();
    for (at, value) in values.iter_mut().enumerate() {
        *value *= scale(at / inner % dims[axis]);
    }
    *old = tensor::from_f32(name, &dims, &values);
}

/// A network whose channels differ a hundredfold between two layers, and which computes the same.
fn skewed(relu6: bool) -> OnnxFile {
    let mut net = Net::new(21);
    let x = net.conv("input", [3, 16], 3, 2, false);
    let x = if relu6 { net.relu6(&x) } else { net.node("Relu", &[&x]) };
    let x = net.conv(&x, [16, 24], 1, 1, false);
    let x = if relu6 { net.relu6(&x) } else { net.node("Relu", &[&x]) };
    let x = net.conv(&x, [24, 8], 1, 1, false);
    let mut file = net.classify(&x, 8);
    let skew = |c: usize| if c.is_multiple_of(4) { 1.0 } else { 0.01 };
    for (weight, bias, next) in [("w0", "b0", "w2"), ("w2", "b2", "w4")] {
        scale_channels(&mut file, weight, 0, skew);
        scale_channels(&mut file, bias, 0, skew);
        scale_channels(&mut file, next, 1, |c| 1.0 / skew(c));
    }
    file
}

#[test]
fn every_layer_runs_in_int8_and_the_scores_stay() {
    for (name, float) in [("lite", tiny::lite(1)), ("swish", tiny::swish(2))] {
        let int8 = quantized(&float);
        let report = session(&int8, true).report();
        assert!(report.float_convs.is_empty(), "{name}: {:?}", report.float_convs);
        let (all, in_int8) = report.macs();
        assert_eq!(all, in_int8, "{name}: some multiplications are in float");
        let other: Vec<_> = report.layers.iter().filter(|l| l.data_type != "int8").collect();
        assert!(other.is_empty(), "{name}: {other:?}");
        let cosine = least_cosine(&float, &int8);
        assert!(cosine > 0.99, "{name}: {cosine}");
    }
}

#[test]
fn methods_and_bits_give_models_that_work() {
    let float = tiny::lite(3);
    for weight_bits in [7, 8] {
        for calibrator in Calibrator::ALL.map(Some).into_iter().chain([None]) {
            let options = QuantizeOptions { weight_bits, calibrator, ..plain() };
            let int8 = run(&float, &options).unwrap().file;
            assert!(least_cosine(&float, &int8) > 0.98, "{options:?}");
            let codes = int8.graph().initializer.iter().filter(|t| t.data_type == 3);
            let largest =
                codes.flat_map(|t| tensor::to_i64(t).unwrap()).map(i64::abs).max().unwrap();
            // Never -128: two products of such weights and any activations fit 16 bits.
            assert_eq!(largest, if weight_bits == 7 { 63 } else { 127 });
        }
    }
    let options = QuantizeOptions { weight_bits: 4, ..Default::default() };
    assert!(matches!(run(&float, &options), Err(QuantizeError::WeightBits { bits: 4 })));
}

#[test]
fn the_file_does_not_depend_on_the_number_of_threads() {
    let float = tiny::swish(4);
    let with = |threads| {
        let options = QuantizeOptions {
            threads: Some(threads),
            adaround: Some(std::time::Duration::from_secs(600)),
            ..cured(&Cure::ALL)
        };
        run(&float, &options).unwrap().file.to_bytes()
    };
    let one = with(1);
    assert_eq!(one, with(3));
    assert_eq!(one, with(3));
}

#[test]
fn the_result_says_where_it_comes_from_and_tests_itself() {
    let metadata = quantized(&tiny::lite(11)).metadata().unwrap();
    let provenance = metadata.provenance.unwrap();
    assert_eq!(provenance.name, "tiny");
    assert_eq!(provenance.parent_sha256.as_deref(), Some(PARENT));
    let step = provenance.steps.last().unwrap();
    assert!(
        step.contains("--int8") && step.contains("12 calibration pictures, 2 of them held out"),
        "{step}"
    );
    assert!(step.contains("seed 0") && step.contains(env!("CARGO_PKG_VERSION")), "{step}");
    let hash = step.split("sha256 of the folder's pictures ").nth(1).unwrap();
    assert!(hash[..64].bytes().all(|b| b.is_ascii_hexdigit()), "{step}");
    let golden = metadata.golden.unwrap();
    assert_eq!(golden.samples.len(), 3);
    assert_eq!(metadata.labels.unwrap().len(), tiny::CLASSES);
    assert_eq!(metadata.preprocess.unwrap().size, [SIDE as u32; 2]);
}

#[test]
fn a_plain_picture_gives_what_the_float_model_gives() {
    // A sanity check of the test's own measure: different models are told apart.
    let (a, b) = (tiny::lite(14), tiny::lite(15));
    let picture = tiny::picture(100);
    let outputs = |f: &OnnxFile| session(f, false).outputs(&picture).unwrap();
    assert!(cosine(&outputs(&a), &outputs(&b)) < 0.95);
}

/// A run with every cure that is stopped after any of its results goes on from there to the same
/// bytes, and finds nothing a second time.
#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bytes() {
    let float = skewed(false);
    let folder = tempfile::tempdir().unwrap();
    let pictures = write_pictures(folder.path(), 12);
    let progress = folder.path().join("out.onnx.progress");
    let options = QuantizeOptions {
        calibrator: None,
        adaround: Some(std::time::Duration::from_secs(3600)),
        target: Target::Cosine(0.999_999),
        diagnose: Diagnose::Alone,
        progress: Some(progress.clone()),
        ..cured(&Cure::ALL)
    };
    let found = std::sync::Mutex::new((0, Vec::new()));
    let run = |options: &QuantizeOptions| {
        *found.lock().unwrap() = (0, Vec::new());
        let on = |event: Event<'_>| match event {
            Event::Resumed(results) => found.lock().unwrap().0 = results,
            Event::Start(what, _) => found.lock().unwrap().1.push(what.to_owned()),
            _ => (),
        };
        quantize(&float, PARENT, &pictures, options, &on)
    };
    let whole = run(&QuantizeOptions { progress: None, ..options.clone() }).unwrap();
    let kept: Vec<_> = whole.report.steps.iter().filter(|s| s.kept).map(|s| &s.what).collect();
    assert!(kept.len() >= 3, "{kept:?}");
    let check = |again: Quantized, when: &str| {
        assert!(again.file.to_bytes() == whole.file.to_bytes(), "{when}");
        assert_eq!(again.report.sensitivity, whole.report.sensitivity, "{when}");
        let words = |r: &Quantized| {
            r.report.steps.iter().map(|s| (s.what.clone(), s.score, s.kept)).collect::<Vec<_>>()
        };
        assert_eq!(words(&again), words(&whole), "{when}");
    };
    check(run(&options).unwrap(), "with a record");
    assert_eq!(found.lock().unwrap().0, 0);
    let record = std::fs::read(&progress).unwrap();
    check(run(&options).unwrap(), "from a whole record");
    let (results, starts) = found.lock().unwrap().clone();
    assert!(results > 20 && !starts.contains(&"calibrating".to_owned()), "{results} {starts:?}");
    assert_eq!(std::fs::read(&progress).unwrap(), record, "nothing was found a second time");
    for part in [1, 5, 8, 9, 10, 11] {
        let length = record.len() * part / 12 + 3;
        std::fs::write(&progress, &record[..length]).unwrap();
        check(run(&options).unwrap(), &format!("from {length} of {} bytes", record.len()));
        let now = found.lock().unwrap().0;
        assert!((1..results).contains(&now) || part == 1, "{now} of {results}");
        check(run(&options).unwrap(), "from what that run left");
        assert_eq!(found.lock().unwrap().0, results);
    }
    let record = std::fs::read(&progress).unwrap();
    // Another run is not mixed with this one, unless it is told to begin anew.
    let other = QuantizeOptions { seed: 1, ..options };
    assert!(matches!(run(&other), Err(QuantizeError::Progress(_))));
    assert_eq!(std::fs::read(&progress).unwrap(), record);
    run(&QuantizeOptions { restart: true, ..other }).unwrap();
}
