//! The inner loop of dense convolution for NEON without the dot product: 4 pixels times 4
//! channels, all 16 accumulators in registers.
//!
//! Products of bytes are added in 16 bits as long as they provably fit, and only then widened
//! (`sadalp`). Two products of an activation (-128..=127) and a weight (-127..=127) always fit:
//! `2 * 128 * 127 = 32512`. Whether four fit depends on the weights, or on the range of the input:
//! [`Schedule`] proves it when a layer is built, panel by panel and step by step.
//!
//! The loop over depth is inline assembly, which lets one instruction load four registers.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::arm::{ClampVectors, load_f32, load_i32, scale};
use crate::isa::Neon;

/// Channels in one panel.
pub(super) const COLS: usize = 4;
/// Pixels in one tile.
pub(super) const ROWS: usize = 4;
/// Values of depth in one step: one register.
pub(super) const STEP: usize = 16;

/// Pixels in the next tile when `left` remain: tiles of two and three are tiles of four whose
/// last pixels are not looked at.
pub(super) fn next_rows(left: usize) -> usize {
    if left == 1 { 1 } else { ROWS }
}

/// Bytes of packed tiles of `count` pixels.
pub(super) fn tiles_bytes(count: usize, steps: usize) -> usize {
    let rows = count / ROWS * ROWS + if count % ROWS == 0 { 0 } else { next_rows(count % ROWS) };
    rows * steps * STEP
}

/// How many steps are added up before widening, all along one panel's depth.
pub(super) struct Schedule {
    /// The kind of the first part, then runs: how many pairs, how many single steps; both 0 at the
    /// end; then the kind of the last part, or 0.
    words: Vec<u16>,
    /// Steps of each part in order, to lay out the weights.
    parts: Vec<usize>,
}

/// Kinds of parts: one step, two, half a step (8 values of depth), one and a half.
const SINGLE: u16 = 1;
const PAIR: u16 = 2;
const HALF: u16 = 3;
const THREE: u16 = 4;

impl Schedule {
    /// For one panel: `weight(channel, k)` for `k < depth`, and the largest magnitude of an
    /// activation as it is packed.
    ///
    /// A lane of 16 bits adds the products of one channel at `k`, `k + 8`, `k + 16` and `k + 24`;
    /// it cannot overflow if `largest * sum(|w|) <= 32767`.
    pub(super) fn new(
        weight: impl Fn(usize, usize) -> i16,
        depth: usize,
        largest: i32,
    ) -> Schedule {
        let steps = depth.div_ceil(STEP);
        // The last step is a half if its second half holds nothing.
        let half = depth % STEP != 0 && depth % STEP <= 8;
        let fits = |step: usize| {
            (0..COLS).all(|c| {
                (0..8).all(|lane| {
                    let ks = (0..4).map(|i| step * STEP + lane + i * 8).filter(|&k| k < depth);
                    let sum = ks.map(|k| i32::from(weight(c, k)).abs()).sum::<i32>();
                    largest * sum <= i32::from(i16::MAX)
                })
            })
        };
        let (mut kinds, mut parts, mut step) = (Vec::new(), Vec::new(), 0);
        while step < steps {
            let pair = step + 1 < steps && fits(step);
            let last = step + if pair { 2 } else { 1 } == steps;
            kinds.push(match (pair, last && half) {
                (true, false) => PAIR,
                (true, true) => THREE,
                (false, false) => SINGLE,
                (false, true) => HALF,
            });
            parts.push(if pair { 2 } else { 1 });
            step += parts[parts.len() - 1];
        }
        let mut words = vec![kinds[0]];
        let mut rest = &kinds[1..];
        let run = |rest: &mut &[u16], kind: u16| {
            let count = rest.iter().take_while(|&&k| k == kind).take(u16::MAX.into()).count();
            *rest = &rest[count..];
            count as u16
        };
        loop {
            let pairs = run(&mut rest, PAIR);
            let singles = run(&mut rest, SINGLE);
            words.extend([pairs, singles]);
            if (pairs, singles) == (0, 0) {
                break;
            }
        }
        words.push(rest.first().copied().unwrap_or(0));
        Schedule { words, parts }
    }

