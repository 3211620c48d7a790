//! The fused pair for AVX2: the expansion writes row pairs straight into the ring that the
//! depthwise tile reads ([`crate::depthwise::avx2`]), 16 channels at a time where 32 would leave
//! the first-level cache. What it writes is less the zero point: nobody needs to add it.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Band, Tables, restore};
use crate::conv::avx2::bytes::{self, Bytes};
use crate::conv::avx2::panel::{Depth, Multiply, Panel};
use crate::conv::avx2::tile::even_tiles;
use crate::conv::avx2::wide::Wide;
use crate::conv::avx2::{cheap, fits_seven_bits, origin};
use crate::conv::{self, BLOCK_CHANNELS};
use crate::depthwise;
use crate::depthwise::avx2::{COL, LANES, RING_BYTES, Rows, Target};
use crate::isa::Avx2;
use crate::lookup::avx2::run_wide;
use crate::requantize::Reach;
use crate::scratch::as_i16s_mut;
use crate::x86::widen;
use crate::{ConvGeometry, Requantize, Scratch};

/// Vectors of accumulators for 16 channels.
const VECTORS: usize = 2;
/// Vectors of 16 channels of one block.
const BLOCK_VECTORS: usize = BLOCK_CHANNELS / LANES;

pub(super) struct Kernel {
    token: Avx2,
    expand: ConvGeometry,
    input_zero_point: u8,
    /// Values of one row of the band, or 0 where the image itself is read.
    band_row: usize,
    body: Body,
    finish: Finish,
    rows: Rows,
    /// Vectors of 16 channels that go through the ring together.
    group: usize,
    /// What the padding of the depthwise convolution holds, as the ring does.
    outside: i16,
    tables: Tables,
}

enum Body {
    Wide(Vec<Panel<Wide>>),
    /// With what is subtracted from every activation, and whether they then fit seven bits.
    Bytes(Vec<Panel<Bytes>>, u8, bool),
}

