//! The passes of channels for NEON with the dot product: sixteen columns, or eight rows, of four taps in
//! one multiplication (`quads.rs`). Samples are taken less 128, and what their sums lack is added first.

use std::arch::aarch64::*;

use super::channels::{Packing, ROW_STEP, Weights};
use super::quads::{Band, Digits, GROUP, LEAST, QUAD, Quads};
use super::{PRECISION_BITS, ROWS, Turned};
use crate::arm::sdot_lane;
use crate::isa::NeonDot;

/// Columns of a step of the vertical pass.
const COLUMNS: usize = 16;
/// Steps whose samples are brought together before any output is summed: as many as divide the square in
/// the middle of usual frames (twice 480, 720, 1080 bytes).
const STEPS: usize = 5;
/// Their columns.
const BLOCK: usize = COLUMNS * STEPS;
/// Most fours of rows that the outputs may read together: 2 KiB of samples for each step.
const FOURS: usize = 32;

/// Whether it could be done; arguments as for [`super::Resample::vertical_rows`], which has checked them.
pub(super) fn vertical(
    _: NeonDot,
    from: (&[u8], usize),
    band: &Band<'_>,
    to: (&mut [u8], usize),
    length: usize,
) -> bool {
    let fits = length >= BLOCK && band.quads.len() <= FOURS;
    if fits {
        // SAFETY: the token proves the features; rows and outputs have been checked.
        unsafe { vertical_neondot(from, band, to, length) };
    }
    fits
}

/// # Safety
/// `length` bytes lie in each of the band's rows, one every `stride` bytes, and at the place of each of
/// its outputs.
#[target_feature(enable = "neon,dotprod")]
unsafe fn vertical_neondot(
    (from, stride): (&[u8], usize),
    band: &Band<'_>,
    (to, to_stride): (&mut [u8], usize),
    length: usize,
) {
    let mut fours = [[[vdupq_n_s8(0); GROUP]; FOURS + LEAST]; STEPS];
    // Rows behind the last have digits of zero: any row does.
    let row = |row: usize| from.as_ptr().wrapping_add(row.min(band.rows - 1) * stride);
    let mut rows = [[from.as_ptr(); GROUP]; FOURS];
    for (rows, quad) in rows.iter_mut().zip(band.quads.clone()) {
        *rows = std::array::from_fn(|i| row(quad * GROUP + i));
    }
    let rows = &rows[..band.quads.len()];
    // The last columns once more together with some before them.
    let blocks = (0..length).step_by(BLOCK).map(|at| at.min(length - BLOCK));
    for at in blocks {
        for (step, fours) in fours.iter_mut().enumerate() {
            for (four, rows) in fours.iter_mut().zip(rows) {
                let load = |i: usize| {
                    // SAFETY: the caller's promise.
                    less_128(unsafe { vld1q_u8(rows[i].add(at + step * COLUMNS)) })
                };
                *four = together([load(0), load(1), load(2), load(3)]);
            }
        }
        for (output, (quad, digits, begin)) in band.outputs().enumerate() {
            let digits = Laid::new(digits);
            // SAFETY: the caller's promise: the place of an output.
            let to = unsafe { to.as_mut_ptr().add(output * to_stride + at) };
            for (step, fours) in fours.iter().enumerate() {
                // Those behind the last that is read have digits of zero, and there is room for them.
                let fours = &fours[quad..][..digits.count()];
                let [a, b, c, d] = sum::<LEAST, GROUP>(&digits, |quad| fours[quad]);
                let (left, right) = (finish([a, b], begin), finish([c, d], begin));
                // SAFETY: the caller's promise.
                unsafe { vst1q_u8(to.add(step * COLUMNS), vcombine_u8(left, right)) };
            }
        }
    }
}

/// The digits of an output: for each of the three that of the first four quads, then those of others.
struct Laid<'a>([int8x16_t; 3], &'a [Digits]);

impl<'a> Laid<'a> {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new(digits: &'a [Digits]) -> Self {
        let (four, rest) = digits.split_first_chunk::<LEAST>().expect("so many are laid out");
        // SAFETY: a load of twelve numbers.
        let int32x4x3_t(low, middle, high) = unsafe { vld3q_s32(four.as_ptr().cast()) };
        Self([low, middle, high].map(|digit| vreinterpretq_s8_s32(digit)), rest)
    }

