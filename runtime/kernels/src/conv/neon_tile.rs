//! The inner loops of dense convolution for NEON: a few pixels times a few channels, all
//! accumulators in registers. The dot-product form is in `neondot_tile.rs`.

use std::arch::aarch64::*;

use super::{Layer, neondot_tile};
use crate::arm::{Clamp, load_f32, load_i32, scale};
use crate::isa::{Neon, NeonDot};
use crate::requantize::folded_bias;
use crate::scratch::{Packed16, as_bytes, as_bytes_mut};

/// How activations and weights are packed and multiplied.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Signed bytes, weights in -127..=127: two products at a time in 16 bits (`smull`, `smlal`),
    /// then pairs into 32 bits (`sadalp`). 4 channels, 16 values of depth a step.
    Narrow(Neon),
    /// Signed bytes: four products at a time in 32 bits (`sdot`). 16 or 8 channels.
    Dot(NeonDot),
    /// 16-bit values (`smlal`), for any weights. 8 channels, 8 values of depth a step.
    Wide(Neon),
}

/// Most channels in one panel.
const MAX_COLS: usize = 16;
/// Most pixels in one tile.
pub(super) const MAX_ROWS: usize = 4;

impl Form {
    /// Bytes of one packed activation.
    pub(super) fn value_bytes(self) -> usize {
        match self {
            Form::Wide(_) => 2,
            _ => 1,
        }
    }

    /// Vectors of four channels in a panel, when `left` channels remain.
    fn vectors(self, left: usize) -> usize {
        match self {
            Form::Narrow(_) => 1,
            Form::Dot(_) if left > 8 => 4,
            _ => 2,
        }
    }

    /// What packing subtracts from an activation.
    fn offset(self) -> i32 {
        match self {
            Form::Wide(_) => 0,
            _ => 128,
        }
    }

    /// Where the weight for channel `c` of a panel of `cols` channels and depth `k` lies.
    fn slot(self, k: usize, c: usize, cols: usize) -> usize {
        match self {
            // `[k / 16][channel][16]`
            Form::Narrow(_) => (k / 16 * cols + c) * 16 + k % 16,
            // `[k / 4][channel][4]`
            Form::Dot(_) => (k / 4 * cols + c) * 4 + k % 4,
            // `[k][channel]`
            Form::Wide(_) => k * cols + c,
        }
    }
}

/// The weights of up to 16 output channels.
pub(super) struct Panel {
    first: usize,
    /// Channels that exist; the rest of the panel is zero.
    cols: usize,
    /// Vectors of four channels.
    vectors: usize,
    depth: usize,
    /// Bytes or 16-bit values as [`Form::slot`] says, depth padded to 16 with zeros.
    weights: Packed16,
    bias: [i32; MAX_COLS],
    multiplier: [f32; MAX_COLS],
}

impl Panel {
    /// Splits a layer's channels into panels.
    pub(super) fn pack(form: Form, layer: &Layer<'_>, depth: usize) -> Vec<Panel> {
        let mut panels = Vec::new();
        let mut first = 0;
        while first < layer.geometry.out_c {
            let vectors = form.vectors(layer.geometry.out_c - first);
            panels.push(Panel::new(form, layer, depth, first, vectors));
            first += vectors * 4;
        }
        panels
    }

    fn new(form: Form, layer: &Layer<'_>, depth: usize, first: usize, vectors: usize) -> Panel {
        let width = vectors * 4;
        let cols = (layer.geometry.out_c - first).min(width);
        let row = |c: usize| &layer.weights[(first + c) * depth..][..depth];
        let slots = depth.next_multiple_of(16) * width;
        let weights = Packed16::new(slots * form.value_bytes() / 2, |packed| {
            for c in 0..cols {
                for (k, &w) in row(c).iter().enumerate() {
                    let slot = form.slot(k, c, width);
                    match form {
                        Form::Wide(_) => packed[slot] = w,
                        _ => as_bytes_mut(packed)[slot] = w as i8 as u8,
                    }
                }
            }
        });
        let mut panel = Panel {
            first,
            cols,
            vectors,
            depth,
            weights,
            bias: [0; MAX_COLS],
            multiplier: [0.0; MAX_COLS],
        };
        let zero_point = i32::from(layer.input_zero_point) - form.offset();
        for c in 0..cols {
            let n = first + c;
            panel.bias[c] = folded_bias(row(c), zero_point, layer.output.bias[n]);
            panel.multiplier[c] = layer.output.multiplier[n];
        }
        panel
    }
}

