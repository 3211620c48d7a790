//! The inner loop of depthwise convolution for AVX2: up to 8 output columns of 16 channels.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::ConvGeometry;
use crate::isa::Avx2;
use crate::scratch::Packed16;
use crate::x86::Clamp;

/// Channels in one vector.
pub(crate) const LANES: usize = 16;
/// `i16` values of 8 channels of two rows: one register.
pub(super) const HALF: usize = 16;
/// `i16` values of 16 channels of two rows: one column of the ring.
pub(crate) const COL: usize = 2 * HALF;

/// The channel of lane `l` of half `h` of a vector: unpacking and packing work within 128-bit
/// halves.
pub(super) fn channel_of(h: usize, l: usize) -> usize {
    l / 4 * 8 + h * 4 + l % 4
}

/// The filters of 16 channels.
pub(super) struct Vector {
    /// The first channel.
    pub(super) first: usize,
    /// `[half][pair][tap column][lane][2]`, for windows that start on an even and an odd row.
    pub(super) weights: [Packed16; 2],
    /// `[half][lane]`, the input's zero point folded in.
    pub(super) bias: [i32; LANES],
    /// `[half][lane]`.
    pub(super) multiplier: [f32; LANES],
}

/// Where output rows go.
pub(crate) struct Target<'a> {
    out: &'a mut [u8],
    /// Bytes from one output row to the next.
    row: usize,
    /// Bytes from one output column to the next.
    column: usize,
    /// The channel that comes first.
    origin: usize,
    /// The output row that comes first.
    first_row: usize,
}

impl<'a> Target<'a> {
    pub(crate) fn new(out: &'a mut [u8], row: usize, column: usize, origin: usize) -> Target<'a> {
        Target { out, row, column, origin, first_row: 0 }
    }

    /// The same with another output row in front.
    pub(crate) fn starting_at(self, first_row: usize) -> Target<'a> {
        Target { first_row, ..self }
    }

    /// Lets another output row come first.
    pub(crate) fn restart(&mut self, first_row: usize) {
        self.first_row = first_row;
    }

    /// The bytes of some rows.
    pub(crate) fn rows(&mut self, rows: &Range<usize>) -> &mut [u8] {
        let at = |row: usize| (row - self.first_row) * self.row;
        &mut self.out[at(rows.start)..at(rows.end)]
    }

    /// The columns `xs` of one row, from channel `first` on.
    pub(super) fn row(&mut self, row: usize, first: usize, xs: &Range<usize>) -> Line<'_> {
        let row = row - self.first_row;
        let at = row * self.row + xs.start * self.column + first - self.origin;
        Line { out: &mut self.out[at..], columns: xs.len(), step: self.column }
    }
}

/// Where 16 channels of some columns of an output row go.
pub(super) struct Line<'a> {
    out: &'a mut [u8],
    columns: usize,
    /// Bytes from one column to the next.
    step: usize,
}

/// The ring of interleaved rows, `[pair % pairs][vector][column][COL]`.
pub(super) struct Sources<'a> {
    pub(super) values: &'a [i16],
    pub(super) cols: usize,
    pub(super) vectors: usize,
    pub(super) vector: usize,
    /// Slot of the window's first pair.
    pub(super) first_slot: usize,
    pub(super) pairs: usize,
}

impl Sources<'_> {
    /// Columns of one slot.
    fn columns(&self, slot: usize) -> &[i16] {
        &self.values[(slot * self.vectors + self.vector) * self.cols * COL..][..self.cols * COL]
    }
}

/// Computes 16 channels of some output columns.
///
/// # Panics
/// If the sizes do not agree.
pub(super) fn run(
    _token: Avx2,
    sources: &Sources<'_>,
    g: &ConvGeometry,
    shift: usize,
    vector: &Vector,
    clamp: &Clamp,
    line: Line<'_>,
) {
    let columns = line.columns;
    assert!(columns > 0 && (columns - 1) * line.step + LANES <= line.out.len());
    assert!((columns - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w < sources.cols);
    assert_eq!(vector.weights[shift].values().len(), sources.pairs * g.kernel_w * COL);
    let (out, weights) = (line.out.as_mut_ptr(), vector.weights[shift].values());
    let row = Row { sources, g, weights, vector, clamp, step: line.step };
    // SAFETY: the token proves AVX2; the sizes were just checked, and the constants are those of
    // the geometry.
    unsafe {
        match (g.kernel_w, g.stride_w, g.dilation_w) {
            (3, 1, 1) => row.run::<3, 1>(columns, out),
            (3, 2, 1) => row.run::<3, 2>(columns, out),
            (5, 1, 1) => row.run::<5, 1>(columns, out),
            (5, 2, 1) => row.run::<5, 2>(columns, out),
            _ => row.run::<0, 0>(columns, out),
        }
    }
}

struct Row<'a> {
    sources: &'a Sources<'a>,
    g: &'a ConvGeometry,
    weights: &'a [i16],
    vector: &'a Vector,
    clamp: &'a Clamp,
    /// Bytes from one output column to the next.
    step: usize,
}

