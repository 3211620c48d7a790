//! The inner loop of depthwise convolution for AVX-512 with VNNI: up to four output columns of 32
//! channels, in one or two output rows.

use std::arch::x86_64::*;
use std::ops::Range;

use super::filters::{Filters, LANES, VECTOR, vectors};
use super::{CHANNELS, COLUMN};
use crate::conv::vnni::store::{Finish, mask};
use crate::isa::Avx512Vnni;

/// Most output columns of a tile.
const TILE: usize = 4;

/// Most ring columns that a tile reads.
const MAX_COLUMNS: usize = (TILE - 1) * 2 + 5;

/// Where output rows go.
pub(crate) struct Target<'a> {
    out: &'a mut [u8],
    /// Bytes from one output row to the next.
    row: usize,
    /// Bytes from one output column to the next.
    column: usize,
    /// Channels that exist, at most 32.
    channels: usize,
    /// The output row that comes first.
    origin: usize,
}

impl<'a> Target<'a> {
    pub(crate) fn new(out: &'a mut [u8], row: usize, column: usize, channels: usize) -> Target<'a> {
        Target { out, row, column, channels, origin: 0 }
    }

    /// The same with another output row in front.
    pub(crate) fn starting_at(self, origin: usize) -> Target<'a> {
        Target { origin, ..self }
    }

    /// Lets another output row come first.
    pub(crate) fn restart(&mut self, origin: usize) {
        self.origin = origin;
    }

    /// The bytes of some rows.
    pub(crate) fn rows(&mut self, rows: &Range<usize>) -> &mut [u8] {
        &mut self.out[(rows.start - self.origin) * self.row..(rows.end - self.origin) * self.row]
    }
}

/// What gives one output row, or two.
pub(super) struct Step<'a> {
    /// The row pairs of the window; the last one repeats where there are but two.
    pub(super) sources: [&'a [u8]; 3],
    pub(super) filters: &'a Filters,
    pub(super) finish: &'a Finish,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    /// Output columns.
    pub(super) columns: usize,
    /// The output row of unshifted filters.
    pub(super) first_row: usize,
    /// The output rows to write, one or both.
    pub(super) wanted: Range<usize>,
}

/// Computes the wanted rows.
///
/// # Panics
/// If the sizes do not agree.
pub(super) fn run(_token: Avx512Vnni, step: &Step<'_>, target: &mut Target<'_>) {
    let origin = target.origin;
    let reach = (step.columns - 1) * step.stride + step.kernel + 1;
    assert!(step.sources.iter().all(|source| source.len() >= reach * COLUMN));
    assert_eq!(step.filters.weights().len(), vectors(step.kernel) * 4 * VECTOR);
    assert!((1..=CHANNELS).contains(&target.channels) && target.channels <= target.column);
    assert!(step.wanted.start >= origin && !step.wanted.is_empty());
    let last = (step.wanted.end - 1 - origin) * target.row;
    assert!(last + (step.columns - 1) * target.column + target.channels <= target.out.len());
    let base = target.out.as_mut_ptr();
    let rows = [0, 1].map(|i| {
        let row = step.first_row + i;
        let wanted = step.wanted.contains(&row);
        // SAFETY: the last wanted row was just checked to lie inside.
        wanted.then(|| unsafe { base.add((row - origin) * target.row) })
    });
    let tiles = Tiles { step, rows, column: target.column, channels: target.channels };
    // SAFETY: the token proves the instruction set; the sizes were just checked.
    unsafe {
        match (step.kernel, step.stride) {
            (3, 1) => tiles.run::<3, 1, 2>(),
            (3, 2) => tiles.run::<3, 2, 1>(),
            (5, 1) => tiles.run::<5, 1, 2>(),
            (5, 2) => tiles.run::<5, 2, 1>(),
            other => unreachable!("filter and stride {other:?}"),
        }
    }
}

