//! Maps of evidence: exact where they can be, and on the thing that they are about.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod tiny;

use std::path::{Path, PathBuf};

use kinglet_compress::explain::{self, ExplainError, Heat};
use kinglet_engine::{OnnxFile, Picture};
use tiny::Net;

/// Classes of ImageNet.
const TIGER_CAT: usize = 282;
const ESPRESSO: usize = 967;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn photograph(name: &str) -> Picture {
    Picture::read(&repository().join("tests/photographs").join(name)).unwrap()
}

fn shipped() -> OnnxFile {
    OnnxFile::read(&repository().join("models/efficientnet-lite0-int8.onnx")).unwrap()
}

/// A grey square with a photograph in two of its quarters: `first` above on the left.
fn pair(first: &Picture, second: &Picture) -> Picture {
    const SIDE: usize = 600;
    let mut rgb = vec![127; SIDE * SIDE * 3];
    for (picture, corner) in [(first, 40), (second, 300)] {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let square = width.min(height);
        let (left, top) = ((width - square) / 2, (height - square) / 2);
        for y in 0..260 {
            for x in 0..260 {
                let from = ((top + y * square / 260) * width + left + x * square / 260) * 3;
                let to = ((corner + y) * SIDE + corner + x) * 3;
                rgb[to..to + 3].copy_from_slice(&picture.rgb()[from..from + 3]);
            }
        }
    }
    Picture::from_rgb(SIDE as u32, SIDE as u32, rgb).unwrap()
}

/// Its name, what it gives for a class, and by how much the right place must lead.
type Method<'a> = (&'a str, &'a dyn Fn(usize) -> Heat, f32);

const ABOVE: [f32; 4] = [0.0, 0.0, 0.5, 0.5];
const BELOW: [f32; 4] = [0.5, 0.5, 1.0, 1.0];

#[test]
fn a_map_and_the_bias_are_the_logit() {
    for file in [tiny::lite(1), tiny::swish(2)] {
        let picture = tiny::picture(3);
        let outputs = tiny::session(&file, false).outputs(&picture).unwrap();
        let bias = file.graph().initializer.iter().find(|t| t.name == "fc.bias").unwrap();
        let bias = kinglet_engine::tensor::to_f32(bias).unwrap();
        for class in [0, 7] {
            let heat = explain::cam(&file, &picture, Some(class)).unwrap();
            let mean = heat.values.iter().sum::<f32>() / heat.values.len() as f32;
            let logit = mean + bias[class];
            assert!((logit - outputs[class]).abs() < 1e-3, "{logit} {}", outputs[class]);
        }
    }
}

#[test]
fn the_cat_and_the_coffee_are_found_where_they_are() {
    let file = shipped();
    let (cat, coffee) = (photograph("chelsea.png"), photograph("coffee.png"));
    for (picture, of_cat, of_coffee) in
        [(pair(&cat, &coffee), ABOVE, BELOW), (pair(&coffee, &cat), BELOW, ABOVE)]
    {
        let cam = |class| explain::cam(&file, &picture, Some(class)).unwrap();
        let hidden =
            |class| explain::occlusion(&file, &picture, Some(class), None, &|| ()).unwrap();
        let methods: [Method<'_>; 2] = [("cam", &cam, 2.0), ("occlusion", &hidden, 1.3)];
        for (method, heat, factor) in methods {
            for (class, own, other) in
                [(TIGER_CAT, of_cat, of_coffee), (ESPRESSO, of_coffee, of_cat)]
            {
                let heat = heat(class);
                let (own, other) = (heat.share(own), heat.share(other));
                // A quarter of the area each; what is near the edge of one lies in none.
                assert!(own > 0.3 && own > factor * other, "{method} {class}: {own} {other}");
            }
        }
    }
}

/// The cat is left of the blurred background.
#[test]
fn the_cat_as_it_was_photographed() {
    let heat = explain::cam(&shipped(), &photograph("chelsea.png"), None).unwrap();
    assert_eq!(heat.class, TIGER_CAT);
    let cat = heat.share([0.0, 0.0, 0.86, 1.0]);
    assert!(cat > 0.9, "{cat}");
}

#[test]
fn float_and_int8_agree() {
    let Some(models) = std::env::var_os("KINGLET_MODELS") else {
        eprintln!("skipped: KINGLET_MODELS, the folder with efficientnet-lite0.onnx, is not set");
        return;
    };
    let float = OnnxFile::read(&Path::new(&models).join("efficientnet-lite0.onnx")).unwrap();
    let int8 = shipped();
    for name in ["chelsea.png", "coffee.png", "rocket.jpg"] {
        let picture = photograph(name);
        let map = |file| {
            let mut values = explain::cam(file, &picture, None).unwrap().values;
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            values.iter_mut().for_each(|v| *v -= mean);
            values
        };
        let correlation = tiny::cosine(&map(&float), &map(&int8));
        assert!(correlation > 0.95, "{name}: {correlation}");
    }
}

#[test]
fn what_has_no_maps_says_so() {
    let mut net = Net::new(1);
    let x = net.conv("input", [3, 10], 3, 2, false);
    let x = net.node("GlobalMaxPool", &[&x]);
    let x = net.node("Flatten", &[&x]);
    let weight = net.constant("w", &[10, 10], 1.0);
    let x = net.node("MatMul", &[&x, &weight]);
    let file = net.finish(&x);
    let picture = tiny::picture(1);
    let error = explain::cam(&file, &picture, None).unwrap_err();
    assert!(matches!(error, ExplainError::NoMaps), "{error}");
    assert!(error.to_string().contains("occlusion"), "{error}");
    let heat = explain::occlusion(&file, &picture, None, Some(1), &|| ()).unwrap();
    assert_eq!(heat.values.len(), explain::parts());
    let error = explain::occlusion(&file, &picture, Some(10), None, &|| ()).unwrap_err();
    assert!(matches!(error, ExplainError::Class { class: 10, classes: 10 }), "{error}");
}
