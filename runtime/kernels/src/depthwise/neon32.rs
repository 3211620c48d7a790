//! Depthwise convolution for 32-bit ARM with NEON. The inner loop is in `arm32/depthwise.s`: 16 channels of one
//! pixel, tap after tap, each read where it lies; outside the image a line of zero points lies.
//!
//! The input's zero point is folded into the bias: `sum((x - z) * w) = sum(x * w) - z * sum(w)`.

use std::ops::Range;

use super::Layer;
use crate::ConvGeometry;
use crate::arm32::{Bounds, End, LANES};
use crate::isa::Neon32;

/// Taps of the largest filter: where they lie is kept without allocating.
const MAX_TAPS: usize = 64;

/// What the routine is given.
#[repr(C)]
struct Pixel {
    /// Where the channels of each tap lie.
    taps: *const *const u8,
    count: usize,
    w: *const i16,
    ends: *const End,
    bounds: *const Bounds,
    out: *mut u8,
    /// Blocks of 16 channels, at least one.
    blocks: usize,
    /// First channel of the last of them.
    last: usize,
}

// SAFETY: it needs NEON and a description whose pointers hold for all channels.
unsafe extern "C" {
    fn kinglet_depthwise_neon32(pixel: *const Pixel);
}

pub(super) struct Kernel {
    _token: Neon32,
    geometry: ConvGeometry,
    /// `[block][tap][channel]`
    weights: Vec<i16>,
    /// Two for each block.
    ends: Vec<End>,
    bounds: Bounds,
    /// A pixel outside the image.
    outside: Vec<u8>,
}

impl Kernel {
    /// Fewest channels that the kernel handles: a block.
    const MIN_CHANNELS: usize = 2 * LANES;

    /// Whether the kernel can compute the layer.
    pub(super) fn handles(layer: &Layer<'_>) -> bool {
        let g = &layer.geometry;
        g.in_c >= Self::MIN_CHANNELS && g.taps() <= MAX_TAPS
    }

    pub(super) fn new(token: Neon32, layer: &Layer<'_>) -> Kernel {
        let g = layer.geometry;
        let (mut weights, mut ends) = (Vec::new(), Vec::new());
        let filter = |c: usize| layer.weights[c..].iter().step_by(g.in_c);
        let end = |first| End::new(&layer.output, layer.input.zero_point, first, filter);
        for first in (0..g.in_c).step_by(Self::MIN_CHANNELS) {
            // The last block ends with the last channel and may overlap the one before.
            let first = first.min(g.in_c - Self::MIN_CHANNELS);
            for tap in layer.weights.chunks_exact(g.in_c) {
                weights.extend_from_slice(&tap[first..][..Self::MIN_CHANNELS]);
            }
            ends.extend([first, first + LANES].map(end));
        }
        Kernel {
            _token: token,
            geometry: g,
            weights,
            ends,
            bounds: Bounds::new(&layer.output, None),
            outside: vec![layer.input.zero_point; g.in_c],
        }
    }

    pub(super) fn name(&self) -> &'static str {
        "depthwise_u8s16_neon32_1x16"
    }

    pub(super) fn run(&self, input: &[u8], rows: Range<usize>, output: &mut [u8]) {
        let g = &self.geometry;
        let mut taps = [self.outside.as_ptr(); MAX_TAPS];
        let taps = &mut taps[..g.taps()];
        for (y, line) in rows.zip(output.chunks_exact_mut(g.out_w * g.out_c)) {
            for (x, out) in line.chunks_exact_mut(g.out_c).enumerate() {
                self.find(input, y, x, taps);
                let pixel = Pixel {
                    taps: taps.as_ptr(),
                    count: taps.len(),
                    w: self.weights.as_ptr(),
                    ends: self.ends.as_ptr(),
                    bounds: &raw const self.bounds,
                    out: out.as_mut_ptr(),
                    blocks: g.in_c.div_ceil(Self::MIN_CHANNELS),
                    last: g.in_c - Self::MIN_CHANNELS,
                };
                // SAFETY: the token proves NEON; taps and output have all channels, weights and ends
                // all blocks.
                unsafe { kinglet_depthwise_neon32(&raw const pixel) };
            }
        }
    }

    /// Where the taps of output pixel (`y`, `x`) lie.
    fn find(&self, input: &[u8], y: usize, x: usize, taps: &mut [*const u8]) {
        let g = &self.geometry;
        for (i, taps) in taps.chunks_exact_mut(g.kernel_w).enumerate() {
            let row = g.input_row(y, i);
            for (j, tap) in taps.iter_mut().enumerate() {
                *tap = match row.zip(g.input_col(x, j)) {
                    Some((row, col)) => input[(row * g.in_w + col) * g.in_c..][..g.in_c].as_ptr(),
                    None => self.outside.as_ptr(),
                };
            }
        }
    }
}
