//! Depthwise tiles of 7 columns and 2 vectors in assembly, the tiles of a row one after the other:
//! each load advances its pointer, where a compiler computes an address for each.

use super::DepthwiseRow;

/// The tiles of one output row, as the assembly reads them. Strides are in bytes.
pub(super) struct Job {
    /// Where the first tile's first column within the image is.
    pub(super) start: *const u8,
    /// Where the second tile's first column is.
    pub(super) second: *const u8,
    /// From a tile's first column to that of the next.
    pub(super) step: usize,
    /// From a column to the next, in the input and in the output.
    pub(super) stride: usize,
    /// From one input row to that of the next filter row.
    pub(super) line: usize,
    /// Bits of columns of the first tile and of the last that lie in the padding.
    pub(super) mask: usize,
    pub(super) last_mask: usize,
    /// At least 1.
    pub(super) tiles: usize,
    /// At least 1.
    pub(super) taps: usize,
}

impl Job {
    /// The tiles of `row`, if columns lie in the padding only where a filter's half ends does.
    #[inline(always)]
    pub(super) fn new<C, const KERNEL: usize, const STRIDE: usize>(
        row: &DepthwiseRow<'_, C>,
    ) -> Option<Job> {
        const COLUMNS: usize = 7;
        let columns = (COLUMNS - 1) * STRIDE + KERNEL;
        let before = row.pad_left;
        let end = (row.tiles - 1) * COLUMNS * STRIDE + columns;
        let after = end.saturating_sub(row.in_w + row.pad_left);
        if before.max(after) > KERNEL / 2 || row.taps == 0 {
            return None;
        }
        let stride = row.channels * size_of::<C>();
        let start = row.input.cast::<u8>();
        let left = (1 << before) - 1;
        let right = ((1 << after) - 1) << (columns - after);
        let step = COLUMNS * STRIDE * stride;
        Some(Job {
            start,
            second: start.wrapping_add(step - before * stride),
            step,
            stride,
            line: row.line * size_of::<C>(),
            mask: if row.tiles == 1 { left | right } else { left },
            last_mask: right,
            tiles: row.tiles,
            taps: row.taps,
        })
    }
}

