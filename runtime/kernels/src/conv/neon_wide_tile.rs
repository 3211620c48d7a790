//! The inner loop of dense convolution for NEON with 16-bit weights: 4 pixels times 8 channels,
//! all accumulators in registers.

use std::arch::aarch64::*;

use super::Layer;
use crate::Residual;
use crate::arm::{Clamp, load_f32, load_i32, scale};
use crate::isa::Neon;
use crate::requantize::folded_bias;
use crate::scratch::Packed16;

/// Channels in one panel.
const COLS: usize = 8;
/// Most pixels in one tile.
const ROWS: usize = 4;

/// The weights of 8 output channels.
pub(super) struct Panel {
    first: usize,
    /// Channels that exist; the rest of the panel is zero.
    cols: usize,
    depth: usize,
    /// `[depth][channel]`
    weights: Packed16,
    bias: [i32; COLS],
    multiplier: [f32; COLS],
}

impl Panel {
    /// Splits a layer's channels into panels.
    pub(super) fn pack(layer: &Layer<'_>, depth: usize) -> Vec<Panel> {
        let firsts = (0..layer.geometry.out_c).step_by(COLS);
        firsts.map(|first| Panel::new(layer, depth, first)).collect()
    }

    fn new(layer: &Layer<'_>, depth: usize, first: usize) -> Panel {
        let cols = (layer.geometry.out_c - first).min(COLS);
        let row = |c: usize| &layer.weights[(first + c) * depth..][..depth];
        let weights = Packed16::new(depth * COLS, |packed| {
            for c in 0..cols {
                for (k, &w) in row(c).iter().enumerate() {
                    packed[k * COLS + c] = w;
                }
            }
        });
        let (mut bias, mut multiplier) = ([0; COLS], [0.0; COLS]);
        for c in 0..cols {
            let zero_point = i32::from(layer.input.zero_point);
            bias[c] = folded_bias(row(c), zero_point, layer.output.bias[first + c]);
            multiplier[c] = layer.output.multiplier[first + c];
        }
        Panel { first, cols, depth, weights, bias, multiplier }
    }
}

/// Packed activations, one row per pixel.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    values: &'a [i16],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// If `values` is not a whole number of rows.
    pub(super) fn new(values: &'a [i16], stride: usize) -> Rows<'a> {
        assert!(values.len().is_multiple_of(stride));
        Rows { values, stride }
    }
}

/// Multiplies all rows by one panel and writes its channels of `out` (`[rows][out_c]`), which
/// holds the codes of a residual before.
///
/// # Panics
/// If the sizes of rows, panel and output do not agree.
pub(super) fn run_panel(
    _token: Neon,
    rows: Rows<'_>,
    panel: &Panel,
    end: (&Clamp, Option<Residual>),
    out: &mut [u8],
    out_c: usize,
) {
    assert_eq!(rows.values.len() / rows.stride * out_c, out.len());
    assert!(panel.first + panel.cols <= out_c && panel.depth <= rows.stride);
    let tiles = rows.values.chunks(ROWS * rows.stride);
    for (values, out) in tiles.zip(out.chunks_mut(ROWS * out_c)) {
        let a = values.as_ptr();
        // SAFETY: the token proves NEON; each tile has as many rows as its output.
        unsafe {
            match out.len() / out_c {
                1 => run_tile::<1>(a, rows.stride, panel, end, out, out_c),
                2 => run_tile::<2>(a, rows.stride, panel, end, out, out_c),
                3 => run_tile::<3>(a, rows.stride, panel, end, out, out_c),
                _ => run_tile::<4>(a, rows.stride, panel, end, out, out_c),
            }
        }
    }
}

/// # Safety
/// `a` is `MR` rows of `stride` values, the panel's depth or more.
#[target_feature(enable = "neon")]
unsafe fn run_tile<const MR: usize>(
    a: *const i16,
    stride: usize,
    panel: &Panel,
    end: (&Clamp, Option<Residual>),
    out: &mut [u8],
    out_c: usize,
) {
    let (bias, _) = panel.bias.as_chunks::<4>();
    let (multiplier, _) = panel.multiplier.as_chunks::<4>();
    let mut acc = [[load_i32(&bias[0]), load_i32(&bias[1])]; MR];
    for (k, w) in panel.weights.values().as_chunks::<COLS>().0.iter().enumerate() {
        // SAFETY: eight values.
        let w = unsafe { vld1q_s16(w.as_ptr()) };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: passed on.
            let x = unsafe { vld1_dup_s16(a.add(r * stride + k)) };
            acc[0] = vmlal_s16(acc[0], vget_low_s16(w), x);
            acc[1] = vmlal_high_s16(acc[1], w, vcombine_s16(x, x));
        }
    }
    let (clamp, residual) = (end.0.vectors(), end.1);
    for (out, acc) in out.chunks_exact_mut(out_c).zip(acc) {
        let mut bytes = [0; COLS];
        bytes[..panel.cols].copy_from_slice(&out[panel.first..][..panel.cols]);
        let [low, high] = match residual {
            Some(residual) => {
                let mut added = [0.0; COLS];
                for (added, &code) in added.iter_mut().zip(&bytes) {
                    *added = residual.value(code);
                }
                std::array::from_fn(|v| {
                    let value = vmulq_f32(vcvtq_f32_s32(acc[v]), load_f32(&multiplier[v]));
                    vcvtnq_s32_f32(vaddq_f32(value, load_f32(&added.as_chunks().0[v])))
                })
            }
            None => std::array::from_fn(|v| scale(acc[v], load_f32(&multiplier[v]))),
        };
        // SAFETY: eight bytes.
        unsafe { vst1_u8(bytes.as_mut_ptr(), clamp.eight(low, high)) };
        out[panel.first..][..panel.cols].copy_from_slice(&bytes[..panel.cols]);
    }
}
