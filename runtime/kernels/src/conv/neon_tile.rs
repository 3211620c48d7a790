//! The inner loop of dense convolution for NEON without the dot product: 4 pixels times 16
//! channels, all 16 accumulators in registers.
//!
//! Products of bytes are added in 16 bits as long as they provably fit, and only then widened
//! (`sadalp`). Two products of an activation (-128..=127) and a weight (-127..=127) always fit:
//! `2 * 128 * 127 = 32512`. Whether four fit depends on the weights, or on the range of the input:
//! [`Schedule`] proves it when a layer is built, panel by panel and step by step.
//!
//! A step is four values of depth. Weights lie as `[channel][k, k + 1]` of four channels, then
//! `[channel][k + 2, k + 3]`, and activations as `k, k + 1` four times, then `k + 2, k + 3` four
//! times: `smull` and `smlal2` give eight sums of two products, and `sadalp` adds the two of each
//! channel to its lane. So no lanes have to be added up in the end.
//!
//! The loop over depth is inline assembly, which lets one instruction load four registers.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::arm::Ending;
use crate::arm_end::{End, MAX_COLS, end_load, end_row};
use crate::isa::Neon;

/// Pixels in one tile.
pub(super) const ROWS: usize = 4;
/// Values of depth in one step.
pub(crate) const STEP: usize = 4;
/// Bytes of one step of one pixel, or of four channels.
const VECTOR: usize = 16;

/// Pixels of the tiles of `count` pixels: what remains after tiles of four is one pixel, or a
/// tile of four that [`run`] computes and writes as a whole.
pub(crate) fn padded(count: usize) -> usize {
    if count % ROWS == 1 { count } else { count.next_multiple_of(ROWS) }
}

/// Bytes of packed tiles of `count` pixels.
pub(crate) fn tiles_bytes(count: usize, steps: usize) -> usize {
    padded(count) * steps * VECTOR
}

/// Steps whose products are added up before widening, all along one panel's depth.
pub(crate) struct Schedule {
    /// Steps of each part in order, 1 or 2.
    parts: Vec<usize>,
    /// The same for assembly, two bits a part from the lowest on; 0 at the end.
    words: Vec<u64>,
    /// All steps.
    steps: usize,
}

impl Schedule {
    /// For one panel of `cols` channels: `weight(channel, k)` for any `k`, 0 beyond the depth, and
    /// the largest magnitude of an activation as it is packed.
    ///
    /// A lane of 16 bits adds the products of one channel at `k`, `k + 2`, `k + 4` and `k + 6`; it
    /// cannot overflow if `largest * sum(|w|) <= 32767`.
    pub(super) fn new(
        weight: impl Fn(usize, usize) -> i16,
        cols: usize,
        steps: usize,
        largest: i32,
    ) -> Schedule {
        let fits = |step: usize| {
            (0..cols).all(|c| {
                (0..2).all(|lane| {
                    let ks = (0..4).map(|i| step * STEP + lane + i * 2);
                    let sum = ks.map(|k| i32::from(weight(c, k)).abs()).sum::<i32>();
                    largest * sum <= i32::from(i16::MAX)
                })
            })
        };
        let (mut parts, mut step) = (Vec::new(), 0);
        while step < steps {
            let pair = step + 1 < steps && fits(step);
            parts.push(if pair { 2 } else { 1 });
            step += parts[parts.len() - 1];
        }
        let word =
            |parts: &[usize]| parts.iter().rev().fold(0, |word, &part| word << 2 | part as u64);
        let words = parts.chunks(32).map(word).chain([0]).collect();
        Schedule { parts, words, steps }
    }

    /// Writes the weights of a panel of `vectors * 4` channels in the order of the schedule:
    /// `[part][channel / 4][step of the part][k / 2][channel % 4][k % 2]`.
    pub(super) fn lay_out(
        &self,
        weight: impl Fn(usize, usize) -> i8,
        vectors: usize,
        to: &mut [u8],
    ) {
        let (mut first, mut to) = (0, to.chunks_exact_mut(VECTOR));
        for &steps in &self.parts {
            for vector in 0..vectors {
                for (step, to) in (first..first + steps).zip(&mut to) {
                    for (i, to) in to.iter_mut().enumerate() {
                        let (c, k) = (vector * 4 + i / 2 % 4, step * STEP + i / 8 * 2 + i % 2);
                        *to = weight(c, k) as u8;
                    }
                }
            }
            first += steps;
        }
    }
}

