//! The inner loops of depthwise convolution for NEON with the dot-product extension.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::arm::{ClampVectors, load_f32, load_pair, load_two, scale};
use crate::isa::NeonDot;

/// Channels in one group.
pub(crate) const GROUP: usize = 16;
/// Bytes of one column of a row pair of one group.
pub(crate) const COL: usize = 2 * GROUP;
/// Bytes of one column of four rows of four channels, one vector.
const QUAD: usize = 16;
/// Bytes of one column of four rows of eight channels.
const QUADS: usize = 2 * QUAD;

/// Interleaves two rows of 16 channels: `to[column][channel][row]`, each value less 128. A row is
/// its first value and the bytes from one column to the next.
///
/// # Panics
/// If `to` is not a whole number of columns, or a row is too short for them.
pub(crate) fn interleave(
    _token: NeonDot,
    (a, a_step): (&[u8], usize),
    (b, b_step): (&[u8], usize),
    to: &mut [u8],
) {
    let (columns, rest) = to.as_chunks_mut::<COL>();
    assert!(rest.is_empty());
    if let Some(last) = columns.len().checked_sub(1) {
        assert!(last * a_step + GROUP <= a.len() && last * b_step + GROUP <= b.len());
        // SAFETY: the token proves NEON; the last column was just checked.
        unsafe { interleave_neon((a.as_ptr(), a_step), (b.as_ptr(), b_step), columns) }
    }
}

/// # Safety
/// 16 bytes are readable at every step of both rows, for each column.
#[target_feature(enable = "neon")]
unsafe fn interleave_neon(
    (a, a_step): (*const u8, usize),
    (b, b_step): (*const u8, usize),
    columns: &mut [[u8; COL]],
) {
    // In assembly for the loads and stores that also move their pointers on.
    // SAFETY: passed on; each column is stored once.
    unsafe {
        asm!(
            "movi v2.16b, #0x80",
            "tbz {n}, #0, 2f",
            "ld1 {{v0.16b}}, [{a}], {a_step}",
            "ld1 {{v1.16b}}, [{b}], {b_step}",
            "eor v0.16b, v0.16b, v2.16b",
            "eor v1.16b, v1.16b, v2.16b",
            "st2 {{v0.16b, v1.16b}}, [{to}], #32",
            "2:",
            "lsr {n}, {n}, #1",
            "cbz {n}, 4f",
            "3:",
            "ld1 {{v0.16b}}, [{a}], {a_step}",
            "ld1 {{v1.16b}}, [{b}], {b_step}",
            "ld1 {{v3.16b}}, [{a}], {a_step}",
            "ld1 {{v4.16b}}, [{b}], {b_step}",
            "eor v0.16b, v0.16b, v2.16b",
            "eor v1.16b, v1.16b, v2.16b",
            "eor v3.16b, v3.16b, v2.16b",
            "eor v4.16b, v4.16b, v2.16b",
            "st2 {{v0.16b, v1.16b}}, [{to}], #32",
            "st2 {{v3.16b, v4.16b}}, [{to}], #32",
            "subs {n}, {n}, #1",
            "b.ne 3b",
            "4:",
            n = inout(reg) columns.len() => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            a_step = in(reg) a_step,
            b_step = in(reg) b_step,
            to = inout(reg) columns.as_mut_ptr() => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _,
            options(nostack),
        );
    }
}

/// Bytes of what [`quads`] writes: quads of all columns, and as many more for filters of five.
pub(super) fn planes_bytes(size: usize, cols: usize) -> usize {
    GROUP * 4 * cols * if size > 3 { 2 } else { 1 }
}

/// Four rows of each column from the first two pairs,
/// `planes[channel / 8][column][channel % 8][4]`; for filters of five also the third pair of each
/// column and of the next one, in the same layout.
///
/// # Panics
/// If the lengths do not agree.
pub(super) fn quads(
    _token: NeonDot,
    pairs: [&[u8]; 3],
    size: usize,
    cols: usize,
    planes: &mut [u8],
) {
    assert!(pairs.iter().all(|pair| pair.len() == (cols + 1) * COL));
    let planes = &mut planes[..planes_bytes(size, cols)];
    let half = GROUP * 4 * cols;
    let [a, b, c] = pairs.map(<[u8]>::as_ptr);
    // SAFETY: the token proves NEON; each pair has `cols` columns and one more, and each half of
    // the planes room for `cols`.
    unsafe {
        quads_neon(a, b, cols, planes.as_mut_ptr());
        if size > 3 {
            quads_neon(c, c.add(COL), cols, planes[half..].as_mut_ptr());
        }
    }
}