/// Packed activations, one row per pixel.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// If `bytes` is not a whole number of rows, or the stride is not a multiple of 16.
    pub(super) fn new(bytes: &'a [u8], stride: usize) -> Rows<'a> {
        assert!(stride.is_multiple_of(16) && bytes.len().is_multiple_of(stride));
        Rows { bytes, stride }
    }
}

/// Multiplies all rows by one panel and writes its channels of `out` (`[rows][out_c]`).
///
/// # Panics
/// If the sizes of rows, panel and output do not agree.
#[target_feature(enable = "neon")]
pub(super) fn run_panel(
    form: Form,
    rows: Rows<'_>,
    panel: &Panel,
    clamp: &Clamp,
    out: &mut [u8],
    out_c: usize,
) {
    let count = rows.bytes.len() / rows.stride;
    assert_eq!(count * out_c, out.len());
    assert!(panel.first + panel.cols <= out_c);
    assert_eq!(size_of_val(panel.weights.values()), rows.stride * panel.vectors * 4);
    assert!(panel.depth * form.value_bytes() <= rows.stride);
    let mut row = 0;
    while row < count {
        let step = MAX_ROWS.min(count - row);
        let bytes = &rows.bytes[row * rows.stride..][..step * rows.stride];
        let tile = Tile { rows: Rows { bytes, ..rows }, panel, clamp };
        let target = &mut out[row * out_c + panel.first..];
        if panel.cols == panel.vectors * 4 {
            tile.run(form, target, out_c);
        } else {
            let mut whole = [0u8; MAX_ROWS * MAX_COLS];
            tile.run(form, &mut whole, MAX_COLS);
            for (to, from) in target.chunks_mut(out_c).zip(whole.chunks_exact(MAX_COLS)).take(step)
            {
                to[..panel.cols].copy_from_slice(&from[..panel.cols]);
            }
        }
        row += step;
    }
}

/// The operands of one tile; [`run_panel`] checked that their sizes agree.
pub(super) struct Tile<'a> {
    rows: Rows<'a>,
    panel: &'a Panel,
    clamp: &'a Clamp,
}

