//! The inner loop of dense convolution for AVX-512 with VNNI: a few pixels times 16 to 64
//! channels, all accumulators in registers.

use std::arch::x86_64::*;

use super::panel::{Depth, LANES, Panel, STEP};
use super::store::{self, Finish, in_order, put, rows_per_pack, spread};
use crate::isa::Avx512Vnni;

/// Most pixels in a tile of `vectors` vectors: 24 accumulators leave room for the operands.
const fn max_rows(vectors: usize) -> usize {
    match vectors {
        1 => 14,
        2 => 12,
        3 => 8,
        _ => 6,
    }
}

/// The pixels that a block multiplies: row `r`'s depth starts at `start + r * stride`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [u8],
    start: usize,
    stride: usize,
    count: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(values: &'a [u8], start: usize, stride: usize, count: usize) -> Rows<'a> {
        Rows { values, start, stride, count }
    }
}

/// Multiplies all rows by one panel and writes its channels of `out` (`[rows][out_c]`).
///
/// # Panics
/// If the sizes of rows, panel, residual and output do not agree.
#[allow(clippy::too_many_arguments)]
pub(crate) fn run(
    _token: Avx512Vnni,
    rows: Rows<'_>,
    depth: &Depth,
    panel: &Panel,
    finish: &Finish,
    residual: Option<&[u8]>,
    out: &mut [u8],
    out_c: usize,
) {
    assert!(rows.count > 0 && rows.count * out_c == out.len());
    assert!(rows.start + (rows.count - 1) * rows.stride + depth.reach() <= rows.values.len());
    assert!(residual.is_none_or(|residual| residual.len() == out.len()));
    assert!(panel.first() + panel.cols() <= out_c && panel.steps() == depth.total_steps());
    assert_eq!(panel.weights().len(), panel.steps() * panel.vectors() * LANES * STEP);
    let block = Block { rows, depth, panel, finish, residual, out_c };
    // SAFETY: the token proves the instruction set; the sizes were just checked.
    unsafe {
        match panel.vectors() {
            1 => block.any::<1>(out),
            2 => block.any::<2>(out),
            3 => block.any::<3>(out),
            _ => block.any::<4>(out),
        }
    }
}

struct Block<'a> {
    rows: Rows<'a>,
    depth: &'a Depth,
    panel: &'a Panel,
    finish: &'a Finish,
    residual: Option<&'a [u8]>,
    out_c: usize,
}