impl Row<'_> {
    /// `KW` and `S` are the filter's columns and the stride, or both 0 for any geometry.
    ///
    /// # Safety
    /// The checks in [`run`] hold.
    #[target_feature(enable = "avx2")]
    unsafe fn run<const KW: usize, const S: usize>(&self, columns: usize, out: *mut u8) {
        let mut x = 0;
        while x < columns {
            let left = columns - x;
            // SAFETY: as many columns are left as the tile takes, see `run`.
            unsafe {
                let to = out.add(x * self.step);
                x += match left {
                    7 | 14 => self.tile::<7, KW, S>(x, to),
                    8.. => self.tile::<8, KW, S>(x, to),
                    4.. => self.tile::<4, KW, S>(x, to),
                    2.. => self.tile::<2, KW, S>(x, to),
                    _ => self.tile::<1, KW, S>(x, to),
                }
            }
        }
    }

    /// # Safety
    /// `T` columns from `x` on exist; `to` can take 16 bytes at each of them.
    #[target_feature(enable = "avx2")]
    unsafe fn tile<const T: usize, const KW: usize, const S: usize>(
        &self,
        x: usize,
        to: *mut u8,
    ) -> usize {
        let mut packed = [[_mm256_setzero_si256(); 4]; 2];
        for (half, packed) in packed.iter_mut().enumerate() {
            // SAFETY: passed on; there are two halves.
            let sums = unsafe { self.accumulate::<T, KW, S>(x, half) };
            // SAFETY: each half has 8 of the 16 multipliers.
            let m = unsafe { _mm256_loadu_ps(self.vector.multiplier.as_ptr().add(half * 8)) };
            let scaled =
                sums.map(|sum| _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), m)));
            for (t, packed) in packed.iter_mut().enumerate().take(T.div_ceil(2)) {
                let pair = _mm256_packs_epi32(scaled[2 * t], scaled[(2 * t + 1).min(T - 1)]);
                *packed = self.clamp.offset(pair);
            }
        }
        let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        for (t, (low, high)) in packed[0].into_iter().zip(packed[1]).enumerate().take(T.div_ceil(2))
        {
            let bytes = self.clamp.pack(low, high);
            let bytes = _mm256_permutevar8x32_epi32(bytes, order);
            // SAFETY: passed on; the second column is stored only if it exists.
            unsafe {
                let to = to.add(2 * t * self.step);
                _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(bytes));
                if 2 * t + 1 < T {
                    let high = _mm256_extracti128_si256::<1>(bytes);
                    _mm_storeu_si128(to.add(self.step).cast(), high);
                }
            }
        }
        T
    }

    /// The sums of 8 channels at `T` columns.
    ///
    /// # Safety
    /// `T` columns from `x` on exist, `half < 2`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn accumulate<const T: usize, const KW: usize, const S: usize>(
        &self,
        x: usize,
        half: usize,
    ) -> [__m256i; T] {
        let pairs = self.sources.pairs;
        let kernel_w = if KW > 0 { KW } else { self.g.kernel_w };
        let stride = if S > 0 { S } else { self.g.stride_w };
        let dilation = if S > 0 { 1 } else { self.g.dilation_w };
        // SAFETY: each half has 8 of the 16 biases.
        let bias = unsafe { _mm256_loadu_si256(self.vector.bias.as_ptr().add(half * 8).cast()) };
        let mut acc = [bias; T];
        let mut slot = self.sources.first_slot;
        for p in 0..pairs {
            let columns = &self.sources.columns(slot)[x * stride * COL + half * HALF..];
            let weights = &self.weights[(half * pairs + p) * kernel_w * HALF..];
            let (columns, weights) = (columns.as_ptr(), weights.as_ptr());
            // SAFETY: tap `j < kernel_w` of the weights; both buffers are aligned to 64 bytes and
            // indexed in whole registers.
            let weight = |j: usize| unsafe { _mm256_load_si256(weights.add(j * HALF).cast()) };
            // SAFETY: column `(T - 1) * stride + (kernel_w - 1) * dilation_w` from `x` on is the
            // last one asked for, and `run` checked that the ring has it.
            let column = |col: usize| unsafe { _mm256_load_si256(columns.add(col * COL).cast()) };
            if S == 1 {
                // Neighbouring outputs share columns: load each once.
                let mut w = [_mm256_setzero_si256(); KW];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = weight(j);
                }
                for col in 0..T + KW - 1 {
                    let x = column(col);
                    for (j, &w) in w.iter().enumerate() {
                        if col >= j && col - j < T {
                            let acc = &mut acc[col - j];
                            *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, w));
                        }
                    }
                }
            } else {
                for j in 0..kernel_w {
                    let w = weight(j);
                    for (t, acc) in acc.iter_mut().enumerate() {
                        let x = column(t * stride + j * dilation);
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, w));
                    }
                }
            }
            slot = if slot + 1 == pairs { 0 } else { slot + 1 };
        }
        acc
    }
}
