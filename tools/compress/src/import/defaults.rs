//! What follows from where weights come from: padding, epsilon, resolution, preprocessing.

use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};

use crate::arch::{Arch, Family, Padding};
use crate::weights::names::Style;

/// ImageNet's channel means, of samples 0..=255. Source: torchvision, 0.485, 0.456, 0.406.
const IMAGENET_MEAN: [f32; 3] = [123.675, 116.28, 103.53];
/// ImageNet's channel deviations. Source: torchvision, 0.229, 0.224, 0.225.
const IMAGENET_STD: [f32; 3] = [58.395, 57.12, 57.375];
/// Batch-norm epsilon of everything trained in TensorFlow.
const EPSILON_TF: f64 = 1e-3;
/// PyTorch's default.
const EPSILON_TORCH: f64 = 1e-5;

/// Who trained a set of weights, as far as it can be known from the file.
pub(super) struct Origin {
    arch: Arch,
    style: Style,
    /// Trained in TensorFlow.
    tensorflow: bool,
}

impl Origin {
    /// `tf_name`: the file's name says that weights with timm's names come from TensorFlow.
    pub(super) fn new(arch: Arch, style: Style, tf_name: bool) -> Self {
        let tensorflow = match style {
            Style::EfficientnetPytorch => true,
            Style::Torchvision => false,
            // timm trained B0 to B4 itself; of Lite and V2 nearly all its weights are `tf_`.
            Style::Timm => tf_name || arch.family != Family::B,
        };
        Self { arch, style, tensorflow }
    }

    /// TensorFlow's networks pad `SAME`, torchvision's and timm's own symmetrically.
    pub(super) fn padding(&self) -> Padding {
        if self.tensorflow { Padding::Same } else { Padding::Symmetric }
    }

    /// torchvision's epsilon is in its table; of timm's two variants, the one with `SAME` padding
    /// has TensorFlow's epsilon.
    pub(super) fn epsilon(&self, padding: Padding) -> f64 {
        match (self.style, self.arch.torchvision) {
            (Style::EfficientnetPytorch, _) => EPSILON_TF,
            (Style::Torchvision, Some(torchvision)) => torchvision.epsilon,
            (Style::Torchvision, None) => EPSILON_TORCH,
            (Style::Timm, _) if padding == Padding::Same => EPSILON_TF,
            (Style::Timm, _) => EPSILON_TORCH,
        }
    }

    /// Side of the input, pixels.
    pub(super) fn resolution(&self) -> u32 {
        match (self.style, self.arch.torchvision) {
            (Style::Torchvision, Some(torchvision)) => torchvision.resolution,
            _ => self.arch.resolution,
        }
    }

    /// How pictures were prepared for the published accuracy.
    ///
    /// Sources: tensorflow/tpu `lite/efficientnet_lite_builder.py` (mean 127, std 128) and
    /// `preprocessing.py` (crop R / (R + 32)); `timm/models/efficientnet.py`, the `_cfg` of the
    /// `tf_` models; torchvision's table in [`crate::arch::tables`].
    pub(super) fn preprocess(&self, resolution: u32) -> Preprocess {
        let size = resolution as f32;
        let (mean, std) = match self.arch.family {
            Family::Lite => ([127.0; 3], [128.0; 3]),
            Family::V2 => ([127.5; 3], [127.5; 3]),
            Family::B | Family::V2B => (IMAGENET_MEAN, IMAGENET_STD),
        };
        let fraction = match self.arch.family {
            Family::V2 => 1.0,
            _ => size / (size + 32.0),
        };
        let crop = match self.style {
            Style::EfficientnetPytorch => Crop::Center { fraction },
            Style::Timm | Style::Torchvision => Crop::ResizeThenCenter { fraction },
        };
        let preprocess = Preprocess {
            size: [resolution; 2],
            filter: Filter::Bicubic,
            crop,
            mean,
            std,
            channels: Channels::Rgb,
        };
        let (Style::Torchvision, Some(own)) = (self.style, self.arch.torchvision) else {
            return preprocess;
        };
        let fraction = own.resolution as f32 / own.resize as f32;
        let half = ([127.5; 3], [127.5; 3]);
        let (mean, std) = if own.half { half } else { (IMAGENET_MEAN, IMAGENET_STD) };
        Preprocess {
            filter: if own.bicubic { Filter::Bicubic } else { Filter::Bilinear },
            crop: Crop::ResizeThenCenter { fraction },
            mean,
            std,
            ..preprocess
        }
    }
}
