//! The inner loop of dense convolution for AVX2: a few pixels times 16 or 24 channels, all
//! accumulators in registers.

use std::arch::x86_64::*;

use super::Layer;
use crate::Residual;
use crate::isa::Avx2;
use crate::requantize::folded_bias;
use crate::scratch::Packed16;
use crate::x86::Clamp;

/// Output channels that one vector of accumulators holds.
const LANES: usize = 8;
/// Most channels in one panel.
const MAX_COLS: usize = 3 * LANES;
/// Most pixels in one tile.
const MAX_ROWS: usize = 6;

/// Which channel of its panel lane `l` of vector `v` holds. Vectors 0 and 1 interleave by fours,
/// so that `vpackssdw`, which packs within 128-bit halves, puts 16 channels in their order.
fn channel_of(v: usize, l: usize) -> usize {
    match v {
        0 | 1 => l / 4 * 8 + v * 4 + l % 4,
        _ => v * LANES + l,
    }
}

/// The weights of 16 or 24 output channels, `[pair][vector][lane][2]`.
pub(super) struct Panel {
    first: usize,
    /// Channels that exist; the rest of the panel is zero.
    cols: usize,
    vectors: usize,
    pairs: usize,
    weights: Packed16,
    /// `[vector][lane]`, the input's zero point folded in.
    bias: [i32; MAX_COLS],
    /// `[vector][lane]`.
    multiplier: [f32; MAX_COLS],
}

impl Panel {
    /// Splits a layer's channels into panels: as many of 16 as possible, one of 24 if the number
    /// of (started) eights is odd.
    pub(super) fn pack(layer: &Layer<'_>, depth: usize) -> Vec<Panel> {
        let channels = layer.geometry.out_c;
        let eights = channels.div_ceil(LANES);
        let mut panels = Vec::new();
        let mut first = 0;
        while first < channels {
            let vectors = if eights % 2 == 1 && eights > 1 && first == 0 { 3 } else { 2 };
            panels.push(Panel::new(layer, depth, first, vectors));
            first += vectors * LANES;
        }
        panels
    }

    fn new(layer: &Layer<'_>, depth: usize, first: usize, vectors: usize) -> Panel {
        let pairs = depth.div_ceil(2);
        let cols = (layer.geometry.out_c - first).min(vectors * LANES);
        let mut panel = Panel {
            first,
            cols,
            vectors,
            pairs,
            weights: Packed16::default(),
            bias: [0; MAX_COLS],
            multiplier: [0.0; MAX_COLS],
        };
        let slots = || {
            let all = (0..vectors).flat_map(|v| (0..LANES).map(move |l| (v, l)));
            all.map(|(v, l)| (v * LANES + l, channel_of(v, l))).filter(|&(_, c)| c < cols)
        };
        let row = |c: usize| &layer.weights[(first + c) * depth..][..depth];
        panel.weights = Packed16::new(pairs * vectors * LANES * 2, |packed| {
            // Along the packed weights, not along the rows: each is written once, in order.
            let mut rows: [&[i16]; MAX_COLS] = [&[]; MAX_COLS];
            slots().for_each(|(slot, c)| rows[slot] = row(c));
            for (pair, group) in packed.chunks_exact_mut(vectors * LANES * 2).enumerate() {
                for (to, row) in group.as_chunks_mut::<2>().0.iter_mut().zip(rows) {
                    match row.get(pair * 2..) {
                        Some(&[a, b, ..]) => *to = [a, b],
                        Some(&[a]) => to[0] = a,
                        _ => {}
                    }
                }
            }
        });
        for (slot, c) in slots() {
            panel.bias[slot] = folded_bias(
                row(c),
                i32::from(layer.input.zero_point),
                layer.output.bias[first + c],
            );
            panel.multiplier[slot] = layer.output.multiplier[first + c];
        }
        panel
    }

