//! Convolution as a matrix product: one row of input values per output pixel.

use std::ops::Range;

use crate::ConvGeometry;

/// Fills `rows` (`[pixels.len()][stride]`, `stride >= kernel_h * kernel_w * in_c`) with the
/// input values that each output pixel reads, in the order of the weights; values outside the
/// image are `outside`. What lies between the end of a row and `stride` is left as it was.
pub(super) fn gather(
    g: &ConvGeometry,
    input: &[u8],
    outside: u8,
    pixels: Range<usize>,
    rows: &mut [u8],
    stride: usize,
) {
    let mut pixel = pixels.start;
    let mut rest = rows;
    // One piece of an output row after the other.
    while pixel < pixels.end {
        let (y, x) = (pixel / g.out_w, pixel % g.out_w);
        let xs = x..(x + pixels.end - pixel).min(g.out_w);
        let (piece, next) = rest.split_at_mut(xs.len() * stride);
        for i in 0..g.kernel_h {
            let line =
                g.input_row(y, i).map(|row| &input[row * g.in_w * g.in_c..][..g.in_w * g.in_c]);
            let taps = piece.chunks_exact_mut(stride);
            gather_line(g, line, outside, xs.clone(), i, taps);
        }
        pixel += xs.len();
        rest = next;
    }
}

/// Tap row `i` of the output pixels `xs` of one output row.
fn gather_line<'a>(
    g: &ConvGeometry,
    line: Option<&[u8]>,
    outside: u8,
    xs: Range<usize>,
    i: usize,
    rows: impl Iterator<Item = &'a mut [u8]>,
) {
    let run = g.kernel_w * g.in_c;
    for (x, row) in xs.zip(rows) {
        let taps = &mut row[i * run..(i + 1) * run];
        let Some(line) = line else {
            taps.fill(outside);
            continue;
        };
        let first = (x * g.stride_w).wrapping_sub(g.pad_left);
        if g.dilation_w == 1 && first < g.in_w && first + g.kernel_w <= g.in_w {
            copy(&line[first * g.in_c..][..run], taps);
            continue;
        }
        for (j, tap) in taps.chunks_exact_mut(g.in_c).enumerate() {
            match g.input_col(x, j) {
                Some(col) => tap.copy_from_slice(&line[col * g.in_c..][..g.in_c]),
                None => tap.fill(outside),
            }
        }
    }
}

/// `copy_from_slice`, without a call for the short runs of an image's first layer: two moves of
/// eight bytes that may overlap.
#[inline]
fn copy(from: &[u8], to: &mut [u8]) {
    let len = from.len();
    if !(8..=16).contains(&len) || to.len() != len {
        return to.copy_from_slice(from);
    }
    to[..8].copy_from_slice(&from[..8]);
    to[len - 8..].copy_from_slice(&from[len - 8..]);
}
