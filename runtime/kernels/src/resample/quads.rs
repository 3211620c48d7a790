//! The horizontal pass for AVX-512 VNNI: four samples of eight rows in one multiplication.
//!
//! The channels of eight rows are taken apart into quads: four samples that follow one another in a
//! row, of each of the rows, 32 bytes. An output reads those quads that its samples lie in; weights
//! are zero for the samples before and behind. Digits and sums as in `vnni.rs`.

use std::arch::x86_64::*;

use super::channels::{Horizontal, Packing, ROW_STEP};
use super::vnni::{Digits, GROUP, split};
use super::{HALF, PRECISION_BITS, ROWS, Taps, Turned};
use crate::isa::Avx512Vnni;

/// Most quads that an output may read: 29 samples and more shrink a picture to a seventh.
const MOST: usize = 8;
/// Bytes of a quad.
const QUAD: usize = GROUP * ROWS;

/// The weights of an axis by quads.
#[derive(Clone, Debug, Default)]
pub(super) struct Quads {
    /// For each output, the first quad that it reads, and how many.
    places: Vec<(u32, u32)>,
    /// For each output the digits of `most` quads.
    digits: Vec<Digits>,
    most: usize,
}

impl Quads {
    pub(super) fn is_set(&self) -> bool {
        self.most > 0
    }

    /// Unset for none, and where weights have more than three digits or outputs read too much.
    pub(super) fn set(&mut self, taps: Option<Taps<'_>>) {
        self.places.clear();
        self.digits.clear();
        self.most = 0;
        let Some(taps) = taps else { return };
        let place = |(&start, &count): (&u32, &u32)| {
            let first = start / GROUP as u32;
            (first, (start + count).div_ceil(GROUP as u32) - first)
        };
        self.places.extend(taps.starts.iter().zip(taps.counts).map(place));
        let most = self.places.iter().map(|place| place.1 as usize).max().unwrap_or(0);
        if most > MOST {
            return;
        }
        for output in 0..taps.starts.len() {
            let (start, weights) = taps.of(output);
            let mut moved = [0; MOST * GROUP];
            moved[start % GROUP..][..weights.len()].copy_from_slice(weights);
            let mut digits = [[0; 3]; MOST];
            if split(&moved[..most * GROUP], &mut digits).is_none() {
                return;
            }
            self.digits.extend_from_slice(&digits[..most]);
        }
        self.most = most;
    }

    /// The first quad of each output, and its digits.
    fn outputs(&self) -> impl Iterator<Item = (usize, &[Digits])> {
        let digits = self.digits.chunks_exact(self.most.max(1));
        self.places
            .iter()
            .zip(digits)
            .map(|(&(first, count), d)| (first as usize, &d[..count as usize]))
    }
}

impl Packing {
    /// Which bytes of 16 make the four quads of a step.
    fn order(self) -> [i8; ROW_STEP] {
        match self {
            Packing::Planar => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            Packing::Pairs => [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15],
            Packing::Yuyv => [0, 2, 4, 6, 8, 10, 12, 14, 1, 5, 9, 13, 3, 7, 11, 15],
        }
    }

    /// Quads of a step that each channel gets.
    fn shares(self) -> &'static [usize] {
        match self {
            Packing::Planar => &[4],
            Packing::Pairs => &[2, 2],
            Packing::Yuyv => &[2, 1, 1],
        }
    }
}

/// All channels; arguments as for [`super::Resample::channels`], which has checked them.
pub(super) fn channels(
    _: Avx512Vnni,
    rows: &[u8],
    stride: usize,
    packing: Packing,
    axes: &[&Horizontal],
    block: &mut [Turned],
    to: &mut [&mut [Turned]],
) {
    let count = rows.len() / stride;
    let starts = std::array::from_fn(|row: usize| row.min(count - 1) * stride);
    let block = block.as_flattened_mut();
    // SAFETY: the token proves the features; the block has as many bytes as eight rows, and each row has
    // whole steps.
    unsafe { take_apart(rows, starts, stride / ROW_STEP, packing, block) };
    let mut first = 0;
    for ((share, axis), to) in packing.shares().iter().zip(axes).zip(to) {
        let quads = &block[first..][..stride / ROW_STEP * share * QUAD];
        first += quads.len();
        // SAFETY: as above; no output reads beyond the row, whose quads these are.
        unsafe { pass(quads, axis.quads(), to) };
    }
}

/// # Safety
/// `steps` times 16 bytes lie in `rows` from each start on, and eight times as many in `block`.
#[target_feature(enable = "avx2")]
unsafe fn take_apart(
    rows: &[u8],
    starts: [usize; ROWS],
    steps: usize,
    packing: Packing,
    block: &mut [u8],
) {
    // SAFETY: a load of 16 bytes from 16.
    let order = unsafe { _mm_loadu_si128(packing.order().as_ptr().cast()) };
    let order = _mm256_broadcastsi128_si256(order);
    // Where the next of each of a step's quads goes, and how far the one behind it lies.
    let mut places = [(0, 0); GROUP];
    let (mut at, mut first) = (0, 0);
    for &share in packing.shares() {
        for i in 0..share {
            places[at] = (first + i * QUAD, share * QUAD);
            at += 1;
        }
        first += steps * share * QUAD;
    }
    for step in 0..steps {
        let load = |row: usize| {
            // SAFETY: the caller's promise.
            unsafe { _mm_loadu_si128(rows.as_ptr().add(starts[row] + step * ROW_STEP).cast()) }
        };
        let both = |row| {
            let both = _mm256_set_m128i(load(row + 4), load(row));
            _mm256_shuffle_epi8(both, order)
        };
        let [a, b, c, d] = [both(0), both(1), both(2), both(3)];
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        let quads = [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ];
        for (quad, (place, next)) in quads.into_iter().zip(&mut places) {
            // SAFETY: the places are those of four quads a step, each its own.
            unsafe { _mm256_storeu_si256(block.as_mut_ptr().add(*place).cast(), quad) };
            *place += *next;
        }
    }
}

/// # Safety
/// No output reads beyond `from`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pass(from: &[u8], quads: &Quads, to: &mut [Turned]) {
    for ((first, digits), to) in quads.outputs().zip(to) {
        let mut sums = [_mm256_set1_epi32(HALF), _mm256_setzero_si256(), _mm256_setzero_si256()];
        for (at, digits) in digits.iter().enumerate() {
            // SAFETY: the caller's promise.
            let samples =
                unsafe { _mm256_loadu_si256(from.as_ptr().add((first + at) * QUAD).cast()) };
            for (sum, digit) in sums.iter_mut().zip(digits) {
                *sum = _mm256_dpbusd_epi32(*sum, samples, _mm256_set1_epi32(*digit));
            }
        }
        let [low, middle, high] = sums;
        let upper = _mm256_add_epi32(_mm256_slli_epi32::<8>(high), middle);
        let sum = _mm256_add_epi32(_mm256_slli_epi32::<8>(upper), low);
        let whole = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(sum);
        let bytes = _mm256_cvtusepi32_epi8(_mm256_max_epi32(whole, _mm256_setzero_si256()));
        // SAFETY: a store of eight bytes.
        unsafe { _mm_storel_epi64(to.as_mut_ptr().cast(), bytes) };
    }
}