impl Kernel {
    /// Whether this kernel computes the two layers.
    pub(super) fn takes(
        (expand, expand_reach): (&conv::Layer<'_>, Reach),
        (second, second_reach): (&depthwise::Layer<'_>, Reach),
    ) -> bool {
        let dilation = |g: &ConvGeometry| (g.dilation_h, g.dilation_w);
        expand_reach.converts_exactly
            && second_reach.converts_exactly
            && dilation(&expand.geometry) == (1, 1)
            && dilation(&second.geometry) == (1, 1)
    }

    pub(super) fn new(
        token: Avx2,
        (expand, reach): (&conv::Layer<'_>, Reach),
        second: &depthwise::Layer<'_>,
        tables: Tables,
    ) -> Kernel {
        let g = expand.geometry;
        // A table gives codes as they are.
        let origin = if tables.first.is_some() { 0 } else { expand.output.zero_point };
        let rows = Rows::new(token, second, (0..g.out_c).step_by(LANES), origin);
        let run = g.kernel_w * g.in_c;
        // A last step may reach beyond the last column.
        let band_row = (g.out_w - 1) * g.stride_w * g.in_c + run.next_multiple_of(bytes::STEP);
        let depth = Depth::in_runs(g.kernel_h * run, run, band_row);
        let (body, in_place) = Body::new(expand, reach, depth, rows.vectors());
        let ring = rows.pairs() * rows.ring_columns(rows.geometry().out_w) * COL * size_of::<i16>();
        Kernel {
            token,
            expand: g,
            input_zero_point: expand.input.zero_point,
            band_row: if in_place { 0 } else { band_row },
            body,
            finish: Finish::new(&expand.output),
            rows,
            group: (RING_BYTES / ring).clamp(1, BLOCK_VECTORS),
            outside: i16::from(second.input.zero_point) - i16::from(origin),
            tables,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        let d = self.rows.geometry();
        let seven_bits = match self.body {
            Body::Wide(_) => None,
            Body::Bytes(_, _, seven_bits) => Some(seven_bits),
        };
        match (seven_bits, d.kernel_w, d.stride_w) {
            (None, 3, 1) => "expand_depthwise_u8s16_avx2_k3s1_6x16",
            (None, 3, 2) => "expand_depthwise_u8s16_avx2_k3s2_6x16",
            (None, 5, 1) => "expand_depthwise_u8s16_avx2_k5s1_6x16",
            (None, 5, 2) => "expand_depthwise_u8s16_avx2_k5s2_6x16",
            (None, _, _) => "expand_depthwise_u8s16_avx2_6x16",
            (Some(true), 3, 1) => "expand_depthwise_u7s8_avx2_k3s1_4x16",
            (Some(true), 3, 2) => "expand_depthwise_u7s8_avx2_k3s2_4x16",
            (Some(true), 5, 1) => "expand_depthwise_u7s8_avx2_k5s1_4x16",
            (Some(true), 5, 2) => "expand_depthwise_u7s8_avx2_k5s2_4x16",
            (Some(true), _, _) => "expand_depthwise_u7s8_avx2_4x16",
            (Some(false), 3, 1) => "expand_depthwise_u8s8_avx2_k3s1_4x16",
            (Some(false), 3, 2) => "expand_depthwise_u8s8_avx2_k3s2_4x16",
            (Some(false), 5, 1) => "expand_depthwise_u8s8_avx2_k5s1_4x16",
            (Some(false), 5, 2) => "expand_depthwise_u8s8_avx2_k5s2_4x16",
            (Some(false), _, _) => "expand_depthwise_u8s8_avx2_4x16",
        }
    }

    /// Computes the rows `rows` of one block of channels: `output` is `[rows][out_w][32]`.
    pub(super) fn run(
        &self,
        input: &[u8],
        block: usize,
        rows: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let row_len = self.rows.geometry().out_w * BLOCK_CHANNELS;
        let ([band, values], _) = scratch.pieces_and_inner(self.working(self.group));
        let mut target = Target::new(output, row_len, BLOCK_CHANNELS, block * BLOCK_CHANNELS)
            .starting_at(rows.start);
        let end = ((block + 1) * BLOCK_VECTORS).min(self.rows.vectors());
        for first in (block * BLOCK_VECTORS..end).step_by(self.group) {
            let vectors = first..(first + self.group).min(end);
            let last = vectors.end == end;
            let done = |rows: Range<usize>, target: &mut Target<'_>| {
                if last {
                    self.tables.finish(target.rows(&rows));
                }
            };
            self.run_vectors(input, vectors, rows.clone(), [band, values], &mut target, done);
        }
    }

    /// Computes the rows `rows` of the first block of channels, and gives `each` one at a time.
    pub(super) fn run_by_bands(
        &self,
        input: &[u8],
        rows: Range<usize>,
        scratch: &mut Scratch,
        mut each: impl FnMut(Band<'_>, &mut Scratch),
    ) {
        let row_len = self.rows.geometry().out_w * BLOCK_CHANNELS;
        let vectors = 0..self.rows.vectors();
        let [band_len, values_len] = self.working(vectors.len());
        let ([band, values, output], inner) =
            scratch.pieces_and_inner([band_len, values_len, row_len]);
        let mut target = Target::new(output, row_len, BLOCK_CHANNELS, 0).starting_at(rows.start);
        let done = |rows: Range<usize>, target: &mut Target<'_>| {
            let codes = target.rows(&rows);
            self.tables.finish(codes);
            each(Band { rows: rows.clone(), codes }, inner);
            target.restart(rows.end);
        };
        self.run_vectors(input, vectors, rows, [band, values], &mut target, done);
    }

    /// Bytes of working memory: of the band, and of its values and the ring of some vectors, 16 bits
    /// wide.
    fn working(&self, vectors: usize) -> [usize; 2] {
        let ring_len = self.rows.pairs() * self.slot_len() * vectors;
        [self.band_len(), (self.wide_len() + ring_len) * size_of::<i16>()]
    }

    fn band_len(&self) -> usize {
        self.band_row * (self.expand.kernel_h + self.expand.stride_h)
    }

    fn wide_len(&self) -> usize {
        match self.body {
            Body::Wide(_) => self.band_len().next_multiple_of(COL),
            Body::Bytes(..) => 0,
        }
    }

    /// Values of one row pair of one vector.
    fn slot_len(&self) -> usize {
        self.rows.ring_columns(self.rows.geometry().out_w) * COL
    }

    fn run_vectors(
        &self,
        input: &[u8],
        vectors: Range<usize>,
        rows: Range<usize>,
        [band, values]: [&mut [u8]; 2],
        target: &mut Target<'_>,
        done: impl FnMut(Range<usize>, &mut Target<'_>),
    ) {
        let (wide, ring) = as_i16s_mut(values).split_at_mut(self.wide_len());
        let ring = &mut ring[..self.rows.pairs() * self.slot_len() * vectors.len()];
        let fill = |pair: [Option<usize>; 2], slot: &mut [i16]| {
            let buffers = (&mut *band, &mut *wide);
            self.fill(input, &vectors, pair, buffers, slot);
        };
        let out_w = self.rows.geometry().out_w;
        self.rows.run(vectors.clone(), rows, 0..out_w, ring, fill, target, done);
    }

    /// Expands a pair of rows into a slot of the ring, padding included.
    fn fill(
        &self,
        input: &[u8],
        vectors: &Range<usize>,
        pair: [Option<usize>; 2],
        (band, wide): (&mut [u8], &mut [i16]),
        slot: &mut [i16],
    ) {
        let g = &self.expand;
        let Some(first) = pair[0].or(pair[1]) else {
            return slot.fill(self.outside);
        };
        let lines = pair.iter().flatten().count();
        let (values, start, line) = if self.band_row == 0 {
            let line = g.in_w * g.in_c;
            (input, first * line, line)
        } else {
            let count = (lines - 1) * g.stride_h + g.kernel_h;
            self.gather(input, first * g.stride_h, count, band);
            (&*band, 0, g.stride_h * self.band_row)
        };
        let place = Place { start, column: g.stride_w * g.in_c, line, pair };
        match &self.body {
            Body::Wide(panels) => {
                let wide = &mut wide[..values.len()];
                widen(self.token, values, wide);
                self.expand_into(wide, place, &panels[vectors.clone()], slot);
            }
            Body::Bytes(panels, origin, _) => {
                if *origin > 0 {
                    band.iter_mut().for_each(|value| *value = value.wrapping_sub(*origin));
                    return self.expand_into(band, place, &panels[vectors.clone()], slot);
                }
                self.expand_into(values, place, &panels[vectors.clone()], slot);
            }
        }
    }

    fn expand_into<W: Multiply>(
        &self,
        values: &[W::Value],
        place: Place,
        panels: &[Panel<W>],
        slot: &mut [i16],
    ) {
        let outside = self.outside;
        let (inside, _) = self.rows.inside(&(0..self.rows.geometry().out_w));
        let len = slot.len() / panels.len();
        for (panel, to) in panels.iter().zip(slot.chunks_exact_mut(len)) {
            to[..inside.start * COL].fill(outside);
            to[inside.end * COL..].fill(outside);
            let to = &mut to[inside.start * COL..inside.end * COL];
            let tiles = Tiles { values, place, panel, finish: &self.finish, outside };
            match place.pair {
                [Some(_), Some(_)] => run::<W, 2, 0>(self.token, &tiles, to),
                [Some(_), None] => run::<W, 1, 0>(self.token, &tiles, to),
                [None, _] => run::<W, 1, 1>(self.token, &tiles, to),
            }
            if let Some(table) = &self.tables.first {
                run_wide(self.token, table.table(), self.finish.zero_point, to);
                restore(place.pair, outside, to);
            }
        }
    }

    /// Copies `count` input rows from padded row `first` on, padding included.
    fn gather(&self, input: &[u8], first: usize, count: usize, band: &mut [u8]) {
        let g = &self.expand;
        let image_row = g.in_w * g.in_c;
        let left = (g.pad_left * g.in_c).min(self.band_row);
        let inside = image_row.min(self.band_row - left);
        for (i, to) in band.chunks_exact_mut(self.band_row).take(count).enumerate() {
            let row = (first + i).checked_sub(g.pad_top).filter(|&row| row < g.in_h);
            let Some(row) = row else {
                to.fill(self.input_zero_point);
                continue;
            };
            to[..left].fill(self.input_zero_point);
            to[left..left + inside].copy_from_slice(&input[row * image_row..][..inside]);
            to[left + inside..].fill(self.input_zero_point);
        }
    }
}

impl Body {
    /// Also whether the image itself can be read; otherwise its rows are, as `band` says.
    fn new(expand: &conv::Layer<'_>, reach: Reach, band: Depth, vectors: usize) -> (Body, bool) {
        let g = &expand.geometry;
        if reach.weights_fit_i8 {
            let (origin, seven_bits) = (origin(expand.input), fits_seven_bits(expand.input));
            let in_place = origin == 0 && g.is_pointwise() && g.in_c.is_multiple_of(bytes::STEP);
            let depth = if in_place { Depth::flat(g.in_c) } else { band };
            let panels = panels(expand, depth, origin, vectors);
            if seven_bits || cheap(&panels) {
                return (Body::Bytes(panels, origin, seven_bits), in_place);
            }
        }
        (Body::Wide(panels(expand, band, 0, vectors)), false)
    }
}

/// Panels of 16 channels.
fn panels<W: Multiply>(
    expand: &conv::Layer<'_>,
    depth: Depth,
    origin: u8,
    count: usize,
) -> Vec<Panel<W>> {
    (0..count).map(|v| Panel::new(expand, depth, origin, v * LANES, VECTORS)).collect()
}

/// From accumulators to activations less their zero point, 16 bits wide.
struct Finish {
    zero_point: u8,
    min: i16,
    max: i16,
}

impl Finish {
    fn new(output: &Requantize) -> Finish {
        let [min, max] =
            [output.min, output.max].map(|bound| i16::from(bound) - i16::from(output.zero_point));
        Finish { zero_point: output.zero_point, min, max }
    }

    /// 16 channels in their order. Narrowing saturates towards a bound that clamping reaches
    /// anyway, so the result equals `clamp(value + zero_point, min, max) - zero_point` for every
    /// `i32`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn activations(&self, acc: [__m256i; VECTORS], multiplier: [__m256; VECTORS]) -> __m256i {
        let low = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[0]), multiplier[0]);
        let high = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[1]), multiplier[1]);
        let both = _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
        let both = _mm256_max_epi16(both, _mm256_set1_epi16(self.min));
        _mm256_min_epi16(both, _mm256_set1_epi16(self.max))
    }
}

