//! The fused pair for NEON with the dot-product extension: the expansion writes row pairs straight
//! into the ring that the depthwise kernel reads ([`crate::depthwise::neondot`]).
//!
//! The image is packed once for all channels, a stem's rows for each block of them. Where both rows of a pair exist, tiles are columns of
//! two rows, whose results are stored side by side.
//!
//! This saves the pass that interleaves rows, and the image between the two layers. Units for
//! several threads would have to pack again or expand common rows twice, which costs more than is
//! saved; so do the ends of short rows.

use super::Tables;
use crate::arm::Ending;
use crate::conv::BLOCK_CHANNELS;
use crate::conv::neon_lines::Lines;
use crate::conv::neondot::Panel;
use crate::conv::neondot_tile::{
    columns_bytes, next_columns, next_rows, pack_lines, pack_tile, run, run_columns, tile_bytes,
};
use crate::conv::pixels::Pixels;
use crate::depthwise::neondot::Rows;
use crate::depthwise::neondot_tile::{COL, GROUP, interleave};
use crate::isa::{Neon, NeonDot};
use crate::lookup::Lookup;
use crate::requantize::Reach;
use crate::{ConvGeometry, Scratch, conv, depthwise};

/// Groups of channels in one block.
const BLOCK_GROUPS: usize = BLOCK_CHANNELS / GROUP;

/// Where the pixels of a tile lie in a pair of rows.
#[derive(Clone, Copy)]
enum At {
    /// Those of both rows in turn, from a column on.
    Both(usize),
    /// One of the rows, from a column on.
    One(usize, usize),
}

impl At {
    /// Which of the two rows, and which column.
    fn place(self, pixel: usize) -> (usize, usize) {
        match self {
            At::Both(x) => (pixel % 2, x + pixel / 2),
            At::One(row, x) => (row, x + pixel),
        }
    }
}

pub(super) struct Kernel {
    neon: Neon,
    token: NeonDot,
    expand: ConvGeometry,
    /// For an image's first layer, and what lies outside of it.
    lines: Option<Lines>,
    around: u8,
    /// Steps of 8 values of depth.
    steps: usize,
    /// One for each group of the depthwise convolution.
    panels: Vec<Panel>,
    ending: u8,
    /// What the padding of the depthwise convolution holds.
    outside: u8,
    rows: Rows,
    tables: Tables,
    /// The first table, for values of the ring: codes less 128.
    in_ring: Option<Lookup>,
}

