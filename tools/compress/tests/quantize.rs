//! Post-training quantization of small random networks: what comes out runs in int8 throughout,
//! stays near the float model, and is the same file on every machine.

#![allow(clippy::unwrap_used)]

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

fn seven_bits(float: &OnnxFile) -> Quantized {
    let options = QuantizeOptions { pointwise_bits: 7, ..plain() };
    run(float, &options).unwrap_or_else(|e| panic!("{e}"))
}

/// The node that makes a value.
fn producer<'a>(file: &'a OnnxFile, value: &str) -> &'a NodeProto {
    file.graph().node.iter().find(|n| n.output.iter().any(|o| o == value)).unwrap()
}

#[test]
fn seven_bits_go_to_what_pointwise_convolutions_read() {
    let roles = |file: &OnnxFile| {
        let values = seven_bits(file).report.values;
        for value in &values {
            assert_eq!(value.bits == 7, value.role == Role::Pointwise, "{value:?}");
        }
        let role = |r: &dyn Fn(&Role) -> bool| values.iter().filter(|v| r(&v.role)).count();
        let other = |name: &'static str| move |r: &Role| *r == Role::Other(name.into());
        [
            role(&|r| *r == Role::Picture),
            role(&|r| *r == Role::Pixel),
            role(&|r| *r == Role::Pointwise),
            role(&other("a depthwise convolution")),
            role(&other("sums only")),
            role(&other("GlobalAveragePool")),
        ]
    };
    // Pointwise convolutions read the stem's result (and a sum does), the depthwise one's, the sum.
    assert_eq!(roles(&tiny::lite(1)), [1, 1, 3, 1, 1, 1]);
    // The gates of squeeze-and-excite are pointwise convolutions of one pixel.
    let [picture, pixel, pointwise, ..] = roles(&tiny::swish(2));
    assert_eq!((picture, pointwise), (1, 3));
    assert!(pixel >= 4, "{pixel}");
    // By default all have 8 bits.
    let usual = run(&tiny::lite(1), &plain()).unwrap().report;
    assert!(usual.values.iter().all(|v| v.bits == 8));
    assert_eq!(usual.values.iter().filter(|v| v.role == Role::Pointwise).count(), 3);
    let options = QuantizeOptions { pointwise_bits: 6, ..Default::default() };
    let error = run(&tiny::lite(1), &options).unwrap_err();
    assert!(matches!(error, QuantizeError::PointwiseBits { bits: 6 }), "{error}");
}

#[test]
fn codes_of_seven_bits_are_proven_and_nothing_else_changes() {
    for (name, float) in [("lite", tiny::lite(3)), ("swish", tiny::swish(4))] {
        let int8 = seven_bits(&float).file;
        let report = session(&int8, true).report();
        assert!(report.float_convs.is_empty(), "{name}: {:?}", report.float_convs);
        // The stem's result and the sum; what the depthwise layer gives is inside a block.
        let narrow = report.layers.iter().filter(|l| l.codes == Some((0, 127))).count();
        assert_eq!(narrow, 2, "{name}: {:?}", report.layers);
        // The projection is still added to the residual before rounding, as with 8 bits.
        let eight = session(&quantized(&float), true).report();
        let operations = |r: &kinglet_engine::report::Report| {
            r.layers.iter().map(|l| l.operation.clone()).collect::<Vec<_>>()
        };
        assert_eq!(operations(&report), operations(&eight), "{name}");
        assert!(operations(&report).iter().any(|o| o.ends_with("pointwise + add")), "{name}");
        assert!(eight.layers.iter().all(|l| l.codes != Some((0, 127))), "{name}");
        let cosine = least_cosine(&float, &int8);
        assert!(cosine > 0.99, "{name}: {cosine}");
    }
}

