//! Each cure where its illness is all there is.

use super::*;

/// The network's own error where nothing but one thing differs.
fn error(float: &OnnxFile, options: &QuantizeOptions) -> f64 {
    let quantized = run(float, options).unwrap_or_else(|e| panic!("{e}"));
    f64::from(1.0 - least_cosine(float, &quantized.file))
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