impl Kernel {
    /// Whether this kernel computes the two layers.
    pub(super) fn takes(
        (expand, expand_reach): (&conv::Layer<'_>, Reach),
        (second, second_reach): (&depthwise::Layer<'_>, Reach),
    ) -> bool {
        (expand.geometry.is_pointwise() || Lines::new(&expand.geometry).is_some())
            && expand_reach.converts_exactly
            && expand_reach.weights_fit_i8
            && Rows::takes(second, second_reach)
    }

    pub(super) fn new(
        (neon, token): (Neon, NeonDot),
        (expand, expand_reach): (&conv::Layer<'_>, Reach),
        (second, second_reach): (&depthwise::Layer<'_>, Reach),
        tables: Tables,
    ) -> Kernel {
        let g = expand.geometry;
        let groups = g.out_c.div_ceil(GROUP);
        let places = (0..groups).map(|v| (v * GROUP, v % BLOCK_GROUPS * GROUP));
        let depth = g.taps() * g.in_c;
        Kernel {
            neon,
            token,
            expand: g,
            lines: Lines::new(&g),
            around: expand.input.zero_point,
            steps: depth.div_ceil(8),
            panels: (0..groups).map(|v| Panel::new(expand, depth, v * GROUP, GROUP / 4)).collect(),
            ending: Ending::of(&expand.output, expand_reach),
            outside: second.input.zero_point,
            rows: Rows::new(token, second, second_reach, places),
            in_ring: tables.first.as_ref().map(|table| table.less(128, 128)),
            tables,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        let d = self.rows.geometry();
        match (d.kernel_w, d.stride_w) {
            (3, 1) => "expand_depthwise_u8s8_neondot_k3s1_3x2x16",
            (3, _) => "expand_depthwise_u8s8_neondot_k3s2_3x2x16",
            (_, 1) => "expand_depthwise_u8s8_neondot_k5s1_3x2x16",
            _ => "expand_depthwise_u8s8_neondot_k5s2_3x2x16",
        }
    }

    /// Computes the whole output, `[block][out_h][out_w][32]`.
    pub(super) fn run(&self, input: &[u8], output: &mut [u8], scratch: &mut Scratch) {
        let (g, d) = (&self.expand, self.rows.geometry());
        let (pairs, columns) = (self.rows.pairs(d.out_h), self.rows.inside().len());
        let pair_bytes = columns_bytes(columns, self.steps);
        let [planes_len, ring_len] = self.rows.working(BLOCK_GROUPS);
        let (lines_len, packed_len) = match &self.lines {
            Some(lines) => (lines.bytes(), pair_bytes),
            None => (0, pairs * pair_bytes),
        };
        let lens = [packed_len, planes_len, ring_len, columns * GROUP, 2 * lines_len];
        let [packed, planes, ring, line, padded] = scratch.pieces(lens);
        if self.lines.is_none() {
            let source = Pixels::image(input, g.in_c);
            for (pair, to) in packed.chunks_exact_mut(pair_bytes).enumerate() {
                let rows = self.rows.rows_of(0, pair);
                self.pack(rows, columns, to, |at, pixels, to| {
                    let pixel = |p: usize| {
                        let (row, x) = at.place(p);
                        rows[row].unwrap_or(0) * g.in_w + x
                    };
                    pack_tile(self.token, &source, pixel, pixels, to);
                });
            }
        }
        let block_len = d.out_h * d.out_w * BLOCK_CHANNELS;
        for (block, out) in output.chunks_exact_mut(block_len).enumerate() {
            let groups = block * BLOCK_GROUPS..((block + 1) * BLOCK_GROUPS).min(self.panels.len());
            let first = groups.start;
            let fill = |pair: usize, rows, group: usize, to: &mut [u8]| {
                let pair = match &self.lines {
                    Some(lines) => {
                        if group == first {
                            self.pack_lines(lines, input, rows, columns, padded, packed);
                        }
                        0
                    }
                    None => pair,
                };
                let tiles = &packed[pair * pair_bytes..][..pair_bytes];
                self.fill(tiles, rows, &self.panels[group], line, to);
            };
            let done = |rows: &mut [u8]| self.tables.finish(rows);
            self.rows.run(groups, 0, [planes, ring], fill, out, BLOCK_CHANNELS, done);
        }
    }

    /// Packs a pair of rows of an image's first layer; `padded` is room for what they read.
    fn pack_lines(
        &self,
        lines: &Lines,
        input: &[u8],
        rows: [Option<usize>; 2],
        columns: usize,
        padded: &mut [u8],
        to: &mut [u8],
    ) {
        let (g, around) = (&self.expand, (self.around, 128));
        for (row, padded) in rows.iter().zip(padded.chunks_exact_mut(lines.bytes())) {
            if let Some(row) = *row {
                lines.fill(self.neon, g, input, row, around, padded);
            }
        }
        self.pack(rows, columns, to, |at, pixels, to| {
            let pixel = |p: usize| {
                let (row, x) = at.place(p);
                lines.pixel(g, &padded[row * lines.bytes()..], x)
            };
            pack_lines(self.token, lines, pixel, pixels, to);
        });
    }

    /// Packs the first `columns` columns of a pair of rows, or of the one that exists. `tile` packs
    /// some pixels and is told which row of the two and which column each is.
    fn pack(
        &self,
        rows: [Option<usize>; 2],
        columns: usize,
        mut to: &mut [u8],
        tile: impl Fn(At, usize, &mut [u8]),
    ) {
        let Some(only) = rows.iter().position(Option::is_some) else { return };
        let both = rows.iter().all(Option::is_some);
        let mut x = 0;
        while x < columns {
            let count = if both { next_columns(columns - x) } else { next_rows(columns - x) };
            let pixels = if both { 2 * count } else { count };
            let (now, rest) = to.split_at_mut(tile_bytes(pixels, self.steps));
            tile(if both { At::Both(x) } else { At::One(only, x) }, pixels, now);
            x += count;
            to = rest;
        }
    }

    /// Expands a packed pair of rows into a row of the ring; `line` is room for one row.
    fn fill(
        &self,
        tiles: &[u8],
        lines: [Option<usize>; 2],
        panel: &Panel,
        line: &mut [u8],
        to: &mut [u8],
    ) {
        match self.ending {
            Ending::PLAIN => self.fill_as::<{ Ending::PLAIN }>(tiles, lines, panel, line, to),
            Ending::FITTING => self.fill_as::<{ Ending::FITTING }>(tiles, lines, panel, line, to),
            _ => self.fill_as::<{ Ending::SATURATING }>(tiles, lines, panel, line, to),
        }
    }

    fn fill_as<const END: u8>(
        &self,
        tiles: &[u8],
        lines: [Option<usize>; 2],
        panel: &Panel,
        line: &mut [u8],
        to: &mut [u8],
    ) {
        let columns = to.len() / COL;
        if lines.iter().all(Option::is_some) {
            run_columns::<END>(self.token, tiles, self.steps, columns, &panel.parts(), to);
            if let Some(table) = &self.in_ring {
                table.run_in_place(to);
            }
            return;
        }
        // Tiles of an even number of pixels take no more than these, the last of one as much as two.
        let tiles = &tiles[..tile_bytes(columns, self.steps)];
        assert_eq!(line.len(), columns * GROUP);
        let start = line.as_mut_ptr();
        // SAFETY: the panel has 16 channels, and `line` room for them in each column.
        unsafe { run::<END>(self.token, tiles, self.steps, columns, &panel.parts(), start, GROUP) };
        if let Some(table) = &self.tables.first {
            table.run_in_place(line);
        }
        let outside = [self.outside; GROUP];
        let [line, outside]: [(&[u8], usize); 2] = [(line, GROUP), (&outside, 0)];
        match lines[0] {
            Some(_) => interleave(self.token, line, outside, to),
            None => interleave(self.token, outside, line, to),
        }
    }
}