/// Expands up to 16 values of depth of `N` pixels, from value `16 * t` on, to
/// `[step][pixel][16]` in `to`, the tile's beginning; as many of the four steps as there are.
///
/// # Safety
/// `to` can take the tile of `steps` steps.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn expand<const N: usize>(
    x: [uint8x16_t; N],
    t: usize,
    steps: usize,
    to: *mut u8,
) {
    const INDEX: [[u8; VECTOR]; 4] = [
        [0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3],
        [4, 5, 4, 5, 4, 5, 4, 5, 6, 7, 6, 7, 6, 7, 6, 7],
        [8, 9, 8, 9, 8, 9, 8, 9, 10, 11, 10, 11, 10, 11, 10, 11],
        [12, 13, 12, 13, 12, 13, 12, 13, 14, 15, 14, 15, 14, 15, 14, 15],
    ];
    let one = |step: usize| {
        // SAFETY: sixteen bytes.
        let index = unsafe { vld1q_u8(INDEX[step].as_ptr()) };
        for (p, &x) in x.iter().enumerate() {
            // SAFETY: passed on.
            unsafe {
                vst1q_u8(to.add(((t * 4 + step) * N + p) * VECTOR), vqtbl1q_u8(x, index));
            }
        }
    };
    if t * 4 + 4 <= steps {
        // Written out, for indices that stay in registers.
        one(0);
        one(1);
        one(2);
        one(3);
    } else {
        (0..steps - t * 4).for_each(one);
    }
}

/// Four channels' part of one step or two: products of all pixels (activations `$x`, `$y` of the
/// first and second step) with their weights (`$w`, `$v`) in `$t`, then widened into their sums.
macro_rules! vector {
    ($w:tt [$($x:tt $y:tt $t:tt),+] [$($acc:tt $u:tt),+]) => {
        concat!(
            $("smull ", $t, ".8h, ", $x, ".8b, ", $w, ".8b\n",)+
            $("smlal2 ", $t, ".8h, ", $x, ".16b, ", $w, ".16b\n",)+
            $("sadalp ", $acc, ".4s, ", $u, ".8h\n",)+
        )
    };
    ($w:tt $v:tt [$($x:tt $y:tt $t:tt),+] [$($acc:tt $u:tt),+]) => {
        concat!(
            $("smull ", $t, ".8h, ", $x, ".8b, ", $w, ".8b\n",)+
            $("smlal2 ", $t, ".8h, ", $x, ".16b, ", $w, ".16b\n",)+
            $("smlal ", $t, ".8h, ", $y, ".8b, ", $v, ".8b\n",)+
            $("smlal2 ", $t, ".8h, ", $y, ".16b, ", $v, ".16b\n",)+
            $("sadalp ", $acc, ".4s, ", $u, ".8h\n",)+
        )
    };
}

