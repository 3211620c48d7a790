//! The loop over tiles of dense convolution for AVX2: a few pixels times 16 or 24 channels, all
//! accumulators in registers; and the end of a tile.

use std::arch::x86_64::*;

use super::super::Layer;
use super::panel::{LANES, MAX_COLS, Multiply, Panel};
use crate::Residual;
use crate::isa::Avx2;
use crate::x86::Clamp;

/// Most pixels in one tile.
const MAX_ROWS: usize = 6;

/// The first `NV` vectors of values for each channel of a panel.
///
/// # Safety
/// The CPU has AVX2, and `NV` is at most 3.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn vectors<const NV: usize>(values: &[i32; MAX_COLS]) -> [__m256i; NV] {
    let mut vectors = [_mm256_setzero_si256(); NV];
    for (v, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: `v < NV <= 3` vectors of 8 lie within the 24 values.
        *vector = unsafe { _mm256_loadu_si256(values.as_ptr().add(v * LANES).cast()) };
    }
    vectors
}

/// From accumulators to activations.
pub(super) struct End {
    clamp: Clamp,
    residual: Residual,
}

impl End {
    pub(super) fn new(layer: &Layer<'_>) -> End {
        let none = Residual { zero_point: 0, multiplier: 0.0 };
        End { clamp: Clamp::new(&layer.output), residual: layer.options.residual.unwrap_or(none) }
    }
}

/// The pixels that a block multiplies: the depth of pixel `p` starts at `start + p * stride`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, V> {
    values: &'a [V],
    start: usize,
    stride: usize,
    count: usize,
}

impl<'a, V> Rows<'a, V> {
    pub(super) fn new(values: &'a [V], start: usize, stride: usize, count: usize) -> Rows<'a, V> {
        Rows { values, start, stride, count }
    }
}

/// Multiplies all rows by one panel and writes its channels of `out` (`[rows][out_c]`).
///
/// # Panics
/// If the sizes of rows, panel and output do not agree.
pub(super) fn run<W: Multiply>(
    _token: Avx2,
    rows: Rows<'_, W::Value>,
    panel: &Panel<W>,
    end: &End,
    residual: Option<&[u8]>,
    out: &mut [u8],
    out_c: usize,
) {
    assert!(residual.is_none_or(|residual| residual.len() == out.len()));
    assert!(rows.count > 0 && rows.count * out_c == out.len());
    let last = rows.start + (rows.count - 1) * rows.stride;
    assert!(last + panel.weights.reach() <= rows.values.len());
    assert!(panel.first + panel.cols <= out_c);
    // SAFETY: the token proves AVX2; the sizes were just checked.
    unsafe {
        match panel.vectors {
            2 => run_avx2::<W, 2>(rows, panel, end, residual, out, out_c),
            _ => run_avx2::<W, 3>(rows, panel, end, residual, out, out_c),
        }
    }
}

/// # Safety
/// The checks in [`run`] hold, and the panel has `NV` vectors.
#[target_feature(enable = "avx2")]
unsafe fn run_avx2<W: Multiply, const NV: usize>(
    rows: Rows<'_, W::Value>,
    panel: &Panel<W>,
    end: &End,
    residual: Option<&[u8]>,
    out: &mut [u8],
    out_c: usize,
) {
    let most = if NV == 2 { W::MAX_ROWS } else { 3 };
    let whole = panel.cols == NV * LANES;
    let mut row = 0;
    for step in even_tiles(rows.count, most) {
        let mut tile = Tile {
            a: rows.values[rows.start + row * rows.stride..].as_ptr(),
            stride: rows.stride,
            panel,
            end,
            residual: None,
        };
        let at = row * out_c + panel.first;
        let target = &mut out[at..];
        if whole {
            tile.residual = residual.map(|all| &all[at..]);
            // SAFETY: `step` rows follow in `values`; each output row has `out_c` elements, of
            // which those of the panel (all of its columns exist) follow `panel.first`; so has
            // each row of the residual.
            unsafe { tile.run::<NV>(step, target.as_mut_ptr(), out_c) };
        } else {
            let mut added = [0u8; MAX_ROWS * MAX_COLS];
            if let Some(residual) = residual {
                let from = residual[at..].chunks(out_c).take(step);
                for (to, from) in added.chunks_exact_mut(MAX_COLS).zip(from) {
                    to[..panel.cols].copy_from_slice(&from[..panel.cols]);
                }
                tile.residual = Some(&added);
            }
            let mut whole = [0u8; MAX_ROWS * MAX_COLS];
            // SAFETY: as above, and the arrays hold any tile.
            unsafe { tile.run::<NV>(step, whole.as_mut_ptr(), MAX_COLS) };
            for (to, from) in target.chunks_mut(out_c).zip(whole.chunks_exact(MAX_COLS)).take(step)
            {
                to[..panel.cols].copy_from_slice(&from[..panel.cols]);
            }
        }
        row += step;
    }
}

/// The sizes of as few tiles as `count` takes, nearly the same: a small last one would use few
/// accumulators.
pub(crate) fn even_tiles(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let tiles = count.div_ceil(most);
    let (size, larger) = (count / tiles, count % tiles);
    (0..tiles).map(move |tile| size + usize::from(tile < larger))
}

/// The operands of one tile.
struct Tile<'a, W: Multiply> {
    a: *const W::Value,
    stride: usize,
    panel: &'a Panel<W>,
    end: &'a End,
    /// Rows as far apart as the output's.
    residual: Option<&'a [u8]>,
}

