//! The inner loop of depthwise convolution for NEON without the dot product: two output columns of
//! 16 channels.
//!
//! Products of bytes are added in 16 bits over a run of taps, and only then widened. A run of two
//! always fits (`2 * 128 * 127 = 32512`); for longer ones the weights of each group of channels
//! decide when a layer is built: `largest activation * sum(|w|) <= 32767`.

use std::arch::aarch64::*;

use crate::arm::{ClampVectors, load_f32, load_i32};
use crate::isa::Neon;

/// Channels in one group.
pub(super) const GROUP: usize = 16;
/// Largest filter.
pub(super) const MAX_SIZE: usize = 5;
/// Lengths of runs, best first.
pub(super) const RUNS: [usize; 3] = [5, 3, 2];
/// Most output columns in one tile.
const COLUMNS: usize = 2;

/// Copies 16 channels of consecutive columns, `middle` subtracted: `to[column][channel]` from
/// `from[column * step..]`.
///
/// # Panics
/// If `to` is not a whole number of columns, or `from` is too short for them.
pub(super) fn copy_columns(_token: Neon, from: &[u8], step: usize, middle: u8, to: &mut [u8]) {
    let (columns, rest) = to.as_chunks_mut::<GROUP>();
    assert!(rest.is_empty());
    if let Some(last) = columns.len().checked_sub(1) {
        assert!(last * step + GROUP <= from.len());
        // SAFETY: the token proves NEON; the last column was just checked.
        unsafe { copy_columns_neon(from.as_ptr(), step, middle, columns) }
    }
}

/// # Safety
/// 16 bytes are readable at each step, for each column.
#[target_feature(enable = "neon")]
unsafe fn copy_columns_neon(from: *const u8, step: usize, middle: u8, columns: &mut [[u8; GROUP]]) {
    // In assembly for the loads that also move their pointer on.
    // SAFETY: passed on; each column is stored once.
    unsafe {
        std::arch::asm!(
            "dup v4.16b, {middle:w}",
            "and {rest}, {n}, #3",
            "lsr {n}, {n}, #2",
            "cbz {n}, 3f",
            "2:",
            "ld1 {{v0.16b}}, [{from}], {step}",
            "ld1 {{v1.16b}}, [{from}], {step}",
            "ld1 {{v2.16b}}, [{from}], {step}",
            "ld1 {{v3.16b}}, [{from}], {step}",
            "sub v0.16b, v0.16b, v4.16b",
            "sub v1.16b, v1.16b, v4.16b",
            "sub v2.16b, v2.16b, v4.16b",
            "sub v3.16b, v3.16b, v4.16b",
            "st1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{to}], #64",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            "3:",
            "cbz {rest}, 5f",
            "4:",
            "ld1 {{v0.16b}}, [{from}], {step}",
            "sub v0.16b, v0.16b, v4.16b",
            "str q0, [{to}], #16",
            "subs {rest}, {rest}, #1",
            "b.ne 4b",
            "5:",
            n = inout(reg) columns.len() => _,
            rest = out(reg) _,
            from = inout(reg) from => _,
            step = in(reg) step,
            middle = in(reg) u32::from(middle),
            to = inout(reg) columns.as_mut_ptr() => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _,
            options(nostack),
        );
    }
}

/// The filters of one group.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// `[tap row][tap column][channel]`
    pub(super) taps: &'a [u8],
    /// One of [`RUNS`].
    pub(super) run: usize,
    pub(super) bias: &'a [i32; GROUP],
    pub(super) multiplier: &'a [f32; GROUP],
}

/// One output row of one group.
pub(super) struct Row<'a> {
    /// The rows of the window, `[column][channel]`; more than the filter has are not looked at.
    pub(super) rows: [&'a [u8]; MAX_SIZE],
    /// Channels of an output pixel, and the group's first.
    pub(super) channels: usize,
    pub(super) first: usize,
    pub(super) clamp: ClampVectors,
    pub(super) weights: Weights<'a>,
}