    /// Where the weight for channel `c` and depth `k` lies: `[part][channel][step of part][16]`.
    pub(super) fn slots(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut start = 0;
        self.parts.iter().flat_map(move |&steps| {
            let first = start;
            start += steps;
            (0..COLS).flat_map(move |c| {
                (0..steps * STEP)
                    .map(move |i| ((first * COLS + c * steps) * STEP + i, c, first * STEP + i))
            })
        })
    }
}

/// One channel's part of one step or two: products of all pixels (activations `$x`, `$y` of the
/// first and second step) with its weights (`$w`, `$v`) in `$t`, then widened into its sums.
macro_rules! channel {
    (1 $op:tt $w:tt $v:tt [$($x:tt $y:tt $t:tt),+] [$($acc:tt $u:tt),+]) => {
        concat!(
            $("smull ", $t, ".8h, ", $x, ".8b, ", $w, ".8b\n",)+
            $($op, " ", $acc, ".4s, ", $u, ".8h\n",)+
        )
    };
    (2 $op:tt $w:tt $v:tt [$($x:tt $y:tt $t:tt),+] [$($acc:tt $u:tt),+]) => {
        concat!(
            $("smull ", $t, ".8h, ", $x, ".8b, ", $w, ".8b\n",)+
            $("smlal2 ", $t, ".8h, ", $x, ".16b, ", $w, ".16b\n",)+
            $($op, " ", $acc, ".4s, ", $u, ".8h\n",)+
        )
    };
    (3 $op:tt $w:tt $v:tt [$($x:tt $y:tt $t:tt),+] [$($acc:tt $u:tt),+]) => {
        concat!(
            $("smull ", $t, ".8h, ", $x, ".8b, ", $w, ".8b\n",)+
            $("smlal2 ", $t, ".8h, ", $x, ".16b, ", $w, ".16b\n",)+
            $("smlal ", $t, ".8h, ", $y, ".8b, ", $v, ".8b\n",)+
            $($op, " ", $acc, ".4s, ", $u, ".8h\n",)+
        )
    };
    (4 $op:tt $w:tt $v:tt [$($x:tt $y:tt $t:tt),+] [$($acc:tt $u:tt),+]) => {
        concat!(
            $("smull ", $t, ".8h, ", $x, ".8b, ", $w, ".8b\n",)+
            $("smlal2 ", $t, ".8h, ", $x, ".16b, ", $w, ".16b\n",)+
            $("smlal ", $t, ".8h, ", $y, ".8b, ", $v, ".8b\n",)+
            $("smlal2 ", $t, ".8h, ", $y, ".16b, ", $v, ".16b\n",)+
            $($op, " ", $acc, ".4s, ", $u, ".8h\n",)+
        )
    };
}