/// # Safety
/// `a` and `b` are `cols` columns of pairs, `to` two planes of as many columns.
#[target_feature(enable = "neon")]
unsafe fn quads_neon(a: *const u8, b: *const u8, cols: usize, to: *mut u8) {
    // SAFETY: passed on, for one column a turn.
    unsafe {
        asm!(
            "tbz {n}, #0, 2f",
            "ldp q0, q2, [{a}], #32",
            "ldp q1, q3, [{b}], #32",
            "st2 {{v0.8h, v1.8h}}, [{low}], #32",
            "st2 {{v2.8h, v3.8h}}, [{high}], #32",
            "2:",
            "lsr {n}, {n}, #1",
            "cbz {n}, 4f",
            "3:",
            "ldp q0, q2, [{a}], #32",
            "ldp q1, q3, [{b}], #32",
            "ldp q4, q6, [{a}], #32",
            "ldp q5, q7, [{b}], #32",
            "st2 {{v0.8h, v1.8h}}, [{low}], #32",
            "st2 {{v2.8h, v3.8h}}, [{high}], #32",
            "st2 {{v4.8h, v5.8h}}, [{low}], #32",
            "st2 {{v6.8h, v7.8h}}, [{high}], #32",
            "subs {n}, {n}, #1",
            "b.ne 3b",
            "4:",
            n = inout(reg) cols => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            low = inout(reg) to => _,
            high = inout(reg) to.wrapping_add(cols * QUADS) => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            options(nostack),
        );
    }
}

/// The filters of one group.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// `[channel / 4]`, then `[tap column][output row][channel][4 rows]` for the quads, then, for
    /// filters of five, `[tap column / 2][output row][channel][2 columns][2 rows]`.
    pub(super) taps: &'a [u8],
    pub(super) bias: &'a [i32; GROUP],
    pub(super) multiplier: &'a [f32; GROUP],
}

/// One or two output rows of one group.
pub(super) struct Step<'a> {
    /// What [`quads`] wrote.
    pub(super) planes: &'a [u8],
    pub(super) cols: usize,
    /// Channels of an output pixel, and the group's first.
    pub(super) channels: usize,
    pub(super) first: usize,
    /// Output columns.
    pub(super) columns: usize,
    pub(super) clamp: ClampVectors,
    pub(super) weights: Weights<'a>,
}

/// Where a tile reads and writes.
struct Tile {
    /// The first column of the tile in the plane of its eight channels.
    x: *const i8,
    /// Bytes from the quads to the pairs of columns.
    half: usize,
    taps: *const i8,
    bias: *const i32,
    out: *mut u8,
    /// Bytes from one output column, and from one output row, to the next.
    channels: usize,
    row: usize,
    /// Output rows to write.
    rows: usize,
}