/// Where the activations of a pair of rows lie.
#[derive(Clone, Copy)]
struct Place {
    /// The first pixel of the first row.
    start: usize,
    /// From one column to the next.
    column: usize,
    /// From the first row to the second.
    line: usize,
    pair: [Option<usize>; 2],
}

/// The operands of 16 channels of a slot of the ring.
struct Tiles<'a, W: Multiply> {
    values: &'a [W::Value],
    place: Place,
    panel: &'a Panel<W>,
    finish: &'a Finish,
    outside: i16,
}

/// Writes `to[column][channel] = (a, b)`: both rows expanded if `LINES` is 2; else one row, which
/// is `a` if `WHICH` is 0 and `b` if it is 1, beside the padding.
///
/// # Panics
/// If the sizes do not agree.
fn run<W: Multiply, const LINES: usize, const WHICH: usize>(
    _token: Avx2,
    tiles: &Tiles<'_, W>,
    to: &mut [i16],
) {
    let (columns, rest) = to.as_chunks_mut::<COL>();
    assert!(rest.is_empty() && !columns.is_empty());
    let place = &tiles.place;
    let last = place.start + (columns.len() - 1) * place.column + (LINES - 1) * place.line;
    assert!(last + tiles.panel.weights.reach() <= tiles.values.len());
    // SAFETY: the token proves AVX2; the sizes were just checked; all panels have two vectors.
    unsafe { tiles.run::<LINES, WHICH>(columns) }
}