struct Tiles<'a> {
    step: &'a Step<'a>,
    /// Where the two output rows start, those that are wanted.
    rows: [Option<*mut u8>; 2],
    column: usize,
    channels: usize,
}

impl Tiles<'_> {
    /// A filter of `K` by `K`, stride `S`, giving `R` rows.
    ///
    /// # Safety
    /// The checks in [`run`] hold.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const K: usize, const S: usize, const R: usize>(&self) {
        let columns = self.step.columns;
        let tiles = columns.div_ceil(TILE);
        for tile in 0..tiles {
            let (x, end) = (tile * columns / tiles, (tile + 1) * columns / tiles);
            // SAFETY: `end - x` columns follow.
            unsafe {
                match end - x {
                    1 => self.tile::<1, K, S, R>(x),
                    2 => self.tile::<2, K, S, R>(x),
                    3 => self.tile::<3, K, S, R>(x),
                    _ => self.tile::<4, K, S, R>(x),
                }
            }
        }
    }

    /// # Safety
    /// `T` columns from `x` on exist.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile<const T: usize, const K: usize, const S: usize, const R: usize>(
        &self,
        x: usize,
    ) {
        // SAFETY: passed on.
        let (low, high) = unsafe {
            if K == 3 {
                self.accumulate_3x3::<T, S, R>(x)
            } else {
                (self.accumulate_5x5::<T, S, R, 0>(x), self.accumulate_5x5::<T, S, R, 1>(x))
            }
        };
        let finish = self.step.finish;
        for (r, row) in self.rows.into_iter().enumerate().take(R) {
            let Some(row) = row else { continue };
            let mut narrow = low[r];
            for (low, &high) in narrow.iter_mut().zip(&high[r]) {
                *low = finish.narrow(*low, high);
            }
            for t in (0..T).step_by(2) {
                let bytes = finish.pack(narrow[t], narrow[(t + 1).min(T - 1)]);
                let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
                let bytes = _mm512_permutexvar_epi64(order, bytes);
                // SAFETY: passed on; the second column is stored only if it exists.
                unsafe {
                    let to = row.add((x + t) * self.column);
                    self.put(to, _mm512_castsi512_si256(bytes));
                    if t + 1 < T {
                        self.put(to.add(self.column), _mm512_extracti64x4_epi64::<1>(bytes));
                    }
                }
            }
        }
    }

    /// # Safety
    /// The channels that exist can be written at `to`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn put(&self, to: *mut u8, bytes: __m256i) {
        // SAFETY: passed on.
        unsafe {
            if self.channels == CHANNELS {
                _mm256_storeu_si256(to.cast(), bytes);
            } else {
                _mm256_mask_storeu_epi8(to.cast(), mask(self.channels) as u32, bytes);
            }
        }
    }

    /// Four taps of 16 channels: the rows of two pairs (or of two columns of one pair) side by
    /// side. Arguments are pair and column.
    ///
    /// # Safety
    /// The columns exist; `HALF < 2`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn four<const HALF: usize>(&self, a: (usize, usize), b: (usize, usize)) -> __m512i {
        // SAFETY: passed on.
        let [a, b] = [a, b].map(|(pair, column)| unsafe {
            let source = self.step.sources.get_unchecked(pair).as_ptr();
            _mm512_loadu_si512(source.add(column * COLUMN).cast())
        });
        if HALF == 0 { _mm512_unpacklo_epi16(a, b) } else { _mm512_unpackhi_epi16(a, b) }
    }

    /// # Safety
    /// The filter has this vector; `shift` and `half` are below 2.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn weight(&self, vector: usize, shift: usize, half: usize) -> __m512i {
        let at = ((vector * 2 + shift) * 2 + half) * VECTOR;
        // SAFETY: passed on; the weights are aligned to their vectors.
        unsafe { _mm512_load_si512(self.step.filters.weights().as_ptr().add(at).cast()) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn bias(&self, half: usize) -> __m512i {
        let lanes = &self.step.filters.bias[half * LANES..][..LANES];
        // SAFETY: a load of 16 values.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    }

    /// In units of the output, rounded.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn scaled<const T: usize, const R: usize>(
        &self,
        mut acc: [[__m512i; T]; R],
        half: usize,
    ) -> [[__m512i; T]; R] {
        let lanes = &self.step.filters.multiplier[half * LANES..][..LANES];
        // SAFETY: a load of 16 values.
        let m = unsafe { _mm512_loadu_ps(lanes.as_ptr()) };
        for row in &mut acc {
            for sum in row {
                *sum = self.step.finish.scaled(*sum, m);
            }
        }
        acc
    }

    /// Both halves of the channels in units of the output, rounded: `[row][column]`. Each column
    /// is loaded once, the filter stays in registers.
    ///
    /// # Safety
    /// `T` columns from `x` on exist.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn accumulate_3x3<const T: usize, const S: usize, const R: usize>(
        &self,
        x: usize,
    ) -> ([[__m512i; T]; R], [[__m512i; T]; R]) {
        let mut low = [[self.bias(0); T]; R];
        let mut high = [[self.bias(1); T]; R];
        let mut add = |four: [__m512i; 2], column: usize, tap: usize| {
            // Output column `t` has this tap here if `t * S + tap == column`.
            let Some(at) = column.checked_sub(tap).filter(|at| at.is_multiple_of(S)) else {
                return;
            };
            let t = at / S;
            if t >= T {
                return;
            }
            for shift in 0..R {
                // SAFETY: a filter of 3x3 has three vectors.
                let [v, w] = unsafe { [self.weight(tap, shift, 0), self.weight(tap, shift, 1)] };
                low[shift][t] = _mm512_dpbusd_epi32(low[shift][t], four[0], v);
                high[shift][t] = _mm512_dpbusd_epi32(high[shift][t], four[1], w);
            }
        };
        for column in 0..(T - 1) * S + 3 {
            let at = x * S + column;
            // SAFETY: the last column asked for is `(T - 1) * S + 2`, and `run` checked it.
            let four =
                unsafe { [self.four::<0>((0, at), (1, at)), self.four::<1>((0, at), (1, at))] };
            add(four, column, 0);
            add(four, column, 1);
            add(four, column, 2);
        }
        (self.scaled(low, 0), self.scaled(high, 1))
    }

    /// One half of the channels in units of the output, rounded: `[row][column]`. The columns stay
    /// in registers; each vector of the filter is read once.
    ///
    /// # Safety
    /// `T` columns from `x` on exist, `HALF < 2`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn accumulate_5x5<const T: usize, const S: usize, const R: usize, const HALF: usize>(
        &self,
        x: usize,
    ) -> [[__m512i; T]; R] {
        let mut acc = [[self.bias(HALF); T]; R];
        let reach = (T - 1) * S + 5;
        let columns = |pairs: [usize; 2], step: usize| -> [__m512i; MAX_COLUMNS] {
            std::array::from_fn(|column| {
                let at = x * S + column.min(reach - 1);
                // SAFETY: the last column asked for is `(T - 1) * S + 5`, and `run` checked it.
                unsafe { self.four::<HALF>((pairs[0], at), (pairs[1], at + step)) }
            })
        };
        let rows = columns([0, 1], 0);
        for tap in 0..5 {
            for (shift, acc) in acc.iter_mut().enumerate() {
                // SAFETY: a filter of 5x5 has eight vectors.
                let w = unsafe { self.weight(tap, shift, HALF) };
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm512_dpbusd_epi32(*acc, rows[t * S + tap], w);
                }
            }
        }
        let last = columns([2, 2], 1);
        for two in 0..3 {
            for (shift, acc) in acc.iter_mut().enumerate() {
                // SAFETY: as above.
                let w = unsafe { self.weight(5 + two, shift, HALF) };
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm512_dpbusd_epi32(*acc, last[t * S + 2 * two], w);
                }
            }
        }
        self.scaled(acc, HALF)
    }
}
