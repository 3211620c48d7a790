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
            let (four, rest) = digits.split_at(LEAST);
            let four = by_digit(four);
            // SAFETY: the caller's promise: the place of an output.
            let to = unsafe { to.as_mut_ptr().add(output * to_stride + at) };
            for (step, fours) in fours.iter().enumerate() {
                let own = fours[quad..].split_first_chunk::<LEAST>();
                let (own, behind) = own.expect("there is room behind");
                let mut sums = [[vdupq_n_s32(0); GROUP]; 3];
                sums[0] = [vdupq_n_s32(begin); GROUP];
                // Those behind the last that is read have digits of zero.
                accumulate::<0, _>(&mut sums, own[0], four);
                accumulate::<1, _>(&mut sums, own[1], four);
                accumulate::<2, _>(&mut sums, own[2], four);
                accumulate::<3, _>(&mut sums, own[3], four);
                for (samples, digits) in behind.iter().zip(rest) {
                    accumulate::<0, _>(&mut sums, *samples, alone(digits));
                }
                let left = finish(sums.map(|[a, b, _, _]| [a, b]));
                let right = finish(sums.map(|[_, _, c, d]| [c, d]));
                // SAFETY: the caller's promise.
                unsafe { vst1q_u8(to.add(step * COLUMNS), vcombine_u8(left, right)) };
            }
        }
    }
}

/// For each digit that of four quads.
#[target_feature(enable = "neon")]
#[inline]
fn by_digit(digits: &[Digits]) -> [int8x16_t; 3] {
    let digits: &[Digits; LEAST] = digits.try_into().expect("so many are laid out");
    // SAFETY: a load of twelve numbers.
    let int32x4x3_t(low, middle, high) = unsafe { vld3q_s32(digits.as_ptr().cast()) };
    [low, middle, high].map(|digit| vreinterpretq_s8_s32(digit))
}

/// For each digit that of one quad, as [`by_digit`]'s first.
#[target_feature(enable = "neon")]
#[inline]
fn alone(digits: &Digits) -> [int8x16_t; 3] {
    digits.map(|digit| vreinterpretq_s8_s32(vdupq_n_s32(digit)))
}

/// Adds the products of the four taps of quad `LANE` to the sums of each digit.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn accumulate<const LANE: i32, const N: usize>(
    sums: &mut [[int32x4_t; N]; 3],
    samples: [int8x16_t; N],
    digits: [int8x16_t; 3],
) {
    for (sums, digit) in sums.iter_mut().zip(digits) {
        for (sum, samples) in sums.iter_mut().zip(samples) {
            *sum = sdot_lane::<LANE>(*sum, samples, digit);
        }
    }
}

/// The sums of the three digits put together, as samples: of 32 bits the upper 16, then the upper 10 of
/// these with saturation.
#[target_feature(enable = "neon")]
#[inline]
fn finish([low, middle, high]: [[int32x4_t; 2]; 3]) -> uint8x8_t {
    const { assert!(PRECISION_BITS == 22) };
    let (byte, word) = (vdupq_n_s32(1 << 8), vdupq_n_s32(1 << 16));
    let sum = |i: usize| vmlaq_s32(vmlaq_s32(low[i], middle[i], byte), high[i], word);
    vqshrun_n_s16::<6>(vshrn_high_n_s32::<16>(vshrn_n_s32::<16>(sum(0)), sum(1)))
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
    let (mut first, mut to) = (0, to);
    for (&(channels, share), axis) in packing.shares().iter().zip(axes) {
        let quads = &block[first..][..steps * channels * share * QUAD];
        first += quads.len();
        let (own, rest) = to.split_at_mut(channels);
        to = rest;
        // SAFETY: as above; no output reads beyond the row, whose quads these are.
        unsafe {
            match own {
                [to] => pass(quads, &axis.quads, [to]),
                [blue, red] => pass(quads, &axis.quads, [blue, red]),
                _ => unreachable!("one channel or two"),
            }
        }
    }
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
        let (four, rest) = digits.split_at(LEAST);
        let four = by_digit(four);
        for (channel, to) in to.iter_mut().enumerate() {
            let load = |quad: usize| {
                let place = ((first + quad) * C + channel) * QUAD;
                // SAFETY: the caller's promise.
                unsafe {
                    let at = from.as_ptr().add(place).cast::<i8>();
                    [vld1q_s8(at), vld1q_s8(at.add(16))]
                }
            };
            let mut sums = [[vdupq_n_s32(0); 2]; 3];
            sums[0] = [vdupq_n_s32(begin); 2];
            accumulate::<0, _>(&mut sums, load(0), four);
            if N > 1 {
                accumulate::<1, _>(&mut sums, load(1), four);
            }
            if N > 2 {
                accumulate::<2, _>(&mut sums, load(2), four);
            }
            if N > 3 {
                accumulate::<3, _>(&mut sums, load(3), four);
            }
            for (at, digits) in rest.iter().enumerate() {
                accumulate::<0, _>(&mut sums, load(LEAST + at), alone(digits));
            }
            let samples = finish(sums);
            // SAFETY: a store of eight bytes.
            unsafe { vst1_u8(to[output].as_mut_ptr(), samples) };
        }
    }
}
