//! Whole tiles in assembly, from the bias to the stores, of 7 rows and 3 vectors or 8 and 2: around
//! a short loop over depth, a compiler spends as many instructions again.

use super::{Simd, Whole};

/// The tiles of one panel, as the assembly reads them. Strides are in bytes.
pub(super) struct Job<C> {
    /// The first row, and the distance of the next.
    pub(super) start: *const C,
    pub(super) stride: usize,
    /// At least 1.
    pub(super) tiles: usize,
    /// Runs of a row, at least 1.
    pub(super) runs: usize,
    /// If not 0, a run has one value more than its registers: where the next run is from there.
    pub(super) next: usize,
    /// Registers of a run, at least 1.
    pub(super) groups: usize,
    /// Registers that follow those, summed apart, `groups` at a time; 0 if there are several runs.
    pub(super) rest: usize,
    pub(super) panel: *const C,
    /// The two bounds, or null.
    pub(super) bounds: *const C,
    /// Added to the results, or null.
    pub(super) residual: *const C,
    pub(super) output: *mut C,
    pub(super) output_stride: usize,
}

impl<C> Job<C> {
    /// What is to be done, if the assembly can.
    #[inline(always)]
    pub(super) fn new<S: Simd<C = C>>(whole: &Whole<'_, C>) -> Option<Job<C>> {
        let value = size_of::<C>();
        let rows = &whole.rows;
        let (groups, tail) = (rows.run / S::DEPTH, rows.run % S::DEPTH);
        let blocks = rows.runs * rows.run > S::BLOCK;
        if groups == 0 || tail > 1 || (tail == 0 && rows.runs > 1) || (tail == 1 && blocks) {
            return None;
        }
        let in_block = groups.min(S::BLOCK / S::DEPTH);
        let next = match (tail, rows.runs) {
            (0, _) => 0,
            // There is no next.
            (_, 1) => value,
            _ => rows.run_stride.checked_sub(rows.run - 1).filter(|next| *next > 0)? * value,
        };
        Some(Job {
            start: rows.start,
            stride: rows.stride * value,
            tiles: whole.tiles,
            runs: rows.runs,
            next,
            groups: in_block,
            rest: groups - in_block,
            panel: whole.weights,
            bounds: whole.bounds.map_or(std::ptr::null(), |bounds| bounds.as_ptr()),
            residual: whole.target.residual,
            output: whole.target.output,
            output_stride: whole.target.stride * value,
        })
    }
}

/// Computes the tiles of `$job`; `$first` holds the bias in every row and then as many zeros,
/// `$total` has room for the sums of a tile. The lists are lines of assembly: what differs between
/// shapes and types.
macro_rules! tiles {
    (
        $job:ident, $first:ident, $total:ident, [$($row:ident)*] [$($register:tt)*]
        rows: [$($rows:expr),*] first: [$($begin:expr),*] size: $size:literal
        group: [$($group:expr),*] tail: [$($tail:expr),*]
        add: [$($add:expr),*] keep: [$($keep:expr),*]
        bounds: [$($bounds:expr),*] residual: [$($residual:expr),*] store: [$($store:expr),*]
    ) => {
        core::arch::asm!(
            "2:",
            $($rows,)*
            "mov {p}, {panel}",
            "mov {z}, {first}",
            "mov {r}, {runs}",
            "mov {left}, {rest}",
            "mov {n}, {groups}",
            $($begin,)*
            // `n` groups: one where their number is odd, then pairs.
            "3:",
            "tbz {n}, #0, 4f",
            $($group,)*
            "subs {n}, {n}, #1",
            "b.eq 5f",
            "4:",
            $($group,)*
            $($group,)*
            "subs {n}, {n}, #2",
            "b.ne 4b",
            "5:",
            "cbnz {next}, 7f",
            "cbz {rest}, 8f",
            // The end of a block: adds the ones before, and keeps the sum if there is one more.
            "mov {n}, {total}",
            "cmp {left}, {rest}",
            "b.eq 6f",
            $($add,)*
            "cbz {left}, 8f",
            "mov {n}, {total}",
            "6:",
            $($keep,)*
            $($begin,)*
            concat!("sub {z}, {z}, #", $size),
            "cmp {left}, {groups}",
            "csel {n}, {left}, {groups}, lo",
            "sub {left}, {left}, {n}",
            "b 3b",
            // The end of a run with one more value.
            "7:",
            $($tail,)*
            "subs {r}, {r}, #1",
            "b.eq 8f",
            "mov {n}, {groups}",
            "b 3b",
            "8:",
            "cbz {bounds}, 9f",
            $($bounds,)*
            "9:",
            "cbz {residual}, 22f",
            $($residual,)*
            "22:",
            $($store,)*
            "subs {tiles}, {tiles}, #1",
            "b.ne 2b",
            $($row = out(reg) _,)*
            p = out(reg) _, z = out(reg) _, r = out(reg) _, left = out(reg) _, n = out(reg) _,
            start = inout(reg) $job.start => _,
            stride = in(reg) $job.stride,
            tiles = inout(reg) $job.tiles => _,
            runs = in(reg) $job.runs,
            next = in(reg) $job.next,
            groups = in(reg) $job.groups,
            rest = in(reg) $job.rest,
            panel = in(reg) $job.panel,
            first = in(reg) $first,
            total = in(reg) $total,
            bounds = in(reg) $job.bounds,
            residual = inout(reg) $job.residual => _,
            output = inout(reg) $job.output => _,
            output_stride = in(reg) $job.output_stride,
            $(out($register) _,)*
            options(nostack)
        )
    };
}