/// A part of `$halves` half steps for four channels: `$op` is `sadalp`, or `saddlp` for the first.
macro_rules! part {
    (1 $op:tt $x:tt $y:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => { part!(@single 1 $op $x $rows $a $b $c $d) };
    (2 $op:tt $x:tt $y:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => { part!(@single 2 $op $x $rows $a $b $c $d) };
    (3 $op:tt $x:tt $y:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => { part!(@pair 3 $op $x $y $rows $a $b $c $d) };
    (4 $op:tt $x:tt $y:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => { part!(@pair 4 $op $x $y $rows $a $b $c $d) };
    (@single $halves:tt $op:tt $x:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => {
        concat!(
            $x, "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64\n",
            channel!($halves $op "v24" "v24" $rows $a), channel!($halves $op "v25" "v25" $rows $b),
            channel!($halves $op "v26" "v26" $rows $c), channel!($halves $op "v27" "v27" $rows $d)
        )
    };
    (@pair $halves:tt $op:tt $x:tt $y:tt $rows:tt $a:tt $b:tt $c:tt $d:tt) => {
        concat!(
            $x, $y, "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64\n",
            channel!($halves $op "v24" "v25" $rows $a), channel!($halves $op "v26" "v27" $rows $b),
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{w}], #64\n",
            channel!($halves $op "v24" "v25" $rows $c), channel!($halves $op "v26" "v27" $rows $d)
        )
    };
}

/// The sums of `$count` pixels times 4 channels, each still spread over the four lanes of a
/// register.
macro_rules! sums {
    ($name:ident, $count:literal, $x:tt $y:tt $rows:tt $a:tt $b:tt $c:tt $d:tt
     $($acc:tt $channel:tt $pixel:tt),+) => {
        /// # Safety
        /// `x` is a packed tile, `w` a panel and `schedule` the words of its [`Schedule`], all of
        /// the same depth.
        #[target_feature(enable = "neon")]
        #[inline]
        unsafe fn $name(
            x: *const u8,
            w: *const u8,
            schedule: *const u16,
        ) -> [[int32x4_t; $count]; COLS] {
            let mut acc = [[vdupq_n_s32(0); $count]; COLS];
            // SAFETY: passed on.
            unsafe {
                asm!(
                    "ldrh {n:w}, [{s}], #2",
                    "cmp {n:w}, #2",
                    "b.hi 13f",
                    "b.eq 12f",
                    part!(2 "saddlp" $x $y $rows $a $b $c $d),
                    "b 2f",
                    "12:",
                    part!(4 "saddlp" $x $y $rows $a $b $c $d),
                    "b 2f",
                    "13:",
                    "cmp {n:w}, #3",
                    "b.ne 14f",
                    part!(1 "saddlp" $x $y $rows $a $b $c $d),
                    "b 2f",
                    "14:",
                    part!(3 "saddlp" $x $y $rows $a $b $c $d),
                    // Runs of pairs and of single steps.
                    "2:",
                    "ldrh {n:w}, [{s}], #2",
                    "cbz {n:w}, 4f",
                    "3:",
                    part!(4 "sadalp" $x $y $rows $a $b $c $d),
                    "subs {n:w}, {n:w}, #1",
                    "b.ne 3b",
                    "ldrh {n:w}, [{s}], #2",
                    "cbz {n:w}, 2b",
                    "5:",
                    part!(2 "sadalp" $x $y $rows $a $b $c $d),
                    "subs {n:w}, {n:w}, #1",
                    "b.ne 5b",
                    "b 2b",
                    "4:",
                    "ldrh {n:w}, [{s}], #2",
                    "cbnz {n:w}, 5b",
                    // The last part.
                    "ldrh {n:w}, [{s}]",
                    "cbz {n:w}, 9f",
                    "cmp {n:w}, #3",
                    "b.ne 8f",
                    part!(1 "sadalp" $x $y $rows $a $b $c $d),
                    "b 9f",
                    "8:",
                    part!(3 "sadalp" $x $y $rows $a $b $c $d),
                    "9:",
                    x = inout(reg) x => _,
                    w = inout(reg) w => _,
                    s = inout(reg) schedule => _,
                    n = out(reg) _,
                    $(out($acc) acc[$channel][$pixel],)+
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                    out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                    options(nostack, readonly),
                );
            }
            acc
        }
    };
}

sums!(four_by_4, 4,
    "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64\n"
    "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{x}], #64\n"
    ["v16" "v20" "v28", "v17" "v21" "v29", "v18" "v22" "v30", "v19" "v23" "v31"]
    ["v0" "v28", "v1" "v29", "v2" "v30", "v3" "v31"]
    ["v4" "v28", "v5" "v29", "v6" "v30", "v7" "v31"]
    ["v8" "v28", "v9" "v29", "v10" "v30", "v11" "v31"]
    ["v12" "v28", "v13" "v29", "v14" "v30", "v15" "v31"]
    "v0" 0 0, "v1" 0 1, "v2" 0 2, "v3" 0 3, "v4" 1 0, "v5" 1 1, "v6" 1 2, "v7" 1 3,
    "v8" 2 0, "v9" 2 1, "v10" 2 2, "v11" 2 3, "v12" 3 0, "v13" 3 1, "v14" 3 2, "v15" 3 3);

sums!(one_by_4, 1,
    "ldr q16, [{x}], #16\n"
    "ldr q20, [{x}], #16\n"
    ["v16" "v20" "v28"]
    ["v0" "v28"] ["v4" "v28"] ["v8" "v28"] ["v12" "v28"]
    "v0" 0 0, "v4" 1 0, "v8" 2 0, "v12" 3 0);

/// One panel of weights, and how its sums become activations.
pub(super) struct PanelRef<'a> {
    pub(super) weights: &'a [u8],
    pub(super) schedule: &'a Schedule,
    pub(super) bias: &'a [i32; COLS],
    pub(super) multiplier: &'a [f32; COLS],
    pub(super) clamp: ClampVectors,
}

/// Multiplies packed tiles of `count` pixels by one panel, and writes its four channels to each
/// pixel of `out`, `out_stride` bytes apart. `END` is an [`crate::arm::Ending`].
///
/// # Safety
/// `out` can take four bytes in each pixel.
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
    assert_eq!(panel.schedule.parts.iter().sum::<usize>(), steps);
    assert_eq!(panel.weights.len(), steps * COLS * STEP);
    assert_eq!(tiles.len(), tiles_bytes(count, steps));
    // SAFETY: the token proves NEON; tiles, panel and schedule agree, and the caller promises the
    // output.
    unsafe { run_neon::<END>(tiles.as_ptr(), steps, count, panel, out, out_stride) }
}

/// # Safety
/// As [`run`], whose checks hold.
#[target_feature(enable = "neon")]
unsafe fn run_neon<const END: u8>(
    tiles: *const u8,
    steps: usize,
    count: usize,
    panel: &PanelRef<'_>,
    out: *mut u8,
    out_stride: usize,
) {
    let (w, schedule) = (panel.weights.as_ptr(), panel.schedule.words.as_ptr());
    let (bias, multiplier, clamp) = (load_i32(panel.bias), load_f32(panel.multiplier), panel.clamp);
    let (mut x, mut out, mut left) = (tiles, out, count);
    // SAFETY: each tile is as long as `run` checked, and its pixels exist or are not written.
    unsafe {
        while left >= ROWS {
            let sums = four_by_4(x, w, schedule);
            store::<END, 4>(sums, bias, multiplier, &clamp, out, out_stride);
            x = x.add(ROWS * steps * STEP);
            out = out.add(ROWS * out_stride);
            left -= ROWS;
        }
        match left {
            0 => {}
            1 => {
                let sums = one_by_4(x, w, schedule).map(|[sum]| [sum; ROWS]);
                store::<END, 1>(sums, bias, multiplier, &clamp, out, out_stride);
            }
            2 => {
                let sums = four_by_4(x, w, schedule);
                store::<END, 2>(sums, bias, multiplier, &clamp, out, out_stride);
            }
            _ => {
                let sums = four_by_4(x, w, schedule);
                store::<END, 3>(sums, bias, multiplier, &clamp, out, out_stride);
            }
        }
    }
}

/// Adds up the lanes, requantizes, and writes four channels of `N` pixels.
///
/// # Safety
/// `out` can take four bytes in each of `N` pixels, `out_stride` apart.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn store<const END: u8, const N: usize>(
    sums: [[int32x4_t; ROWS]; COLS],
    bias: int32x4_t,
    multiplier: float32x4_t,
    clamp: &ClampVectors,
    out: *mut u8,
    out_stride: usize,
) {
    let [a, b, c, d] = sums;
    let scaled = std::array::from_fn(|p| {
        let p = p.min(N - 1);
        let sum = vpaddq_s32(vpaddq_s32(a[p], b[p]), vpaddq_s32(c[p], d[p]));
        scale(vaddq_s32(sum, bias), multiplier)
    });
    let bytes = vreinterpretq_u32_u8(clamp.end_sixteen::<END>(scaled));
    // SAFETY: passed on.
    let to = |p: usize| unsafe { out.add(p * out_stride).cast::<u32>() };
    // SAFETY: passed on.
    unsafe {
        vst1q_lane_u32::<0>(to(0), bytes);
        if N > 1 {
            vst1q_lane_u32::<1>(to(1), bytes);
        }
        if N > 2 {
            vst1q_lane_u32::<2>(to(2), bytes);
        }
        if N > 3 {
            vst1q_lane_u32::<3>(to(3), bytes);
        }
    }
}