impl Step<'_> {
    /// Computes `out`, one or two rows of `[columns][channels]`, for a filter of `size` and a
    /// stride. `END` is an [`crate::arm::Ending`].
    ///
    /// # Panics
    /// If the sizes do not agree.
    pub(super) fn run<const END: u8>(
        &self,
        _token: NeonDot,
        size: usize,
        stride: usize,
        out: &mut [u8],
    ) {
        let row = self.columns * self.channels;
        let rows = out.len() / row;
        assert!(rows * row == out.len() && (1..=if stride == 1 { 2 } else { 1 }).contains(&rows));
        assert!(self.first + GROUP <= self.channels);
        assert!((self.columns - 1) * stride + size <= self.cols);
        assert!(self.planes.len() >= planes_bytes(size, self.cols));
        // SAFETY: the token proves the dot product; the sizes were just checked, and the
        // constants are those of the layer.
        unsafe {
            match (size, stride) {
                (3, 1) => self.columns::<END, 3, 1, 2>(rows, out),
                (3, 2) => self.columns::<END, 3, 2, 1>(rows, out),
                (5, 1) => self.columns::<END, 5, 1, 2>(rows, out),
                (5, 2) => self.columns::<END, 5, 2, 1>(rows, out),
                _ => unreachable!("a filter of {size} with stride {stride}"),
            }
        }
    }

    /// # Safety
    /// The checks in [`Step::run`] hold for filters of `K`, stride `S` and `R` output rows a step.
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn columns<const END: u8, const K: usize, const S: usize, const R: usize>(
        &self,
        rows: usize,
        out: &mut [u8],
    ) {
        let taps = taps_of::<K, R>() * QUAD;
        assert_eq!(self.weights.taps.len(), GROUP / 4 * taps);
        let plane = self.cols * QUADS;
        for half in 0..2 {
            let (multiplier, _) = self.weights.multiplier.as_chunks::<4>();
            let multiplier = [load_f32(&multiplier[2 * half]), load_f32(&multiplier[2 * half + 1])];
            let mut tile = Tile {
                x: self.planes[half * plane..].as_ptr().cast(),
                half: 2 * plane,
                taps: self.weights.taps[2 * half * taps..].as_ptr().cast(),
                bias: self.weights.bias[8 * half..].as_ptr(),
                out: out[self.first + 8 * half..].as_mut_ptr(),
                channels: self.channels,
                row: self.columns * self.channels,
                rows,
            };
            let mut left = self.columns;
            // SAFETY: as many columns are left as each tile takes.
            unsafe {
                while left >= 4 {
                    tile.run::<END, K, S, R, 4>(&multiplier, &self.clamp);
                    tile.x = tile.x.wrapping_add(4 * S * QUADS);
                    tile.out = tile.out.wrapping_add(4 * self.channels);
                    left -= 4;
                }
                match left {
                    3 => tile.run::<END, K, S, R, 3>(&multiplier, &self.clamp),
                    2 => tile.run::<END, K, S, R, 2>(&multiplier, &self.clamp),
                    1 => tile.run::<END, K, S, R, 1>(&multiplier, &self.clamp),
                    _ => {}
                }
            }
        }
    }
}

/// Vectors of weights for four channels.
const fn taps_of<const K: usize, const R: usize>() -> usize {
    if K > 3 { (K + K.div_ceil(2)) * R } else { K * R }
}

/// Most output rows and columns of a tile.
const MAX_ROWS: usize = 2;
const MAX_COLUMNS: usize = 4;

/// One column of taps: loads its weights, which `w` then points behind, and adds their products
/// with one register for each output column. In one piece of assembly, since the compiler would
/// load everything first and run out of registers.
macro_rules! tap {
    ($name:ident, $load:literal, $w_last:ident,
     $($x:ident $t:literal [$($acc:ident $r:literal $w:ident),+]),+) => {
        /// # Safety
        /// A vector of weights is readable for each output row.
        #[target_feature(enable = "neon,dotprod")]
        #[inline]
        unsafe fn $name(
            acc: &mut [[int32x4_t; MAX_COLUMNS]; MAX_ROWS],
            w: &mut *const i8,
            x: [int8x16_t; MAX_COLUMNS],
        ) {
            // SAFETY: passed on.
            unsafe {
                asm!(
                    $load,
                    $($(concat!(
                        "sdot {", stringify!($acc), ":v}.4s, {", stringify!($w), ":v}.16b, {",
                        stringify!($x), ":v}.16b"
                    ),)+)+
                    w = inout(reg) *w,
                    w0 = out(vreg) _,
                    $w_last = out(vreg) _,
                    $($x = in(vreg) x[$t],)+
                    $($($acc = inout(vreg) acc[$r][$t],)+)+
                    options(readonly, nostack, preserves_flags),
                );
            }
        }
    };
}

tap!(tap_2x4, "ldp {w0:q}, {w1:q}, [{w}], #32", w1,
    x0 0 [a0 0 w0, b0 1 w1], x1 1 [a1 0 w0, b1 1 w1],
    x2 2 [a2 0 w0, b2 1 w1], x3 3 [a3 0 w0, b3 1 w1]);
tap!(tap_2x3, "ldp {w0:q}, {w1:q}, [{w}], #32", w1,
    x0 0 [a0 0 w0, b0 1 w1], x1 1 [a1 0 w0, b1 1 w1], x2 2 [a2 0 w0, b2 1 w1]);
tap!(tap_2x2, "ldp {w0:q}, {w1:q}, [{w}], #32", w1,
    x0 0 [a0 0 w0, b0 1 w1], x1 1 [a1 0 w0, b1 1 w1]);
tap!(tap_2x1, "ldp {w0:q}, {w1:q}, [{w}], #32", w1,
    x0 0 [a0 0 w0, b0 1 w1]);
tap!(tap_1x4, "ldr {w0:q}, [{w}], #16 // {w1}", w1,
    x0 0 [a0 0 w0], x1 1 [a1 0 w0], x2 2 [a2 0 w0], x3 3 [a3 0 w0]);