impl<W: Multiply> Tile<'_, W> {
    /// # Safety
    /// `rows` rows, `stride` apart, follow in `a`; `out` can take (and the residual, if there is
    /// one, has) `rows` rows of `NV * 8` bytes, `out_stride` apart; the panel has `NV` vectors.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn run<const NV: usize>(&self, rows: usize, out: *mut u8, out_stride: usize) {
        // SAFETY: passed on.
        unsafe {
            match rows {
                1 => self.fixed::<1, NV>(out, out_stride),
                2 => self.fixed::<2, NV>(out, out_stride),
                3 => self.fixed::<3, NV>(out, out_stride),
                4 if NV == 2 => self.fixed::<4, NV>(out, out_stride),
                5 if NV == 2 && W::MAX_ROWS > 4 => self.fixed::<5, NV>(out, out_stride),
                6 if NV == 2 && W::MAX_ROWS > 4 => self.fixed::<6, NV>(out, out_stride),
                rows => unreachable!("a tile of {rows} rows"),
            }
        }
    }

    /// # Safety
    /// As [`Tile::run`], with `MR` rows.
    #[target_feature(enable = "avx2")]
    unsafe fn fixed<const MR: usize, const NV: usize>(&self, out: *mut u8, out_stride: usize) {
        // SAFETY: passed on.
        let acc = unsafe {
            self.panel.weights.accumulate::<MR, NV, 1>(&self.panel.bias, self.a, self.stride, 0)
        };
        // SAFETY: passed on; the panel's multipliers are `MAX_COLS` long.
        unsafe {
            match self.residual {
                None => self.store::<MR, NV, false>(acc, &[], out, out_stride),
                Some(residual) => self.store::<MR, NV, true>(acc, residual, out, out_stride),
            }
        }
    }

    /// # Safety
    /// `out` can take (and `residual`, if `ADD`, has) `MR` rows of `NV * 8` bytes, `out_stride`
    /// apart.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn store<const MR: usize, const NV: usize, const ADD: bool>(
        &self,
        acc: [[__m256i; NV]; MR],
        residual: &[u8],
        out: *mut u8,
        out_stride: usize,
    ) {
        let scaled = |r: usize, v: usize| {
            // A missing partner of the last odd row repeats that row; its half is not stored.
            let r = r.min(MR - 1);
            let acc = acc[r][v];
            // SAFETY: `v < NV <= 3` vectors of 8 lie within the 24 multipliers.
            let m = unsafe { _mm256_loadu_ps(self.panel.multiplier.as_ptr().add(v * LANES)) };
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), m);
            if !ADD {
                return _mm256_cvtps_epi32(value);
            }
            // SAFETY: row `r < MR` of the residual has `NV * 8` bytes.
            let codes = unsafe { self.residual_codes(residual.as_ptr().add(r * out_stride), v) };
            let multiplier = _mm256_set1_ps(self.end.residual.multiplier);
            _mm256_cvtps_epi32(_mm256_add_ps(value, _mm256_mul_ps(codes, multiplier)))
        };
        for r in (0..MR).step_by(2) {
            let a = self.end.clamp.offset(_mm256_packs_epi32(scaled(r, 0), scaled(r, 1)));
            let b = if r + 1 < MR {
                self.end.clamp.offset(_mm256_packs_epi32(scaled(r + 1, 0), scaled(r + 1, 1)))
            } else {
                a
            };
            let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(self.end.clamp.pack(a, b));
            // SAFETY: row `r` (and `r + 1` if there is one) takes 16 bytes.
            unsafe {
                let to = out.add(r * out_stride);
                _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(bytes));
                if r + 1 < MR {
                    let high = _mm256_extracti128_si256::<1>(bytes);
                    _mm_storeu_si128(to.add(out_stride).cast(), high);
                }
            }
        }
        if NV < 3 {
            return;
        }
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for r in (0..MR).step_by(4) {
            let ab = _mm256_packs_epi32(scaled(r, NV - 1), scaled(r + 1, NV - 1));
            let cd = _mm256_packs_epi32(scaled(r + 2, NV - 1), scaled(r + 3, NV - 1));
            let bytes = self.end.clamp.pack(self.end.clamp.offset(ab), self.end.clamp.offset(cd));
            let bytes = _mm256_permutevar8x32_epi32(bytes, order);
            let low = _mm256_castsi256_si128(bytes);
            let high = _mm256_extracti128_si256::<1>(bytes);
            let eights = [low, _mm_unpackhi_epi64(low, low), high, _mm_unpackhi_epi64(high, high)];
            for (s, eight) in eights.into_iter().enumerate().take(MR - r) {
                // SAFETY: row `r + s` takes 24 bytes, the last 8 of them here.
                unsafe { _mm_storel_epi64(out.add((r + s) * out_stride + 16).cast(), eight) };
            }
        }
    }

    /// The residual of vector `v`'s channels less its zero point.
    ///
    /// # Safety
    /// `row` has `v * 8 + 8` bytes, and 16 if `v < 2`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn residual_codes(&self, row: *const u8, v: usize) -> __m256 {
        let bytes = if v < 2 {
            // SAFETY: passed on.
            let sixteen = unsafe { _mm_loadu_si128(row.cast()) };
            if v == 0 {
                _mm_shuffle_epi32::<0b00_00_10_00>(sixteen)
            } else {
                _mm_shuffle_epi32::<0b00_00_11_01>(sixteen)
            }
        } else {
            // SAFETY: passed on.
            unsafe { _mm_loadl_epi64(row.add(v * LANES).cast()) }
        };
        let zero_point = _mm256_set1_epi32(i32::from(self.end.residual.zero_point));
        _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), zero_point))
    }
}