impl Row<'_> {
    /// Computes `out` (`[columns][channels]`) for a filter of `size` and a stride. `END` is an
    /// [`crate::arm::Ending`].
    ///
    /// # Panics
    /// If the sizes do not agree.
    pub(super) fn run<const END: u8>(
        &self,
        _token: Neon,
        size: usize,
        stride: usize,
        out: &mut [u8],
    ) {
        let columns = out.len() / self.channels;
        assert!(columns > 0 && self.first + GROUP <= self.channels);
        let cols = (columns - 1) * stride + size;
        assert!(self.rows.iter().all(|row| row.len() >= cols * GROUP));
        assert_eq!(self.weights.taps.len(), size * size * GROUP);
        // SAFETY: the token proves NEON; the sizes were just checked, and the constants are those
        // of the layer.
        unsafe {
            match (size, stride, self.weights.run) {
                (3, 1, 2) => self.columns::<END, 3, 1, 2>(columns, out),
                (3, 1, 3) => self.columns::<END, 3, 1, 3>(columns, out),
                (3, 1, 5) => self.columns::<END, 3, 1, 5>(columns, out),
                (3, 2, 2) => self.columns::<END, 3, 2, 2>(columns, out),
                (3, 2, 3) => self.columns::<END, 3, 2, 3>(columns, out),
                (3, 2, 5) => self.columns::<END, 3, 2, 5>(columns, out),
                (5, 1, 2) => self.columns::<END, 5, 1, 2>(columns, out),
                (5, 1, 3) => self.columns::<END, 5, 1, 3>(columns, out),
                (5, 1, 5) => self.columns::<END, 5, 1, 5>(columns, out),
                (5, 2, 2) => self.columns::<END, 5, 2, 2>(columns, out),
                (5, 2, 3) => self.columns::<END, 5, 2, 3>(columns, out),
                (5, 2, 5) => self.columns::<END, 5, 2, 5>(columns, out),
                other => unreachable!("filter, stride and run {other:?}"),
            }
        }
    }

    /// # Safety
    /// The checks in [`Row::run`] hold for filters of `K`, stride `S` and runs of `RUN` taps.
    #[target_feature(enable = "neon")]
    unsafe fn columns<const END: u8, const K: usize, const S: usize, const RUN: usize>(
        &self,
        columns: usize,
        out: &mut [u8],
    ) {
        let (multiplier, _) = self.weights.multiplier.as_chunks::<4>();
        let multiplier = std::array::from_fn(|v| load_f32(&multiplier[v]));
        let mut rows = self.rows.map(|row| row.as_ptr().cast::<i8>());
        let mut to = out[self.first..].as_mut_ptr();
        let mut left = columns;
        // SAFETY: as many columns are left as each tile takes.
        unsafe {
            while left >= COLUMNS {
                self.tile::<END, K, S, RUN, COLUMNS>(rows, &multiplier, to);
                rows = rows.map(|row| row.wrapping_add(COLUMNS * S * GROUP));
                to = to.wrapping_add(COLUMNS * self.channels);
                left -= COLUMNS;
            }
            if left > 0 {
                self.tile::<END, K, S, RUN, 1>(rows, &multiplier, to);
            }
        }
    }

    /// # Safety
    /// `T` output columns exist from the pointers on; `to` can take 16 bytes in each.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn tile<
        const END: u8,
        const K: usize,
        const S: usize,
        const RUN: usize,
        const T: usize,
    >(
        &self,
        rows: [*const i8; MAX_SIZE],
        multiplier: &[float32x4_t; 4],
        to: *mut u8,
    ) {
        let (bias, _) = self.weights.bias.as_chunks::<4>();
        let bias = std::array::from_fn(|v| load_i32(&bias[v]));
        let mut sums = Sums { acc: [bias; T], part: [[vdupq_n_s16(0); 2]; T] };
        let taps = self.weights.taps.as_ptr().cast::<i8>();
        // One call a row, for constants that the compiler sees: it would not unroll a loop.
        // SAFETY: the rows have the columns that the filter reads, and `taps` its weights.
        unsafe {
            sums.row::<K, S, RUN, 0>(rows[0], taps);
            sums.row::<K, S, RUN, 1>(rows[1], taps);
            sums.row::<K, S, RUN, 2>(rows[2], taps);
            if K > 3 {
                sums.row::<K, S, RUN, 3>(rows[3], taps);
                sums.row::<K, S, RUN, 4>(rows[4], taps);
            }
        }
        // SAFETY: passed on.
        unsafe {
            ClampVectors::store_16::<END, T>(&sums.acc, multiplier, &self.clamp, to, self.channels);
        }
    }
}

/// The sums of `T` output columns.
struct Sums<const T: usize> {
    acc: [[int32x4_t; 4]; T],
    /// Of the run so far, in 16 bits.
    part: [[int16x8_t; 2]; T],
}

impl<const T: usize> Sums<T> {
    /// Adds row `I` of the taps.
    ///
    /// # Safety
    /// `row` has the columns that the filter reads, `taps` its weights.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn row<const K: usize, const S: usize, const RUN: usize, const I: usize>(
        &mut self,
        row: *const i8,
        taps: *const i8,
    ) {
        // The compiler would load all rows at once and run out of registers: no load moves over
        // this.
        // SAFETY: does nothing.
        unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
        for j in 0..K {
            let tap = I * K + j;
            // SAFETY: passed on.
            let w = unsafe { vld1q_s8(taps.add(tap * GROUP)) };
            for (t, part) in self.part.iter_mut().enumerate() {
                // SAFETY: passed on.
                let x = unsafe { vld1q_s8(row.add((t * S + j) * GROUP)) };
                *part = if tap.is_multiple_of(RUN) {
                    [vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w)]
                } else {
                    [
                        vmlal_s8(part[0], vget_low_s8(x), vget_low_s8(w)),
                        vmlal_high_s8(part[1], x, w),
                    ]
                };
            }
            if tap % RUN == RUN - 1 || tap == K * K - 1 {
                for (acc, part) in self.acc.iter_mut().zip(&self.part) {
                    acc[0] = vaddw_s16(acc[0], vget_low_s16(part[0]));
                    acc[1] = vaddw_high_s16(acc[1], part[0]);
                    acc[2] = vaddw_s16(acc[2], vget_low_s16(part[1]));
                    acc[3] = vaddw_high_s16(acc[3], part[1]);
                }
            }
        }
    }
}
