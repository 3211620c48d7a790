//! What the tensors are called: three conventions of naming the same network.

use super::StateDict;
use crate::arch::{Block, BlockKind, Conv, Network, Part, Place};

/// A convention of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The package efficientnet_pytorch and its descendants: `_blocks.0._depthwise_conv.weight`.
    EfficientnetPytorch,
    /// timm: `blocks.0.0.conv_dw.weight`.
    Timm,
    /// torchvision: `features.1.0.block.0.0.weight`.
    Torchvision,
}

impl Style {
    /// Finds the convention by the name of the first convolution.
    #[must_use]
    pub fn detect(state: &StateDict) -> Option<Self> {
        [Self::EfficientnetPytorch, Self::Timm, Self::Torchvision]
            .into_iter()
            .find(|style| state.tensors.contains_key(&format!("{}.weight", style.stem())))
    }

    fn stem(self) -> &'static str {
        match self {
            Self::EfficientnetPytorch => "_conv_stem",
            Self::Timm => "conv_stem",
            Self::Torchvision => "features.0.0",
        }
    }

    /// Names of a convolution and, where it has one, of its batch norm, without `.weight` etc.
    #[must_use]
    pub fn names(self, network: &Network, conv: &Conv) -> (String, Option<String>) {
        let (name, norm) = match self {
            Self::EfficientnetPytorch => efficientnet_pytorch(network, conv.place),
            Self::Timm => timm(network, conv.place),
            Self::Torchvision => torchvision(network, conv.place),
        };
        (name, norm.filter(|_| conv.norm))
    }
}

impl std::fmt::Display for Style {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EfficientnetPytorch => "efficientnet_pytorch",
            Self::Timm => "timm",
            Self::Torchvision => "torchvision",
        })
    }
}

fn both(prefix: &str, conv: &str, norm: &str) -> (String, Option<String>) {
    (format!("{prefix}{conv}"), Some(format!("{prefix}{norm}")))
}

/// Source: `efficientnet_pytorch/model.py`. It has no fused blocks; theirs are named likewise.
fn efficientnet_pytorch(network: &Network, place: Place) -> (String, Option<String>) {
    match place {
        Place::Stem => both("", "_conv_stem", "_bn0"),
        Place::Head => both("", "_conv_head", "_bn1"),
        Place::Classifier => ("_fc".into(), None),
        Place::Block(index, part) => {
            let prefix = format!("_blocks.{index}.");
            let depthwise = network.blocks[index].kind == BlockKind::MbConv;
            match part {
                Part::Expand => both(&prefix, "_expand_conv", "_bn0"),
                Part::Depthwise => both(&prefix, "_depthwise_conv", "_bn1"),
                Part::Only => both(&prefix, "_expand_conv", "_bn0"),
                Part::Reduce => both(&prefix, "_se_reduce", ""),
                Part::Excite => both(&prefix, "_se_expand", ""),
                Part::Project if depthwise => both(&prefix, "_project_conv", "_bn2"),
                Part::Project => both(&prefix, "_project_conv", "_bn1"),
            }
        }
    }
}

/// Source: `timm/models/_efficientnet_blocks.py`, classes `DepthwiseSeparableConv`,
/// `InvertedResidual`, `EdgeResidual`, `ConvBnAct`, `SqueezeExcite`.
fn timm(network: &Network, place: Place) -> (String, Option<String>) {
    let (block, part) = match place {
        Place::Stem => return both("", "conv_stem", "bn1"),
        Place::Head => return both("", "conv_head", "bn2"),
        Place::Classifier => return ("classifier".into(), None),
        Place::Block(index, part) => (&network.blocks[index], part),
    };
    let prefix = format!("blocks.{}.{}.", block.stage, block.within);
    let fused = block.kind == BlockKind::Fused;
    match part {
        Part::Only => both(&prefix, "conv", "bn1"),
        Part::Expand if fused => both(&prefix, "conv_exp", "bn1"),
        Part::Expand => both(&prefix, "conv_pw", "bn1"),
        Part::Depthwise if block.expands() => both(&prefix, "conv_dw", "bn2"),
        Part::Depthwise => both(&prefix, "conv_dw", "bn1"),
        Part::Reduce => both(&prefix, "se.conv_reduce", ""),
        Part::Excite => both(&prefix, "se.conv_expand", ""),
        Part::Project if fused => both(&prefix, "conv_pwl", "bn2"),
        Part::Project if block.expands() => both(&prefix, "conv_pwl", "bn3"),
        Part::Project => both(&prefix, "conv_pw", "bn2"),
    }
}

/// Source: `torchvision/models/efficientnet.py`, classes `MBConv`, `FusedMBConv`.
fn torchvision(network: &Network, place: Place) -> (String, Option<String>) {
    let stages = network.blocks.last().map_or(0, |b| b.stage) + 1;
    let (block, part) = match place {
        Place::Stem => return both("features.0.", "0", "1"),
        Place::Head => return both(&format!("features.{}.", stages + 1), "0", "1"),
        Place::Classifier => return ("classifier.1".into(), None),
        Place::Block(index, part) => (&network.blocks[index], part),
    };
    let prefix = format!("features.{}.{}.block.", block.stage + 1, block.within);
    let step = torchvision_step(block, part);
    match part {
        Part::Reduce => both(&prefix, &format!("{step}.fc1"), ""),
        Part::Excite => both(&prefix, &format!("{step}.fc2"), ""),
        _ => both(&prefix, &format!("{step}.0"), &format!("{step}.1")),
    }
}

/// Place of a part within the block's sequence, from 0.
fn torchvision_step(block: &Block, part: Part) -> usize {
    let expand = usize::from(block.expands());
    let squeeze = usize::from(block.squeeze.is_some());
    match part {
        Part::Expand | Part::Only => 0,
        Part::Depthwise => expand,
        Part::Reduce | Part::Excite => expand + 1,
        Part::Project if block.kind == BlockKind::Fused => 1,
        Part::Project => expand + 1 + squeeze,
    }
}
