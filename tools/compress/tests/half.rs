//! Conversion to float16 of small random networks.

mod tiny;

use kinglet_compress::half::{HalfError, convert};
use kinglet_engine::tensor;
use tiny::{least_cosine, ops, session};

#[test]
fn the_file_halves_and_the_scores_stay() {
    for float in [tiny::lite(1), tiny::swish(2)] {
        let half = convert(&float, "00ff").unwrap_or_else(|e| panic!("{e}")).file;
        assert!(least_cosine(&float, &half) > 0.9999);
        assert_eq!(session(&half, false).report().stored, "f16");
        let graph = half.graph();
        assert!(graph.initializer.iter().all(|t| t.data_type == 10), "float16 throughout");
        assert_eq!(ops(&half, "Cast"), 2);
        for value in graph.input.iter().chain(&graph.output) {
            let text = format!("{value:?}");
            assert!(text.contains("elem_type: Float"), "input and output stay f32: {text}");
        }
        let metadata = half.metadata().unwrap();
        assert_eq!(metadata.golden.unwrap().samples.len(), 3);
        let provenance = metadata.provenance.unwrap();
        assert_eq!(provenance.parent_sha256.as_deref(), Some("00ff"));
        assert!(provenance.steps.last().unwrap().contains("--f16"));
    }
}

#[test]
fn values_that_float16_cannot_hold_stay_in_f32() {
    let mut float = tiny::lite(3);
    for t in &mut float.graph_mut().initializer {
        let factor = match t.name.as_str() {
            // A layer whose weights are all too small, undone by one with weights that are large.
            "w0" => 1e-7,
            "b0" => 1e-7,
            "w2" => 1e7,
            _ => continue,
        };
        let dims: Vec<usize> = t.dims.iter().map(|&d| d as usize).collect();
        let values: Vec<f32> = tensor::to_f32(t).unwrap().iter().map(|v| v * factor).collect();
        *t = tensor::from_f32(&t.name, &dims, &values);
    }
    let result = convert(&float, "").unwrap_or_else(|e| panic!("{e}"));
    let kept: Vec<&str> =
        result.tensors.iter().filter(|t| t.kept_f32).map(|t| t.name.as_str()).collect();
    assert_eq!(kept, ["w0", "b0", "w2"]);
    let of = |name: &str| result.tensors.iter().find(|t| t.name == name).unwrap();
    assert!(of("w2").too_large > 0 && of("w0").to_zero + of("w0").subnormal > 0);
    assert!(least_cosine(&float, &result.file) > 0.999);
    // Two widened nodes: each input and output has a Cast, as have the model's own.
    assert_eq!(ops(&result.file, "Cast"), 2 + 4);
}

#[test]
fn other_models_are_refused() {
    let half = convert(&tiny::lite(4), "").unwrap().file;
    assert!(matches!(
        convert(&half, ""),
        Err(HalfError::Operator { .. } | HalfError::NotFloat { .. })
    ));
    let mut strange = tiny::lite(5);
    strange.graph_mut().node[1].op_type = "NonMaxSuppression".into();
    let error = convert(&strange, "").unwrap_err().to_string();
    assert!(error.contains("NonMaxSuppression"), "{error}");
}