/// Applies an instruction to each register and another.
macro_rules! each {
    ($type:literal, $op:literal, $($to:literal)* , $with:literal) => {
        concat!($(
            $op, " v", $to, ".", $type, ", v", $to, ".", $type, ", v", $with, ".", $type, "\n",
        )*)
    };
}

/// Several registers at consecutive addresses, of which there are two, three or four.
macro_rules! several {
    ($op:literal, $type:literal, $a:literal $b:literal, $at:literal) => {
        concat!($op, " {{v", $a, ".", $type, ", v", $b, ".", $type, "}}, ", $at, "\n")
    };
    ($op:literal, $type:literal, $a:literal $b:literal $c:literal, $at:literal) => {
        concat!(
            $op, " {{v", $a, ".", $type, ", v", $b, ".", $type, ", v", $c, ".", $type, "}}, ", $at,
            "\n",
        )
    };
    ($op:literal, $type:literal, $a:literal $b:literal $c:literal $d:literal, $at:literal) => {
        concat!(
            $op, " {{v", $a, ".", $type, ", v", $b, ".", $type, ", v", $c, ".", $type, ", v", $d,
            ".", $type, "}}, ", $at, "\n",
        )
    };
}
/// Adds to each register of sums the products of a vector of weights and one value of a row.
macro_rules! products {
    ($type:literal, $lane:literal, $weights:literal, $k:literal, $(($sum:literal $row:literal))*) => {
        concat!($(
            "fmla v", $sum, ".", $type, ", v", $weights, ".", $type, ", v", $row, ".", $lane, "[",
            $k, "]\n",
        )*)
    };
}

