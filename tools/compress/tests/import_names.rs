//! Weights under the three conventions of names become the same model; what does not fit is named.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use kinglet_compress::arch::{Arch, Conv, Network, Padding};
use kinglet_compress::import::{ImportError, ImportOptions, adopt, import_bytes, import_random};
use kinglet_compress::weights::names::Style;
use kinglet_engine::OnnxFile;
use kinglet_engine::metadata::{Crop, Filter};
use safetensors::{Dtype, tensor::TensorView};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Values that differ from tensor to tensor and channel to channel.
fn values(seed: usize, count: usize, least: f32) -> Vec<f32> {
    (0..count).map(|i| least + ((i * 31 + seed * 17) % 97) as f32 / 97.0).collect()
}

fn tensors(network: &Network, style: Style) -> Tensors {
    let mut all = Tensors::new();
    let mut add = |name: String, shape: Vec<usize>, least: f32| {
        let count = shape.iter().product();
        let seed = all.len();
        all.insert(name, (shape, values(seed, count, least)));
    };
    for conv in network.convolutions() {
        // A name's seed follows from the order of the parts, the same in every style.
        add_conv(&mut add, network, &conv, style);
    }
    all
}

fn add_conv(
    add: &mut impl FnMut(String, Vec<usize>, f32),
    network: &Network,
    conv: &Conv,
    style: Style,
) {
    let (name, norm) = style.names(network, conv);
    add(format!("{name}.weight"), conv.weight_shape(), -0.5);
    let channels = vec![conv.output];
    match norm {
        None => add(format!("{name}.bias"), channels, -0.5),
        Some(norm) => {
            add(format!("{norm}.weight"), channels.clone(), 0.5);
            add(format!("{norm}.bias"), channels.clone(), -0.5);
            add(format!("{norm}.running_mean"), channels.clone(), -0.5);
            add(format!("{norm}.running_var"), channels, 0.5);
            add(format!("{norm}.num_batches_tracked"), vec![], 3.0);
        }
    }
}

fn safetensors_file(tensors: &Tensors) -> Vec<u8> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(n, (s, v))| (n, s, v.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, data)| {
            (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), data).unwrap())
        })
        .collect::<Vec<_>>();
    safetensors::serialize(views, None).unwrap()
}

fn options() -> ImportOptions {
    ImportOptions {
        padding: Some(Padding::Same),
        epsilon: Some(1e-3),
        resolution: Some(64),
        ..Default::default()
    }
}

fn import(arch: &'static Arch, tensors: &Tensors) -> Result<OnnxFile, ImportError> {
    import_bytes(arch, &safetensors_file(tensors), false, &options())
}

#[test]
fn the_three_conventions_name_the_same_network() {
    // Both kinds of block, with and without expansion, with and without squeeze-and-excite.
    for name in ["efficientnetv2-b0", "efficientnet-b1", "efficientnet-lite0"] {
        let arch = Arch::find(name).unwrap();
        let network = arch.network(5);
        let model = |style| import(arch, &tensors(&network, style)).unwrap();
        let first = model(Style::EfficientnetPytorch);
        assert_eq!(first.graph().output[0].name, "logits");
        for style in [Style::Timm, Style::Torchvision] {
            assert_eq!(model(style).graph(), first.graph(), "{name} in {style} names");
        }
    }
}

