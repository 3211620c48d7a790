//! Every operator form the engine knows, against onnxruntime's outputs (tests/golden/operators),
//! on every instruction set this CPU has.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use kinglet_engine::preprocess::{InputKind, InputTensor};
use kinglet_engine::{Isa, Options, Session};
use kinglet_tests::golden;

const SIZE: usize = 18;

/// The input of make.py, in the form the session wants.
fn sample(session: &Session) -> InputTensor {
    let value = |c: usize, i: usize, j: usize| ((c * 37 + i * 11 + j * 7) % 64) as f32 / 32.0 - 1.0;
    let range = || 0..SIZE * SIZE;
    match session.input_kind() {
        InputKind::F32Nchw => InputTensor::F32(
            (0..3).flat_map(|c| range().map(move |p| value(c, p / SIZE, p % SIZE))).collect(),
        ),
        InputKind::U8Nhwc { scale, zero_point } => InputTensor::U8(
            range()
                .flat_map(|p| (0..3).map(move |c| value(c, p / SIZE, p % SIZE)))
                .map(|v| ((v / scale).round_ties_even() + f32::from(zero_point)) as u8)
                .collect(),
        ),
    }
}

/// Runs a golden model on every instruction set; the outputs must be the same bits.
fn outputs(name: &str) -> (Vec<f32>, Session) {
    let path = golden(&format!("operators/{name}.onnx"));
    let mut first: Option<Vec<f32>> = None;
    let mut last = None;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let options = Options { isa: Some(isa), threads, ..Options::default() };
            let mut session = Session::load(&path, &options).unwrap();
            let input = sample(&session);
            let found = session.run(&input).unwrap();
            assert_eq!(session.run(&input).unwrap(), found, "{name}: a second run differs");
            let expected = first.get_or_insert_with(|| found.clone());
            assert_eq!(expected, &found, "{name}: {} on {threads} threads differs", isa.name());
            last = Some(session);
        }
    }
    (first.unwrap(), last.unwrap())
}

fn check(name: &str, int8_convs: usize, tolerance: f32) {
    let (found, session) = outputs(name);
    let text = std::fs::read_to_string(golden(&format!("operators/{name}.json"))).unwrap();
    let expected: Vec<f32> = serde_json::from_str(&text).unwrap();
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{name}: off by {worst}\n{found:?}\n{expected:?}");
    let report = session.report();
    // A layer may be several, "pointwise + depthwise".
    let int8 = report.layers.iter().filter(|l| l.data_type == "int8");
    let convs = int8.flat_map(|l| l.operation.split(" + ")).map(|op| match op {
        "conv" | "pointwise" | "depthwise" => 1,
        "squeeze_excite" => 2,
        _ => 0,
    });
    assert_eq!(convs.sum::<usize>(), int8_convs, "{name}: {:?}", report.float_convs);
}

// onnxruntime computes these graphs in float; a rounding tie may move a code by one step, and a
// step of the output is 8/255.

#[test]
fn uint8_activations_and_a_scale_a_channel() {
    check("qdq_u8_per_channel", 4, 1.01 * 8.0 / 255.0);
}

#[test]
fn int8_activations_one_scale_a_tensor_and_reshape() {
    check("qdq_s8_per_tensor", 4, 1.01 * 8.0 / 255.0);
}

#[test]
fn uint8_weights_with_a_zero_point() {
    check("qdq_u8_u8_weights", 4, 1.01 * 8.0 / 255.0);
}

#[test]
fn logits_left_in_float() {
    check("qdq_float_logits", 4, 0.02);
}

#[test]
fn swish_and_squeeze_and_excite() {
    check("qdq_swish", 5, 1.01 * 6.0 / 255.0);
    check("qdq_s8_swish", 5, 1.01 * 6.0 / 255.0);
}

#[test]
fn a_float_island_between_int8_parts() {
    check("qdq_mixed", 2, 0.02);
    let session = outputs("qdq_mixed").1;
    let layers = session.report().layers;
    assert!(layers.iter().any(|l| l.kernel == "tract"), "the island runs in tract");
}

#[test]
fn the_operator_oriented_form() {
    check("qlinear", 3, 1.01 * 6.0 / 255.0);
}

