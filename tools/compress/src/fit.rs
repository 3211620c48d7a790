//! Which network fits a board: predicted latency against expected accuracy.
//!
//! [`variants`] lists what can be built, `cost` predicts the latency of one from its layers and a
//! board's rates, `accuracy` says what its accuracy is or may be, [`front`] leaves those that no
//! other beats in both. `host` measures rates on this machine, and how far predictions are off.

use kinglet_deploy::{Rates, Speed};

use crate::arch::{ALL, Arch, Network};

mod accuracy;
mod cost;
mod host;
mod plot;

pub use accuracy::{Accuracy, expected};
pub use cost::{Kind, Work, latency_ms, macs, work};
pub use host::{Check, FitError, Measured, calibrate, check_variants, fit_variants, measure};
pub use plot::svg;

/// Sides that pictures are resized to, besides the published one of each network.
const SIDES: [u32; 8] = [96, 128, 160, 192, 224, 256, 288, 320];
/// Factors of channels, and of repeats, of the smallest member of each family.
const WIDTHS: [f64; 4] = [0.35, 0.5, 0.75, 1.0];
const DEPTHS: [f64; 2] = [0.5, 1.0];
/// Classes of the networks that are compared: ImageNet's, on which accuracies are stated.
const CLASSES: usize = 1000;

/// The type that a network computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 8-bit integers.
    Int8,
    /// 16-bit floats.
    F16,
    /// 32-bit floats.
    F32,
}

impl Precision {
    /// Bytes of a weight or an activation.
    #[must_use]
    pub fn bytes(self) -> f64 {
        match self {
            Self::Int8 => 1.0,
            Self::F16 => 2.0,
            Self::F32 => 4.0,
        }
    }

    /// A board's rates in this type, if it computes in it.
    #[must_use]
    pub fn rates(self, speed: &Speed) -> Option<Rates> {
        match self {
            Self::Int8 => Some(speed.int8),
            Self::F16 => speed.f16,
            Self::F32 => Some(speed.f32),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

/// A network that can be built.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// The family's member.
    pub arch: &'static Arch,
    /// Factor of its channels.
    pub width: f64,
    /// Factor of its repeats.
    pub depth: f64,
    /// Side of the input, pixels.
    pub side: u32,
    /// The type that it computes in.
    pub precision: Precision,
}

impl Variant {
    /// Expanded into blocks.
    #[must_use]
    pub fn network(&self) -> Network {
        self.arch.scaled(self.width, self.depth, self.side).network(CLASSES)
    }

    /// Whether it is the member as published, but for the type.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.width == 1.0 && self.depth == 1.0 && self.side == self.arch.resolution
    }

    /// What `kinglet-tools import` makes it with.
    #[must_use]
    pub fn options(&self) -> String {
        let mut text = format!("--arch {} --resolution {}", self.arch.name, self.side);
        for (name, factor) in [("width", self.width), ("depth", self.depth)] {
            if factor != 1.0 {
                text += &format!(" --{name} {factor}");
            }
        }
        text
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.arch.name;
        f.write_str(name.strip_prefix("efficientnet-").unwrap_or(name))?;
        if self.width != 1.0 {
            write!(f, " width {}", self.width)?;
        }
        if self.depth != 1.0 {
            write!(f, " depth {}", self.depth)?;
        }
        write!(f, ", {} pixels, {}", self.side, self.precision)
    }
}

/// A variant with what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The variant.
    pub variant: Variant,
    /// Predicted latency, milliseconds.
    pub latency_ms: f64,
    /// Top-1 accuracy on ImageNet.
    pub accuracy: Accuracy,
    /// Multiply-accumulates.
    pub macs: f64,
    /// Size of the weights, MB.
    pub megabytes: f64,
}

/// All variants: each member at sides up to its published one, the smallest of each family
/// narrower and shallower as well, in each of `precisions`.
#[must_use]
pub fn variants(precisions: &[Precision]) -> Vec<Variant> {
    let mut all = Vec::new();
    for arch in ALL {
        let smallest = ALL.iter().find(|a| a.family == arch.family).map(|a| a.name);
        let scales = WIDTHS.iter().flat_map(|&w| DEPTHS.map(|d| (w, d)));
        let scales: Vec<(f64, f64)> =
            scales.filter(|&scale| scale == (1.0, 1.0) || smallest == Some(arch.name)).collect();
        let sides = SIDES.iter().copied().filter(|&s| s < arch.resolution);
        for side in sides.chain([arch.resolution]) {
            for &(width, depth) in &scales {
                all.extend(precisions.iter().map(|&precision| Variant {
                    arch,
                    width,
                    depth,
                    side,
                    precision,
                }));
            }
        }
    }
    all
}

/// Predicts every variant on a board. Types that the board does not compute in are left out.
#[must_use]
pub fn candidates(variants: &[Variant], speed: &Speed, threads: u32) -> Vec<Candidate> {
    let candidate = |&variant: &Variant| {
        let rates = variant.precision.rates(speed)?;
        let network = variant.network();
        let work = work(&network, variant.side as usize, variant.precision);
        let weights: usize = network.convolutions().iter().map(|c| c.weights()).sum();
        Some(Candidate {
            latency_ms: latency_ms(&work, speed, &rates, threads),
            accuracy: expected(&variant),
            macs: macs(&work),
            megabytes: weights as f64 * variant.precision.bytes() / 1e6,
            variant,
        })
    };
    variants.iter().filter_map(candidate).collect()
}

/// The candidates that no other beats in latency and accuracy at once, the fastest first.
#[must_use]
pub fn front(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut sorted = candidates.to_vec();
    let order = |a: &Candidate, b: &Candidate| {
        let by_accuracy = b.accuracy.top1.total_cmp(&a.accuracy.top1);
        a.latency_ms.total_cmp(&b.latency_ms).then(by_accuracy)
    };
    sorted.sort_by(order);
    let mut best = 0.0;
    sorted.retain(|c| {
        let better = c.accuracy.top1 > best;
        best = f64::max(best, c.accuracy.top1);
        better
    });
    sorted
}

#[cfg(test)]
mod tests;
