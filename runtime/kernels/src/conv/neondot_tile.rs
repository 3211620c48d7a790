//! The inner loop of dense convolution for NEON with the dot-product extension: up to 6 pixels
//! times 16 channels, all 24 accumulators in registers.
//!
//! The intrinsic is not stable, so the whole loop over depth is inline assembly, which also lets
//! one instruction load up to four registers. Every function below is the same program for
//! another number of pixels or channels.

use std::arch::aarch64::*;
use std::arch::asm;

use super::neon_lines::Lines;
use super::pixels::Pixels;
use crate::arm::Ending;
use crate::arm_end::{End, MAX_COLS, end_load, end_row};
use crate::isa::NeonDot;

/// Most pixels in one tile.
pub(crate) const MAX_ROWS: usize = 6;

/// Pixels in the next tile when `left` remain.
pub(crate) fn next_rows(left: usize) -> usize {
    match left {
        6.. => 6,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Bytes of one packed tile: 8 values of depth of two pixels at a time.
pub(crate) fn tile_bytes(rows: usize, pairs: usize) -> usize {
    rows.div_ceil(2) * 16 * pairs
}

/// Packs a tile: `to[depth / 8][pixel / 2][pixel % 2][8]`, each value less 128 as a signed byte.
/// What pads the depth meets zero weights; what pads an odd number of pixels is not looked at.
/// `pixel` gives the tile's pixels.
///
/// # Panics
/// If the length does not agree, or a pixel does not exist.
pub(crate) fn pack_tile(
    _token: NeonDot,
    from: &Pixels<'_>,
    pixel: impl Fn(usize) -> usize,
    rows: usize,
    to: &mut [u8],
) {
    let (depth, block) = (from.depth(), from.block());
    assert_eq!(to.len(), tile_bytes(rows, depth.div_ceil(8)));
    let pixel = |p: usize| from.pixel(pixel(p.min(rows - 1)));
    let to = to.as_mut_ptr();
    // SAFETY: the token proves NEON; each pointer has `depth` bytes, and `to` room for the tile.
    unsafe {
        match rows {
            5.. => pack_pairs(std::array::from_fn::<_, 6, _>(pixel), depth, block, to),
            3.. => pack_pairs(std::array::from_fn::<_, 4, _>(pixel), depth, block, to),
            _ => pack_pairs(std::array::from_fn::<_, 2, _>(pixel), depth, block, to),
        }
    }
}

/// # Safety
/// `depth` bytes are readable at each pointer as [`Pixels::address`] says, and `to` can take `N * 8`
/// bytes for each 8 of them, the last ones rounded up.
#[target_feature(enable = "neon")]
unsafe fn pack_pairs<const N: usize>(
    from: [*const u8; N],
    depth: usize,
    block: usize,
    to: *mut u8,
) {
    let sign = vdupq_n_u8(0x80);
    let (sixteens, rest) = (depth / 16, depth % 16);
    let (mut to, mut at) = (to, 0);
    for step in 0..sixteens {
        // SAFETY: 16 values of depth remain, and room for them.
        unsafe {
            let x = from.map(|from| veorq_u8(vld1q_u8(from.add(at)), sign));
            for p in (0..N).step_by(2) {
                let (a, b) = (vreinterpretq_u64_u8(x[p]), vreinterpretq_u64_u8(x[p + 1]));
                vst1q_u64(to.add(p * 8).cast(), vzip1q_u64(a, b));
                vst1q_u64(to.add((N + p) * 8).cast(), vzip2q_u64(a, b));
            }
            to = to.add(N * 16);
        }
        at += if step % 2 == 0 { 16 } else { block - 16 };
    }
    let mut done = sixteens * 16;
    if rest >= 8 {
        for (p, from) in from.iter().enumerate() {
            // SAFETY: 8 values of depth remain, and room for them.
            unsafe {
                let x = veor_u8(vld1_u8(from.add(at)), vget_low_u8(sign));
                vst1_u8(to.add(p * 8), x);
            }
        }
        // SAFETY: at most one past the end.
        to = unsafe { to.add(N * 8) };
        done += 8;
        at += 8;
    }
    for (p, from) in from.iter().enumerate() {
        for k in done..depth {
            // SAFETY: the last values of depth, fewer than 8, and room for them.
            unsafe { *to.add(p * 8 + k - done) = *from.add(at + k - done) ^ 0x80 };
        }
    }
}

/// The same of a layer that [`Lines`] packs, from its pointer of each pixel.
///
/// # Panics
/// If the length does not agree.
#[inline(always)]
pub(crate) fn pack_lines(
    _token: NeonDot,
    lines: &Lines,
    pixel: impl Fn(usize) -> *const u8,
    rows: usize,
    to: &mut [u8],
) {
    let pairs = to.len() / tile_bytes(rows, 1);
    assert_eq!(to.len(), tile_bytes(rows, pairs));
    assert_eq!(pairs.div_ceil(2), lines.registers());
    let pixel = |p: usize| pixel(p.min(rows - 1));
    // SAFETY: the token proves NEON; the pointers are those that `load` asks for, and `to` has
    // room for the tile.
    unsafe {
        match rows {
            5.. => load_pairs(lines, std::array::from_fn::<_, 6, _>(pixel), pairs, to.as_mut_ptr()),
            3.. => load_pairs(lines, std::array::from_fn::<_, 4, _>(pixel), pairs, to.as_mut_ptr()),
            _ => load_pairs(lines, std::array::from_fn::<_, 2, _>(pixel), pairs, to.as_mut_ptr()),
        }
    }
}

/// # Safety
/// The pointers are from [`Lines::pixel`]; `to` can take the tile of `pairs * 8` values of depth.
#[target_feature(enable = "neon")]
unsafe fn load_pairs<const N: usize>(
    lines: &Lines,
    from: [*const u8; N],
    pairs: usize,
    to: *mut u8,
) {
    for t in 0..lines.registers() {
        // SAFETY: passed on: the first 8 values of depth, and the others if the tile has them.
        unsafe {
            let x = lines.load(from, t).map(|x| vreinterpretq_u64_u8(x));
            for p in (0..N).step_by(2) {
                let to = to.add((t * 2 * N + p) * 8);
                vst1q_u64(to.cast(), vzip1q_u64(x[p], x[p + 1]));
                if t * 2 + 1 < pairs {
                    vst1q_u64(to.add(N * 8).cast(), vzip2q_u64(x[p], x[p + 1]));
                }
            }
        }
    }
}

/// `sdot` of one pixel (a lane of register `$x`) into its accumulators.
macro_rules! dots {
    ($x:literal, $lane:literal, [$($w:literal $acc:tt),+]) => {
        concat!($("sdot ", $acc, ".4s, ", $w, ".16b, ", $x, ".4b[", $lane, "]\n"),+)
    };
}

/// `4 * $vectors` channels of some pixels, tile after tile.
///
/// `rows` writes each pixel to its place. `columns` is for pixels that are two rows of one column
/// after the other, and writes `[column][channel][row]`, each value less 128, `stride` bytes from
/// one column to the next.
///
/// For each pixel: the register with its activations, its lanes for the first and the second four
/// values of depth, and for each accumulator the register of its weights and its own.
macro_rules! tiles {
    (rows $name:ident, $($body:tt)*) => {
        tiles!(@function $name rows [PLAIN plain, FITTING fitting, ADDING adding] ($($body)*));
    };
    (columns $name:ident, $($body:tt)*) => {
        tiles!(@function $name columns [PLAIN plain, FITTING fitting] ($($body)*));
    };
    (@function $name:ident $ends:tt [$($ending:ident $kind:tt),+] $body:tt) => {
        /// Computes `count` tiles and moves `x` and `out` behind them. `END` is an [`Ending`].
        ///
        /// # Safety
        /// `x` has the tiles of `pairs * 8` values of depth as [`pack_tile`] writes them, `w` the
        /// same depth of a panel; `out` can take the panel's channels in each pixel, `stride`
        /// bytes apart. `count` is not 0.
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn $name<const END: u8>(
            x: &mut *const u8,
            w: *const u8,
            end: &End,
            pairs: usize,
            out: &mut *mut u8,
            stride: usize,
            count: usize,
        ) {
            // SAFETY: passed on.
            unsafe {
                match END {
                    $(Ending::$ending => {
                        tiles!(@asm $kind $ends (x w end pairs out stride count) $body)
                    })+
                    _ => tiles!(@asm saturating $ends (x w end pairs out stride count) $body),
                }
            }
        }
    };
    (@asm $kind:tt $ends:tt
     ($xp:ident $wp:ident $end:ident $pairs:ident $out:ident $stride:ident $count:ident)
     ($vectors:tt, activations $load_x:literal, weights $load_w:literal,
     $($x:literal $even:literal $odd:literal [$($w:literal $acc:tt),+]),+)) => {
        asm!(
            "9:",
            $(concat!("ld1 {{", tiles!(@list $($acc),+), "}}, [{end}]"),)+
            "mov {w}, {panel}",
            "lsr {n}, {pairs}, #1",
            "cbz {n}, 3f",
            "2:",
            $load_x,
            $load_w,
            $(dots!($x, $even, [$($w $acc),+]),)+
            $load_w,
            $(dots!($x, $odd, [$($w $acc),+]),)+
            $load_x,
            $load_w,
            $(dots!($x, $even, [$($w $acc),+]),)+
            $load_w,
            $(dots!($x, $odd, [$($w $acc),+]),)+
            "subs {n}, {n}, #1",
            "b.ne 2b",
            "3:",
            "tbz {pairs}, #0, 4f",
            $load_x,
            $load_w,
            $(dots!($x, $even, [$($w $acc),+]),)+
            $load_w,
            $(dots!($x, $odd, [$($w $acc),+]),)+
            "4:",
            end_load!($kind $vectors),
            tiles!(@ends $ends $kind $([$($acc),+])+),
            "subs {count}, {count}, #1",
            "b.ne 9b",
            x = inout(reg) *$xp,
            w = out(reg) _,
            panel = in(reg) $wp,
            end = in(reg) $end,
            pairs = in(reg) $pairs,
            n = out(reg) _,
            out = inout(reg) *$out,
            stride = in(reg) $stride,
            count = inout(reg) $count => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _,
            out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _,
            options(nostack),
        )
    };
    (@ends rows $kind:tt $($pixel:tt)+) => { concat!($(end_row!($kind $pixel)),+) };
    (@ends columns $kind:tt $($pixel:tt)+) => {
        concat!("movi v24.16b, #0x80\n", tiles!(@columns $kind $($pixel)+))
    };
    (@columns $kind:tt [$a:tt, $b:tt, $c:tt, $d:tt] [$e:tt, $f:tt, $g:tt, $h:tt] $($rest:tt)*) => {
        concat!(
            end_row!(@pixel $kind [$a, $b, $c, $d]),
            end_row!(@pixel $kind [$e, $f, $g, $h]),
            "eor ", $a, ".16b, ", $a, ".16b, v24.16b\n",
            "eor ", $b, ".16b, ", $e, ".16b, v24.16b\n",
            "st2 {{", $a, ".16b, ", $b, ".16b}}, [{out}], {stride}\n",
            tiles!(@columns $kind $($rest)*)
        )
    };
    (@columns $kind:tt) => { "" };
    (@list $first:tt $(, $acc:tt)*) => { concat!($first, ".4s" $(, ", ", $acc, ".4s")*) };
}

tiles!(rows six_by_16, 4,
    activations "ld1 {{v24.16b, v25.16b, v26.16b}}, [{x}], #48",
    weights "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{w}], #64",
    "v24" "0" "1" ["v28" "v0", "v29" "v1", "v30" "v2", "v31" "v3"],
    "v24" "2" "3" ["v28" "v4", "v29" "v5", "v30" "v6", "v31" "v7"],
    "v25" "0" "1" ["v28" "v8", "v29" "v9", "v30" "v10", "v31" "v11"],
    "v25" "2" "3" ["v28" "v12", "v29" "v13", "v30" "v14", "v31" "v15"],
    "v26" "0" "1" ["v28" "v16", "v29" "v17", "v30" "v18", "v31" "v19"],
    "v26" "2" "3" ["v28" "v20", "v29" "v21", "v30" "v22", "v31" "v23"]);

tiles!(rows four_by_16, 4,
    activations "ld1 {{v24.16b, v25.16b}}, [{x}], #32",
    weights "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{w}], #64",
    "v24" "0" "1" ["v28" "v0", "v29" "v1", "v30" "v2", "v31" "v3"],
    "v24" "2" "3" ["v28" "v4", "v29" "v5", "v30" "v6", "v31" "v7"],
    "v25" "0" "1" ["v28" "v8", "v29" "v9", "v30" "v10", "v31" "v11"],
    "v25" "2" "3" ["v28" "v12", "v29" "v13", "v30" "v14", "v31" "v15"]);

tiles!(rows two_by_16, 4,
    activations "ld1 {{v24.16b}}, [{x}], #16",
    weights "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{w}], #64",
    "v24" "0" "1" ["v28" "v0", "v29" "v1", "v30" "v2", "v31" "v3"],
    "v24" "2" "3" ["v28" "v4", "v29" "v5", "v30" "v6", "v31" "v7"]);

tiles!(rows one_by_16, 4,
    activations "ld1 {{v24.16b}}, [{x}], #16",
    weights "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{w}], #64",
    "v24" "0" "1" ["v28" "v0", "v29" "v1", "v30" "v2", "v31" "v3"]);

tiles!(rows six_by_8, 2,
    activations "ld1 {{v24.16b, v25.16b, v26.16b}}, [{x}], #48",
    weights "ld1 {{v28.16b, v29.16b}}, [{w}], #32",
    "v24" "0" "1" ["v28" "v0", "v29" "v1"],
    "v24" "2" "3" ["v28" "v2", "v29" "v3"],
    "v25" "0" "1" ["v28" "v4", "v29" "v5"],
    "v25" "2" "3" ["v28" "v6", "v29" "v7"],
    "v26" "0" "1" ["v28" "v8", "v29" "v9"],
    "v26" "2" "3" ["v28" "v10", "v29" "v11"]);

tiles!(rows four_by_8, 2,
    activations "ld1 {{v24.16b, v25.16b}}, [{x}], #32",
    weights "ld1 {{v28.16b, v29.16b}}, [{w}], #32",
    "v24" "0" "1" ["v28" "v0", "v29" "v1"],
    "v24" "2" "3" ["v28" "v2", "v29" "v3"],
    "v25" "0" "1" ["v28" "v4", "v29" "v5"],
    "v25" "2" "3" ["v28" "v6", "v29" "v7"]);

tiles!(rows two_by_8, 2,
    activations "ld1 {{v24.16b}}, [{x}], #16",
    weights "ld1 {{v28.16b, v29.16b}}, [{w}], #32",
    "v24" "0" "1" ["v28" "v0", "v29" "v1"],
    "v24" "2" "3" ["v28" "v2", "v29" "v3"]);

tiles!(rows one_by_8, 2,
    activations "ld1 {{v24.16b}}, [{x}], #16",
    weights "ld1 {{v28.16b, v29.16b}}, [{w}], #32",
    "v24" "0" "1" ["v28" "v0", "v29" "v1"]);

tiles!(columns three_columns, 4,
    activations "ld1 {{v24.16b, v25.16b, v26.16b}}, [{x}], #48",
    weights "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{w}], #64",
    "v24" "0" "1" ["v28" "v0", "v29" "v1", "v30" "v2", "v31" "v3"],
    "v24" "2" "3" ["v28" "v4", "v29" "v5", "v30" "v6", "v31" "v7"],
    "v25" "0" "1" ["v28" "v8", "v29" "v9", "v30" "v10", "v31" "v11"],
    "v25" "2" "3" ["v28" "v12", "v29" "v13", "v30" "v14", "v31" "v15"],
    "v26" "0" "1" ["v28" "v16", "v29" "v17", "v30" "v18", "v31" "v19"],
    "v26" "2" "3" ["v28" "v20", "v29" "v21", "v30" "v22", "v31" "v23"]);

tiles!(columns two_columns, 4,
    activations "ld1 {{v24.16b, v25.16b}}, [{x}], #32",
    weights "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{w}], #64",
    "v24" "0" "1" ["v28" "v0", "v29" "v1", "v30" "v2", "v31" "v3"],
    "v24" "2" "3" ["v28" "v4", "v29" "v5", "v30" "v6", "v31" "v7"],
    "v25" "0" "1" ["v28" "v8", "v29" "v9", "v30" "v10", "v31" "v11"],
    "v25" "2" "3" ["v28" "v12", "v29" "v13", "v30" "v14", "v31" "v15"]);

tiles!(columns one_column, 4,
    activations "ld1 {{v24.16b}}, [{x}], #16",
    weights "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{w}], #64",
    "v24" "0" "1" ["v28" "v0", "v29" "v1", "v30" "v2", "v31" "v3"],
    "v24" "2" "3" ["v28" "v4", "v29" "v5", "v30" "v6", "v31" "v7"]);

/// One panel of weights, and how its sums become activations.
pub(crate) struct PanelRef<'a> {
    /// `[depth / 4][channel][4]`, depth padded to 8.
    pub(super) weights: &'a [u8],
    pub(super) end: &'a End,
    pub(super) vectors: usize,
}

/// Multiplies packed tiles of `count` pixels by one panel, and writes all its channels to each
/// pixel of `out`, `out_stride` bytes apart. `END` is an [`Ending`]; with [`Ending::ADDING`], `out`
/// holds the residual's codes before.
///
/// # Safety
/// `out` can take the panel's channels in each pixel.
///
/// # Panics
/// If the lengths do not agree.
pub(crate) unsafe fn run<const END: u8>(
    _token: NeonDot,
    tiles: &[u8],
    pairs: usize,
    count: usize,
    panel: &PanelRef<'_>,
    out: *mut u8,
    out_stride: usize,
) {
    assert_eq!(panel.weights.len(), pairs * 8 * panel.vectors * 4);
    let rest = count % MAX_ROWS;
    let parts = [rest & 4, rest & 2, rest & 1];
    let bytes = |rows: usize| tile_bytes(rows, pairs);
    let needed = count / MAX_ROWS * bytes(MAX_ROWS) + parts.map(bytes).iter().sum::<usize>();
    assert_eq!(tiles.len(), needed);
    let (mut x, mut out) = (tiles.as_ptr(), out);
    let (w, end) = (panel.weights.as_ptr(), panel.end);
    /// The tiles of one panel's width, from most pixels to one.
    macro_rules! panel {
        ($six:ident, $four:ident, $two:ident, $one:ident) => {{
            if count >= MAX_ROWS {
                $six::<END>(&mut x, w, end, pairs, &mut out, out_stride, count / MAX_ROWS);
            }
            if parts[0] > 0 {
                $four::<END>(&mut x, w, end, pairs, &mut out, out_stride, 1);
            }
            if parts[1] > 0 {
                $two::<END>(&mut x, w, end, pairs, &mut out, out_stride, 1);
            }
            if parts[2] > 0 {
                $one::<END>(&mut x, w, end, pairs, &mut out, out_stride, 1);
            }
        }};
    }
    // SAFETY: the token proves the dot product; tiles and panel were just checked, and the caller
    // promises the output.
    unsafe {
        match panel.vectors {
            4 => panel!(six_by_16, four_by_16, two_by_16, one_by_16),
            2 => panel!(six_by_8, four_by_8, two_by_8, one_by_8),
            vectors => unreachable!("a panel of {vectors} vectors"),
        }
    }
}

/// Bytes of packed tiles of `columns` columns of two rows: see [`run_columns`].
pub(crate) fn columns_bytes(columns: usize, pairs: usize) -> usize {
    columns * 16 * pairs
}

/// Columns in the next tile when `left` remain.
pub(crate) fn next_columns(left: usize) -> usize {
    left.min(MAX_ROWS / 2)
}

/// Multiplies packed tiles of `columns` columns of two rows, each column one row after the other,
/// by one panel of 16 channels: `out[column][channel][row]`, each value less 128. `END` is an
/// [`Ending`], but not [`Ending::ADDING`].
///
/// # Panics
/// If the lengths do not agree.
pub(crate) fn run_columns<const END: u8>(
    _token: NeonDot,
    tiles: &[u8],
    pairs: usize,
    columns: usize,
    panel: &PanelRef<'_>,
    out: &mut [u8],
) {
    const COLUMN: usize = 2 * MAX_COLS;
    assert!(panel.vectors == 4 && panel.weights.len() == pairs * 8 * MAX_COLS);
    assert!(tiles.len() == columns_bytes(columns, pairs) && out.len() == columns * COLUMN);
    let (mut x, mut out) = (tiles.as_ptr(), out.as_mut_ptr());
    let (w, end, threes) = (panel.weights.as_ptr(), panel.end, columns / 3);
    // SAFETY: the token proves the dot product; tiles, panel and output were just checked.
    unsafe {
        if threes > 0 {
            three_columns::<END>(&mut x, w, end, pairs, &mut out, COLUMN, threes);
        }
        match columns % 3 {
            2 => two_columns::<END>(&mut x, w, end, pairs, &mut out, COLUMN, 1),
            1 => one_column::<END>(&mut x, w, end, pairs, &mut out, COLUMN, 1),
            _ => {}
        }
    }
}