/// [`tiles`] of 7 rows and 3 vectors. Each `$quad` is four vectors of weights as they lie in the
/// panel: the value of the rows and the vector of sums that each meets.
macro_rules! tiles_7x3 {
    ($type:literal, $lane:literal, $job:ident, $first:ident, $total:ident, $($quad:tt)*) => {
        crate::float::simd::neon_tiles::tiles!(
            $job, $first, $total, [row0 row1 row2 row3 row4 row5 row6]
            ["v0" "v1" "v2" "v3" "v4" "v5" "v6" "v7" "v8" "v9" "v10" "v11" "v12" "v13" "v14" "v15" "v16" "v17" "v18" "v19" "v20" "v21" "v22" "v23" "v24" "v25" "v26" "v27" "v28" "v29" "v30" "v31"]
            rows: ["mov {row0}, {start}", "add {row1}, {row0}, {stride}", "add {row2}, {row1}, {stride}", "add {row3}, {row2}, {stride}", "add {row4}, {row3}, {stride}", "add {row5}, {row4}, {stride}", "add {row6}, {row5}, {stride}", "add {start}, {row6}, {stride}"]
            first: [crate::float::simd::neon_tiles::several!("ld1", $type, 11 12 13 14, "[{z}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 15 16 17 18, "[{z}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 19 20 21 22, "[{z}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 23 24 25 26, "[{z}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 27 28 29 30, "[{z}], #64"), "ldr q31, [{z}], #16"]
            size: 336
            group: ["ldr q0, [{row0}], #16", "ldr q1, [{row1}], #16", "ldr q2, [{row2}], #16", "ldr q3, [{row3}], #16", "ldr q4, [{row4}], #16", "ldr q5, [{row5}], #16", "ldr q6, [{row6}], #16", $(crate::float::simd::neon_tiles::quad_7x3!($type, $lane, $quad)),*]
            tail: [concat!("ld1 {{v0.", $lane, "}}[0], [{row0}], {next}"), concat!("ld1 {{v1.", $lane, "}}[0], [{row1}], {next}"), concat!("ld1 {{v2.", $lane, "}}[0], [{row2}], {next}"), concat!("ld1 {{v3.", $lane, "}}[0], [{row3}], {next}"), concat!("ld1 {{v4.", $lane, "}}[0], [{row4}], {next}"), concat!("ld1 {{v5.", $lane, "}}[0], [{row5}], {next}"), concat!("ld1 {{v6.", $lane, "}}[0], [{row6}], {next}"), crate::float::simd::neon_tiles::several!("ld1", $type, 7 8 9, "[{p}], #48"), crate::float::simd::neon_tiles::sums_7x3!($type, $lane, 7, 0, 0), crate::float::simd::neon_tiles::sums_7x3!($type, $lane, 8, 0, 1), crate::float::simd::neon_tiles::sums_7x3!($type, $lane, 9, 0, 2)]
            add: [crate::float::simd::neon_tiles::several!("ld1", $type, 7 8 9 10, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 11, 7), crate::float::simd::neon_tiles::each!($type, "fadd", 12, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 13, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 14, 10), crate::float::simd::neon_tiles::several!("ld1", $type, 7 8 9 10, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 15, 7), crate::float::simd::neon_tiles::each!($type, "fadd", 16, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 17, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 18, 10), crate::float::simd::neon_tiles::several!("ld1", $type, 7 8 9 10, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 19, 7), crate::float::simd::neon_tiles::each!($type, "fadd", 20, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 21, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 22, 10), crate::float::simd::neon_tiles::several!("ld1", $type, 7 8 9 10, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 23, 7), crate::float::simd::neon_tiles::each!($type, "fadd", 24, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 25, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 26, 10), crate::float::simd::neon_tiles::several!("ld1", $type, 7 8 9 10, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 27, 7), crate::float::simd::neon_tiles::each!($type, "fadd", 28, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 29, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 30, 10), "ldr q7, [{n}]", crate::float::simd::neon_tiles::each!($type, "fadd", 31, 7)]
            keep: [crate::float::simd::neon_tiles::several!("st1", $type, 11 12 13 14, "[{n}], #64"), crate::float::simd::neon_tiles::several!("st1", $type, 15 16 17 18, "[{n}], #64"), crate::float::simd::neon_tiles::several!("st1", $type, 19 20 21 22, "[{n}], #64"), crate::float::simd::neon_tiles::several!("st1", $type, 23 24 25 26, "[{n}], #64"), crate::float::simd::neon_tiles::several!("st1", $type, 27 28 29 30, "[{n}], #64"), "str q31, [{n}], #16"]
            bounds: [crate::float::simd::neon_tiles::several!("ld2r", $type, 0 1, "[{bounds}]"), crate::float::simd::neon_tiles::each!($type, "fmax", 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31, 0), crate::float::simd::neon_tiles::each!($type, "fmin", 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31, 1)]
            residual: [crate::float::simd::neon_tiles::several!("ld1", $type, 0 1 2, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 11, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 12, 1), crate::float::simd::neon_tiles::each!($type, "fadd", 13, 2), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1 2, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 14, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 15, 1), crate::float::simd::neon_tiles::each!($type, "fadd", 16, 2), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1 2, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 17, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 18, 1), crate::float::simd::neon_tiles::each!($type, "fadd", 19, 2), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1 2, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 20, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 21, 1), crate::float::simd::neon_tiles::each!($type, "fadd", 22, 2), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1 2, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 23, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 24, 1), crate::float::simd::neon_tiles::each!($type, "fadd", 25, 2), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1 2, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 26, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 27, 1), crate::float::simd::neon_tiles::each!($type, "fadd", 28, 2), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1 2, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 29, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 30, 1), crate::float::simd::neon_tiles::each!($type, "fadd", 31, 2)]
            store: [crate::float::simd::neon_tiles::several!("st1", $type, 11 12 13, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 14 15 16, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 17 18 19, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 20 21 22, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 23 24 25, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 26 27 28, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 29 30 31, "[{output}], {output_stride}")]
        )
    };
}