impl<W: Multiply> Tiles<'_, W> {
    /// # Safety
    /// The checks in [`run`] hold.
    #[target_feature(enable = "avx2")]
    unsafe fn run<const LINES: usize, const WHICH: usize>(&self, to: &mut [[i16; COL]]) {
        let (mut x, mut rest) = (0, to);
        for columns in even_tiles(rest.len(), W::MAX_ROWS / LINES) {
            let (to, next) = rest.split_at_mut(columns);
            // SAFETY: the columns exist, see `run`; `MR` is their number times the lines.
            unsafe {
                match (LINES, columns) {
                    (1, 1) => self.tile::<1, 1, WHICH>(x, to),
                    (1, 2) => self.tile::<2, 1, WHICH>(x, to),
                    (1, 3) => self.tile::<3, 1, WHICH>(x, to),
                    (1, 4) => self.tile::<4, 1, WHICH>(x, to),
                    (1, 5) if W::MAX_ROWS > 4 => self.tile::<5, 1, WHICH>(x, to),
                    (1, 6) if W::MAX_ROWS > 4 => self.tile::<6, 1, WHICH>(x, to),
                    (2, 1) => self.tile::<2, 2, WHICH>(x, to),
                    (2, 2) => self.tile::<4, 2, WHICH>(x, to),
                    (2, 3) if W::MAX_ROWS > 4 => self.tile::<6, 2, WHICH>(x, to),
                    other => unreachable!("a tile of {other:?}"),
                }
            }
            (x, rest) = (x + columns, next);
        }
    }

    /// # Safety
    /// `MR / LINES` columns from `x` on exist, and as many are in `to`.
    #[target_feature(enable = "avx2")]
    unsafe fn tile<const MR: usize, const LINES: usize, const WHICH: usize>(
        &self,
        x: usize,
        to: &mut [[i16; COL]],
    ) {
        let Place { start, column, line, .. } = self.place;
        // SAFETY: passed on.
        let acc = unsafe {
            let a = self.values.as_ptr().add(start + x * column);
            let weights = &self.panel.weights;
            weights.accumulate::<MR, VECTORS, LINES>(&self.panel.bias, a, column, line)
        };
        let multiplier = self.panel.multiplier.as_ptr();
        // SAFETY: two vectors of 8 lie within the 24 multipliers.
        let m = unsafe { [_mm256_loadu_ps(multiplier), _mm256_loadu_ps(multiplier.add(8))] };
        let outside = _mm256_set1_epi16(self.outside);
        for column in 0..MR / LINES {
            let mut rows = [outside; 2];
            for line in 0..LINES {
                let activations = self.finish.activations(acc[column * LINES + line], m);
                rows[if LINES == 2 { line } else { WHICH }] = activations;
            }
            let [a, b] = rows;
            // SAFETY: passed on: `to` has this column.
            unsafe {
                let to = to.get_unchecked_mut(column).as_mut_ptr();
                _mm256_storeu_si256(to.cast(), _mm256_unpacklo_epi16(a, b));
                _mm256_storeu_si256(to.add(LANES).cast(), _mm256_unpackhi_epi16(a, b));
            }
        }
    }
}
