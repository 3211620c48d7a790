//! Weights for kernels that multiply bytes by bytes, four products to a sum: AVX-512 VNNI, NEON's dot product.
//!
//! A weight is `d2 * 2^16 + d1 * 2^8 + d0` with digits of -128..=127, so that the sum of a tap's products
//! is that of three sums of bytes times bytes, each exact in 32 bits, shifted and added; what wraps there
//! wraps in the scalar pass. Weights beyond three digits (no filter has such) are not laid out.
//!
//! Taps go by fours (a quad) from the first sample or row on, not from an output's first: so all outputs
//! read the same quads, which are brought together once. Weights are zero for samples before and behind.
//!
//! In the horizontal pass a quad is four samples that follow one another in a row, of each of [`ROWS`] rows:
//! 32 bytes. Two channels of chroma, whose weights are the same, lie quad by quad beside each other.

use std::ops::Range;

use super::channels::{Packing, ROW_STEP, Weights};
use super::{HALF, ROWS, Taps, Turned};

/// Taps of a quad.
pub(super) const GROUP: usize = 4;
/// Bytes of a quad of the horizontal pass.
pub(super) const QUAD: usize = GROUP * ROWS;
/// What makes all three digits positive.
const BIAS: i32 = 0x80_8080;

/// The digits of four weights, lowest first: a byte a weight.
pub(super) type Digits = [i32; 3];

/// Least quads that there are digits for: they are loaded together.
pub(super) const LEAST: usize = 4;
/// Most quads that an output may read: 29 samples and more shrink a picture to a seventh.
pub(super) const MOST: usize = 8;

/// The weights of an axis by quads: fours of samples, or of rows, from the first on.
#[derive(Clone, Debug, Default)]
pub(super) struct Quads {
    /// For each output, the first of the `most` quads that it is given, and how many of them it reads:
    /// few outputs read as many as the one that reads most.
    firsts: Vec<u32>,
    counts: Vec<u32>,
    /// For each output the digits of `most` quads, at least [`LEAST`].
    digits: Vec<Digits>,
    /// What each output's sum begins with: a half, and what samples less 128 lack.
    begins: Vec<i32>,
    most: usize,
}

/// Outputs that follow one another in the vertical pass.
pub(super) struct Band<'a> {
    /// The quads that they are given.
    pub(super) quads: Range<usize>,
    /// For each output its first quad, how many it reads, and the digits of `most`.
    pub(super) firsts: &'a [u32],
    pub(super) counts: &'a [u32],
    pub(super) digits: &'a [Digits],
    /// What its sum begins with.
    pub(super) begins: &'a [i32],
    /// Quads of an output.
    pub(super) most: usize,
    /// Rows that there are.
    pub(super) rows: usize,
}

impl Quads {
    pub(super) fn is_set(&self) -> bool {
        self.most > 0
    }

    /// Unset for none, and where weights have more than three digits or outputs read too much. `end` is
    /// where the last output ends; `signed` kernels take samples less 128.
    pub(super) fn set(&mut self, taps: Option<Taps<'_>>, end: usize, signed: bool) {
        self.firsts.clear();
        self.counts.clear();
        self.digits.clear();
        self.begins.clear();
        self.most = 0;
        let Some(taps) = taps else { return };
        let outputs = || (0..taps.starts.len()).map(|output| taps.of(output));
        let quads = |(start, weights): (usize, &[i32])| {
            (start + weights.len()).div_ceil(GROUP) - start / GROUP
        };
        let most = outputs().map(quads).max().unwrap_or(0);
        if most > MOST {
            return;
        }
        for (start, weights) in outputs() {
            // All outputs are given as many quads; none ends behind the last that is read.
            let first = (start / GROUP).min(end.div_ceil(GROUP) - most);
            let mut moved = [0; MOST * GROUP];
            moved[start - first * GROUP..][..weights.len()].copy_from_slice(weights);
            let mut digits = [[0; 3]; MOST];
            if split(&moved, &mut digits).is_none() {
                return;
            }
            let sum = weights.iter().fold(0, |sum: i32, w| sum.wrapping_add(*w));
            let lacks = if signed { sum.wrapping_mul(128) } else { 0 };
            self.begins.push(HALF.wrapping_add(lacks));
            self.firsts.push(first as u32);
            self.counts.push(((start + weights.len()).div_ceil(GROUP) - first) as u32);
            self.digits.extend_from_slice(&digits[..most.max(LEAST)]);
        }
        self.most = most;
    }

