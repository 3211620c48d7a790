//! The passes of channels for NEON with the dot product: sixteen columns, or eight rows, of four taps in
//! one multiplication (`quads.rs`). Samples are taken less 128, and what their sums lack is added first.

use std::arch::aarch64::*;

use super::channels::{Packing, ROW_STEP, Weights};
use super::quads::{Band, Digits, GROUP, QUAD, Quads};
use super::{PRECISION_BITS, ROWS, Turned};
use crate::arm::sdot;
use crate::isa::NeonDot;

/// Columns of a step of the vertical pass.
const COLUMNS: usize = 16;
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
    let fits = length >= COLUMNS && band.quads.len() <= FOURS;
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
    let mut fours = [[vdupq_n_s8(0); GROUP]; FOURS];
    // Rows behind the last have digits of zero: any row does.
    let row = |row: usize| from.as_ptr().wrapping_add(row.min(band.rows - 1) * stride);
    let mut rows = [[from.as_ptr(); GROUP]; FOURS];
    for (rows, quad) in rows.iter_mut().zip(band.quads.clone()) {
        *rows = std::array::from_fn(|i| row(quad * GROUP + i));
    }
    let rows = &rows[..band.quads.len()];
    // The last columns once more together with some before them.
    let steps = (0..length.div_ceil(COLUMNS)).map(|step| (step * COLUMNS).min(length - COLUMNS));
    for at in steps {
        for (four, rows) in fours.iter_mut().zip(rows) {
            // SAFETY: the caller's promise.
            let load = |i: usize| less_128(unsafe { vld1q_u8(rows[i].add(at)) });
            *four = together([load(0), load(1), load(2), load(3)]);
        }
        for (output, (quad, digits, begin)) in band.outputs().enumerate() {
            let mut sums = [[vdupq_n_s32(0); GROUP]; 3];
            sums[0] = [vdupq_n_s32(begin); GROUP];
            for (samples, digits) in fours[quad..].iter().zip(digits) {
                accumulate(&mut sums, *samples, digits);
            }
            let [a, b, c, d] = whole(sums);
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.as_mut_ptr().add(output * to_stride + at);
                vst1q_u8(to, vcombine_u8(narrow([a, b]), narrow([c, d])));
            }
        }
    }
}

/// Adds the products of four taps to the sums of each digit.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn accumulate<const N: usize>(
    sums: &mut [[int32x4_t; N]; 3],
    samples: [int8x16_t; N],
    digits: &Digits,
) {
    for (sums, digit) in sums.iter_mut().zip(digits) {
        let digit = vreinterpretq_s8_s32(vdupq_n_s32(*digit));
        for (sum, samples) in sums.iter_mut().zip(samples) {
            *sum = sdot(*sum, samples, digit);
        }
    }
}

/// The sums of the three digits put together, without their fraction.
#[target_feature(enable = "neon")]
#[inline]
fn whole<const N: usize>([low, middle, high]: [[int32x4_t; N]; 3]) -> [int32x4_t; N] {
    std::array::from_fn(|i| {
        let upper = vaddq_s32(middle[i], vshlq_n_s32::<8>(high[i]));
        let sum = vaddq_s32(low[i], vshlq_n_s32::<8>(upper));
        vshrq_n_s32::<{ PRECISION_BITS as i32 }>(sum)
    })
}

#[target_feature(enable = "neon")]
#[inline]
fn narrow([low, high]: [int32x4_t; 2]) -> uint8x8_t {
    vqmovun_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)))
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
#[target_feature(enable = "neon,dotprod")]
unsafe fn pass<const C: usize>(from: &[u8], quads: &Quads, mut to: [&mut [Turned]; C]) {
    for (output, (first, digits, begin)) in quads.outputs().enumerate() {
        let mut sums = [[[vdupq_n_s32(0); 2]; 3]; C];
        sums.iter_mut().for_each(|sums| sums[0] = [vdupq_n_s32(begin); 2]);
        for (at, digits) in digits.iter().enumerate() {
            for (channel, sums) in sums.iter_mut().enumerate() {
                let place = ((first + at) * C + channel) * QUAD;
                // SAFETY: the caller's promise.
                let samples = unsafe {
                    let at = from.as_ptr().add(place).cast::<i8>();
                    [vld1q_s8(at), vld1q_s8(at.add(16))]
                };
                accumulate(sums, samples, digits);
            }
        }
        for (sums, to) in sums.into_iter().zip(&mut to) {
            let samples = narrow(whole(sums));
            // SAFETY: a store of eight bytes.
            unsafe { vst1_u8(to[output].as_mut_ptr(), samples) };
        }
    }
}
