//! The published numbers: stages, multipliers, resolutions, crops.
//!
//! Sources:
//! - B0-B7: Tan and Le, "EfficientNet", table 1, and `efficientnet_builder.py` of
//!   tensorflow/tpu (multipliers, resolutions).
//! - Lite: `lite/efficientnet_lite_builder.py` of tensorflow/tpu (stem, head and the depth of the
//!   first and last stage do not scale, ReLU6, no squeeze-and-excite).
//! - V2: Tan and Le, "EfficientNetV2", table 4, and `effnetv2_configs.py` of google/automl.

use super::{Activation, Block, BlockKind, Network};

/// A family: what its members share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// EfficientNet-Lite0 to Lite4.
    Lite,
    /// EfficientNet-B0 to B7.
    B,
    /// EfficientNetV2-B0 to B3.
    V2B,
    /// EfficientNetV2-S, M and L.
    V2,
}

/// A row of a family's table: blocks that share all but their input channels.
#[derive(Debug, Clone, Copy)]
struct Stage {
    fused: bool,
    repeats: usize,
    kernel: usize,
    stride: usize,
    expand: usize,
    output: usize,
    squeeze: bool,
}

const fn mbconv(
    repeats: usize,
    kernel: usize,
    stride: usize,
    expand: usize,
    output: usize,
) -> Stage {
    Stage { fused: false, repeats, kernel, stride, expand, output, squeeze: true }
}

const fn fused(repeats: usize, stride: usize, expand: usize, output: usize) -> Stage {
    Stage { fused: true, repeats, kernel: 3, stride, expand, output, squeeze: false }
}

/// Stages of B0; Lite has the same without squeeze-and-excite.
const B_STAGES: &[Stage] = &[
    mbconv(1, 3, 1, 1, 16),
    mbconv(2, 3, 2, 6, 24),
    mbconv(2, 5, 2, 6, 40),
    mbconv(3, 3, 2, 6, 80),
    mbconv(3, 5, 1, 6, 112),
    mbconv(4, 5, 2, 6, 192),
    mbconv(1, 3, 1, 6, 320),
];

const V2B_STAGES: &[Stage] = &[
    fused(1, 1, 1, 16),
    fused(2, 2, 4, 32),
    fused(2, 2, 4, 48),
    mbconv(3, 3, 2, 4, 96),
    mbconv(5, 3, 1, 6, 112),
    mbconv(8, 3, 2, 6, 192),
];

const V2S_STAGES: &[Stage] = &[
    fused(2, 1, 1, 24),
    fused(4, 2, 4, 48),
    fused(4, 2, 4, 64),
    mbconv(6, 3, 2, 4, 128),
    mbconv(9, 3, 1, 6, 160),
    mbconv(15, 3, 2, 6, 256),
];

const V2M_STAGES: &[Stage] = &[
    fused(3, 1, 1, 24),
    fused(5, 2, 4, 48),
    fused(5, 2, 4, 80),
    mbconv(7, 3, 2, 4, 160),
    mbconv(14, 3, 1, 6, 176),
    mbconv(18, 3, 2, 6, 304),
    mbconv(5, 3, 1, 6, 512),
];

const V2L_STAGES: &[Stage] = &[
    fused(4, 1, 1, 32),
    fused(7, 2, 4, 64),
    fused(7, 2, 4, 96),
    mbconv(10, 3, 2, 4, 192),
    mbconv(19, 3, 1, 6, 224),
    mbconv(25, 3, 2, 6, 384),
    mbconv(7, 3, 1, 6, 640),
];

/// torchvision's own evaluation: resolution, short side before the crop, bicubic or bilinear,
/// batch-norm epsilon.
///
/// Source: `torchvision/models/efficientnet.py`, the `transforms` of the newest weights of each
/// model and the `norm_layer` of each builder.
#[derive(Debug, Clone, Copy)]
pub struct Torchvision {
    /// Side of the input, pixels.
    pub resolution: u32,
    /// Short side that a picture is resized to before the crop, pixels.
    pub resize: u32,
    /// Bicubic instead of bilinear.
    pub bicubic: bool,
    /// Epsilon of the batch norms.
    pub epsilon: f64,
    /// Mean and std are 127.5 instead of ImageNet's.
    pub half: bool,
}

const fn tv(resolution: u32, resize: u32, bicubic: bool, epsilon: f64) -> Option<Torchvision> {
    Some(Torchvision { resolution, resize, bicubic, epsilon, half: false })
}

/// One member of a family.
#[derive(Debug, Clone, Copy)]
pub struct Arch {
    /// Canonical name, such as `efficientnet-lite0`.
    pub name: &'static str,
    /// Its family.
    pub family: Family,
    /// Published side of the input, pixels. For V2-S, M and L that of the evaluation: they were
    /// trained at smaller ones (300, 384, 384).
    pub resolution: u32,
    /// What torchvision does with this member, where it has it.
    pub torchvision: Option<Torchvision>,
    width: f64,
    depth: f64,
    stem: usize,
    stages: &'static [Stage],
}

const fn arch(
    name: &'static str,
    family: Family,
    width: f64,
    depth: f64,
    resolution: u32,
    torchvision: Option<Torchvision>,
) -> Arch {
    let stages = match family {
        Family::V2B => V2B_STAGES,
        _ => B_STAGES,
    };
    Arch { name, family, resolution, torchvision, width, depth, stem: 32, stages }
}

const fn v2(
    name: &'static str,
    resolution: u32,
    stem: usize,
    stages: &'static [Stage],
    torchvision: Option<Torchvision>,
) -> Arch {
    let family = Family::V2;
    Arch { name, family, resolution, torchvision, width: 1.0, depth: 1.0, stem, stages }
}

