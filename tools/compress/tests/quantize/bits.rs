//! Codes of seven bits for what pointwise convolutions read.

use super::*;

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