impl Block<'_> {
    /// # Safety
    /// The checks in [`run`] hold, and the panel has `NV` vectors.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn any<const NV: usize>(&self, out: &mut [u8]) {
        // SAFETY: passed on; the residual has the output's shape.
        unsafe {
            match self.residual {
                None => self.run::<NV, false>(&[], out),
                Some(residual) => self.run::<NV, true>(residual, out),
            }
        }
    }

    /// # Safety
    /// The checks in [`run`] hold, and the panel has `NV` vectors; if `ADD`, `residual` is as long
    /// as `out`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const NV: usize, const ADD: bool>(&self, residual: &[u8], out: &mut [u8]) {
        let count = self.rows.count;
        // Tiles of nearly one size: a small last one would use few accumulators.
        let tiles = count.div_ceil(max_rows(NV));
        for tile in 0..tiles {
            let (row, end) = (tile * count / tiles, (tile + 1) * count / tiles);
            let at = row * self.out_c + self.panel.first();
            let to = out[at..].as_mut_ptr();
            let add = if ADD { residual[at..].as_ptr() } else { std::ptr::null() };
            // SAFETY: `end - row` rows follow, see `run`; each has the panel's channels.
            unsafe {
                match end - row {
                    1 => self.tile::<1, NV, ADD>(row, add, to),
                    2 => self.tile::<2, NV, ADD>(row, add, to),
                    3 => self.tile::<3, NV, ADD>(row, add, to),
                    4 => self.tile::<4, NV, ADD>(row, add, to),
                    5 => self.tile::<5, NV, ADD>(row, add, to),
                    6 => self.tile::<6, NV, ADD>(row, add, to),
                    7 if NV < 4 => self.tile::<7, NV, ADD>(row, add, to),
                    8 if NV < 4 => self.tile::<8, NV, ADD>(row, add, to),
                    9 if NV < 3 => self.tile::<9, NV, ADD>(row, add, to),
                    10 if NV < 3 => self.tile::<10, NV, ADD>(row, add, to),
                    11 if NV < 3 => self.tile::<11, NV, ADD>(row, add, to),
                    12 if NV < 3 => self.tile::<12, NV, ADD>(row, add, to),
                    13 if NV < 2 => self.tile::<13, NV, ADD>(row, add, to),
                    _ if NV < 2 => self.tile::<14, NV, ADD>(row, add, to),
                    rows => unreachable!("a tile of {rows} rows"),
                }
            }
        }
    }

    /// # Safety
    /// `MR` rows from `row` on exist; `to` (and `residual` if `ADD`) has the panel's channels of
    /// each.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile<const MR: usize, const NV: usize, const ADD: bool>(
        &self,
        row: usize,
        residual: *const u8,
        to: *mut u8,
    ) {
        // SAFETY: the row exists, and all of its depth with it; the rest is passed on.
        unsafe {
            let a = self.rows.values.as_ptr().add(self.rows.start + row * self.rows.stride);
            let acc = accumulate::<MR, NV, 1>(a, self.rows.stride, 0, self.depth, self.panel);
            self.store::<MR, NV, ADD>(acc, residual, to);
        }
    }

    /// # Safety
    /// `to` (and `residual` if `ADD`) has `MR` rows, `out_c` apart, with the panel's channels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store<const MR: usize, const NV: usize, const ADD: bool>(
        &self,
        acc: [[__m512i; NV]; MR],
        residual: *const u8,
        to: *mut u8,
    ) {
        let cols = self.panel.cols();
        let finish = self.finish;
        let group = const { rows_per_pack(NV) };
        for g in 0..MR.div_ceil(group) {
            let first = g * group;
            let mut values = [_mm512_setzero_si512(); 4];
            for (i, value) in values.iter_mut().enumerate() {
                // What is missing repeats something; it is not stored.
                let (r, v) = ((first + i / NV).min(MR - 1), if NV == 3 { i % 4 } else { i % NV });
                let v = v.min(NV - 1);
                // SAFETY: `v < NV` vectors of 16 lie within the multipliers.
                let m = unsafe { _mm512_loadu_ps(self.panel.multiplier().as_ptr().add(v * LANES)) };
                *value = if ADD {
                    // SAFETY: row `r < MR` has `cols` bytes; no others are read.
                    let codes = unsafe {
                        let row = residual.add(r * self.out_c);
                        _mm512_maskz_loadu_epi8(store::mask(cols), row.cast())
                    };
                    finish.scaled_plus(acc[r][v], m, spread::<NV>(codes), v)
                } else {
                    finish.scaled(acc[r][v], m)
                };
            }
            let low = finish.narrow(values[0], values[1]);
            let high = finish.narrow(values[2], values[3]);
            let bytes = in_order::<NV>(finish.pack(low, high));
            for i in 0..group.min(MR - first) {
                let row = match (NV, i) {
                    (1, 1) => _mm512_castsi128_si512(_mm512_extracti32x4_epi32::<1>(bytes)),
                    (1, 2) => _mm512_castsi128_si512(_mm512_extracti32x4_epi32::<2>(bytes)),
                    (1, 3) => _mm512_castsi128_si512(_mm512_extracti32x4_epi32::<3>(bytes)),
                    (2, 1) => _mm512_castsi256_si512(_mm512_extracti64x4_epi64::<1>(bytes)),
                    _ => bytes,
                };
                // SAFETY: row `first + i < MR` can take `cols` bytes.
                unsafe { put::<NV>(to.add((first + i) * self.out_c), row, cols) };
            }
        }
    }
}

/// Sums of `MR` pixels and all channels of a panel, the bias added. Pixel `r`'s depth starts at
/// `a + r / LINES * column + r % LINES * line`.
///
/// # Safety
/// The whole depth of each pixel can be read; the panel has `NV` vectors and `depth`'s steps.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(crate) unsafe fn accumulate<const MR: usize, const NV: usize, const LINES: usize>(
    a: *const u8,
    column: usize,
    line: usize,
    depth: &Depth,
    panel: &Panel,
) -> [[__m512i; NV]; MR] {
    let mut bias = [_mm512_setzero_si512(); NV];
    for (v, bias) in bias.iter_mut().enumerate() {
        // SAFETY: `v < NV` vectors of 16 lie within the biases.
        *bias = unsafe { _mm512_loadu_si512(panel.bias().as_ptr().add(v * LANES).cast()) };
    }
    let mut acc = [bias; MR];
    let mut w = panel.weights().as_ptr();
    for piece in 0..depth.pieces {
        let last = piece + 1 == depth.pieces;
        let steps = if last { depth.last_steps } else { depth.steps };
        // SAFETY: passed on.
        let a = unsafe { a.add(piece * depth.stride) };
        for k in 0..steps {
            let mut weights = [_mm512_setzero_si512(); NV];
            for (v, weights) in weights.iter_mut().enumerate() {
                // SAFETY: the panel holds a vector for each step and `v`, aligned to its size.
                *weights = unsafe { _mm512_load_si512(w.add(v * LANES * STEP).cast()) };
            }
            // SAFETY: at most one past the last vector.
            w = unsafe { w.add(NV * LANES * STEP) };
            for (r, acc) in acc.iter_mut().enumerate() {
                let at = r / LINES * column + r % LINES * line + k * STEP;
                // SAFETY: passed on.
                let x = _mm512_set1_epi32(unsafe { a.add(at).cast::<i32>().read_unaligned() });
                for (acc, &weights) in acc.iter_mut().zip(&weights) {
                    *acc = _mm512_dpbusd_epi32(*acc, x, weights);
                }
            }
        }
    }
    acc
}