#[test]
fn codes_that_pointwise_convolutions_read_stay_in_seven_bits() {
    let quantized = seven_bits(&tiny::lite(5));
    let mut file = quantized.file;
    let values: Vec<String> =
        quantized.report.values.into_iter().filter(|v| v.bits == 7).map(|v| v.name).collect();
    assert_eq!(values.len(), 3);
    let mut scales = Vec::new();
    for value in &values {
        let real = format!("{value}.dequantized");
        let dequantize = producer(&file, &real).clone();
        let quantize = producer(&file, &dequantize.input[0]);
        assert_eq!(producer(&file, &quantize.input[0]).op_type, "Clip", "before {value}'s codes");
        let constant = |name: &str| {
            let tensor = file.graph().initializer.iter().find(|t| t.name == name).unwrap();
            tensor::to_f32(tensor).ok().unwrap_or_else(|| {
                tensor::to_i64(tensor).unwrap().iter().map(|&v| v as f32).collect()
            })[0]
        };
        scales.push((constant(&dequantize.input[1]), constant(&dequantize.input[2])));
        let output = ValueInfoProto { name: real, ..file.graph().output[0].clone() };
        let output = ValueInfoProto { r#type: without_shape(&output), ..output };
        file.graph_mut().output.push(output);
    }
    let mut session = session(&file, true);
    let mut preprocessor = Preprocessor::new(&tiny::preprocess(), session.input_kind()).unwrap();
    let mut tensor = preprocessor.tensor();
    let mut seen = vec![(f32::MAX, f32::MIN); values.len()];
    for seed in 0..12 {
        preprocessor.run(&tiny::picture(seed), &mut tensor);
        let outputs = session.run_all(&tensor).unwrap();
        for ((_, reals), (&(scale, zero), seen)) in
            outputs[1..].iter().zip(scales.iter().zip(&mut seen))
        {
            for real in reals {
                let code = (real / scale).round() + zero;
                *seen = (seen.0.min(code), seen.1.max(code));
            }
        }
    }
    for (least, most) in seen {
        assert!(least >= 0.0 && (100.0..=127.0).contains(&most), "{least}..={most}");
    }
}

/// The type of a value, of any shape.
fn without_shape(value: &ValueInfoProto) -> Option<kinglet_engine::onnx::TypeProto> {
    use kinglet_engine::onnx::type_proto::Value;
    let mut kind = value.r#type.clone()?;
    if let Some(Value::TensorType(tensor)) = &mut kind.value {
        tensor.shape = None;
    }
    Some(kind)
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
fn nothing_is_left_over() {
    let int8 = quantized(&tiny::lite(5));
    assert_eq!(ops(&int8, "Clip"), 0, "the codes' own range clamps");
    let graph = int8.graph();
    for t in &graph.initializer {
        let read = graph.node.iter().any(|n| n.input.contains(&t.name));
        assert!(read, "{} is read by nothing", t.name);
        let weights = t.data_type == 1 && t.dims.len() > 1;
        assert!(!weights, "{} is still in floats", t.name);
    }
    assert!(graph.value_info.is_empty());
}

#[test]
fn a_clamp_that_codes_do_not_replace_stays() {
    let mut net = Net::new(6);
    net.constants.push(tensor::from_f32("low", &[], &[-1.0]));
    net.constants.push(tensor::from_f32("high", &[], &[2.0]));
    let x = net.conv("input", [3, 8], 3, 2, false);
    let x = net.node("Clip", &[&x, "low", "high"]);
    let x = net.conv(&x, [8, 8], 1, 1, false);
    let x = net.node("Relu", &[&x]);
    let float = net.classify(&x, 8);
    let int8 = quantized(&float);
    assert_eq!(ops(&int8, "Relu"), 0);
    session(&int8, true);
    assert!(least_cosine(&float, &int8) > 0.99);
}

#[test]
fn batch_norms_are_folded() {
    let mut net = Net::new(7);
    let x = net.conv("input", [3, 8], 3, 2, false);
    let parameters = ["gain", "shift", "mean"].map(|name| net.constant(name, &[8], 0.5));
    net.constants.push(tensor::from_f32("variance", &[8], &[0.5; 8]));
    let x = net.node(
        "BatchNormalization",
        &[&x, &parameters[0], &parameters[1], &parameters[2], "variance"],
    );
    let x = net.relu6(&x);
    let float = net.classify(&x, 8);
    let int8 = quantized(&float);
    assert_eq!(ops(&int8, "BatchNormalization"), 0);
    session(&int8, true);
    let cosine = least_cosine(&float, &int8);
    assert!(cosine > 0.99, "{cosine}");
}

#[test]
fn channels_of_zeros_and_of_almost_zeros_are_kept_safe() {
    let mut float = tiny::lite(8);
    for t in &mut float.graph_mut().initializer {
        if t.name == "w0" {
            let mut values = tensor::to_f32(t).unwrap();
            values[..27].fill(0.0);
            values[27..54].iter_mut().for_each(|v| *v *= 1e-20);
            *t = tensor::from_f32("w0", &[8, 3, 3, 3], &values);
        } else if t.name == "b0" {
            let mut values = tensor::to_f32(t).unwrap();
            values[..2].fill(4.0);
            *t = tensor::from_f32("b0", &[8], &values);
        }
    }
    let int8 = quantized(&float);
    session(&int8, true);
    let bias = int8.graph().initializer.iter().filter(|t| t.data_type == 6);
    let largest = bias.flat_map(|t| tensor::to_i64(t).unwrap()).map(i64::abs).max().unwrap();
    assert!(largest <= 1 << 28, "{largest}");
    assert!(least_cosine(&float, &int8) > 0.99);
}

#[test]
fn a_fully_connected_layer_in_any_form_runs_in_int8() {
    // MatMul with [inputs, outputs], then Add.
    let mut net = Net::new(9);
    let x = net.conv("input", [3, 8], 3, 2, false);
    let x = net.relu6(&x);
    let pooled = net.node("GlobalAveragePool", &[&x]);
    let flat = net.node("Flatten", &[&pooled]);
    let weight = net.constant("fc.weight", &[8, tiny::CLASSES], 1.0);
    let bias = net.constant("fc.bias", &[tiny::CLASSES], 0.5);
    let product = net.node("MatMul", &[&flat, &weight]);
    let last = net.node("Add", &[&product, &bias]);
    let float = net.finish(&last);
    let int8 = quantized(&float);
    let (all, in_int8) = session(&int8, true).report().macs();
    assert_eq!(all, in_int8);
    assert!(least_cosine(&float, &int8) > 0.99);
}

#[test]
fn what_no_rule_covers_stays_in_float() {
    let mut net = Net::new(10);
    let x = net.conv("input", [3, 8], 3, 2, false);
    let x = net.relu6(&x);
    let x = net.node("MaxPool", &[&x]);
    net.attribute(tiny::ints("kernel_shape", &[2, 2]));
    net.attribute(tiny::ints("strides", &[2, 2]));
    let x = net.conv(&x, [8, 8], 1, 1, false);
    let float = net.classify(&x, 8);
    let int8 = quantized(&float);
    session(&int8, true);
    assert!(least_cosine(&float, &int8) > 0.99);
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
fn what_cannot_be_quantized_is_refused() {
    let float = tiny::lite(12);
    let again = run(&quantized(&float), &QuantizeOptions::default());
    assert!(matches!(again, Err(QuantizeError::AlreadyQuantized { .. })));
    let none = quantize(&float, PARENT, &[], &QuantizeOptions::default(), &|_| ());
    assert!(matches!(none, Err(QuantizeError::NoPictures)));
    let mut bare = float.clone();
    bare.proto.metadata_props.clear();
    let options = QuantizeOptions::default();
    assert!(matches!(run(&bare, &options), Err(QuantizeError::NoPreprocess)));
    let options = QuantizeOptions { preprocess: Some(tiny::preprocess()), ..options };
    let given = run(&bare, &options).unwrap().file;
    assert_eq!(given.metadata().unwrap().preprocess, Some(tiny::preprocess()));
    let mut old = float.clone();
    old.proto.opset_import[0].version = 9;
    let error = run(&old, &QuantizeOptions::default()).unwrap_err();
    assert!(matches!(error, QuantizeError::Opset { version: 9, .. }), "{error}");
}

#[test]
fn unreadable_pictures_are_named_and_many_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut pictures = write_pictures(folder.path(), 24);
    let bad = folder.path().join("bad.jpg");
    std::fs::write(&bad, b"no picture").unwrap();
    pictures.insert(3, bad.clone());
    let float = tiny::lite(13);
    let options = QuantizeOptions::default();
    let result = quantize(&float, PARENT, &pictures, &options, &|_| ()).unwrap();
    assert_eq!(result.skipped.len(), 1);
    assert_eq!(result.skipped[0].path, bad);
    let error = quantize(&float, PARENT, &pictures[..8], &options, &|_| ()).unwrap_err();
    assert!(matches!(error, QuantizeError::Unreadable { skipped: 1, pictures: 8, .. }), "{error}");
}

#[test]
fn a_plain_picture_gives_what_the_float_model_gives() {
    // A sanity check of the test's own measure: different models are told apart.
    let (a, b) = (tiny::lite(14), tiny::lite(15));
    let picture = tiny::picture(100);
    let outputs = |f: &OnnxFile| session(f, false).outputs(&picture).unwrap();
    assert!(cosine(&outputs(&a), &outputs(&b)) < 0.95);
}

/// The network's own error where nothing but one thing differs.
fn error(float: &OnnxFile, options: &QuantizeOptions) -> f64 {
    let quantized = run(float, options).unwrap_or_else(|e| panic!("{e}"));
    f64::from(1.0 - least_cosine(float, &quantized.file))
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
fn equalization_evens_out_skewed_channels() {
    for relu6 in [false, true] {
        let float = skewed(relu6);
        let calibrator = Some(Calibrator::MinMax);
        let before = error(&float, &QuantizeOptions { calibrator, ..plain() });
        let options = QuantizeOptions { calibrator, ..cured(&[Cure::Equalize]) };
        let after = error(&float, &options);
        let steps = run(&float, &options).unwrap().report.steps;
        assert!(after < 0.25 * before, "relu6 {relu6}: {after}, {before} before; {steps:?}");
    }
}

#[test]
fn equalization_leaves_swish_alone_and_says_so() {
    let mut net = Net::new(22);
    let x = net.conv("input", [3, 16], 3, 2, false);
    let x = net.swish(&x);
    let x = net.conv(&x, [16, 8], 1, 1, false);
    let x = net.swish(&x);
    let float = net.classify(&x, 8);
    let report = run(&float, &cured(&[Cure::Equalize])).unwrap().report;
    assert!(report.steps.iter().all(|s| !s.what.contains("equalized")), "{:?}", report.steps);
}

#[test]
fn the_least_error_beats_the_largest_value_where_there_are_outliers() {
    // One channel of sixteen is large and hardly matters.
    let mut float = skewed(false);
    scale_channels(&mut float, "w2", 1, |c| if c == 4 { 1e-3 } else { 1.0 });
    let with = |c| error(&float, &QuantizeOptions { calibrator: Some(c), ..plain() });
    let errors = Calibrator::ALL.map(|c| (c.name(), with(c)));
    let of = |name| errors.iter().find(|e| e.0 == name).unwrap().1;
    assert!(of("mse") <= of("min-max"), "{errors:?}");
    // All of them are tried and the best is kept.
    let auto = run(&float, &QuantizeOptions { calibrator: None, ..plain() }).unwrap();
    let tried = auto.report.steps.iter().filter(|s| s.what.starts_with("tried")).count();
    assert_eq!(tried, 4);
}

#[test]
fn biases_take_up_what_clipping_takes_from_the_mean() {
    // Without the analytic correction, 7-bit weights leave a mean error in every channel.
    let float = tiny::lite(23);
    let base = QuantizeOptions { weight_bits: 7, correct_bias: false, ..plain() };
    let before = error(&float, &base);
    let cures = Cures::Only(vec![Cure::Bias]);
    let report = run(&float, &QuantizeOptions { cures, ..base }).unwrap().report;
    let step = report.steps.last().unwrap();
    assert!(step.what.contains("biases") && step.kept, "{:?}", report.steps);
    assert!(step.score.error < report.steps[0].score.error, "{:?}, {before}", report.steps);
}

#[test]
fn ranges_are_tuned_where_a_calibrator_fails() {
    let float = skewed(false);
    let base = QuantizeOptions { calibrator: Some(Calibrator::MinMax), ..plain() };
    let before = error(&float, &base);
    let after = error(&float, &QuantizeOptions { cures: cured(&[Cure::Tune]).cures, ..base });
    assert!(after < before, "{after} {before}");
}

#[test]
fn rounding_is_learnt() {
    let float = tiny::lite(24);
    let base = QuantizeOptions { weight_bits: 7, search_weights: false, ..plain() };
    let adaround = Some(std::time::Duration::from_secs(600));
    let report = run(&float, &QuantizeOptions { adaround, ..base }).unwrap().report;
    let step = report.steps.iter().find(|s| s.what.contains("learnt")).unwrap();
    let layers = report.layers.len();
    assert!(step.what.contains(&format!("of {layers} of {layers} layers")), "{step:?}");
    // Kept: nearer to the float model on the pictures that it was tried on; and on those held out.
    assert!(step.kept, "{:?}", report.steps);
    assert!(step.score.error < report.steps[0].score.error, "{:?}", report.steps);
}

#[test]
fn layers_go_to_float_until_the_target_holds() {
    for float in [skewed(false), tiny::swish(25)] {
        let calibrator = Some(Calibrator::MinMax);
        let plain = run(&float, &QuantizeOptions { calibrator, ..plain() }).unwrap().report;
        let before = plain.steps[0].score;
        let target = Target::Cosine(1.0 - 0.3 * (1.0 - before.cosine));
        let options = QuantizeOptions { calibrator, target, ..cured(&[Cure::Float]) };
        let result = run(&float, &options).unwrap();
        assert!(result.met, "{:?}", result.report.steps);
        let lifted = result.report.layers.iter().filter(|l| l.float).count();
        assert!((1..=result.report.layers.len()).contains(&lifted));
        // The rest is in integers, and what the engine runs is what was judged.
        let layers = session(&result.file, false).report().layers;
        let kinds = |kind| layers.iter().filter(|l| l.data_type == kind && l.macs > 0).count();
        assert!(kinds("f32") > 0, "{layers:?}");
        assert!(lifted == result.report.layers.len() || kinds("int8") > 0, "{layers:?}");
        let last = result.report.steps.last().unwrap();
        assert!(last.score.cosine > before.cosine && last.float_layers == lifted);
        // A latency that no machine reaches allows no float.
        let max_latency = Some(std::time::Duration::from_nanos(1));
        let none = run(&float, &QuantizeOptions { max_latency, ..options }).unwrap();
        assert!(!none.met && none.report.layers.iter().all(|l| !l.float));
    }
}

#[test]
fn symmetric_and_signed_activations_run_in_int8() {
    for (symmetric, signed) in [(true, false), (false, true), (true, true)] {
        let float = tiny::swish(26);
        let int8 = run(&float, &QuantizeOptions { symmetric, signed, ..plain() }).unwrap().file;
        let (all, in_int8) = session(&int8, true).report().macs();
        assert_eq!(all, in_int8);
        let cosine = least_cosine(&float, &int8);
        assert!(cosine > 0.97, "{symmetric} {signed}: {cosine}");
    }
    // The numbers of signed codes are the same.
    let float = tiny::lite(27);
    let with = |signed| {
        let int8 = run(&float, &QuantizeOptions { signed, ..plain() }).unwrap().file;
        session(&int8, true).outputs(&tiny::picture(100)).unwrap()
    };
    assert_eq!(with(true), with(false));
}

#[test]
fn every_layer_is_told_apart_by_its_sensitivity() {
    use kinglet_compress::quantize::Diagnose;
    let mut float = tiny::lite(28);
    // The last convolution's outlier channel makes its output the worst.
    scale_channels(&mut float, "w8", 0, |c| if c == 0 { 60.0 } else { 0.5 });
    let options = QuantizeOptions {
        diagnose: Diagnose::Alone,
        calibrator: Some(Calibrator::MinMax),
        ..plain()
    };
    let report = run(&float, &options).unwrap().report;
    assert_eq!(report.sensitivity.len(), report.layers.len());
    for layer in &report.sensitivity[..report.sensitivity.len() - 1] {
        assert!(layer.sqnr_db.unwrap() > 3.0, "{layer:?}");
        assert!(layer.alone.unwrap().cosine > 0.9, "{layer:?}");
    }
    assert!(report.sensitivity.last().unwrap().sqnr_db.is_none());
    let html = kinglet_compress::quantize::page(&report, "a<b.onnx");
    assert!(html.contains("a&lt;b.onnx") && !html.contains("<script"));
    for layer in &report.layers {
        assert!(html.contains(&layer.name), "{}", layer.name);
    }
}

#[test]
fn bad_calibration_and_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let pictures: Vec<_> = (0..6)
        .map(|at| {
            let path = folder.path().join(format!("{at}.png"));
            let pixels = vec![40 * at as u8; 40 * 40 * 3];
            image::save_buffer(&path, &pixels, 40, 40, image::ExtendedColorType::Rgb8).unwrap();
            path
        })
        .collect();
    let float = tiny::lite(29);
    let error = quantize(&float, PARENT, &pictures, &plain(), &|_| ()).unwrap_err();
    assert!(matches!(error, QuantizeError::Plain { .. }), "{error}");
    let mut broken = float.clone();
    scale_channels(&mut broken, "w0", 0, |c| if c == 3 { f32::NAN } else { 1.0 });
    let error = run(&broken, &plain()).unwrap_err();
    assert!(matches!(error, QuantizeError::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("not a number"), "{error}");
}

/// Where the layers of a gate are in float and the product is not, the engine has to know by itself
/// that the gate is of one pixel.
#[test]
fn any_value_may_stay_in_float() {
    let float = tiny::swish(30);
    let plain = run(&float, &plain()).unwrap();
    let values: Vec<String> = plain.report.values.iter().map(|v| v.name.clone()).collect();
    for value in &values[1..] {
        let mut file = plain.file.clone();
        let (from, to) = (format!("{value}.dequantized"), value.clone());
        for name in file.graph_mut().node.iter_mut().flat_map(|n| &mut n.input) {
            if *name == from {
                name.clone_from(&to);
            }
        }
        file.proto.metadata_props.retain(|p| p.key != "kinglet.golden");
        let cosine = least_cosine(&float, &file);
        assert!(cosine > 0.98, "{value}: {cosine}");
    }
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
