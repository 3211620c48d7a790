//! The fused pair for AVX-512 with VNNI: the expansion writes row pairs straight into the ring
//! that the depthwise tile reads ([`crate::depthwise::vnni`]).

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Band, Tables, restore};
use crate::conv::vnni::panel::{Depth, LANES, Panel, STEP};
use crate::conv::vnni::store::Finish;
use crate::conv::vnni::tile::accumulate;
use crate::depthwise::vnni::{CHANNELS, COLUMN, Rows, Target};
use crate::isa::Avx512Vnni;
use crate::requantize::Reach;
use crate::{ConvGeometry, Scratch, conv, depthwise};

/// Vectors of accumulators for one block of channels.
const VECTORS: usize = CHANNELS / LANES;
/// Most columns of a tile: 24 accumulators, of one row or of two.
const MAX_COLUMNS: usize = 12;

pub(super) struct Kernel {
    token: Avx512Vnni,
    expand: ConvGeometry,
    input_zero_point: u8,
    depth: Depth,
    /// Bytes of one row of the band, or 0 where the image itself is read.
    band_row: usize,
    panels: Vec<Panel>,
    finish: Finish,
    rows: Rows,
    tables: Tables,
    /// What the padding of the depthwise convolution holds.
    outside: u8,
}

impl Kernel {
    /// Whether this kernel computes the two layers.
    pub(super) fn takes(
        (expand, expand_reach): (&conv::Layer<'_>, Reach),
        (second, second_reach): (&depthwise::Layer<'_>, Reach),
        tables: &Tables,
    ) -> bool {
        let outside = second.input.zero_point;
        let g = &expand.geometry;
        expand_reach.converts_exactly
            && expand_reach.weights_fit_i8
            && (g.dilation_h, g.dilation_w) == (1, 1)
            && (tables.first.is_some()
                || (expand.output.min..=expand.output.max).contains(&outside))
            && Rows::takes(second, second_reach)
    }

    pub(super) fn new(
        token: Avx512Vnni,
        expand: &conv::Layer<'_>,
        second: &depthwise::Layer<'_>,
        tables: Tables,
    ) -> Kernel {
        let g = expand.geometry;
        let rows = Rows::new(token, second);
        let run = g.kernel_w * g.in_c;
        let in_place = g.is_pointwise() && g.in_c.is_multiple_of(STEP);
        let steps = run.div_ceil(STEP);
        let band_row =
            if in_place { 0 } else { (g.out_w - 1) * g.stride_w * g.in_c + steps * STEP };
        let depth = Depth { pieces: g.kernel_h, steps, last_steps: steps, stride: band_row };
        let value = |k: usize| {
            let (piece, at) = (k / (steps * STEP), k % (steps * STEP));
            (at < run).then_some(piece * run + at)
        };
        Kernel {
            token,
            expand: g,
            input_zero_point: expand.input.zero_point,
            depth,
            band_row,
            panels: (0..rows.blocks())
                .map(|b| Panel::new(expand, b * CHANNELS, VECTORS, depth.total_steps(), value))
                .collect(),
            finish: Finish::new(&expand.output, None),
            rows,
            tables,
            outside: second.input.zero_point,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        let d = self.rows.geometry();
        match (d.kernel_w, d.stride_w) {
            (3, 1) => "expand_depthwise_u8s8_vnni_k3s1_6x32",
            (3, _) => "expand_depthwise_u8s8_vnni_k3s2_6x32",
            (_, 1) => "expand_depthwise_u8s8_vnni_k5s1_6x32",
            _ => "expand_depthwise_u8s8_vnni_k5s2_6x32",
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
        let ([band, ring], _) = scratch.pieces_and_inner([self.band_len(), self.rows.ring_len()]);
        let out_w = self.rows.geometry().out_w;
        let mut target =
            Target::new(output, out_w * CHANNELS, CHANNELS, CHANNELS).starting_at(rows.start);
        let fill =
            |pair: [Option<usize>; 2], to: &mut [u8]| self.fill(input, block, pair, band, to);
        self.rows.run(block, rows, ring, fill, &mut target, |rows, target| {
            self.tables.finish(target.rows(&rows));
        });
    }

    /// Computes the rows `rows` of the first block of channels, and gives `band` one or two at a time.
    pub(super) fn run_by_bands(
        &self,
        input: &[u8],
        rows: Range<usize>,
        scratch: &mut Scratch,
        mut each: impl FnMut(Band<'_>, &mut Scratch),
    ) {
        let row_len = self.rows.geometry().out_w * CHANNELS;
        let lens = [self.band_len(), self.rows.ring_len(), 2 * row_len];
        let ([band, ring, output], inner) = scratch.pieces_and_inner(lens);
        let mut target = Target::new(output, row_len, CHANNELS, CHANNELS).starting_at(rows.start);
        let fill = |pair: [Option<usize>; 2], to: &mut [u8]| self.fill(input, 0, pair, band, to);
        self.rows.run(0, rows, ring, fill, &mut target, |rows, target| {
            let codes = target.rows(&rows);
            self.tables.finish(codes);
            each(Band { rows: rows.clone(), codes }, inner);
            target.restart(rows.end);
        });
    }

    /// Bytes of the band.
    fn band_len(&self) -> usize {
        self.band_row * (self.expand.kernel_h + self.expand.stride_h)
    }

    /// Expands a pair of rows into a row of the ring.
    fn fill(
        &self,
        input: &[u8],
        block: usize,
        pair: [Option<usize>; 2],
        band: &mut [u8],
        to: &mut [u8],
    ) {
        let g = &self.expand;
        let first = pair[0].or(pair[1]).expect("one of the rows exists");
        let lines = if pair.iter().all(Option::is_some) { 2 } else { 1 };
        let (values, start, line) = if self.band_row == 0 {
            let line = g.in_w * g.in_c;
            (input, first * line, line)
        } else {
            let count = (lines - 1) * g.stride_h + g.kernel_h;
            self.gather(input, first * g.stride_h, count, band);
            (&*band, 0, g.stride_h * self.band_row)
        };
        let tiles = Tiles {
            values: &values[start..],
            column: g.stride_w * g.in_c,
            line,
            depth: &self.depth,
            panel: &self.panels[block],
            finish: &self.finish,
            outside: i16::from(self.outside),
        };
        match pair {
            [Some(_), Some(_)] => run::<2, 0>(self.token, &tiles, to),
            [Some(_), None] => run::<1, 0>(self.token, &tiles, to),
            [None, _] => run::<1, 1>(self.token, &tiles, to),
        }
        if let Some(table) = &self.tables.first {
            table.run_in_place(to);
            restore(pair, self.outside, to);
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

/// The operands of one row of the ring.
struct Tiles<'a> {
    /// From the first pixel of the first row on.
    values: &'a [u8],
    /// Bytes from one column to the next.
    column: usize,
    /// Bytes from the first row to the second.
    line: usize,
    depth: &'a Depth,
    panel: &'a Panel,
    finish: &'a Finish,
    outside: i16,
}

/// Writes `to[column][channel] = (a, b)`: both rows expanded if `LINES` is 2; else one row, which
/// is `a` if `WHICH` is 0 and `b` if it is 1, beside the padding.
///
/// # Panics
/// If the sizes do not agree.
fn run<const LINES: usize, const WHICH: usize>(
    _token: Avx512Vnni,
    tiles: &Tiles<'_>,
    to: &mut [u8],
) {
    let (columns, rest) = to.as_chunks_mut::<COLUMN>();
    assert!(rest.is_empty() && !columns.is_empty());
    let last = (columns.len() - 1) * tiles.column + (LINES - 1) * tiles.line;
    assert!(last + tiles.depth.reach() <= tiles.values.len());
    assert_eq!(tiles.panel.vectors(), VECTORS);
    assert_eq!(tiles.panel.steps(), tiles.depth.total_steps());
    // SAFETY: the token proves the instruction set; the sizes were just checked.
    unsafe { tiles.run::<LINES, WHICH>(columns) }
}

impl Tiles<'_> {
    /// # Safety
    /// The checks in [`run`] hold.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const LINES: usize, const WHICH: usize>(&self, to: &mut [[u8; COLUMN]]) {
        let count = to.len();
        let tiles = count.div_ceil(MAX_COLUMNS / LINES);
        for tile in 0..tiles {
            let (x, end) = (tile * count / tiles, (tile + 1) * count / tiles);
            let to = &mut to[x..end];
            // SAFETY: the columns exist, see `run`; `MR` is their number times the lines.
            unsafe {
                match (LINES, end - x) {
                    (1, 1) => self.tile::<1, 1, WHICH>(x, to),
                    (1, 2) => self.tile::<2, 1, WHICH>(x, to),
                    (1, 3) => self.tile::<3, 1, WHICH>(x, to),
                    (1, 4) => self.tile::<4, 1, WHICH>(x, to),
                    (1, 5) => self.tile::<5, 1, WHICH>(x, to),
                    (1, 6) => self.tile::<6, 1, WHICH>(x, to),
                    (1, 7) => self.tile::<7, 1, WHICH>(x, to),
                    (1, 8) => self.tile::<8, 1, WHICH>(x, to),
                    (1, 9) => self.tile::<9, 1, WHICH>(x, to),
                    (1, 10) => self.tile::<10, 1, WHICH>(x, to),
                    (1, 11) => self.tile::<11, 1, WHICH>(x, to),
                    (1, _) => self.tile::<12, 1, WHICH>(x, to),
                    (_, 1) => self.tile::<2, 2, WHICH>(x, to),
                    (_, 2) => self.tile::<4, 2, WHICH>(x, to),
                    (_, 3) => self.tile::<6, 2, WHICH>(x, to),
                    (_, 4) => self.tile::<8, 2, WHICH>(x, to),
                    (_, 5) => self.tile::<10, 2, WHICH>(x, to),
                    (_, _) => self.tile::<12, 2, WHICH>(x, to),
                }
            }
        }
    }

    /// # Safety
    /// `MR / LINES` columns from `x` on exist, and as many are in `to`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile<const MR: usize, const LINES: usize, const WHICH: usize>(
        &self,
        x: usize,
        to: &mut [[u8; COLUMN]],
    ) {
        // SAFETY: passed on.
        let acc = unsafe {
            let a = self.values.as_ptr().add(x * self.column);
            accumulate::<MR, VECTORS, LINES>(a, self.column, self.line, self.depth, self.panel)
        };
        let multiplier = self.panel.multiplier();
        // SAFETY: two vectors of 16 multipliers.
        let m = unsafe {
            [_mm512_loadu_ps(multiplier.as_ptr()), _mm512_loadu_ps(multiplier[LANES..].as_ptr())]
        };
        let finish = self.finish;
        let outside = _mm512_set1_epi16(self.outside);
        // Within each 128-bit quarter: eight channels of one row, then of the other.
        let order = _mm512_broadcast_i32x4(_mm_setr_epi8(
            0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15,
        ));
        for column in 0..MR / LINES {
            let mut rows = [outside; 2];
            for line in 0..LINES {
                let [low, high] = acc[column * LINES + line];
                let narrow = finish.narrow(finish.scaled(low, m[0]), finish.scaled(high, m[1]));
                rows[if LINES == 2 { line } else { WHICH }] = narrow;
            }
            let bytes = _mm512_shuffle_epi8(finish.pack(rows[0], rows[1]), order);
            // SAFETY: passed on: `to` has this column.
            unsafe { _mm512_storeu_si512(to.get_unchecked_mut(column).as_mut_ptr().cast(), bytes) };
        }
    }
}