/// Computes the tiles of `$job`. The shape's columns each have the registers that hold it and, for
/// either vector, the sums that it adds to and their weights.
macro_rules! depthwise {
    (
        $type:literal, $job:ident, $row:ident, $bias:ident, $bounds:ident,
        weights: [$($weights:expr),*] columns: [$($column:expr),*]
    ) => {
        core::arch::asm!(
            "2:",
            "mov {row}, {start}",
            "mov {w}, {weights}",
            "mov {t}, {taps}",
            "mov {p}, {bias}",
            crate::float::simd::neon_tiles::several!("ld1", $type, 18 19 20 21, "[{p}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 22 23 24 25, "[{p}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 26 27 28 29, "[{p}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 30 31, "[{p}]"),
            "4:",
            "mov {p}, {row}",
            $($weights,)*
            "add {row}, {row}, {line}",
            $($column,)*
            "subs {t}, {t}, #1",
            "b.ne 4b",
            crate::float::simd::neon_tiles::several!("ld2r", $type, 0 1, "[{bounds}]"), crate::float::simd::neon_tiles::each!($type, "fmax", 18 19 20 21 22 23 24 25 26 27 28 29 30 31, 0), crate::float::simd::neon_tiles::each!($type, "fmin", 18 19 20 21 22 23 24 25 26 27 28 29 30 31, 1),
            crate::float::simd::neon_tiles::several!("st1", $type, 18 19, "[{output}], {stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 20 21, "[{output}], {stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 22 23, "[{output}], {stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 24 25, "[{output}], {stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 26 27, "[{output}], {stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 28 29, "[{output}], {stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 30 31, "[{output}], {stride}"),
            "mov {start}, {second}",
            "add {second}, {second}, {step}",
            "sub {tiles}, {tiles}, #1",
            "cmp {tiles}, #1",
            "csel {mask}, {last_mask}, xzr, eq",
            "b.hs 2b",
            row = out(reg) _, w = out(reg) _, t = out(reg) _, p = out(reg) _,
            start = inout(reg) $job.start => _,
            second = inout(reg) $job.second => _,
            step = in(reg) $job.step,
            stride = in(reg) $job.stride,
            line = in(reg) $job.line,
            mask = inout(reg) $job.mask => _,
            last_mask = in(reg) $job.last_mask,
            tiles = inout(reg) $job.tiles => _,
            taps = in(reg) $job.taps,
            weights = in(reg) $row.weights,
            bias = in(reg) $bias,
            bounds = in(reg) $bounds,
            output = inout(reg) $row.output => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack)
        )
    };
}

/// Reads a column and adds its products. At an edge: unless its bit in the mask is set.
macro_rules! column {
    (edge $col:literal, $($rest:tt)*) => {
        concat!(
            "tbnz {mask}, #", $col, ", 3f\n",
            crate::float::simd::neon_depthwise::column!($($rest)*),
            "3:\n",
        )
    };
    ($type:literal, $a:literal $b:literal, $(($sum:literal $weight:literal $sum_b:literal $weight_b:literal))*) => {
        concat!(
            "ld1 {{v", $a, ".", $type, ", v", $b, ".", $type, "}}, [{p}], {stride}\n",
            $(
                "fmla v", $sum, ".", $type, ", v", $a, ".", $type, ", v", $weight, ".", $type, "\n",
                "fmla v", $sum_b, ".", $type, ", v", $b, ".", $type, ", v", $weight_b, ".", $type, "\n",
            )*
        )
    };
}

/// [`depthwise`] for filters of 3 columns that move by 1.
macro_rules! depthwise_3s1 {
    ($type:literal, $job:ident, $row:ident, $bias:ident, $bounds:ident) => {
        crate::float::simd::neon_depthwise::depthwise!(
            $type, $job, $row, $bias, $bounds,
            weights: [crate::float::simd::neon_tiles::several!("ld1", $type, 4 5 6 7, "[{w}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9, "[{w}], #32")]
            columns: [
                crate::float::simd::neon_depthwise::column!(edge 0, $type, 0 1, (18 4 19 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (18 6 19 7) (20 4 21 5)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (18 8 19 9) (20 6 21 7) (22 4 23 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (20 8 21 9) (22 6 23 7) (24 4 25 5)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (22 8 23 9) (24 6 25 7) (26 4 27 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (24 8 25 9) (26 6 27 7) (28 4 29 5)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (26 8 27 9) (28 6 29 7) (30 4 31 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (28 8 29 9) (30 6 31 7)),
                crate::float::simd::neon_depthwise::column!(edge 8, $type, 0 1, (30 8 31 9))
            ]
        )
    };
}

/// [`depthwise`] for filters of 3 columns that move by 2.
macro_rules! depthwise_3s2 {
    ($type:literal, $job:ident, $row:ident, $bias:ident, $bounds:ident) => {
        crate::float::simd::neon_depthwise::depthwise!(
            $type, $job, $row, $bias, $bounds,
            weights: [crate::float::simd::neon_tiles::several!("ld1", $type, 4 5 6 7, "[{w}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9, "[{w}], #32")]
            columns: [
                crate::float::simd::neon_depthwise::column!(edge 0, $type, 0 1, (18 4 19 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (18 6 19 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (18 8 19 9) (20 4 21 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (20 6 21 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (20 8 21 9) (22 4 23 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (22 6 23 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (22 8 23 9) (24 4 25 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (24 6 25 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (24 8 25 9) (26 4 27 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (26 6 27 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (26 8 27 9) (28 4 29 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (28 6 29 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (28 8 29 9) (30 4 31 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (30 6 31 7)),
                crate::float::simd::neon_depthwise::column!(edge 14, $type, 0 1, (30 8 31 9))
            ]
        )
    };
}

/// [`depthwise`] for filters of 5 columns that move by 1.
macro_rules! depthwise_5s1 {
    ($type:literal, $job:ident, $row:ident, $bias:ident, $bounds:ident) => {
        crate::float::simd::neon_depthwise::depthwise!(
            $type, $job, $row, $bias, $bounds,
            weights: [crate::float::simd::neon_tiles::several!("ld1", $type, 4 5 6 7, "[{w}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9 10 11, "[{w}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 12 13, "[{w}], #32")]
            columns: [
                crate::float::simd::neon_depthwise::column!(edge 0, $type, 0 1, (18 4 19 5)),
                crate::float::simd::neon_depthwise::column!(edge 1, $type, 2 3, (18 6 19 7) (20 4 21 5)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (18 8 19 9) (20 6 21 7) (22 4 23 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (18 10 19 11) (20 8 21 9) (22 6 23 7) (24 4 25 5)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (18 12 19 13) (20 10 21 11) (22 8 23 9) (24 6 25 7) (26 4 27 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (20 12 21 13) (22 10 23 11) (24 8 25 9) (26 6 27 7) (28 4 29 5)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (22 12 23 13) (24 10 25 11) (26 8 27 9) (28 6 29 7) (30 4 31 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (24 12 25 13) (26 10 27 11) (28 8 29 9) (30 6 31 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (26 12 27 13) (28 10 29 11) (30 8 31 9)),
                crate::float::simd::neon_depthwise::column!(edge 9, $type, 2 3, (28 12 29 13) (30 10 31 11)),
                crate::float::simd::neon_depthwise::column!(edge 10, $type, 0 1, (30 12 31 13))
            ]
        )
    };
}

/// [`depthwise`] for filters of 5 columns that move by 2.
macro_rules! depthwise_5s2 {
    ($type:literal, $job:ident, $row:ident, $bias:ident, $bounds:ident) => {
        crate::float::simd::neon_depthwise::depthwise!(
            $type, $job, $row, $bias, $bounds,
            weights: [crate::float::simd::neon_tiles::several!("ld1", $type, 4 5 6 7, "[{w}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9 10 11, "[{w}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 12 13, "[{w}], #32")]
            columns: [
                crate::float::simd::neon_depthwise::column!(edge 0, $type, 0 1, (18 4 19 5)),
                crate::float::simd::neon_depthwise::column!(edge 1, $type, 2 3, (18 6 19 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (18 8 19 9) (20 4 21 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (18 10 19 11) (20 6 21 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (18 12 19 13) (20 8 21 9) (22 4 23 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (20 10 21 11) (22 6 23 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (20 12 21 13) (22 8 23 9) (24 4 25 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (22 10 23 11) (24 6 25 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (22 12 23 13) (24 8 25 9) (26 4 27 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (24 10 25 11) (26 6 27 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (24 12 25 13) (26 8 27 9) (28 4 29 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (26 10 27 11) (28 6 29 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (26 12 27 13) (28 8 29 9) (30 4 31 5)),
                crate::float::simd::neon_depthwise::column!($type, 2 3, (28 10 29 11) (30 6 31 7)),
                crate::float::simd::neon_depthwise::column!($type, 0 1, (28 12 29 13) (30 8 31 9)),
                crate::float::simd::neon_depthwise::column!(edge 15, $type, 2 3, (30 10 31 11)),
                crate::float::simd::neon_depthwise::column!(edge 16, $type, 0 1, (30 12 31 13))
            ]
        )
    };
}

pub(super) use {column, depthwise, depthwise_3s1, depthwise_3s2, depthwise_5s1, depthwise_5s2};