/// Loads four vectors of weights and multiplies them.
macro_rules! quad_7x3 {
    ($type:literal, $lane:literal, ($k0:literal: $n0:tt, $k1:literal: $n1:tt, $k2:literal: $n2:tt, $k3:literal: $n3:tt)) => {
        concat!(crate::float::simd::neon_tiles::several!("ld1", $type, 7 8 9 10, "[{p}], #64"), crate::float::simd::neon_tiles::sums_7x3!($type, $lane, 7, $k0, $n0), crate::float::simd::neon_tiles::sums_7x3!($type, $lane, 8, $k1, $n1), crate::float::simd::neon_tiles::sums_7x3!($type, $lane, 9, $k2, $n2), crate::float::simd::neon_tiles::sums_7x3!($type, $lane, 10, $k3, $n3))
    };
}

/// Multiplies one vector of weights with value `$k` of each row.
macro_rules! sums_7x3 {
    ($type:literal, $lane:literal, $weights:literal, $k:literal, 0) => {
        crate::float::simd::neon_tiles::products!($type, $lane, $weights, $k, (11 0) (14 1) (17 2) (20 3) (23 4) (26 5) (29 6))
    };
    ($type:literal, $lane:literal, $weights:literal, $k:literal, 1) => {
        crate::float::simd::neon_tiles::products!($type, $lane, $weights, $k, (12 0) (15 1) (18 2) (21 3) (24 4) (27 5) (30 6))
    };
    ($type:literal, $lane:literal, $weights:literal, $k:literal, 2) => {
        crate::float::simd::neon_tiles::products!($type, $lane, $weights, $k, (13 0) (16 1) (19 2) (22 3) (25 4) (28 5) (31 6))
    };
}