/// Runs a float golden model on every instruction set against onnxruntime. Gives the report's
/// lines: the operations of our kernels, with their type, and those that tract runs.
fn check_float(name: &str, tolerance: f32) -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string(golden(&format!("operators/{name}.json"))).unwrap();
    let expected: Vec<f32> = serde_json::from_str(&text).unwrap();
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let mut lines = (Vec::new(), Vec::new());
    for isa in Isa::available() {
        let mut first: Option<Vec<f32>> = None;
        for threads in [1, 3] {
            let options = Options { isa: Some(isa), threads, ..Options::default() };
            let path = golden(&format!("operators/{name}.onnx"));
            let mut session = Session::load(&path, &options).unwrap();
            let input = sample(&session);
            let found = session.run(&input).unwrap();
            assert_eq!(session.run(&input).unwrap(), found, "{name}: a second run differs");
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let on = format!("{name}, {} on {threads} threads", isa.name());
            assert_eq!(found.len(), expected.len());
            assert!(worst <= tolerance * largest, "{on}: off by {worst}\n{found:?}\n{expected:?}");
            assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{on}");
            let layers = session.report().layers;
            let (tract, ours): (Vec<_>, Vec<_>) = layers.iter().partition(|l| l.kernel == "tract");
            lines = (
                ours.iter().map(|l| format!("{} {}", l.operation, l.data_type)).collect(),
                tract.iter().map(|l| l.operation.clone()).collect(),
            );
        }
    }
    lines
}

fn count(lines: &[String], line: &str) -> usize {
    lines.iter().filter(|l| *l == line).count()
}

#[test]
fn float_batch_norm_silu_squeeze_and_excite_residual_and_gemm() {
    let (ours, tract) = check_float("float_silu", 1e-5);
    assert_eq!(tract, Vec::<String>::new());
    let expected = [
        "to_nhwc",
        "conv",
        "pointwise",
        "depthwise",
        "global_average_pool",
        "pointwise",
        "pointwise",
        "mul",
        "pointwise",
        "pointwise + global_average_pool",
        "linear",
    ];
    // Every batch norm, activation and residual is part of the layer before it.
    assert_eq!(ours, expected.map(|op| format!("{op} f32")));
}

#[test]
fn float_hard_swish_dilation_same_padding_and_groups() {
    let (ours, tract) = check_float("float_hard", 1e-5);
    // The convolution in groups, the sigmoid of another slope, and the Softmax.
    assert!(tract.iter().any(|op| op == "OptMatMul"), "{tract:?}");
    assert_eq!((count(&ours, "conv f32"), count(&ours, "depthwise f32")), (2, 1), "{ours:?}");
    assert_eq!(count(&ours, "linear f32"), 2);
    assert_eq!((count(&ours, "activation f32"), count(&ours, "add f32")), (0, 0));
    let path = golden("operators/float_hard.onnx");
    let report = Session::load(&path, &Options::default()).unwrap().report();
    assert_eq!(report.tract_convs.len(), 1);
    assert!(report.tract_convs[0].1.contains("4 groups of 4 channels"), "{report:?}");
    assert_eq!(report.float_convs.len(), 7);
}

#[test]
fn float_pads_branches_and_a_batch_norm_on_its_own() {
    let (ours, tract) = check_float("float_branches", 1e-5);
    assert_eq!(tract.iter().filter(|op| *op != "Tanh").count(), 0, "{tract:?}");
    // The two sums that no convolution can take, and the batch norm among the depthwise ones.
    assert_eq!((count(&ours, "add f32"), count(&ours, "depthwise f32")), (2, 2), "{ours:?}");
    // Of the value that is read before its activation as well.
    assert_eq!(count(&ours, "activation f32"), 1);
}

#[test]
fn float_parts_between_int8_parts() {
    // The step of the last codes, seen through a mean and the last layer.
    let (ours, tract) = check_float("float_and_codes", 0.01);
    assert_eq!(tract, Vec::<String>::new());
    assert_eq!((count(&ours, "depthwise f32"), count(&ours, "pointwise int8")), (1, 1), "{ours:?}");
    assert_eq!((count(&ours, "dequantize f32"), count(&ours, "quantize f32")), (3, 2), "{ours:?}");
}

#[test]
fn require_int8_refuses_a_float_convolution() {
    let options = Options { require_int8: true, ..Options::default() };
    Session::load(&golden("operators/qdq_swish.onnx"), &options).unwrap();
    let mut file = kinglet_engine::OnnxFile::read(&golden("operators/qlinear.onnx")).unwrap();
    // Make one convolution's weights 16 bits wide: nothing runs that in int8.
    let graph = file.graph_mut();
    let conv = graph.node.iter().position(|n| n.op_type == "QLinearConv").unwrap();
    graph.node[conv].op_type = "ConvInteger".into();
    assert!(Session::new(file, &options).is_err());
}
