//! What graphs may look like.

use super::*;

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
