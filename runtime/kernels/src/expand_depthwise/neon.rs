//! The fused pair for NEON without the dot product: the expansion writes rows straight into the ring
//! that the depthwise kernel reads ([`crate::depthwise::neon`]).
//!
//! Row after row, since packed rows are four times as large as the image's: packed once, a row is
//! expanded for all channels, whose rings lie side by side. A stem packs its rows as it does alone.

use super::Tables;
use crate::arm::Ending;
use crate::arm_end::MAX_COLS;
use crate::conv::BLOCK_CHANNELS;
use crate::conv::neon::{self, Panel, pack_columns, pack_pixels};
use crate::conv::neon_lines::Lines;
use crate::conv::neon_tile::{STEP, padded, run_signed, tiles_bytes};
use crate::conv::pixels::Pixels;
use crate::depthwise::neon::Rows;
use crate::isa::Neon;
use crate::lookup::Lookup;
use crate::requantize::Reach;
use crate::{ConvGeometry, Scratch, conv, depthwise};

/// Channels of one group, and of one panel.
const GROUP: usize = MAX_COLS;
/// Groups of channels in one block.
const BLOCK_GROUPS: usize = BLOCK_CHANNELS / GROUP;

pub(super) struct Kernel {
    token: Neon,
    expand: ConvGeometry,
    /// For an image's first layer.
    lines: Option<Lines>,
    /// What packing finds outside the image, and what it subtracts.
    outside: u8,
    middle: u8,
    /// One for each group of the depthwise convolution.
    panels: Vec<Panel>,
    ending: u8,
    rows: Rows,
    tables: Tables,
    /// The first table, for values of the ring.
    in_ring: Option<Lookup>,
}

impl Kernel {
    /// Whether this kernel computes the two layers.
    pub(super) fn takes(
        (expand, expand_reach): (&conv::Layer<'_>, Reach),
        (second, second_reach): (&depthwise::Layer<'_>, Reach),
    ) -> bool {
        let g = &expand.geometry;
        (g.is_pointwise() || Lines::new(g).is_some())
            && padded(g.out_w) == g.out_w
            && (second.geometry.out_w - 1) * second.geometry.stride_w + second.geometry.kernel_w
                >= second.geometry.pad_left + g.out_w
            && expand_reach.converts_exactly
            && neon::Kernel::handles(expand, expand_reach)
            && Rows::takes(second, second_reach)
    }

    pub(super) fn new(
        token: Neon,
        (expand, expand_reach): (&conv::Layer<'_>, Reach),
        (second, second_reach): (&depthwise::Layer<'_>, Reach),
        tables: Tables,
    ) -> Kernel {
        let groups = expand.geometry.out_c.div_ceil(GROUP);
        let places = (0..groups).map(|v| (v * GROUP, v % BLOCK_GROUPS * GROUP));
        let rows = Rows::new(token, second, second_reach, places);
        // A table reads codes less 128 and gives what the ring holds.
        let in_ring = tables.first.as_ref().map(|table| table.less(128, rows.middle()));
        let middle = if in_ring.is_some() { 128 } else { rows.middle() };
        let panel = |v: usize| Panel::new(expand, v * GROUP, GROUP / 4, middle);
        Kernel {
            token,
            expand: expand.geometry,
            lines: Lines::new(&expand.geometry),
            outside: expand.input.zero_point,
            middle: expand.input.middle(),
            panels: (0..groups).map(panel).collect(),
            ending: Ending::of(&expand.output, expand_reach),
            rows,
            tables,
            in_ring,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        let d = self.rows.geometry();
        match (d.kernel_w, d.stride_w) {
            (3, 1) => "expand_depthwise_u8s8_neon_k3s1_4x16",
            (3, _) => "expand_depthwise_u8s8_neon_k3s2_4x16",
            (_, 1) => "expand_depthwise_u8s8_neon_k5s1_4x16",
            _ => "expand_depthwise_u8s8_neon_k5s2_4x16",
        }
    }

    /// Computes the whole output, `[block][out_h][out_w][32]`.
    pub(super) fn run(&self, input: &[u8], output: &mut [u8], scratch: &mut Scratch) {
        let (g, d, groups) = (&self.expand, self.rows.geometry(), self.panels.len());
        let steps = (g.taps() * g.in_c).div_ceil(STEP);
        let padded = self.lines.as_ref().map_or(0, Lines::bytes);
        let lens = [tiles_bytes(g.out_w, steps), self.rows.ring_len(groups), padded];
        let [packed, ring, padded] = scratch.pieces(lens);
        let source = Pixels::image(input, g.in_c);
        let fill = |row: usize, group: usize, to: &mut [u8]| {
            match &self.lines {
                _ if group > 0 => {}
                Some(lines) => {
                    lines.fill(self.token, g, input, row, (self.outside, self.middle), padded);
                    pack_columns(self.token, lines, g, padded, 0..g.out_w, packed);
                }
                None => {
                    pack_pixels(self.token, &source, row * g.in_w, g.in_w, self.middle, packed);
                }
            }
            let parts = self.panels[group].parts();
            match self.ending {
                Ending::PLAIN => {
                    run_signed::<{ Ending::PLAIN }>(self.token, packed, steps, &parts, to);
                }
                Ending::FITTING => {
                    run_signed::<{ Ending::FITTING }>(self.token, packed, steps, &parts, to);
                }
                _ => run_signed::<{ Ending::SATURATING }>(self.token, packed, steps, &parts, to),
            }
            if let Some(table) = &self.in_ring {
                table.run_in_place(to);
            }
        };
        let row_len = d.out_w * BLOCK_CHANNELS;
        let out = |y: usize, group: usize| {
            let start = (group / BLOCK_GROUPS * d.out_h + y) * row_len;
            start..start + row_len
        };
        let done = |y: usize, output: &mut [u8]| {
            for block in output.chunks_exact_mut(d.out_h * row_len) {
                self.tables.finish(&mut block[y * row_len..][..row_len]);
            }
        };
        self.rows.run(0..groups, 0..d.out_h, ring, fill, BLOCK_CHANNELS, output, out, done);
    }
}