    /// Quads that have digits.
    fn count(&self) -> usize {
        LEAST + self.1.len()
    }
}

/// The sums of the products of samples and digits, of the first `Q` quads and those behind the fourth. The highest
/// digit comes first: when the next one comes, what is there counts 256 times as much.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sum<const Q: usize, const N: usize>(
    Laid(four, rest): &Laid<'_>,
    samples: impl Fn(usize) -> [int8x16_t; N],
) -> [int32x4_t; N] {
    let zero = [vdupq_n_s32(0); N];
    let one = |mut sums: [int32x4_t; N], digit: int8x16_t| {
        accumulate::<0, _>(&mut sums, samples(0), digit);
        if Q > 1 {
            accumulate::<1, _>(&mut sums, samples(1), digit);
        }
        if Q > 2 {
            accumulate::<2, _>(&mut sums, samples(2), digit);
        }
        if Q > 3 {
            accumulate::<3, _>(&mut sums, samples(3), digit);
        }
        sums
    };
    let [low, middle, high] = *four;
    let mut sums = one(higher(one(higher(one(zero, high)), middle)), low);
    for (quad, digits) in rest.iter().enumerate() {
        let [low, middle, high] = digits.map(|digit| vreinterpretq_s8_s32(vdupq_n_s32(digit)));
        let one = |mut sums: [int32x4_t; N], digit: int8x16_t| {
            accumulate::<0, _>(&mut sums, samples(LEAST + quad), digit);
            sums
        };
        let more = one(higher(one(higher(one(zero, high)), middle)), low);
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum = vaddq_s32(*sum, more);
        }
    }
    sums
}

/// Sums that the next lower digit is added to.
#[target_feature(enable = "neon")]
#[inline]
fn higher<const N: usize>(sums: [int32x4_t; N]) -> [int32x4_t; N] {
    sums.map(|sum| vshlq_n_s32::<8>(sum))
}

/// Adds the products of the four taps of quad `LANE`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn accumulate<const LANE: i32, const N: usize>(
    sums: &mut [int32x4_t; N],
    samples: [int8x16_t; N],
    digit: int8x16_t,
) {
    for (sum, samples) in sums.iter_mut().zip(samples) {
        *sum = sdot_lane::<LANE>(*sum, samples, digit);
    }
}

/// Sums and what they lack as samples: of 32 bits the upper 16, then the upper 10 of these with
/// saturation.
#[target_feature(enable = "neon")]
#[inline]
fn finish([low, high]: [int32x4_t; 2], begin: i32) -> uint8x8_t {
    const { assert!(PRECISION_BITS == 22) };
    let begin = vdupq_n_s32(begin);
    vqshrun_n_s16::<6>(vaddhn_high_s32(vaddhn_s32(low, begin), high, begin))
}

#[target_feature(enable = "neon")]
#[inline]
fn less_128(samples: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(veorq_u8(samples, vdupq_n_u8(0x80)))
}

/// Sixteen columns of four rows: a dword a column.
#[target_feature(enable = "neon")]
#[inline]
fn together([a, b, c, d]: [int8x16_t; GROUP]) -> [int8x16_t; GROUP] {
    let words =
        |x, y| [vreinterpretq_s16_s8(vzip1q_s8(x, y)), vreinterpretq_s16_s8(vzip2q_s8(x, y))];
    let ([ab, ab_high], [cd, cd_high]) = (words(a, b), words(c, d));
    [
        vzip1q_s16(ab, cd),
        vzip2q_s16(ab, cd),
        vzip1q_s16(ab_high, cd_high),
        vzip2q_s16(ab_high, cd_high),
    ]
    .map(|x| vreinterpretq_s8_s16(x))
}