/// [`tiles`] of 8 rows and 2 vectors. Each `$quad` is four vectors of weights as they lie in the
/// panel: the value of the rows and the vector of sums that each meets.
macro_rules! tiles_8x2 {
    ($type:literal, $lane:literal, $job:ident, $first:ident, $total:ident, $($quad:tt)*) => {
        crate::float::simd::neon_tiles::tiles!(
            $job, $first, $total, [row0 row1 row2 row3 row4 row5 row6 row7]
            ["v0" "v1" "v2" "v3" "v4" "v5" "v6" "v7" "v8" "v9" "v10" "v11" "v16" "v17" "v18" "v19" "v20" "v21" "v22" "v23" "v24" "v25" "v26" "v27" "v28" "v29" "v30" "v31"]
            rows: ["mov {row0}, {start}", "add {row1}, {row0}, {stride}", "add {row2}, {row1}, {stride}", "add {row3}, {row2}, {stride}", "add {row4}, {row3}, {stride}", "add {row5}, {row4}, {stride}", "add {row6}, {row5}, {stride}", "add {row7}, {row6}, {stride}", "add {start}, {row7}, {stride}"]
            first: [crate::float::simd::neon_tiles::several!("ld1", $type, 16 17 18 19, "[{z}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 20 21 22 23, "[{z}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 24 25 26 27, "[{z}], #64"), crate::float::simd::neon_tiles::several!("ld1", $type, 28 29 30 31, "[{z}], #64")]
            size: 256
            group: ["ldr q0, [{row0}], #16", "ldr q1, [{row1}], #16", "ldr q2, [{row2}], #16", "ldr q3, [{row3}], #16", "ldr q4, [{row4}], #16", "ldr q5, [{row5}], #16", "ldr q6, [{row6}], #16", "ldr q7, [{row7}], #16", $(crate::float::simd::neon_tiles::quad_8x2!($type, $lane, $quad)),*]
            tail: [concat!("ld1 {{v0.", $lane, "}}[0], [{row0}], {next}"), concat!("ld1 {{v1.", $lane, "}}[0], [{row1}], {next}"), concat!("ld1 {{v2.", $lane, "}}[0], [{row2}], {next}"), concat!("ld1 {{v3.", $lane, "}}[0], [{row3}], {next}"), concat!("ld1 {{v4.", $lane, "}}[0], [{row4}], {next}"), concat!("ld1 {{v5.", $lane, "}}[0], [{row5}], {next}"), concat!("ld1 {{v6.", $lane, "}}[0], [{row6}], {next}"), concat!("ld1 {{v7.", $lane, "}}[0], [{row7}], {next}"), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9, "[{p}], #32"), crate::float::simd::neon_tiles::sums_8x2!($type, $lane, 8, 0, 0), crate::float::simd::neon_tiles::sums_8x2!($type, $lane, 9, 0, 1)]
            add: [crate::float::simd::neon_tiles::several!("ld1", $type, 8 9 10 11, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 16, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 17, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 18, 10), crate::float::simd::neon_tiles::each!($type, "fadd", 19, 11), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9 10 11, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 20, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 21, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 22, 10), crate::float::simd::neon_tiles::each!($type, "fadd", 23, 11), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9 10 11, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 24, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 25, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 26, 10), crate::float::simd::neon_tiles::each!($type, "fadd", 27, 11), crate::float::simd::neon_tiles::several!("ld1", $type, 8 9 10 11, "[{n}], #64"), crate::float::simd::neon_tiles::each!($type, "fadd", 28, 8), crate::float::simd::neon_tiles::each!($type, "fadd", 29, 9), crate::float::simd::neon_tiles::each!($type, "fadd", 30, 10), crate::float::simd::neon_tiles::each!($type, "fadd", 31, 11)]
            keep: [crate::float::simd::neon_tiles::several!("st1", $type, 16 17 18 19, "[{n}], #64"), crate::float::simd::neon_tiles::several!("st1", $type, 20 21 22 23, "[{n}], #64"), crate::float::simd::neon_tiles::several!("st1", $type, 24 25 26 27, "[{n}], #64"), crate::float::simd::neon_tiles::several!("st1", $type, 28 29 30 31, "[{n}], #64")]
            bounds: [crate::float::simd::neon_tiles::several!("ld2r", $type, 0 1, "[{bounds}]"), crate::float::simd::neon_tiles::each!($type, "fmax", 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31, 0), crate::float::simd::neon_tiles::each!($type, "fmin", 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31, 1)]
            residual: [crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 16, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 17, 1), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 18, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 19, 1), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 20, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 21, 1), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 22, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 23, 1), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 24, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 25, 1), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 26, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 27, 1), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 28, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 29, 1), crate::float::simd::neon_tiles::several!("ld1", $type, 0 1, "[{residual}], {output_stride}"), crate::float::simd::neon_tiles::each!($type, "fadd", 30, 0), crate::float::simd::neon_tiles::each!($type, "fadd", 31, 1)]
            store: [crate::float::simd::neon_tiles::several!("st1", $type, 16 17, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 18 19, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 20 21, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 22 23, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 24 25, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 26 27, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 28 29, "[{output}], {output_stride}"), crate::float::simd::neon_tiles::several!("st1", $type, 30 31, "[{output}], {output_stride}")]
        )
    };
}

/// Loads four vectors of weights and multiplies them.
macro_rules! quad_8x2 {
    ($type:literal, $lane:literal, ($k0:literal: $n0:tt, $k1:literal: $n1:tt, $k2:literal: $n2:tt, $k3:literal: $n3:tt)) => {
        concat!(crate::float::simd::neon_tiles::several!("ld1", $type, 8 9 10 11, "[{p}], #64"), crate::float::simd::neon_tiles::sums_8x2!($type, $lane, 8, $k0, $n0), crate::float::simd::neon_tiles::sums_8x2!($type, $lane, 9, $k1, $n1), crate::float::simd::neon_tiles::sums_8x2!($type, $lane, 10, $k2, $n2), crate::float::simd::neon_tiles::sums_8x2!($type, $lane, 11, $k3, $n3))
    };
}

/// Multiplies one vector of weights with value `$k` of each row.
macro_rules! sums_8x2 {
    ($type:literal, $lane:literal, $weights:literal, $k:literal, 0) => {
        crate::float::simd::neon_tiles::products!($type, $lane, $weights, $k, (16 0) (18 1) (20 2) (22 3) (24 4) (26 5) (28 6) (30 7))
    };
    ($type:literal, $lane:literal, $weights:literal, $k:literal, 1) => {
        crate::float::simd::neon_tiles::products!($type, $lane, $weights, $k, (17 0) (19 1) (21 2) (23 3) (25 4) (27 5) (29 6) (31 7))
    };
}

pub(super) use {
    each, products, quad_7x3, quad_8x2, several, sums_7x3, sums_8x2, tiles, tiles_7x3, tiles_8x2,
};
