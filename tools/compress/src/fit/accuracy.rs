//! Top-1 accuracies on ImageNet: published ones, and what may be expected between them.

use super::{Precision, Variant, cost};

/// Top-1, float32 and, where published, int8, in percent.
///
/// Sources: Lite: README of tensorflow/tpu, `models/official/efficientnet/lite`. B: Tan and Le,
/// "EfficientNet" (2019), table 2. V2: README of google/automl, `efficientnetv2`, trained on
/// ImageNet-1k alone.
const PUBLISHED: [(&str, f64, Option<f64>); 20] = [
    ("efficientnet-lite0", 75.1, Some(74.4)),
    ("efficientnet-lite1", 76.7, Some(75.9)),
    ("efficientnet-lite2", 77.6, Some(77.0)),
    ("efficientnet-lite3", 79.8, Some(79.0)),
    ("efficientnet-lite4", 81.5, Some(80.2)),
    ("efficientnet-b0", 77.1, None),
    ("efficientnet-b1", 79.1, None),
    ("efficientnet-b2", 80.1, None),
    ("efficientnet-b3", 81.6, None),
    ("efficientnet-b4", 82.9, None),
    ("efficientnet-b5", 83.6, None),
    ("efficientnet-b6", 84.0, None),
    ("efficientnet-b7", 84.3, None),
    ("efficientnetv2-b0", 78.7, None),
    ("efficientnetv2-b1", 79.8, None),
    ("efficientnetv2-b2", 80.5, None),
    ("efficientnetv2-b3", 82.1, None),
    ("efficientnetv2-s", 83.9, None),
    ("efficientnetv2-m", 85.2, None),
    ("efficientnetv2-l", 85.7, None),
];

/// What int8 costs where nothing is published: the mean of Lite0 to Lite2, points.
const INT8: f64 = 0.7;

/// Work that is left, as a share, and the accuracy that is lost, points: the best of the narrower
/// networks and smaller pictures of MobileNetV2, against its 1.0 at 224 (300 M MACs, 71.8 %).
///
/// Source: README of tensorflow/models, `research/slim/nets/mobilenet`.
const SMALLER: [(f64, f64); 9] = [
    (300.0, 0.0),
    (221.0, 1.1),
    (154.0, 3.0),
    (107.0, 5.4),
    (69.0, 8.6),
    (50.0, 10.8),
    (32.0, 14.1),
    (18.0, 20.6),
    (11.0, 26.3),
];

/// An accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// Share of pictures whose best class is right, percent.
    pub top1: f64,
    /// Whether somebody measured and published it; else it is interpolated.
    pub published: bool,
}

/// The published accuracy of a variant, or what may be expected: that of its member, less what
/// MobileNetV2 loses at the same share of its work, less what int8 costs.
///
/// Trained at the variant's own side and size on ImageNet; a small set of one's own classes has
/// accuracies of its own, in about the same order.
#[must_use]
pub fn expected(variant: &Variant) -> Accuracy {
    let row = PUBLISHED.iter().find(|row| row.0 == variant.arch.name);
    let &(_, float, int8) = row.unwrap_or(&("", 0.0, None));
    let (top1, known) = match (variant.precision, int8) {
        (Precision::Int8, Some(int8)) => (int8, true),
        (Precision::Int8, None) => (float - INT8, false),
        (Precision::F16 | Precision::F32, _) => (float, true),
    };
    if variant.is_published() {
        return Accuracy { top1, published: known };
    }
    let macs = |network: &crate::arch::Network, side: u32| {
        cost::macs(&cost::work(network, side as usize, Precision::F32))
    };
    let full = macs(&variant.arch.network(super::CLASSES), variant.arch.resolution);
    let share = macs(&variant.network(), variant.side) / full;
    Accuracy { top1: top1 - lost(share), published: false }
}

/// Points lost at a share of the work: linear in its logarithm between the published points, and
/// on in the same line below them.
fn lost(share: f64) -> f64 {
    let x = |macs: f64| (macs / SMALLER[0].0).ln();
    let place = SMALLER[1..].iter().position(|&(macs, _)| share.ln() >= x(macs));
    let at = place.unwrap_or(SMALLER.len() - 2);
    let [(a, lost_a), (b, lost_b)] = [SMALLER[at], SMALLER[at + 1]];
    let slope = (lost_b - lost_a) / (x(b) - x(a));
    (lost_a + (share.ln() - x(a)) * slope).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::ALL;

    #[test]
    fn every_member_has_a_published_accuracy() {
        for arch in ALL {
            let side = arch.resolution;
            let precision = Precision::F32;
            let variant = Variant { arch, width: 1.0, depth: 1.0, side, precision };
            let accuracy = expected(&variant);
            assert!(accuracy.published && accuracy.top1 > 75.0, "{}", arch.name);
        }
    }

    #[test]
    fn losses_are_those_of_the_table_and_grow() {
        for (macs, points) in SMALLER {
            assert!((lost(macs / 300.0) - points).abs() < 1e-9);
        }
        assert_eq!(lost(1.0), 0.0);
        assert!(lost(0.01) > lost(0.03));
        assert!(lost(0.6) > 1.1 && lost(0.6) < 3.0);
    }
}