/// All channels; arguments as for [`super::Resample::channels`], which has checked them.
pub(super) fn channels(
    _: NeonDot,
    rows: &[u8],
    stride: usize,
    packing: Packing,
    axes: &[&Weights],
    block: &mut [Turned],
    to: &mut [&mut [Turned]],
) {
    let count = rows.len() / stride;
    let starts = std::array::from_fn(|row: usize| row.min(count - 1) * stride);
    let block = block.as_flattened_mut();
    let steps = stride / ROW_STEP;
    // SAFETY: the token proves the features; the block has as many bytes as eight rows, and each row has
    // whole steps.
    unsafe { take_apart(rows, starts, steps, packing, block) };
    // SAFETY: as above; no output reads beyond the row, whose quads these are.
    packing.each_axis(steps, axes, block, to, |quads, axis, to| unsafe {
        match to {
            [to] => pass(quads, axis, [to]),
            [blue, red] => pass(quads, axis, [blue, red]),
            _ => unreachable!("one channel or two"),
        }
    });
}

/// # Safety
/// `steps` times 16 bytes lie in `rows` from each start on, and eight times as many in `block`.
#[target_feature(enable = "neon")]
unsafe fn take_apart(
    rows: &[u8],
    starts: [usize; ROWS],
    steps: usize,
    packing: Packing,
    block: &mut [u8],
) {
    // SAFETY: a load of 16 bytes from 16.
    let order = unsafe { vld1q_u8(packing.order().as_ptr()) };
    let mut places = packing.quads(steps);
    for step in 0..steps {
        let row = |row: usize| {
            // SAFETY: the caller's promise.
            let bytes = unsafe { vld1q_u8(rows.as_ptr().add(starts[row] + step * ROW_STEP)) };
            vreinterpretq_u32_s8(less_128(vqtbl1q_u8(bytes, order)))
        };
        let upper = turn([row(0), row(1), row(2), row(3)]);
        let lower = turn([row(4), row(5), row(6), row(7)]);
        for (quad, (place, next)) in places.iter_mut().enumerate() {
            // SAFETY: the places are those of four quads a step, each its own.
            unsafe {
                let to = block.as_mut_ptr().add(*place);
                vst1q_u8(to, upper[quad]);
                vst1q_u8(to.add(16), lower[quad]);
            }
            *place += *next;
        }
    }
}

/// Transposes four rows of four dwords.
#[target_feature(enable = "neon")]
#[inline]
fn turn([a, b, c, d]: [uint32x4_t; 4]) -> [uint8x16_t; 4] {
    let pairs =
        |x, y| [vreinterpretq_u64_u32(vtrn1q_u32(x, y)), vreinterpretq_u64_u32(vtrn2q_u32(x, y))];
    let ([ab_even, ab_odd], [cd_even, cd_odd]) = (pairs(a, b), pairs(c, d));
    [
        vzip1q_u64(ab_even, cd_even),
        vzip1q_u64(ab_odd, cd_odd),
        vzip2q_u64(ab_even, cd_even),
        vzip2q_u64(ab_odd, cd_odd),
    ]
    .map(|x| vreinterpretq_u8_u64(x))
}

/// # Safety
/// No output reads beyond `from`.
unsafe fn pass<const C: usize>(from: &[u8], quads: &Quads, to: [&mut [Turned]; C]) {
    // SAFETY: passed on; all outputs may read as many quads as the one that reads most.
    unsafe {
        match quads.most() {
            1 => pass_by::<1, C>(from, quads, to),
            2 => pass_by::<2, C>(from, quads, to),
            3 => pass_by::<3, C>(from, quads, to),
            _ => pass_by::<LEAST, C>(from, quads, to),
        }
    }
}

/// The first `N` quads of each output, and one by one those behind them.
///
/// # Safety
/// No output reads beyond `from`, nor would it with `N` quads.
#[target_feature(enable = "neon,dotprod")]
unsafe fn pass_by<const N: usize, const C: usize>(
    from: &[u8],
    quads: &Quads,
    mut to: [&mut [Turned]; C],
) {
    for (output, (first, digits, begin)) in quads.outputs().enumerate() {
        let digits = Laid::new(digits);
        for (channel, to) in to.iter_mut().enumerate() {
            let sums = sum::<N, 2>(&digits, |quad| {
                let place = ((first + quad) * C + channel) * QUAD;
                // SAFETY: the caller's promise.
                unsafe {
                    let at = from.as_ptr().add(place).cast::<i8>();
                    [vld1q_s8(at), vld1q_s8(at.add(16))]
                }
            });
            // SAFETY: a store of eight bytes.
            unsafe { vst1_u8(to[output].as_mut_ptr(), finish(sums, begin)) };
        }
    }
}