/// One step, or two, for all channels of a panel.
macro_rules! part {
    (single $x:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => {
        concat!(
            $x, "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64\n",
            vector!("v24" $rows $a), vector!("v25" $rows $b),
            vector!("v26" $rows $c), vector!("v27" $rows $d)
        )
    };
    (single $x:tt $rows:tt $a:tt $b:tt) => {
        concat!(
            $x, "ld1 {{v24.16b, v25.16b}}, [{w}], #32\n",
            vector!("v24" $rows $a), vector!("v25" $rows $b)
        )
    };
    (pair $x:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => {
        concat!(
            part!(pair $x $rows $a $b),
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64\n",
            vector!("v24" "v25" $rows $c), vector!("v26" "v27" $rows $d)
        )
    };
    (pair $x:tt $rows:tt $a:tt $b:tt) => {
        concat!(
            $x, "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64\n",
            vector!("v24" "v25" $rows $a), vector!("v26" "v27" $rows $b)
        )
    };
}

/// `4 * $vectors` channels of some pixels, tile after tile. `rows` writes activations, `signed` less
/// the middle that the [`End`] was made with.
///
/// How to load the activations of one step and of two; for each pixel their registers and one for
/// products; for each four channels the registers of the sums (and of the products again); for each
/// pixel its sums.
macro_rules! tiles {
    (rows $name:ident, $($body:tt)*) => {
        tiles!(@function $name rows [PLAIN plain, FITTING fitting, ADDING adding] ($($body)*));
    };
    (signed $name:ident, $($body:tt)*) => {
        tiles!(@function $name signed [PLAIN plain, FITTING fitting] ($($body)*));
    };
    (@function $name:ident $ends:tt [$($ending:ident $kind:tt),+] $body:tt) => {
        /// Computes `count` tiles and moves `x` and `out` behind them. `END` is an [`Ending`].
        ///
        /// # Safety
        /// `x` has the packed tiles, `w` a panel and `parts` the words of its [`Schedule`], all of the
        /// same depth; `out` can take the panel's channels in each pixel, `stride` bytes apart.
        /// `count` is not 0.
        #[target_feature(enable = "neon")]
        unsafe fn $name<const END: u8>(
            x: &mut *const u8,
            w: *const u8,
            end: &End,
            parts: *const u64,
            out: &mut *mut u8,
            stride: usize,
            count: usize,
        ) {
            // SAFETY: passed on.
            unsafe {
                match END {
                    $(Ending::$ending => {
                        tiles!(@asm $kind $ends (x w end parts out stride count) $body)
                    })+
                    _ => tiles!(@asm saturating $ends (x w end parts out stride count) $body),
                }
            }
        }
    };
    (@asm $kind:tt $ends:tt
     ($xp:ident $wp:ident $end:ident $parts:ident $out:ident $stride:ident $count:ident)
     ($vectors:tt, $x:tt $xy:tt $rows:tt [$($panel:tt)+] $([$($acc:tt),+])+)) => {
        asm!(
            "9:",
            $(concat!("ld1 {{", tiles!(@list $($acc),+), "}}, [{end}]"),)+
            "mov {w}, {panel}",
            "mov {s}, {parts}",
            // The next word, then its parts until none is left.
            "2:",
            "ldr {n}, [{s}], #8",
            "tbnz {n}, #1, 3f",
            "cbz {n}, 6f",
            "4:",
            part!(single $x $rows $($panel)+),
            "lsr {n}, {n}, #2",
            "tbnz {n}, #1, 3f",
            "tbnz {n}, #0, 4b",
            "b 2b",
            "3:",
            part!(pair $xy $rows $($panel)+),
            "lsr {n}, {n}, #2",
            "tbnz {n}, #1, 3b",
            "tbnz {n}, #0, 4b",
            "b 2b",
            "6:",
            end_load!($kind $vectors),
            tiles!(@ends $ends $kind $([$($acc),+])+),
            "subs {count}, {count}, #1",
            "b.ne 9b",
            x = inout(reg) *$xp,
            w = out(reg) _,
            panel = in(reg) $wp,
            s = out(reg) _,
            parts = in(reg) $parts,
            n = out(reg) _,
            end = in(reg) $end,
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
    (@ends signed $kind:tt $([$first:tt $(, $acc:tt)*])+) => {
        concat!(
            "ldr q24, [{end}, #208]\n",
            $(
                end_row!(@pixel $kind [$first $(, $acc)*]),
                "sub ", $first, ".16b, ", $first, ".16b, v24.16b\n",
                "st1 {{", $first, ".16b}}, [{out}], {stride}\n"
            ),+
        )
    };
    (@list $first:tt $(, $acc:tt)*) => { concat!($first, ".4s" $(, ", ", $acc, ".4s")*) };
}

tiles!(rows four_by_16, 4,
    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64\n"
    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64\nld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{x}], #64\n"
    ["v16" "v20" "v28", "v17" "v21" "v29", "v18" "v22" "v30", "v19" "v23" "v31"]
    [["v0" "v28", "v4" "v29", "v8" "v30", "v12" "v31"] ["v1" "v28", "v5" "v29", "v9" "v30", "v13" "v31"] ["v2" "v28", "v6" "v29", "v10" "v30", "v14" "v31"] ["v3" "v28", "v7" "v29", "v11" "v30", "v15" "v31"]]
    ["v0", "v1", "v2", "v3"]
    ["v4", "v5", "v6", "v7"]
    ["v8", "v9", "v10", "v11"]
    ["v12", "v13", "v14", "v15"]);

tiles!(rows one_by_16, 4,
    "ldr q16, [{x}], #16\n"
    "ld1 {{v16.16b, v17.16b}}, [{x}], #32\n"
    ["v16" "v17" "v28"]
    [["v0" "v28"] ["v1" "v28"] ["v2" "v28"] ["v3" "v28"]]
    ["v0", "v1", "v2", "v3"]);

tiles!(rows four_by_8, 2,
    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64\n"
    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64\nld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{x}], #64\n"
    ["v16" "v20" "v28", "v17" "v21" "v29", "v18" "v22" "v30", "v19" "v23" "v31"]
    [["v0" "v28", "v2" "v29", "v4" "v30", "v6" "v31"] ["v1" "v28", "v3" "v29", "v5" "v30", "v7" "v31"]]
    ["v0", "v1"]
    ["v2", "v3"]
    ["v4", "v5"]
    ["v6", "v7"]);

tiles!(rows one_by_8, 2,
    "ldr q16, [{x}], #16\n"
    "ld1 {{v16.16b, v17.16b}}, [{x}], #32\n"
    ["v16" "v17" "v28"]
    [["v0" "v28"] ["v1" "v28"]]
    ["v0", "v1"]);

tiles!(signed four_signed, 4,
    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64\n"
    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64\nld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{x}], #64\n"
    ["v16" "v20" "v28", "v17" "v21" "v29", "v18" "v22" "v30", "v19" "v23" "v31"]
    [["v0" "v28", "v4" "v29", "v8" "v30", "v12" "v31"] ["v1" "v28", "v5" "v29", "v9" "v30", "v13" "v31"] ["v2" "v28", "v6" "v29", "v10" "v30", "v14" "v31"] ["v3" "v28", "v7" "v29", "v11" "v30", "v15" "v31"]]
    ["v0", "v1", "v2", "v3"]
    ["v4", "v5", "v6", "v7"]
    ["v8", "v9", "v10", "v11"]
    ["v12", "v13", "v14", "v15"]);

tiles!(signed one_signed, 4,
    "ldr q16, [{x}], #16\n"
    "ld1 {{v16.16b, v17.16b}}, [{x}], #32\n"
    ["v16" "v17" "v28"]
    [["v0" "v28"] ["v1" "v28"] ["v2" "v28"] ["v3" "v28"]]
    ["v0", "v1", "v2", "v3"]);

/// One panel of weights, and how its sums become activations.
pub(crate) struct PanelRef<'a> {
    pub(super) weights: &'a [u8],
    pub(super) schedule: &'a Schedule,
    pub(super) end: &'a End,
    /// Vectors of four channels: 4 or 2.
    pub(super) vectors: usize,
}