    /// Some outputs, if the weights are laid out; `rows` is where the last of all outputs ends.
    pub(super) fn band(&self, outputs: Range<usize>, rows: usize) -> Option<Band<'_>> {
        let firsts = self.firsts.get(outputs.clone())?;
        let begins = self.begins.get(outputs.clone())?;
        let counts = self.counts.get(outputs.clone())?;
        let (first, last) = (firsts.iter().min()?, firsts.iter().max()?);
        self.is_set().then(|| Band {
            quads: *first as usize..*last as usize + self.most,
            firsts,
            counts,
            begins,
            digits: &self.digits[outputs.start * self.room()..outputs.end * self.room()],
            most: self.most,
            rows,
        })
    }

    /// For each output its first quad, the digits of those that it reads and of at least [`LEAST`], and what
    /// its sum begins with.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, &[Digits], i32)> {
        outputs(&self.firsts, &self.counts, &self.digits, &self.begins, self.most)
    }

    /// The same, the digits of `N` quads, the most that there are.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn outputs_by<const N: usize>(
        &self,
    ) -> impl Iterator<Item = (usize, &[Digits; N], i32)> {
        let firsts = self.firsts.iter().map(|first| *first as usize);
        let digits = self.digits.chunks_exact(self.room()).filter_map(|d| d.first_chunk::<N>());
        firsts.zip(digits).zip(&self.begins).map(|((first, digits), begin)| (first, digits, *begin))
    }

    /// Quads that there are digits for, of each output.
    fn room(&self) -> usize {
        self.most.max(LEAST)
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl Band<'_> {
    /// For each output its first quad, counted from the band's, the digits of those that it reads and of at
    /// least [`LEAST`], and what its sum begins with.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, &[Digits], i32)> {
        outputs(self.firsts, self.counts, self.digits, self.begins, self.most)
            .map(|(first, digits, begin)| (first - self.quads.start, digits, begin))
    }
}

fn outputs<'a>(
    firsts: &'a [u32],
    counts: &'a [u32],
    digits: &'a [Digits],
    begins: &'a [i32],
    most: usize,
) -> impl Iterator<Item = (usize, &'a [Digits], i32)> {
    let digits = digits.chunks_exact(most.max(LEAST));
    let digits = digits.zip(counts).map(|(all, &used)| &all[..(used as usize).max(LEAST)]);
    firsts
        .iter()
        .zip(digits)
        .zip(begins)
        .map(|((&first, digits), &begin)| (first as usize, digits, begin))
}

/// The digits of each four weights, zeros after the last; `None` where a weight has more of them, or
/// there are too many.
pub(super) fn split<'d>(weights: &[i32], digits: &'d mut [Digits]) -> Option<&'d [Digits]> {
    let groups = weights.len().div_ceil(GROUP);
    let found = digits.get_mut(..groups)?;
    for (digits, weights) in found.iter_mut().zip(weights.chunks(GROUP)) {
        let mut bytes = [[0u8; GROUP]; 3];
        for (at, weight) in weights.iter().enumerate() {
            let biased = u32::try_from(weight.wrapping_add(BIAS)).ok().filter(|b| *b < 1 << 24)?;
            for (digit, byte) in bytes.iter_mut().zip(biased.to_le_bytes()) {
                digit[at] = byte ^ 0x80;
            }
        }
        *digits = bytes.map(i32::from_le_bytes);
    }
    Some(found)
}

impl Packing {
    /// Which bytes of 16 make the four quads of a step.
    pub(super) fn order(self) -> [u8; ROW_STEP] {
        match self {
            Packing::Planar => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            Packing::Pairs => [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15],
            Packing::Yuyv => [0, 2, 4, 6, 8, 10, 12, 14, 1, 5, 9, 13, 3, 7, 11, 15],
        }
    }

    /// Hands the quads of each axis, its weights and the outputs of its channels to `pass`: the quads of
    /// `steps` steps lie in `block` where [`Packing::quads`] says.
    pub(super) fn each_axis(
        self,
        steps: usize,
        axes: &[&Weights],
        block: &[u8],
        mut to: &mut [&mut [Turned]],
        mut pass: impl FnMut(&[u8], &Quads, &mut [&mut [Turned]]),
    ) {
        let mut first = 0;
        for (&(channels, share), axis) in self.shares().iter().zip(axes) {
            let quads = &block[first..][..steps * channels * share * QUAD];
            first += quads.len();
            let (own, rest) = to.split_at_mut(channels);
            to = rest;
            pass(quads, &axis.quads, own);
        }
    }

    /// For each axis, its channels and quads of a step; their product sums to four.
    fn shares(self) -> &'static [(usize, usize)] {
        match self {
            Packing::Planar => &[(1, 4)],
            Packing::Pairs => &[(2, 2)],
            Packing::Yuyv => &[(1, 2), (2, 1)],
        }
    }

    /// Where the four quads of the first step go in a block of `steps` steps, and how far behind them
    /// those of the next.
    pub(super) fn quads(self, steps: usize) -> [(usize, usize); GROUP] {
        let mut places = [(0, 0); GROUP];
        let (mut at, mut first) = (0, 0);
        for &(channels, share) in self.shares() {
            for channel in 0..channels {
                for i in 0..share {
                    let next = channels * share * QUAD;
                    places[at] = (first + (i * channels + channel) * QUAD, next);
                    at += 1;
                }
            }
            first += steps * channels * share * QUAD;
        }
        places
    }
}
