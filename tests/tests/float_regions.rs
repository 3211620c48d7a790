//! Whole float networks in our own regions, against tract's run of the same file.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use kinglet_compress::arch::Arch;
use kinglet_compress::half;
use kinglet_compress::import::{ImportOptions, import_random};
use kinglet_engine::report::Report;
use kinglet_engine::{Isa, OnnxFile, Options, Session, tensor};

/// Largest difference of an output, relative to the largest output.
const TOLERANCE: f32 = 1e-4;

fn random(name: &str) -> OnnxFile {
    import_random(Arch::find(name).unwrap(), 1, &ImportOptions::default()).unwrap()
}

/// Outputs and report of a file for the sample input.
fn run(file: &OnnxFile, options: &Options) -> (Vec<f32>, Report) {
    let mut session = Session::new(file.clone(), options).unwrap();
    let input = session.sample_input();
    (session.run(&input).unwrap(), session.report())
}

/// Compares all instruction sets with tract; gives the last report.
fn check(file: &OnnxFile) -> Report {
    let tract = Options { tract_float: true, ..Options::default() };
    let (expected, report) = run(file, &tract);
    assert!(report.layers.iter().all(|l| l.kernel == "tract"));
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.0);
    let mut last = report;
    for isa in Isa::available() {
        let options = |threads| Options { isa: Some(isa), threads, ..Options::default() };
        let (found, report) = run(file, &options(1));
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{}: off by {:.2e} of the largest output", isa.name(), worst / largest);
        assert!(worst <= TOLERANCE * largest, "{}: {worst} of {largest}", isa.name());
        assert_eq!(run(file, &options(3)).0, found, "{} on three threads", isa.name());
        assert!(report.tract_convs.is_empty(), "{:?}", report.tract_convs);
        let in_tract: Vec<_> = report.layers.iter().filter(|l| l.kernel == "tract").collect();
        assert!(in_tract.is_empty(), "{in_tract:?}");
        last = report;
    }
    last
}

/// How many layers of an operation there are; a line may be several, "depthwise + pointwise".
fn count(report: &Report, operation: &str) -> usize {
    let operations = report.layers.iter().flat_map(|l| l.operation.split(" + "));
    operations.filter(|&found| found == operation).count()
}

#[test]
fn lite0_is_its_convolutions_and_nothing_else() {
    let report = check(&random("efficientnet-lite0"));
    // Activations and residuals are part of the convolutions.
    assert_eq!(count(&report, "pointwise") + count(&report, "depthwise"), 16 + 16 + 15 + 1);
    assert_eq!((count(&report, "add"), count(&report, "activation")), (0, 0));
    assert!(report.layers.iter().all(|l| l.data_type == "f32"));
    assert_eq!(report.macs().0, 385_187_552);
}

#[test]
fn b0_with_its_gates() {
    let report = check(&random("efficientnet-b0"));
    let excited = count(&report, "squeeze_excite");
    assert_eq!((count(&report, "mul") + excited, count(&report, "activation")), (16, 0));
    assert_eq!(count(&report, "add"), 0);
}

#[test]
fn v2_b0_with_its_fused_blocks() {
    let report = check(&random("efficientnetv2-b0"));
    assert_eq!(count(&report, "add") + count(&report, "activation"), 0);
}

/// Largest difference in f16, whose numbers have 11 bits, relative to the largest output.
const TOLERANCE_F16: f32 = 1e-2;

#[test]
fn f16_all_the_way_stays_near_f32() {
    for name in ["efficientnet-lite0", "efficientnet-b0"] {
        let file = half::convert(&random(name), "").unwrap().file;
        let expected = run(&file, &Options { half: Some(false), ..Options::default() }).0;
        let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for isa in Isa::available() {
            let options = Options { isa: Some(isa), half: Some(true), ..Options::default() };
            let options = Options { self_test: false, ..options };
            let (found, report) = run(&file, &options);
            assert!(report.layers.iter().all(|l| l.data_type == "f16"));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name}, {}: off by {:.2e}", isa.name(), worst / largest);
            assert!(worst > 0.0, "rounding to f16 shows");
            assert!(worst <= TOLERANCE_F16 * largest, "{name}, {}: {worst}", isa.name());
        }
    }
}

#[test]
fn a_weight_beyond_f16_keeps_the_floats_in_f32() {
    let mut file = half::convert(&random("efficientnet-lite0"), "").unwrap().file;
    let bias = file.graph_mut().initializer.iter_mut().find(|t| t.dims.len() == 1).unwrap();
    let mut values = tensor::to_f32(bias).unwrap();
    values[0] = 1e6;
    *bias = tensor::from_f32(&bias.name.clone(), &[values.len()], &values);
    let options = Options { half: Some(true), self_test: false, ..Options::default() };
    assert!(run(&file, &options).1.layers.iter().all(|l| l.data_type == "f32"));
}

#[test]
fn tensors_stored_in_f16_give_what_they_give_widened() {
    let file = half::convert(&random("efficientnet-b0"), "").unwrap().file;
    let report = check(&file);
    assert_eq!(report.stored, "f16");
    let expected = if report.isa == "neon-fp16" { "f16" } else { "f32" };
    assert!(report.layers.iter().all(|l| l.data_type == expected));
}