/// Multiplies packed tiles of `count` pixels by one panel, and writes all its channels to each
/// pixel of `out`, `out_stride` bytes apart. `END` is an [`Ending`]; with [`Ending::ADDING`], `out`
/// holds the residual's codes before.
///
/// # Safety
/// `out` can take the panel's channels in each pixel, and in those that the last tile has beyond
/// `count`: see [`padded`].
///
/// # Panics
/// If the lengths do not agree.
pub(super) unsafe fn run<const END: u8>(
    _token: Neon,
    tiles: &[u8],
    steps: usize,
    count: usize,
    panel: &PanelRef<'_>,
    out: *mut u8,
    out_stride: usize,
) {
    assert_eq!(panel.schedule.steps, steps);
    assert_eq!(panel.weights.len(), steps * panel.vectors * VECTOR);
    assert_eq!(tiles.len(), tiles_bytes(count, steps));
    let (mut x, mut out) = (tiles.as_ptr(), out);
    let (w, end, parts) = (panel.weights.as_ptr(), panel.end, panel.schedule.words.as_ptr());
    let fours = padded(count) / ROWS;
    /// The tiles of one panel's width.
    macro_rules! panel {
        ($four:ident, $one:ident) => {{
            if fours > 0 {
                $four::<END>(&mut x, w, end, parts, &mut out, out_stride, fours);
            }
            if count % ROWS == 1 {
                $one::<END>(&mut x, w, end, parts, &mut out, out_stride, 1);
            }
        }};
    }
    // SAFETY: the token proves NEON; tiles, panel and schedule agree, and the caller promises the
    // output.
    unsafe {
        match panel.vectors {
            4 => panel!(four_by_16, one_by_16),
            2 => panel!(four_by_8, one_by_8),
            vectors => unreachable!("a panel of {vectors} vectors"),
        }
    }
}

/// The same for a panel of 16 channels, side by side and less the middle that the panel's [`End`] was
/// made with; not for [`Ending::ADDING`].
///
/// # Panics
/// If the lengths do not agree, or tiles have more than `count` pixels.
pub(crate) fn run_signed<const END: u8>(
    _token: Neon,
    tiles: &[u8],
    steps: usize,
    panel: &PanelRef<'_>,
    out: &mut [u8],
) {
    let count = out.len() / MAX_COLS;
    assert!(count * MAX_COLS == out.len() && padded(count) == count && panel.vectors == 4);
    assert_eq!(panel.schedule.steps, steps);
    assert_eq!(panel.weights.len(), steps * MAX_COLS * STEP);
    assert_eq!(tiles.len(), tiles_bytes(count, steps));
    let (mut x, mut out) = (tiles.as_ptr(), out.as_mut_ptr());
    let (w, end, parts) = (panel.weights.as_ptr(), panel.end, panel.schedule.words.as_ptr());
    let fours = count / ROWS;
    // SAFETY: the token proves NEON; tiles, panel, schedule and output agree.
    unsafe {
        if fours > 0 {
            four_signed::<END>(&mut x, w, end, parts, &mut out, MAX_COLS, fours);
        }
        if count % ROWS == 1 {
            one_signed::<END>(&mut x, w, end, parts, &mut out, MAX_COLS, 1);
        }
    }
}
