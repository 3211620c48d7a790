//! How fast a board computes and reads: what predictions of latency are made from.

use serde::{Deserialize, Serialize};

/// Rates of a board, with Kinglet's kernels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Where the rates are from, and whether they were measured.
    pub source: String,
    /// Reading of memory, all cores together, GB/s.
    pub bandwidth_gb_s: f64,
    /// Size of the last cache, KiB: what fits is not read from memory.
    pub cache_kib: u32,
    /// Time of a layer beyond its work, microseconds.
    pub layer_overhead_us: f64,
    /// What a core beyond the first adds, as a share of the first, in [0, 1].
    pub thread_efficiency: f64,
    /// Rates of 8-bit integers.
    pub int8: Rates,
    /// Rates of 16-bit floats, where the core computes in them.
    #[serde(default)]
    pub f16: Option<Rates>,
    /// Rates of 32-bit floats.
    pub f32: Rates,
}

/// What one core does in a second, in units of 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Multiply-accumulates of pointwise and fully connected layers.
    pub pointwise: f64,
    /// Multiply-accumulates of depthwise layers.
    pub depthwise: f64,
    /// Multiply-accumulates of other convolutions.
    pub dense: f64,
    /// Elements that a swish makes.
    pub activation: f64,
    /// Elements that a sum, a product or a pool reads.
    pub elementwise: f64,
}

impl Speed {
    /// What is wrong with a field, if something is.
    pub(crate) fn fault(&self) -> Option<String> {
        let rates =
            [("int8", Some(&self.int8)), ("f16", self.f16.as_ref()), ("f32", Some(&self.f32))];
        for (name, rates) in rates {
            let positive = |r: &f64| r.is_finite() && *r > 0.0;
            if !rates.is_none_or(|r| r.all().iter().all(positive)) {
                return Some(format!("speed.{name}: rates are numbers above 0"));
            }
        }
        if !(self.bandwidth_gb_s > 0.0 && self.bandwidth_gb_s.is_finite()) {
            return Some("speed.bandwidth_gb_s is a number above 0".into());
        }
        if !(self.layer_overhead_us >= 0.0 && self.layer_overhead_us.is_finite()) {
            return Some("speed.layer_overhead_us is a number, not below 0".into());
        }
        let share = (0.0..=1.0).contains(&self.thread_efficiency);
        (!share).then(|| "speed.thread_efficiency is a share, in [0, 1]".into())
    }
}

impl Rates {
    /// All rates, in the order of the fields.
    #[must_use]
    pub fn all(&self) -> [f64; 5] {
        [self.pointwise, self.depthwise, self.dense, self.activation, self.elementwise]
    }
}
