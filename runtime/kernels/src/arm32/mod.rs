//! What the kernels for 32-bit ARM with NEON share. Rust has no stable intrinsics for these, so the inner
//! loops are written in assembly: `conv.s`, `depthwise.s` and `peak.s`, with `end.s` before them.
//!
//! NEON on ARMv7 rounds to nearest even and takes numbers below the normal ones for zero. That changes no code:
//! a product so small rounds to zero, and added to a residual it is lost.

use crate::requantize::folded_bias;
use crate::{Requantize, Residual};

// SAFETY: the routines keep the registers that a function must keep.
std::arch::global_asm!(include_str!("end.s"), options(raw));
// SAFETY: as above.
std::arch::global_asm!(include_str!("conv.s"), options(raw));
// SAFETY: as above.
std::arch::global_asm!(include_str!("depthwise.s"), options(raw));
// SAFETY: as above.
std::arch::global_asm!(include_str!("peak.s"), options(raw));

/// Channels side by side.
pub(crate) const LANES: usize = 8;

/// What the sums of some channels begin with and are multiplied by; channels that a layer lacks have zeros.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct End {
    bias: [i32; LANES],
    multiplier: [f32; LANES],
}

impl End {
    /// Of up to [`LANES`] channels from `first` on. `weights` gives those of a channel.
    pub(crate) fn new<'a, I: Iterator<Item = &'a i16>>(
        output: &Requantize,
        zero_point: u8,
        first: usize,
        weights: impl Fn(usize) -> I,
    ) -> End {
        let mut end = End { bias: [0; LANES], multiplier: [0.0; LANES] };
        for (i, c) in (first..output.bias.len()).take(LANES).enumerate() {
            end.bias[i] = folded_bias(weights(c), i32::from(zero_point), output.bias[c]);
            end.multiplier[i] = output.multiplier[c];
        }
        end
    }
}

/// How real numbers become codes, and what a residual's codes are.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// The smallest and the largest code less the zero point.
    low: f32,
    high: f32,
    /// 1.5 * 2^23: neighbours of such numbers are whole ones.
    magic: f32,
    /// That as bits, less the zero point.
    code: i32,
    residual_zero_point: f32,
    residual_multiplier: f32,
}

impl Bounds {
    pub(crate) fn new(output: &Requantize, residual: Option<Residual>) -> Bounds {
        const MAGIC: f32 = 12_582_912.0;
        let zero_point = i32::from(output.zero_point);
        let real = |code: u8| (i32::from(code) - zero_point) as f32;
        let (low, high) = (real(output.min), real(output.max));
        Bounds {
            low,
            high,
            magic: MAGIC,
            code: MAGIC.to_bits() as i32 - zero_point,
            residual_zero_point: residual.map_or(0.0, |r| f32::from(r.zero_point)),
            residual_multiplier: residual.map_or(0.0, |r| r.multiplier),
        }
    }
}
