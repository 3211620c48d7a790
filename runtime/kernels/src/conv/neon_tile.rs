//! The inner loops of dense convolution for NEON: a few pixels times a few channels, all
//! accumulators in registers.

use std::arch::aarch64::*;

use super::Layer;
use crate::arm::{Clamp, ClampVectors, load_f32, load_i32, scale};
use crate::isa::Neon;
use crate::requantize::folded_bias;
use crate::scratch::{Packed16, as_bytes_mut};

/// How activations and weights are packed and multiplied.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Signed bytes, weights in -127..=127: two products at a time in 16 bits (`smull`, `smlal`),
    /// then pairs into 32 bits (`sadalp`). 4 channels, 16 values of depth a step.
    Narrow(Neon),
    /// 16-bit values (`smlal`), for any weights. 8 channels, 8 values of depth a step.
    Wide(Neon),
}

/// Most channels in one panel.
const MAX_COLS: usize = 16;
/// Most pixels in one tile.
const MAX_ROWS: usize = 6;

impl Form {
    /// Bytes of one packed activation.
    pub(super) fn value_bytes(self) -> usize {
        match self {
            Form::Wide(_) => 2,
            _ => 1,
        }
    }

    /// Vectors of four channels in a panel.
    fn vectors(self) -> usize {
        match self {
            Form::Narrow(_) => 1,
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
            let vectors = form.vectors();
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
        let zero_point = i32::from(layer.input.zero_point) - form.offset();
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
    let tiles = Tiles {
        a: rows.bytes.as_ptr(),
        stride: rows.stride,
        count,
        w: panel.weights.values().as_ptr().cast(),
        panel,
        clamp,
    };
    // SAFETY: the tokens in `form` prove what the functions need; the sizes were just checked.
    unsafe {
        match (form, panel.vectors) {
            (Form::Narrow(_), _) => narrow::run::<4, 1>(&tiles, out, out_c),
            (Form::Wide(_), _) => wide::run::<4, 2>(&tiles, out, out_c),
        }
    }
}

/// All rows of a block times one panel; [`run_panel`] checked that their sizes agree.
struct Tiles<'a> {
    a: *const u8,
    stride: usize,
    count: usize,
    w: *const u8,
    panel: &'a Panel,
    clamp: &'a Clamp,
}

/// What a tile begins and ends with, in registers.
struct End<const NV: usize> {
    bias: [int32x4_t; NV],
    multiplier: [float32x4_t; NV],
    clamp: ClampVectors,
}

/// A module with the loop over tiles for one form, compiled for `$features`, around the form's
/// function for the sums of one tile.
macro_rules! form {
    ($name:ident, $features:literal, $sums:path) => {
        mod $name {
            use super::{End, MAX_COLS, MAX_ROWS, Tiles};

            /// # Safety
            /// The checks in [`super::run_panel`] hold; the panel has `NV` vectors.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn run<const MR: usize, const NV: usize>(
                tiles: &Tiles<'_>,
                out: &mut [u8],
                out_c: usize,
            ) {
                if tiles.panel.cols == NV * 4 {
                    let to = out[tiles.panel.first..].as_mut_ptr();
                    // SAFETY: all columns of the panel exist in each of the rows.
                    unsafe { run_whole::<MR, NV>(tiles, to, out_c) };
                    return;
                }
                let rows = out.chunks_mut(MAX_ROWS * out_c);
                for (index, out) in rows.enumerate() {
                    let mut whole = [0u8; MAX_ROWS * MAX_COLS];
                    let count = out.len() / out_c;
                    // SAFETY: as many rows follow, and the array holds all columns of them.
                    unsafe {
                        let a = tiles.a.add(index * MAX_ROWS * tiles.stride);
                        let part = Tiles { a, count, ..*tiles };
                        run_whole::<MR, NV>(&part, whole.as_mut_ptr(), MAX_COLS);
                    }
                    let cols = tiles.panel.first..tiles.panel.first + tiles.panel.cols;
                    for (to, from) in out.chunks_mut(out_c).zip(whole.chunks_exact(MAX_COLS)) {
                        to[cols.clone()].copy_from_slice(&from[..cols.len()]);
                    }
                }
            }

            /// # Safety
            /// As [`run`]; `out` can take `NV * 4` bytes in each row, `out_stride` apart.
            #[target_feature(enable = $features)]
            unsafe fn run_whole<const MR: usize, const NV: usize>(
                tiles: &Tiles<'_>,
                out: *mut u8,
                out_stride: usize,
            ) {
                let whole = tiles.count / MR;
                let end = End::new(tiles);
                // SAFETY: each tile starts at a row that exists and takes rows that exist.
                unsafe {
                    for tile in 0..whole {
                        let out = out.add(tile * MR * out_stride);
                        run_one::<MR, NV>(tiles, &end, tile * MR, out, out_stride);
                    }
                    let row = whole * MR;
                    let out = out.add(row * out_stride);
                    match tiles.count - row {
                        0 => {}
                        1 => run_one::<1, NV>(tiles, &end, row, out, out_stride),
                        2 => run_one::<2, NV>(tiles, &end, row, out, out_stride),
                        3 => run_one::<3, NV>(tiles, &end, row, out, out_stride),
                        4 => run_one::<4, NV>(tiles, &end, row, out, out_stride),
                        _ => run_one::<5, NV>(tiles, &end, row, out, out_stride),
                    }
                }
            }

            /// # Safety
            /// As [`run_whole`]; `MR` rows exist from `row` on.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn run_one<const MR: usize, const NV: usize>(
                tiles: &Tiles<'_>,
                end: &End<NV>,
                row: usize,
                out: *mut u8,
                out_stride: usize,
            ) {
                // SAFETY: passed on.
                unsafe {
                    let a = tiles.a.add(row * tiles.stride);
                    let sums = $sums(a, tiles.stride, tiles.w, tiles.panel.depth, &end.bias);
                    end.store::<MR>(sums, out, out_stride);
                }
            }
        }
    };
}