const TV_L: Option<Torchvision> =
    Some(Torchvision { resolution: 480, resize: 480, bicubic: true, epsilon: 1e-3, half: true });

/// Every member that Kinglet can build.
pub const ALL: &[Arch] = &[
    arch("efficientnet-lite0", Family::Lite, 1.0, 1.0, 224, None),
    arch("efficientnet-lite1", Family::Lite, 1.0, 1.1, 240, None),
    arch("efficientnet-lite2", Family::Lite, 1.1, 1.2, 260, None),
    arch("efficientnet-lite3", Family::Lite, 1.2, 1.4, 280, None),
    arch("efficientnet-lite4", Family::Lite, 1.4, 1.8, 300, None),
    arch("efficientnet-b0", Family::B, 1.0, 1.0, 224, tv(224, 256, true, 1e-5)),
    arch("efficientnet-b1", Family::B, 1.0, 1.1, 240, tv(240, 255, false, 1e-5)),
    arch("efficientnet-b2", Family::B, 1.1, 1.2, 260, tv(288, 288, true, 1e-5)),
    arch("efficientnet-b3", Family::B, 1.2, 1.4, 300, tv(300, 320, true, 1e-5)),
    arch("efficientnet-b4", Family::B, 1.4, 1.8, 380, tv(380, 384, true, 1e-5)),
    arch("efficientnet-b5", Family::B, 1.6, 2.2, 456, tv(456, 456, true, 1e-3)),
    arch("efficientnet-b6", Family::B, 1.8, 2.6, 528, tv(528, 528, true, 1e-3)),
    arch("efficientnet-b7", Family::B, 2.0, 3.1, 600, tv(600, 600, true, 1e-3)),
    arch("efficientnetv2-b0", Family::V2B, 1.0, 1.0, 224, None),
    arch("efficientnetv2-b1", Family::V2B, 1.0, 1.1, 240, None),
    arch("efficientnetv2-b2", Family::V2B, 1.1, 1.2, 260, None),
    arch("efficientnetv2-b3", Family::V2B, 1.2, 1.4, 300, None),
    v2("efficientnetv2-s", 384, 24, V2S_STAGES, tv(384, 384, false, 1e-3)),
    v2("efficientnetv2-m", 480, 24, V2M_STAGES, tv(480, 480, false, 1e-3)),
    v2("efficientnetv2-l", 480, 32, V2L_STAGES, TV_L),
];

impl Arch {
    /// Finds a member by name; case and `_` for `-` do not matter.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        ALL.iter().find(|a| a.name == name)
    }

    /// The member with its width and depth multiplied, by the family's own rules of rounding, and
    /// with another side of the input. The name stays.
    #[must_use]
    pub fn scaled(&self, width: f64, depth: f64, resolution: u32) -> Self {
        let (width, depth) = (self.width * width, self.depth * depth);
        Self { width, depth, resolution, ..*self }
    }

    /// Activation function of the whole network.
    #[must_use]
    pub fn activation(&self) -> Activation {
        if self.family == Family::Lite { Activation::Relu6 } else { Activation::Swish }
    }

    /// The member expanded into blocks.
    #[must_use]
    pub fn network(&self, classes: usize) -> Network {
        let lite = self.family == Family::Lite;
        let stem = if lite { self.stem } else { self.channels(self.stem) };
        let features = if lite { 1280 } else { self.channels(1280) };
        let mut input = stem;
        let mut blocks = Vec::new();
        for (stage, row) in self.stages.iter().enumerate() {
            let output = self.channels(row.output);
            for within in 0..self.repeats(stage) {
                let stride = if within == 0 { row.stride } else { 1 };
                blocks.push(Block {
                    stage,
                    within,
                    kind: if row.fused { BlockKind::Fused } else { BlockKind::MbConv },
                    input,
                    expanded: input * row.expand,
                    output,
                    kernel: row.kernel,
                    stride,
                    // Of the block's input, not of its expansion. All channel counts are
                    // multiples of 8.
                    squeeze: (row.squeeze && !lite).then_some(input / 4),
                    residual: stride == 1 && input == output,
                });
                input = output;
            }
        }
        Network { arch: *self, stem, blocks, features, classes, activation: self.activation() }
    }

    /// Number of trainable parameters as frameworks count them: batch norms with scale and shift,
    /// without their running statistics.
    #[must_use]
    pub fn published_parameters(&self, classes: usize) -> usize {
        self.network(classes).convolutions().iter().map(super::Conv::trainable_parameters).sum()
    }

    /// Number of parameters as Keras counts them: with the running statistics of the batch norms.
    #[must_use]
    pub fn stored_parameters(&self, classes: usize) -> usize {
        self.network(classes).convolutions().iter().map(super::Conv::stored_parameters).sum()
    }

    /// Depth of a stage: `ceil(repeats * depth)`.
    fn repeats(&self, stage: usize) -> usize {
        let repeats = self.stages[stage].repeats;
        let end = stage == 0 || stage + 1 == self.stages.len();
        if self.family == Family::Lite && end {
            return repeats;
        }
        // The products of the tables are exact to 1e-9; 1e-6 keeps 10 * 1.1 from becoming 12.
        (repeats as f64 * self.depth - 1e-6).ceil() as usize
    }

    /// Channels: the nearest multiple of 8 of `channels * width`, halves up, and in V1 the next
    /// one if that lost more than a tenth.
    fn channels(&self, channels: usize) -> usize {
        let wanted = channels as f64 * self.width;
        let rounded = ((wanted + 4.0) / 8.0).floor() as usize * 8;
        let rounded = rounded.max(8);
        let may_lose = self.family == Family::V2B;
        if !may_lose && (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
    }
}
