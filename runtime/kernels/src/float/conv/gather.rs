//! Convolution as a matrix product: one row of input values per output pixel.

use std::ops::Range;

use crate::ConvGeometry;
use crate::float::Element;
use crate::float::simd::{Io, Vectorized};

/// Fills `rows` (`[pixels.len()][kernel_h * kernel_w * in_c]`) with the input values that each
/// output pixel reads, in the order of the weights, in the type of arithmetic; 0 outside the image.
pub(super) fn gather<S: Io<T>, T: Element>(
    s: S,
    g: &ConvGeometry,
    input: &[T],
    pixels: Range<usize>,
    rows: &mut [S::C],
) {
    s.vectorize(Gather { s, g, input, pixels, rows });
}

struct Gather<'a, S: Io<T>, T: Element> {
    s: S,
    g: &'a ConvGeometry,
    input: &'a [T],
    pixels: Range<usize>,
    rows: &'a mut [S::C],
}

impl<S: Io<T>, T: Element> Vectorized for Gather<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let g = self.g;
        let depth = g.taps() * g.in_c;
        if g.is_pointwise() {
            let from = &self.input[self.pixels.start * depth..][..self.pixels.len() * depth];
            return convert(self.s, from, &mut self.rows[..from.len()]);
        }
        let run = g.kernel_w * g.in_c;
        for (p, row) in self.pixels.zip(self.rows.chunks_exact_mut(depth)) {
            let (y, x) = (p / g.out_w, p % g.out_w);
            // The first column of the window, if it and all others lie within the image.
            let first = (x * g.stride_w)
                .checked_sub(g.pad_left)
                .filter(|first| g.dilation_w == 1 && first + g.kernel_w <= g.in_w);
            for (i, taps) in row.chunks_exact_mut(run).enumerate() {
                let Some(line) = g.input_row(y, i) else {
                    taps.fill(S::C::default());
                    continue;
                };
                let line = &self.input[line * g.in_w * g.in_c..][..g.in_w * g.in_c];
                if let Some(first) = first {
                    convert(self.s, &line[first * g.in_c..][..run], taps);
                    continue;
                }
                for (j, tap) in taps.chunks_exact_mut(g.in_c).enumerate() {
                    match g.input_col(x, j) {
                        Some(col) => convert(self.s, &line[col * g.in_c..][..g.in_c], tap),
                        None => tap.fill(S::C::default()),
                    }
                }
            }
        }
    }
}

/// Copies into the type of arithmetic; the slices have the same length.
#[inline(always)]
fn convert<S: Io<T>, T: Element>(s: S, from: &[T], to: &mut [S::C]) {
    assert_eq!(from.len(), to.len());
    let whole = from.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: a whole register within both slices.
        unsafe { s.store(to.as_mut_ptr().add(at), s.read(from.as_ptr().add(at))) };
    }
    for (to, from) in to[whole..].iter_mut().zip(&from[whole..]) {
        *to = S::C::from_f32(from.to_f32());
    }
}