    pub(super) fn vectors(&self) -> usize {
        self.vectors
    }
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

/// Widened activations, one row per pixel.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    values: &'a [i16],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// If `values` is not a whole number of rows, or the stride is odd.
    pub(super) fn new(values: &'a [i16], stride: usize) -> Rows<'a> {
        assert!(stride.is_multiple_of(2) && values.len().is_multiple_of(stride));
        Rows { values, stride }
    }
}

/// Multiplies all rows by one panel and writes its channels of `out` (`[rows][out_c]`).
///
/// # Panics
/// If the sizes of rows, panel and output do not agree.
pub(super) fn run(
    _token: Avx2,
    rows: Rows<'_>,
    panel: &Panel,
    end: &End,
    residual: Option<&[u8]>,
    out: &mut [u8],
    out_c: usize,
) {
    assert!(residual.is_none_or(|residual| residual.len() == out.len()));
    assert_eq!(rows.stride, panel.pairs * 2);
    assert_eq!(rows.values.len() / rows.stride * out_c, out.len());
    assert!(panel.first + panel.cols <= out_c);
    assert_eq!(panel.weights.values().len(), panel.pairs * panel.vectors * LANES * 2);
    // SAFETY: the token proves AVX2; the sizes were just checked.
    unsafe {
        match panel.vectors {
            2 => run_avx2::<6, 2>(rows, panel, end, residual, out, out_c),
            _ => run_avx2::<3, 3>(rows, panel, end, residual, out, out_c),
        }
    }
}

/// # Safety
/// The checks in [`run`] hold, and the panel has `NV` vectors.
#[target_feature(enable = "avx2")]
unsafe fn run_avx2<const MR: usize, const NV: usize>(
    rows: Rows<'_>,
    panel: &Panel,
    end: &End,
    residual: Option<&[u8]>,
    out: &mut [u8],
    out_c: usize,
) {
    let count = rows.values.len() / rows.stride;
    let whole = panel.cols == NV * LANES;
    let mut row = 0;
    while row < count {
        let step = MR.min(count - row);
        let mut tile = Tile {
            a: &rows.values[row * rows.stride..],
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

/// The operands of one tile.
struct Tile<'a> {
    a: &'a [i16],
    stride: usize,
    panel: &'a Panel,
    end: &'a End,
    /// Rows as far apart as the output's.
    residual: Option<&'a [u8]>,
}

impl Tile<'_> {
    /// # Safety
    /// `rows` rows of `stride` values follow in `a`; `out` can take (and the residual, if there is
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
                4 => self.fixed::<4, NV>(out, out_stride),
                5 => self.fixed::<5, NV>(out, out_stride),
                _ => self.fixed::<6, NV>(out, out_stride),
            }
        }
    }

    /// # Safety
    /// As [`Tile::run`], with `MR` rows.
    #[target_feature(enable = "avx2")]
    unsafe fn fixed<const MR: usize, const NV: usize>(&self, out: *mut u8, out_stride: usize) {
        // SAFETY: passed on.
        let acc = unsafe { self.accumulate::<MR, NV>() };
        // SAFETY: passed on; the panel's multipliers are `MAX_COLS` long.
        unsafe {
            match self.residual {
                None => self.store::<MR, NV, false>(acc, &[], out, out_stride),
                Some(residual) => self.store::<MR, NV, true>(acc, residual, out, out_stride),
            }
        }
    }

    /// # Safety
    /// `MR` rows of `stride` values follow in `a`; the panel has `NV` vectors.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn accumulate<const MR: usize, const NV: usize>(&self) -> [[__m256i; NV]; MR] {
        let zero = _mm256_setzero_si256();
        let mut bias = [zero; NV];
        for (v, bias) in bias.iter_mut().enumerate() {
            // SAFETY: `v < NV <= 3` vectors of 8 lie within the 24 biases.
            *bias = unsafe { _mm256_loadu_si256(self.panel.bias.as_ptr().add(v * LANES).cast()) };
        }
        let mut acc = [bias; MR];
        let pairs = self.panel.pairs;
        // Two at a time: less of the loop, which at this density the decoder would notice.
        for pair in (0..pairs / 2 * 2).step_by(2) {
            // SAFETY: passed on; both pairs exist.
            unsafe {
                self.step::<MR, NV>(pair, &mut acc);
                self.step::<MR, NV>(pair + 1, &mut acc);
            }
        }
        if pairs % 2 == 1 {
            // SAFETY: passed on; the last pair exists.
            unsafe { self.step::<MR, NV>(pairs - 1, &mut acc) };
        }
        acc
    }

    /// Multiplies one pair of values of depth.
    ///
    /// # Safety
    /// As [`Tile::accumulate`], and `pair < self.panel.pairs`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn step<const MR: usize, const NV: usize>(
        &self,
        pair: usize,
        acc: &mut [[__m256i; NV]; MR],
    ) {
        let w = self.panel.weights.values().as_ptr();
        let mut weights = [_mm256_setzero_si256(); NV];
        for (v, weights) in weights.iter_mut().enumerate() {
            // SAFETY: the panel holds `pairs * NV` vectors, aligned to their size.
            *weights = unsafe { _mm256_load_si256(w.add((pair * NV + v) * LANES * 2).cast()) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            let at = r * self.stride + 2 * pair;
            // SAFETY: row `r < MR` has `2 * pairs` values.
            let pair = unsafe { self.a.as_ptr().add(at).cast::<i32>().read_unaligned() };
            let x = _mm256_set1_epi32(pair);
            for (acc, &weights) in acc.iter_mut().zip(&weights) {
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, weights));
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