impl Tile<'_> {
    #[target_feature(enable = "neon")]
    fn run(&self, form: Form, out: &mut [u8], out_stride: usize) {
        match self.rows.bytes.len() / self.rows.stride {
            1 => self.run_rows::<1>(form, out, out_stride),
            2 => self.run_rows::<2>(form, out, out_stride),
            3 => self.run_rows::<3>(form, out, out_stride),
            _ => self.run_rows::<4>(form, out, out_stride),
        }
    }

    #[target_feature(enable = "neon")]
    fn run_rows<const MR: usize>(&self, form: Form, out: &mut [u8], out_stride: usize) {
        match (form, self.panel.vectors) {
            (Form::Narrow(_), _) => self.store::<MR, 1>(self.narrow(), out, out_stride),
            (Form::Wide(_), _) => self.store::<MR, 2>(self.wide(), out, out_stride),
            (Form::Dot(token), 2) => neondot_tile::run::<MR, 2>(token, self, out, out_stride),
            (Form::Dot(token), _) => neondot_tile::run::<MR, 4>(token, self, out, out_stride),
        }
    }

    /// Values of depth; rows and weights are padded with zeros to a multiple of 16.
    pub(super) fn depth(&self) -> usize {
        self.panel.depth
    }

    /// 16 signed activations of row `r` at depth `16 * step`.
    ///
    /// # Safety
    /// The row exists, and rows hold `step + 1` steps of bytes.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) unsafe fn activations(&self, r: usize, step: usize) -> int8x16_t {
        // SAFETY: passed on.
        unsafe { vld1q_s8(self.rows.bytes.as_ptr().add(r * self.rows.stride + step * 16).cast()) }
    }

    /// Vector `index` of 16 weights.
    ///
    /// # Safety
    /// The panel holds more than `index` such vectors.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) unsafe fn weights(&self, index: usize) -> int8x16_t {
        // SAFETY: passed on.
        unsafe { vld1q_s8(as_bytes(self.panel.weights.values()).as_ptr().add(index * 16).cast()) }
    }

    /// The sums of [`Form::Narrow`].
    #[target_feature(enable = "neon")]
    #[inline]
    fn narrow<const MR: usize>(&self) -> [[int32x4_t; 1]; MR] {
        let mut acc = [[vdupq_n_s32(0); 4]; MR];
        for step in 0..self.depth().div_ceil(16) {
            // SAFETY: `MR` rows exist, of as many padded steps as the panel has (`run_panel`).
            let x: [_; MR] = std::array::from_fn(|r| unsafe { self.activations(r, step) });
            for c in 0..4 {
                // SAFETY: the panel has four channels in each step.
                let w = unsafe { self.weights(step * 4 + c) };
                for (acc, &x) in acc.iter_mut().zip(&x) {
                    // At most 2 * 128 * 127 = 32512: no overflow.
                    let two = vmull_s8(vget_low_s8(x), vget_low_s8(w));
                    let two = vmlal_high_s8(two, x, w);
                    acc[c] = vpadalq_s16(acc[c], two);
                }
            }
        }
        acc.map(|row| [vpaddq_s32(vpaddq_s32(row[0], row[1]), vpaddq_s32(row[2], row[3]))])
    }

    /// The sums of [`Form::Wide`].
    #[target_feature(enable = "neon")]
    #[inline]
    fn wide<const MR: usize>(&self) -> [[int32x4_t; 2]; MR] {
        let mut acc = [[vdupq_n_s32(0); 2]; MR];
        let stride = self.rows.stride / size_of::<i16>();
        let (a, w) = (self.rows.bytes.as_ptr().cast::<i16>(), self.panel.weights.values().as_ptr());
        for k in 0..self.depth() {
            // SAFETY: the panel holds at least `depth` rows of eight channels.
            let w = unsafe { vld1q_s16(w.add(k * 8)) };
            for (r, acc) in acc.iter_mut().enumerate() {
                // SAFETY: row `r < MR` holds more than `k` values, aligned as scratch memory is.
                let x = unsafe { vld1_dup_s16(a.add(r * stride + k)) };
                acc[0] = vmlal_s16(acc[0], vget_low_s16(w), x);
                acc[1] = vmlal_high_s16(acc[1], w, vcombine_s16(x, x));
            }
        }
        acc
    }

    /// Adds the bias, requantizes, and writes `MR` rows of `NV * 4` channels.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn store<const MR: usize, const NV: usize>(
        &self,
        sums: [[int32x4_t; NV]; MR],
        out: &mut [u8],
        out_stride: usize,
    ) {
        assert!(out.len() >= (MR - 1) * out_stride + NV * 4);
        let (bias, _) = self.panel.bias.as_chunks::<4>();
        let (multiplier, _) = self.panel.multiplier.as_chunks::<4>();
        let scaled = |r: usize, v: usize| {
            let sum = vaddq_s32(sums[r.min(MR - 1)][v], load_i32(&bias[v]));
            scale(sum, load_f32(&multiplier[v]))
        };
        let out = out.as_mut_ptr();
        match NV {
            4 => {
                for r in 0..MR {
                    let values = std::array::from_fn(|v| scaled(r, v));
                    // SAFETY: 16 bytes of row `r` fit, as asserted.
                    unsafe { vst1q_u8(out.add(r * out_stride), self.clamp.sixteen(values)) };
                }
            }
            2 => {
                for r in 0..MR {
                    let bytes = self.clamp.eight(scaled(r, 0), scaled(r, 1));
                    // SAFETY: 8 bytes of row `r` fit, as asserted.
                    unsafe { vst1_u8(out.add(r * out_stride), bytes) };
                }
            }
            _ => {
                for r in (0..MR).step_by(2) {
                    let bytes =
                        vreinterpret_u32_u8(self.clamp.eight(scaled(r, 0), scaled(r + 1, 0)));
                    // SAFETY: 4 bytes of row `r`, and of the next one if it exists, fit.
                    unsafe {
                        let to = out.add(r * out_stride);
                        to.cast::<u32>().write_unaligned(vget_lane_u32::<0>(bytes));
                        if r + 1 < MR {
                            let to = to.add(out_stride).cast::<u32>();
                            to.write_unaligned(vget_lane_u32::<1>(bytes));
                        }
                    }
                }
            }
        }
    }
}
