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
    let run = g.kernel_w * g.in_c;
    for (p, row) in pixels.zip(rows.chunks_exact_mut(stride)) {
        let (y, x) = (p / g.out_w, p % g.out_w);
        for (i, taps) in row[..g.kernel_h * run].chunks_exact_mut(run).enumerate() {
            let Some(in_y) = g.input_row(y, i) else {
                taps.fill(outside);
                continue;
            };
            let line = &input[in_y * g.in_w * g.in_c..][..g.in_w * g.in_c];
            gather_line(g, line, outside, x, taps);
        }
    }
}

/// One tap row of one output pixel.
fn gather_line(g: &ConvGeometry, line: &[u8], outside: u8, x: usize, taps: &mut [u8]) {
    if g.dilation_w == 1 && x * g.stride_w >= g.pad_left {
        let first = x * g.stride_w - g.pad_left;
        if first + g.kernel_w <= g.in_w {
            taps.copy_from_slice(&line[first * g.in_c..][..taps.len()]);
            return;
        }
    }
    for (j, tap) in taps.chunks_exact_mut(g.in_c).enumerate() {
        match g.input_col(x, j) {
            Some(col) => tap.copy_from_slice(&line[col * g.in_c..][..g.in_c]),
            None => tap.fill(outside),
        }
    }
}
