//! The tables give the published networks: every member has exactly as many parameters as its
//! authors, or the framework that publishes its weights, count.

use kinglet_compress::arch::{ALL, Arch};

/// Trainable parameters.
///
/// Sources: Lite: tensorflow/tpu, `lite/efficientnet_lite_builder_test.py`. B0-B7 and V2-S, M, L:
/// torchvision, `models/efficientnet.py`, `num_params` of the weights.
const TRAINABLE: &[(&str, usize)] = &[
    ("efficientnet-lite0", 4_652_008),
    ("efficientnet-lite1", 5_416_680),
    ("efficientnet-lite2", 6_092_072),
    ("efficientnet-lite3", 8_197_096),
    ("efficientnet-lite4", 13_006_568),
    ("efficientnet-b0", 5_288_548),
    ("efficientnet-b1", 7_794_184),
    ("efficientnet-b2", 9_109_994),
    ("efficientnet-b3", 12_233_232),
    ("efficientnet-b4", 19_341_616),
    ("efficientnet-b5", 30_389_784),
    ("efficientnet-b6", 43_040_704),
    ("efficientnet-b7", 66_347_960),
    ("efficientnetv2-s", 21_458_488),
    ("efficientnetv2-m", 54_139_356),
    ("efficientnetv2-l", 118_515_272),
];

/// Parameters with the running statistics of the batch norms.
///
/// Source: google/automl, `efficientnetv2/effnetv2_model_test.py`. (That file counts B0 to B6 too,
/// but builds B3 with V2's rounding of channels, unlike the published B3.)
const STORED: &[(&str, usize)] = &[
    ("efficientnetv2-b0", 7_200_312),
    ("efficientnetv2-b1", 8_212_124),
    ("efficientnetv2-b2", 10_178_374),
    ("efficientnetv2-b3", 14_467_622),
    ("efficientnetv2-s", 21_612_360),
    ("efficientnetv2-m", 54_431_388),
    ("efficientnetv2-l", 119_027_848),
];

#[test]
fn every_member_has_the_published_number_of_parameters() {
    let find = |name| Arch::find(name).unwrap();
    for &(name, expected) in TRAINABLE {
        assert_eq!(find(name).published_parameters(1000), expected, "{name}, trainable");
    }
    for &(name, expected) in STORED {
        assert_eq!(find(name).stored_parameters(1000), expected, "{name}, stored");
    }
    for arch in ALL {
        let published = TRAINABLE.iter().chain(STORED).any(|&(name, _)| name == arch.name);
        assert!(published, "{} is compared with nothing", arch.name);
    }
}

#[test]
fn names_are_found_as_people_write_them() {
    assert_eq!(Arch::find("EfficientNet_Lite0").unwrap().name, "efficientnet-lite0");
    assert!(Arch::find("efficientnet-b8").is_none());
}

#[test]
fn the_number_of_classes_changes_only_the_classifier() {
    let arch = Arch::find("efficientnet-b0").unwrap();
    let per_class = 1280 + 1;
    assert_eq!(arch.published_parameters(3) + 997 * per_class, arch.published_parameters(1000));
}