form!(narrow, "neon", super::narrow_sums);
form!(wide, "neon", super::wide_sums);

/// The sums of [`Form::Narrow`].
///
/// # Safety
/// `a` is `MR` rows of `stride` bytes, `w` a panel of four channels; both hold `depth` values
/// rounded up to a multiple of 16.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn narrow_sums<const MR: usize, const NV: usize>(
    a: *const u8,
    stride: usize,
    w: *const u8,
    depth: usize,
    bias: &[int32x4_t; NV],
) -> [[int32x4_t; NV]; MR] {
    let mut acc = [[vdupq_n_s32(0); 4]; MR];
    for step in 0..depth.div_ceil(16) {
        let mut x = [vdupq_n_s8(0); MR];
        for (r, x) in x.iter_mut().enumerate() {
            // SAFETY: passed on.
            *x = unsafe { vld1q_s8(a.add(r * stride + step * 16).cast()) };
        }
        for c in 0..4 {
            // SAFETY: passed on; each step has four channels.
            let w = unsafe { vld1q_s8(w.add((step * 4 + c) * 16).cast()) };
            for (acc, &x) in acc.iter_mut().zip(&x) {
                // At most 2 * 128 * 127 = 32512: no overflow.
                let two = vmull_s8(vget_low_s8(x), vget_low_s8(w));
                let two = vmlal_high_s8(two, x, w);
                acc[c] = vpadalq_s16(acc[c], two);
            }
        }
    }
    acc.map(|row| {
        let sums = vpaddq_s32(vpaddq_s32(row[0], row[1]), vpaddq_s32(row[2], row[3]));
        [vaddq_s32(sums, bias[0]); NV]
    })
}

/// The sums of [`Form::Wide`].
///
/// # Safety
/// `a` is `MR` rows of `stride` bytes, `w` a panel of eight channels; both hold `depth` values
/// of 16 bits and are aligned to them.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn wide_sums<const MR: usize, const NV: usize>(
    a: *const u8,
    stride: usize,
    w: *const u8,
    depth: usize,
    bias: &[int32x4_t; NV],
) -> [[int32x4_t; NV]; MR] {
    let mut acc = [*bias; MR];
    let (a, w, stride) = (a.cast::<i16>(), w.cast::<i16>(), stride / size_of::<i16>());
    for k in 0..depth {
        // SAFETY: passed on.
        let w = unsafe { vld1q_s16(w.add(k * 8)) };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: passed on.
            let x = unsafe { vld1_dup_s16(a.add(r * stride + k)) };
            acc[0] = vmlal_s16(acc[0], vget_low_s16(w), x);
            acc[1] = vmlal_high_s16(acc[1], w, vcombine_s16(x, x));
        }
    }
    acc
}

impl<const NV: usize> End<NV> {
    #[target_feature(enable = "neon")]
    fn new(tiles: &Tiles<'_>) -> End<NV> {
        let (bias, _) = tiles.panel.bias.as_chunks::<4>();
        let (multiplier, _) = tiles.panel.multiplier.as_chunks::<4>();
        let mut end = End {
            bias: [vdupq_n_s32(0); NV],
            multiplier: [vdupq_n_f32(0.0); NV],
            clamp: tiles.clamp.vectors(),
        };
        for v in 0..NV {
            end.bias[v] = load_i32(&bias[v]);
            end.multiplier[v] = load_f32(&multiplier[v]);
        }
        end
    }

    /// Requantizes, and writes `MR` rows of `NV * 4` channels.
    ///
    /// # Safety
    /// `out` can take `NV * 4` bytes in each of `MR` rows, `out_stride` apart.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn store<const MR: usize>(
        &self,
        sums: [[int32x4_t; NV]; MR],
        out: *mut u8,
        out_stride: usize,
    ) {
        let scaled = |r: usize, v: usize| scale(sums[r.min(MR - 1)][v], self.multiplier[v]);
        match NV {
            4 => {
                for r in 0..MR {
                    let values = [scaled(r, 0), scaled(r, 1), scaled(r, 2), scaled(r, 3)];
                    // SAFETY: passed on: 16 bytes of row `r`.
                    unsafe { vst1q_u8(out.add(r * out_stride), self.clamp.sixteen(values)) };
                }
            }
            2 => {
                for r in 0..MR {
                    let bytes = self.clamp.eight(scaled(r, 0), scaled(r, 1));
                    // SAFETY: passed on: 8 bytes of row `r`.
                    unsafe { vst1_u8(out.add(r * out_stride), bytes) };
                }
            }
            _ => {
                for r in (0..MR).step_by(2) {
                    let bytes = self.clamp.eight(scaled(r, 0), scaled(r + 1, 0));
                    let fours = vreinterpret_u32_u8(bytes);
                    // SAFETY: passed on: 4 bytes of row `r`, and of the next one if it exists.
                    unsafe {
                        let to = out.add(r * out_stride);
                        to.cast::<u32>().write_unaligned(vget_lane_u32::<0>(fours));
                        if r + 1 < MR {
                            let to = to.add(out_stride).cast::<u32>();
                            to.write_unaligned(vget_lane_u32::<1>(fours));
                        }
                    }
                }
            }
        }
    }
}
