//! The inner loop of dense convolution for NEON with the dot-product extension. The intrinsic is
//! not stable, so `sdot` is written as inline assembly, one instruction at a time.

use std::arch::aarch64::*;

use super::neon_tile::Tile;
use crate::arm::sdot_lane;
use crate::isa::NeonDot;

/// Computes and writes `MR` pixels of `NV * 4` channels.
pub(super) fn run<const MR: usize, const NV: usize>(
    _token: NeonDot,
    tile: &Tile<'_>,
    out: &mut [u8],
    out_stride: usize,
) {
    // SAFETY: the token proves the extension; the tile has `MR` rows and `NV` vectors, which its
    // caller matched on.
    unsafe { run_neondot::<MR, NV>(tile, out, out_stride) }
}

/// # Safety
/// The tile has `MR` rows and a panel of `NV` vectors.
#[target_feature(enable = "neon,dotprod")]
unsafe fn run_neondot<const MR: usize, const NV: usize>(
    tile: &Tile<'_>,
    out: &mut [u8],
    out_stride: usize,
) {
    // SAFETY: passed on.
    let sums = unsafe { dot::<MR, NV>(tile) };
    tile.store(sums, out, out_stride);
}

/// The sums of `MR` pixels and `NV * 4` channels.
///
/// # Safety
/// The tile has `MR` rows and a panel of `NV` vectors.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn dot<const MR: usize, const NV: usize>(tile: &Tile<'_>) -> [[int32x4_t; NV]; MR] {
    let mut acc = [[vdupq_n_s32(0); NV]; MR];
    let groups = tile.depth().div_ceil(4);
    let (steps, rest) = (groups / 4, groups % 4);
    for step in 0..steps {
        // SAFETY: `MR` rows exist, of as many padded steps as the panel has.
        let x: [_; MR] = std::array::from_fn(|r| unsafe { tile.activations(r, step) });
        group::<MR, NV, 0>(tile, step, &x, &mut acc);
        group::<MR, NV, 1>(tile, step, &x, &mut acc);
        group::<MR, NV, 2>(tile, step, &x, &mut acc);
        group::<MR, NV, 3>(tile, step, &x, &mut acc);
    }
    if rest > 0 {
        // SAFETY: as above.
        let x: [_; MR] = std::array::from_fn(|r| unsafe { tile.activations(r, steps) });
        group::<MR, NV, 0>(tile, steps, &x, &mut acc);
        if rest > 1 {
            group::<MR, NV, 1>(tile, steps, &x, &mut acc);
        }
        if rest > 2 {
            group::<MR, NV, 2>(tile, steps, &x, &mut acc);
        }
    }
    acc
}

/// Four values of depth.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn group<const MR: usize, const NV: usize, const LANE: i32>(
    tile: &Tile<'_>,
    step: usize,
    x: &[int8x16_t; MR],
    acc: &mut [[int32x4_t; NV]; MR],
) {
    for v in 0..NV {
        // SAFETY: each of the panel's steps has four groups of `NV` vectors.
        let w = unsafe { tile.weights((step * 4 + LANE as usize) * NV + v) };
        for (acc, &x) in acc.iter_mut().zip(x) {
            acc[v] = sdot_lane::<LANE>(acc[v], w, x);
        }
    }
}