tap!(tap_1x3, "ldr {w0:q}, [{w}], #16 // {w1}", w1,
    x0 0 [a0 0 w0], x1 1 [a1 0 w0], x2 2 [a2 0 w0]);
tap!(tap_1x2, "ldr {w0:q}, [{w}], #16 // {w1}", w1,
    x0 0 [a0 0 w0], x1 1 [a1 0 w0]);
tap!(tap_1x1, "ldr {w0:q}, [{w}], #16 // {w1}", w1,
    x0 0 [a0 0 w0]);

/// Up to 11 columns of two vectors each.
///
/// # Safety
/// `count` columns are readable.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_columns(from: *const i8, count: usize) -> [[int8x16_t; 11]; 2] {
    let mut x = [[vdupq_n_s8(0); 11]; 2];
    for i in 0..count {
        // SAFETY: passed on.
        [x[0][i], x[1][i]] = unsafe { load_two(from.add(i * QUADS)) };
    }
    x
}

/// The same of one of the two vectors.
///
/// # Safety
/// `count` columns are readable.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_vector(from: *const i8, count: usize) -> [int8x16_t; 11] {
    let mut x = [vdupq_n_s8(0); 11];
    for (i, x) in x.iter_mut().enumerate().take(count) {
        // SAFETY: passed on.
        *x = unsafe { vld1q_s8(from.add(i * QUADS)) };
    }
    x
}

impl Tile {
    /// # Safety
    /// `T` output columns exist, and the input columns that they read.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn run<const END: u8, const K: usize, const S: usize, const R: usize, const T: usize>(
        &self,
        multiplier: &[float32x4_t; 2],
        clamp: &ClampVectors,
    ) {
        let mut acc = [[[vdupq_n_s32(0); MAX_COLUMNS]; MAX_ROWS]; 2];
        for r in 0..R {
            for t in 0..T {
                // SAFETY: eight values of bias.
                [acc[0][r][t], acc[1][r][t]] = unsafe { load_pair(self.bias) };
            }
        }
        let mut weights = self.taps;
        let count = (T - 1) * S + K;
        let at = |x: &[int8x16_t; 11], j: usize| std::array::from_fn(|t| x[t.min(T - 1) * S + j]);
        // SAFETY: the planes have the columns that the tile reads, and the weights follow each
        // other in the order of use.
        unsafe {
            if K <= 3 {
                // All columns of both vectors fit the registers.
                let x = load_columns(self.x, count);
                for (acc, x) in acc.iter_mut().zip(&x) {
                    for j in 0..K {
                        tap::<R, T>(acc, &mut weights, at(x, j));
                    }
                }
            } else {
                for (v, acc) in acc.iter_mut().enumerate() {
                    let x = load_vector(self.x.add(v * QUAD), count);
                    for j in 0..K {
                        tap::<R, T>(acc, &mut weights, at(&x, j));
                    }
                    let x = load_vector(self.x.add(self.half + v * QUAD), count);
                    for j in (0..K).step_by(2) {
                        tap::<R, T>(acc, &mut weights, at(&x, j));
                    }
                }
            }
        }
        for r in 0..R.min(self.rows) {
            for t in 0..T {
                let low = scale(acc[0][r][t], multiplier[0]);
                let high = scale(acc[1][r][t], multiplier[1]);
                // SAFETY: eight channels of a column that exists.
                unsafe {
                    let to = self.out.add(r * self.row + t * self.channels);
                    vst1_u8(to, clamp.end_eight::<END>(low, high));
                }
            }
        }
    }
}

/// # Safety
/// A vector of weights is readable for each of `R` output rows.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn tap<const R: usize, const T: usize>(
    acc: &mut [[int32x4_t; MAX_COLUMNS]; MAX_ROWS],
    w: &mut *const i8,
    x: [int8x16_t; MAX_COLUMNS],
) {
    // SAFETY: passed on.
    unsafe {
        match (R, T) {
            (2, 4) => tap_2x4(acc, w, x),
            (2, 3) => tap_2x3(acc, w, x),
            (2, 2) => tap_2x2(acc, w, x),
            (2, _) => tap_2x1(acc, w, x),
            (_, 4) => tap_1x4(acc, w, x),
            (_, 3) => tap_1x3(acc, w, x),
            (_, 2) => tap_1x2(acc, w, x),
            _ => tap_1x1(acc, w, x),
        }
    }
}
