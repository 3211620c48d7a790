//! The inner loops of depthwise convolution for NEON with the dot-product extension.

use std::arch::aarch64::*;

use crate::arm::{ClampVectors, load_f32, load_pair, scale, sdot};
use crate::isa::NeonDot;

/// Channels in one group.
pub(super) const GROUP: usize = 16;
/// Bytes of one column of a row pair of one group.
pub(super) const COL: usize = 2 * GROUP;
/// Bytes of one column of four rows of four channels.
const QUAD: usize = 16;

/// Interleaves two rows of 16 channels: `to[column][channel][row]`, each value less 128. A row is
/// its first value and the bytes from one column to the next.
///
/// # Panics
/// If `to` is not a whole number of columns, or a row is too short for them.
pub(super) fn interleave(
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
    let sign = vdupq_n_u8(0x80);
    // Pointers that move on; the last move may end beyond the row.
    let (mut a, mut b) = (a, b);
    let one = |a: *const u8, b: *const u8, to: &mut [u8; COL]| {
        // SAFETY: passed on; the stores fill the column.
        unsafe {
            let (x, y) = (veorq_u8(vld1q_u8(a), sign), veorq_u8(vld1q_u8(b), sign));
            vst1q_u8(to.as_mut_ptr(), vzip1q_u8(x, y));
            vst1q_u8(to.as_mut_ptr().add(16), vzip2q_u8(x, y));
        }
    };
    let (twos, last) = columns.as_chunks_mut::<2>();
    for [first, second] in twos {
        one(a, b, first);
        one(a.wrapping_add(a_step), b.wrapping_add(b_step), second);
        a = a.wrapping_add(2 * a_step);
        b = b.wrapping_add(2 * b_step);
    }
    for to in last {
        one(a, b, to);
    }
}

/// Bytes of what [`quads`] writes: four planes of quads, and four more for filters of five.
pub(super) fn planes_bytes(size: usize, cols: usize) -> usize {
    (GROUP / 4) * cols * QUAD * if size > 3 { 2 } else { 1 }
}

/// Four rows of each column from the first two pairs, `planes[channel / 4][column][channel][4]`;
/// for filters of five also the third pair of each column and the next one, in the same layout.
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
    let half = (GROUP / 4) * cols * QUAD;
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
/// `a` and `b` are `cols` columns of pairs, `to` four planes of as many columns.
#[target_feature(enable = "neon")]
unsafe fn quads_neon(a: *const u8, b: *const u8, cols: usize, to: *mut u8) {
    // SAFETY: passed on, for one column.
    let load = |from: *const u8, col: usize| unsafe {
        let from = from.add(col * COL).cast::<u16>();
        [vld1q_u16(from), vld1q_u16(from.add(8))]
    };
    let zip = |[a0, a1]: [uint16x8_t; 2], [b0, b1]: [uint16x8_t; 2]| {
        [vzip1q_u16(a0, b0), vzip2q_u16(a0, b0), vzip1q_u16(a1, b1), vzip2q_u16(a1, b1)]
    };
    let store = |col: usize, quads: [uint16x8_t; 4]| {
        for (v, quad) in quads.into_iter().enumerate() {
            // SAFETY: passed on.
            unsafe { vst1q_u16(to.add((v * cols + col) * QUAD).cast(), quad) };
        }
    };
    let mut col = 0;
    while col + 2 <= cols {
        let first = zip(load(a, col), load(b, col));
        let second = zip(load(a, col + 1), load(b, col + 1));
        for (v, (first, second)) in first.into_iter().zip(second).enumerate() {
            // SAFETY: passed on: two columns of plane `v`.
            unsafe {
                let to = to.add((v * cols + col) * QUAD);
                vst1q_u16(to.cast(), first);
                vst1q_u16(to.add(QUAD).cast(), second);
            }
        }
        col += 2;
    }
    if col < cols {
        store(col, zip(load(a, col), load(b, col)));
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
    /// The first column of the tile in the first plane of its eight channels.
    x: *const i8,
    /// Bytes from one plane to the next, and from the quads to the pairs of columns.
    plane: usize,
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
        let plane = self.cols * QUAD;
        for half in 0..2 {
            let (multiplier, _) = self.weights.multiplier.as_chunks::<4>();
            let multiplier = [load_f32(&multiplier[2 * half]), load_f32(&multiplier[2 * half + 1])];
            let mut tile = Tile {
                x: self.planes[2 * half * plane..].as_ptr().cast(),
                plane,
                half: 4 * plane,
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
                    tile.x = tile.x.wrapping_add(4 * S * QUAD);
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
        let mut acc = [[[vdupq_n_s32(0); 2]; T]; R];
        for acc in acc.as_flattened_mut() {
            // SAFETY: eight values of bias.
            *acc = unsafe { load_pair(self.bias) };
        }
        for v in 0..2 {
            // SAFETY: the planes of these channels, and their weights.
            let (quads, weights) = unsafe {
                (self.x.add(v * self.plane), self.taps.add(v * taps_of::<K, R>() * QUAD))
            };
            for j in 0..K {
                for r in 0..R {
                    // SAFETY: as many weights and columns exist.
                    let w = unsafe { vld1q_s8(weights.add((j * R + r) * QUAD)) };
                    for t in 0..T {
                        // SAFETY: passed on.
                        let x = unsafe { vld1q_s8(quads.add((t * S + j) * QUAD)) };
                        acc[r][t][v] = sdot(acc[r][t][v], w, x);
                    }
                }
            }
            if K <= 3 {
                continue;
            }
            // SAFETY: filters of five have planes of pairs, and weights for them.
            let (pairs, weights) = unsafe { (quads.add(self.half), weights.add(K * R * QUAD)) };
            for j in 0..K.div_ceil(2) {
                for r in 0..R {
                    // SAFETY: passed on.
                    let w = unsafe { vld1q_s8(weights.add((j * R + r) * QUAD)) };
                    for t in 0..T {
                        // SAFETY: passed on.
                        let x = unsafe { vld1q_s8(pairs.add((t * S + 2 * j) * QUAD)) };
                        acc[r][t][v] = sdot(acc[r][t][v], w, x);
                    }
                }
            }
        }
        for (r, acc) in acc.into_iter().enumerate().take(self.rows) {
            for (t, [low, high]) in acc.into_iter().enumerate() {
                let (low, high) = (scale(low, multiplier[0]), scale(high, multiplier[1]));
                // SAFETY: eight channels of a column that exists.
                unsafe {
                    let to = self.out.add(r * self.row + t * self.channels);
                    vst1_u8(to, clamp.end_eight::<END>(low, high));
                }
            }
        }
    }
}