/// Names as they stand in published files.
#[test]
fn names_are_those_of_the_published_files() {
    let has = |arch: &str, style: Style, names: &[&str]| {
        let network = Arch::find(arch).unwrap().network(2);
        let all = tensors(&network, style);
        for name in names {
            assert!(all.contains_key(*name), "{name} of {arch} in {style} names");
        }
        all.len()
    };
    has(
        "efficientnet-b0",
        Style::EfficientnetPytorch,
        &[
            "_conv_stem.weight",
            "_bn0.running_var",
            "_blocks.0._depthwise_conv.weight",
            "_blocks.0._bn1.weight",
            "_blocks.1._expand_conv.weight",
            "_blocks.1._se_expand.bias",
            "_blocks.15._bn2.bias",
            "_conv_head.weight",
            "_fc.bias",
        ],
    );
    has(
        "efficientnet-b0",
        Style::Timm,
        &[
            "blocks.0.0.conv_pw.weight",
            "blocks.0.0.bn2.bias",
            "blocks.1.0.conv_pwl.weight",
            "blocks.1.0.bn3.weight",
            "blocks.6.0.se.conv_reduce.bias",
            "bn2.weight",
            "classifier.weight",
        ],
    );
    has(
        "efficientnetv2-s",
        Style::Timm,
        &[
            "blocks.0.1.conv.weight",
            "blocks.0.1.bn1.weight",
            "blocks.1.0.conv_exp.weight",
            "blocks.1.0.conv_pwl.weight",
            "blocks.1.0.bn2.weight",
            "blocks.3.0.conv_dw.weight",
        ],
    );
    // A published B0 of torchvision has 360 tensors.
    let count = has(
        "efficientnet-b0",
        Style::Torchvision,
        &[
            "features.1.0.block.0.0.weight",
            "features.1.0.block.1.fc1.weight",
            "features.1.0.block.2.1.running_mean",
            "features.2.0.block.3.0.weight",
            "features.8.0.weight",
            "classifier.1.weight",
        ],
    );
    assert_eq!(count, 360);
    has(
        "efficientnetv2-s",
        Style::Torchvision,
        &[
            "features.1.0.block.0.0.weight",
            "features.2.0.block.1.1.bias",
            "features.4.0.block.2.fc2.bias",
            "features.7.1.weight",
        ],
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let arch = Arch::find("efficientnet-lite0").unwrap();
    let all = tensors(&arch.network(3), Style::Timm);
    let broken = |change: &dyn Fn(&mut Tensors)| {
        let mut changed = all.clone();
        change(&mut changed);
        import(arch, &changed).unwrap_err().to_string()
    };
    let name = "blocks.2.1.bn2.running_var";
    let error = broken(&|t| drop(t.remove(name)));
    assert!(error.contains(name) && error.contains("missing"), "{error}");
    let error = broken(&|t| drop(t.insert("more.weight".into(), (vec![1], vec![1.0]))));
    assert!(error.contains("no place for tensor 'more.weight'"), "{error}");
    let error = broken(&|t| t.get_mut(name).unwrap().0 = vec![2, 120]);
    assert!(
        error.contains(name) && error.contains("[2, 120]") && error.contains("[240]"),
        "{error}"
    );
    let error = broken(&|t| t.get_mut(name).unwrap().1[7] = f32::NAN);
    assert!(error.contains("blocks.2.1.conv_dw.weight") && error.contains("finite"), "{error}");
    let error = broken(&|t| drop(t.remove("conv_stem.weight")));
    assert!(error.contains("named like none"), "{error}");
    let error = broken(&|t| drop(t.remove("classifier.weight")));
    assert!(error.contains("classifier.weight"), "{error}");

    let wrong = ImportOptions { classes: Some(4), ..options() };
    let error = import_bytes(arch, &safetensors_file(&all), false, &wrong).unwrap_err();
    assert!(matches!(error, ImportError::Classes { asked: 4, actual: 3 }), "{error}");
    let wrong = ImportOptions { labels: Some(vec!["a".into()]), ..options() };
    let error = import_bytes(arch, &safetensors_file(&all), false, &wrong).unwrap_err();
    assert!(matches!(error, ImportError::Labels { labels: 1, outputs: 3 }), "{error}");
}

/// Padding, epsilon, size and preprocessing follow from who trained the weights.
#[test]
fn defaults_follow_the_origin() {
    let arch = Arch::find("efficientnet-b2").unwrap();
    let network = arch.network(2);
    let imported = |style, tensorflow| {
        let file = safetensors_file(&tensors(&network, style));
        let model = import_bytes(arch, &file, tensorflow, &ImportOptions::default()).unwrap();
        let metadata = model.metadata().unwrap();
        (metadata.preprocess.unwrap(), metadata.provenance.unwrap().steps[0].clone())
    };
    let (preprocess, step) = imported(Style::EfficientnetPytorch, false);
    assert!(step.contains("same padding") && step.contains("epsilon 0.001"), "{step}");
    assert_eq!(preprocess.size, [260, 260]);
    assert!(matches!(preprocess.crop, Crop::Center { .. }));
    let (preprocess, step) = imported(Style::Torchvision, false);
    assert!(step.contains("symmetric padding") && step.contains("epsilon 0.00001"), "{step}");
    assert_eq!((preprocess.size, preprocess.filter), ([288, 288], Filter::Bicubic));
    let (_, step) = imported(Style::Timm, false);
    assert!(step.contains("symmetric padding") && step.contains("epsilon 0.00001"), "{step}");
    let (_, step) = imported(Style::Timm, true);
    assert!(step.contains("same padding") && step.contains("epsilon 0.001"), "{step}");
}

#[test]
fn random_weights_are_the_same_every_time() {
    let arch = Arch::find("efficientnetv2-b0").unwrap();
    let model = |seed| {
        let options = ImportOptions { classes: Some(3), ..options() };
        import_random(arch, seed, &options).unwrap()
    };
    assert_eq!(model(1).to_bytes(), model(1).to_bytes());
    assert_ne!(model(1).to_bytes(), model(2).to_bytes());
    // The first values, so that a change of the generator does not pass unseen.
    let model = model(1);
    let stem = &model.graph().initializer[0];
    let stem = kinglet_engine::tensor::to_f32(stem).unwrap();
    assert_eq!(stem[..3], [0.022_187_192, 0.081_927_255, 0.157_000_91]);
}

#[test]
fn adopting_adds_metadata_and_keeps_the_graph() {
    let arch = Arch::find("efficientnet-lite0").unwrap();
    let small = ImportOptions { classes: Some(2), ..options() };
    let original = import_random(arch, 1, &small).unwrap();
    let given =
        ImportOptions { labels: Some(vec!["ant".into(), "bee".into()]), ..Default::default() };
    let adopted = adopt(original.clone(), "00ff", &given).unwrap();
    assert_eq!(adopted.graph(), original.graph());
    let metadata = adopted.metadata().unwrap();
    assert_eq!(metadata.labels.unwrap(), ["ant", "bee"]);
    let provenance = metadata.provenance.unwrap();
    assert_eq!(provenance.parent_sha256.as_deref(), Some("00ff"));
    assert_eq!(provenance.steps.len(), 2);

    let mut wrong = given.clone();
    wrong.labels = Some(vec!["ant".into()]);
    let error = adopt(original.clone(), "00ff", &wrong).unwrap_err();
    assert!(matches!(error, ImportError::Labels { labels: 1, outputs: 2 }), "{error}");
    let mut wrong = given;
    let mut preprocess = original.metadata().unwrap().preprocess.unwrap();
    preprocess.size = [32, 64];
    wrong.preprocess = Some(preprocess);
    let error = adopt(original, "00ff", &wrong).unwrap_err().to_string();
    assert!(error.contains("32x64"), "{error}");
}
