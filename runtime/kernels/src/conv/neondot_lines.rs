//! Packing for filters of three rows and few channels, as an image's first layer has: the taps of
//! one filter row are up to 16 consecutive bytes, and one table look-up puts those of three rows
//! together.

use std::arch::aarch64::*;
use std::ops::Range;

use super::neondot_tile::{next_rows, tile_bytes};
use crate::ConvGeometry;
use crate::arm::to_signed;
use crate::isa::NeonDot;

/// Rows of taps.
const ROWS: usize = 3;
/// Most bytes of one row of taps: one register.
const RUN: usize = 16;

/// How one layer is packed.
pub(super) struct Lines {
    /// Byte `k` of a pixel's depth is byte `tables[k / 16][k % 16]` of its three registers.
    tables: [[u8; 16]; ROWS],
    /// Values of depth.
    depth: usize,
    /// Bytes of one padded input row, and of what loads may read behind it.
    line: usize,
}

impl Lines {
    /// For a layer of this shape, if it is one.
    pub(super) fn new(g: &ConvGeometry) -> Option<Lines> {
        let run = g.kernel_w * g.in_c;
        if g.kernel_h != ROWS || run > RUN || g.dilation_w != 1 {
            return None;
        }
        let depth = ROWS * run;
        let index = |k: usize| if k < depth { k / run * RUN + k % run } else { u8::MAX.into() };
        let cols = (g.out_w - 1) * g.stride_w + g.kernel_w;
        Some(Lines {
            tables: std::array::from_fn(|t| std::array::from_fn(|i| index(t * 16 + i) as u8)),
            depth,
            line: cols * g.in_c + RUN,
        })
    }

    /// Bytes of what [`Lines::fill`] writes.
    pub(super) fn bytes(&self) -> usize {
        ROWS * self.line
    }

    /// The padded input rows of output row `y`, each value less 128 as a signed byte.
    pub(super) fn fill(
        &self,
        _token: NeonDot,
        g: &ConvGeometry,
        input: &[u8],
        y: usize,
        outside: u8,
        to: &mut [u8],
    ) {
        for (i, to) in to[..self.bytes()].chunks_exact_mut(self.line).enumerate() {
            let Some(row) = g.input_row(y, i) else {
                to.fill(outside ^ 0x80);
                continue;
            };
            let before = (g.pad_left * g.in_c).min(to.len());
            let (left, rest) = to.split_at_mut(before);
            let row = &input[row * g.in_w * g.in_c..][..g.in_w * g.in_c];
            let inside = row.len().min(rest.len());
            let (middle, right) = rest.split_at_mut(inside);
            left.fill(outside ^ 0x80);
            right.fill(outside ^ 0x80);
            // SAFETY: the token proves NEON.
            unsafe { to_signed(&row[..inside], middle) };
        }
    }

    /// Packs the output columns `xs` of the row that `lines` holds as tiles of
    /// [`super::neondot_tile`]; gives the bytes written.
    ///
    /// # Panics
    /// If a length is too short.
    pub(super) fn pack(
        &self,
        _token: NeonDot,
        g: &ConvGeometry,
        lines: &[u8],
        xs: Range<usize>,
        to: &mut [u8],
    ) -> usize {
        let pairs = self.depth.div_ceil(8);
        let step = g.stride_w * g.in_c;
        assert!(lines.len() >= self.bytes() && xs.end <= g.out_w);
        let (mut x, mut used) = (xs.start, 0);
        while x < xs.end {
            let rows = next_rows(xs.end - x);
            let bytes = tile_bytes(rows, pairs);
            let target = to[used..used + bytes].as_mut_ptr();
            let pixel = |p: usize| lines[(x + p.min(rows - 1)) * step..].as_ptr();
            // SAFETY: the token proves NEON; 16 bytes follow each column of each line, and the
            // target has room for the tile.
            unsafe {
                match rows {
                    5.. => self.pack_pairs(std::array::from_fn::<_, 6, _>(pixel), target),
                    3.. => self.pack_pairs(std::array::from_fn::<_, 4, _>(pixel), target),
                    _ => self.pack_pairs(std::array::from_fn::<_, 2, _>(pixel), target),
                }
            }
            x += rows;
            used += bytes;
        }
        used
    }

    /// # Safety
    /// 16 bytes are readable at each pointer and, a line and two lines further on; `to` can take
    /// the tile.
    #[target_feature(enable = "neon")]
    unsafe fn pack_pairs<const N: usize>(&self, from: [*const u8; N], to: *mut u8) {
        let pairs = self.depth.div_ceil(8);
        let lines = from.map(|from| {
            // SAFETY: passed on.
            let row = |i: usize| unsafe { vld1q_u8(from.add(i * self.line)) };
            uint8x16x3_t(row(0), row(1), row(2))
        });
        for (t, table) in self.tables.iter().enumerate().take(pairs.div_ceil(2)) {
            // SAFETY: a table is 16 bytes.
            let table = unsafe { vld1q_u8(table.as_ptr()) };
            let x = lines.map(|lines| vreinterpretq_u64_u8(vqtbl3q_u8(lines, table)));
            for p in (0..N).step_by(2) {
                // SAFETY: passed on: the first 8 values of depth, and the others if the tile has
                // them.
                unsafe {
                    let to = to.add((t * 2 * N + p) * 8);
                    vst1q_u64(to.cast(), vzip1q_u64(x[p], x[p + 1]));
                    if t * 2 + 1 < pairs {
                        vst1q_u64(to.add(N * 8).cast(), vzip2q_u64(x[p], x[p + 1]));
                    }
                }
            }
        }
    }
}
