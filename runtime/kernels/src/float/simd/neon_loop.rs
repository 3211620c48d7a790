//! The loop over depth of a tile of 7 rows and 3 vectors, in assembly: 21 registers of sums, 7 of
//! activations and 4 of weights, which one instruction loads; no compiler keeps to that.

/// Adds to `$acc` (`[[V; 3]; 7]`) the products of `$groups` (at least 1) groups of one register of
/// each row, from `$next` (`[*const _; 7]`, advanced) on, and of `$panel`. `$rows` is the suffix of
/// a register, `$lane` of one value of it; each `$vector` is a register of weights as it lies in
/// the panel: the register it is loaded into, the value of the rows that it meets, and the
/// registers of its sums.
macro_rules! multiply_7x3 {
    (
        $rows:literal, $lane:literal, $acc:ident, $next:ident, $panel:ident, $groups:ident,
        $($quad:tt)*
    ) => {
        core::arch::asm!(
            // One group where their number is odd, then pairs.
            "tbz {groups}, #0, 2f",
            "ldr q0, [{row0}], #16",
            "ldr q1, [{row1}], #16",
            "ldr q2, [{row2}], #16",
            "ldr q3, [{row3}], #16",
            "ldr q4, [{row4}], #16",
            "ldr q5, [{row5}], #16",
            "ldr q6, [{row6}], #16",
            $(crate::float::simd::neon_loop::quad!($rows, $lane, $quad),)*
            "subs {groups}, {groups}, #1",
            "b.eq 3f",
            "2:",
            "ldr q0, [{row0}], #16",
            "ldr q1, [{row1}], #16",
            "ldr q2, [{row2}], #16",
            "ldr q3, [{row3}], #16",
            "ldr q4, [{row4}], #16",
            "ldr q5, [{row5}], #16",
            "ldr q6, [{row6}], #16",
            $(crate::float::simd::neon_loop::quad!($rows, $lane, $quad),)*
            "ldr q0, [{row0}], #16",
            "ldr q1, [{row1}], #16",
            "ldr q2, [{row2}], #16",
            "ldr q3, [{row3}], #16",
            "ldr q4, [{row4}], #16",
            "ldr q5, [{row5}], #16",
            "ldr q6, [{row6}], #16",
            $(crate::float::simd::neon_loop::quad!($rows, $lane, $quad),)*
            "subs {groups}, {groups}, #2",
            "b.ne 2b",
            "3:",
            row0 = inout(reg) $next[0], row1 = inout(reg) $next[1], row2 = inout(reg) $next[2],
            row3 = inout(reg) $next[3], row4 = inout(reg) $next[4], row5 = inout(reg) $next[5],
            row6 = inout(reg) $next[6],
            panel = inout(reg) $panel => _,
            groups = inout(reg) $groups => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _,
            inout("v11") $acc[0][0],
            inout("v12") $acc[0][1],
            inout("v13") $acc[0][2],
            inout("v14") $acc[1][0],
            inout("v15") $acc[1][1],
            inout("v16") $acc[1][2],
            inout("v17") $acc[2][0],
            inout("v18") $acc[2][1],
            inout("v19") $acc[2][2],
            inout("v20") $acc[3][0],
            inout("v21") $acc[3][1],
            inout("v22") $acc[3][2],
            inout("v23") $acc[4][0],
            inout("v24") $acc[4][1],
            inout("v25") $acc[4][2],
            inout("v26") $acc[5][0],
            inout("v27") $acc[5][1],
            inout("v28") $acc[5][2],
            inout("v29") $acc[6][0],
            inout("v30") $acc[6][1],
            inout("v31") $acc[6][2],
            options(readonly, nostack)
        )
    };
}

/// Loads four vectors of weights and multiplies them: the value of the rows and the first register
/// of the sums of each.
macro_rules! quad {
    ($rows:literal, $lane:literal, ($($k:literal: $n:tt),*)) => {
        crate::float::simd::neon_loop::quad!(@ $rows, $lane, $(($k, $n))*)
    };
    (@ $rows:literal, $lane:literal, ($k0:literal, $n0:tt) ($k1:literal, $n1:tt) ($k2:literal, $n2:tt) ($k3:literal, $n3:tt)) => {
        concat!(
            "ld1 {{v7.", $rows, ", v8.", $rows, ", v9.", $rows, ", v10.", $rows, "}}, [{panel}], #64\n",
            crate::float::simd::neon_loop::sums!($rows, $lane, "7", $k0, $n0),
            crate::float::simd::neon_loop::sums!($rows, $lane, "8", $k1, $n1),
            crate::float::simd::neon_loop::sums!($rows, $lane, "9", $k2, $n2),
            crate::float::simd::neon_loop::sums!($rows, $lane, "10", $k3, $n3),
        )
    };
}

/// Multiplies one vector of weights with value `$k` of each row.
macro_rules! sums {
    ($rows:literal, $lane:literal, $weights:literal, $k:literal, 0) => {
        crate::float::simd::neon_loop::sums!(@ $rows, $lane, $weights, $k, 11 14 17 20 23 26 29)
    };
    ($rows:literal, $lane:literal, $weights:literal, $k:literal, 1) => {
        crate::float::simd::neon_loop::sums!(@ $rows, $lane, $weights, $k, 12 15 18 21 24 27 30)
    };
    ($rows:literal, $lane:literal, $weights:literal, $k:literal, 2) => {
        crate::float::simd::neon_loop::sums!(@ $rows, $lane, $weights, $k, 13 16 19 22 25 28 31)
    };
    (
        @ $rows:literal, $lane:literal, $weights:literal, $k:literal,
        $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal $g:literal
    ) => {
        concat!(
            "fmla v", $a, ".", $rows, ", v", $weights, ".", $rows, ", v0.", $lane, "[", $k, "]\n",
            "fmla v", $b, ".", $rows, ", v", $weights, ".", $rows, ", v1.", $lane, "[", $k, "]\n",
            "fmla v", $c, ".", $rows, ", v", $weights, ".", $rows, ", v2.", $lane, "[", $k, "]\n",
            "fmla v", $d, ".", $rows, ", v", $weights, ".", $rows, ", v3.", $lane, "[", $k, "]\n",
            "fmla v", $e, ".", $rows, ", v", $weights, ".", $rows, ", v4.", $lane, "[", $k, "]\n",
            "fmla v", $f, ".", $rows, ", v", $weights, ".", $rows, ", v5.", $lane, "[", $k, "]\n",
            "fmla v", $g, ".", $rows, ", v", $weights, ".", $rows, ", v6.", $lane, "[", $k, "]\n",
        )
    };
}

pub(super) use {multiply_7x3, quad, sums};
