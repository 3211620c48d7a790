//! Packing for filters of three rows and few channels, as an image's first layer has: the taps of
//! one filter row are up to 16 consecutive bytes, and one table look-up puts those of three rows
//! together.

use std::arch::aarch64::*;

use crate::ConvGeometry;
use crate::arm::to_signed;
use crate::isa::Neon;

/// Rows of taps.
const ROWS: usize = 3;
/// Most bytes of one row of taps: one register.
const RUN: usize = 16;

/// How one layer is packed.
pub(crate) struct Lines {
    /// Byte `k` of a pixel's depth is byte `tables[k / 16][k % 16]` of its three registers.
    tables: [[u8; 16]; ROWS],
    /// Values of depth.
    depth: usize,
    /// Bytes of one padded input row, and of what loads may read behind it.
    line: usize,
}

impl Lines {
    /// For a layer of this shape, if it is one.
    pub(crate) fn new(g: &ConvGeometry) -> Option<Lines> {
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
    pub(crate) fn bytes(&self) -> usize {
        ROWS * self.line
    }

    /// Registers of 16 values of depth that [`Lines::load`] gives.
    pub(super) fn registers(&self) -> usize {
        self.depth.div_ceil(16)
    }

    /// The padded input rows of output row `y`, each value less `offset` as a signed byte.
    pub(crate) fn fill(
        &self,
        _token: Neon,
        g: &ConvGeometry,
        input: &[u8],
        y: usize,
        (outside, offset): (u8, u8),
        to: &mut [u8],
    ) {
        let outside = outside.wrapping_sub(offset);
        for (i, to) in to[..self.bytes()].chunks_exact_mut(self.line).enumerate() {
            let Some(row) = g.input_row(y, i) else {
                to.fill(outside);
                continue;
            };
            let before = (g.pad_left * g.in_c).min(to.len());
            let (left, rest) = to.split_at_mut(before);
            let row = &input[row * g.in_w * g.in_c..][..g.in_w * g.in_c];
            let inside = row.len().min(rest.len());
            let (middle, right) = rest.split_at_mut(inside);
            left.fill(outside);
            right.fill(outside);
            // SAFETY: the token proves NEON.
            unsafe { to_signed(&row[..inside], offset, middle) };
        }
    }

    /// The pointer for output column `x` of the row that `lines` holds.
    ///
    /// # Panics
    /// If `lines` is too short.
    #[inline]
    pub(crate) fn pixel(&self, g: &ConvGeometry, lines: &[u8], x: usize) -> *const u8 {
        assert!(lines.len() >= self.bytes() && x < g.out_w);
        lines[x * g.stride_w * g.in_c..].as_ptr()
    }

    /// Values of depth `16 * t..` of each pixel; what pads the last ones is zero.
    ///
    /// # Safety
    /// The pointers are from [`Lines::pixel`] and `lines` lives; `t < registers()`.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) unsafe fn load<const N: usize>(
        &self,
        from: [*const u8; N],
        t: usize,
    ) -> [uint8x16_t; N] {
        // SAFETY: a table is 16 bytes.
        let table = unsafe { vld1q_u8(self.tables[t].as_ptr()) };
        from.map(|from| {
            // SAFETY: 16 bytes follow each column of each line.
            let row = |i: usize| unsafe { vld1q_u8(from.add(i * self.line)) };
            vqtbl3q_u8(uint8x16x3_t(row(0), row(1), row(2)), table)
        })
    }
}
