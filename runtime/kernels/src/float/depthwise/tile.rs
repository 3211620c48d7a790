//! Depthwise convolution: several columns of one output row, a few registers of channels.

use std::ops::Range;

use crate::ConvGeometry;
use crate::float::Element;
use crate::float::simd::{DepthwiseRow, Epilogue, Io, Simd, Vectorized};

/// Output columns of a tile. Images of 224 x 224 have rows of 112, 56, 28, 14 and 7 pixels, and
/// registers hold the sums of 7 columns, a filter row of 5 and what is read.
pub(super) const COLUMNS: usize = 7;

/// One output row of a group of channels.
pub(super) struct Line<'a, T, C> {
    /// The group's first channel of the first pixel of the first input row that is read.
    pub(super) input: *const T,
    /// Filter rows that lie within the image.
    pub(super) taps: usize,
    /// Weights from the first of those rows on, `[rows][kernel_w][vectors * LANES]`.
    pub(super) weights: *const C,
    /// `[vectors * LANES]`
    pub(super) bias: *const C,
    /// The group's first channel of the first pixel of the output row.
    pub(super) output: *mut T,
    /// Output columns whose windows lie within the image's columns.
    pub(super) inner: &'a Range<usize>,
}

/// Computes one output row of a group.
///
/// # Safety
/// `line` must be what its description says, for `VECTORS` registers and the geometry `g`.
#[inline(always)]
pub(super) unsafe fn line<
    S: Io<T>,
    T: Element,
    const VECTORS: usize,
    const KERNEL: usize,
    const STRIDE: usize,
>(
    s: S,
    g: &ConvGeometry,
    line: &Line<'_, T, S::C>,
    epilogue: &Epilogue<S::C>,
) {
    let mut x = 0;
    if KERNEL > 0 && S::SAME && epilogue.only_bounds() && g.out_w >= COLUMNS {
        let row = DepthwiseRow {
            input: line.input.cast(),
            in_w: g.in_w,
            pad_left: g.pad_left,
            channels: g.in_c,
            line: g.dilation_h * g.in_w * g.in_c,
            taps: line.taps,
            weights: line.weights,
            bias: line.bias,
            bounds: &[epilogue.min, epilogue.max],
            output: line.output.cast(),
            tiles: g.out_w / COLUMNS,
        };
        // SAFETY: the row's whole tiles; the caller vouches for `line`.
        if unsafe { s.depthwise_row::<VECTORS, KERNEL, STRIDE>(&row) } {
            x = row.tiles * COLUMNS;
        }
    }
    while x < g.out_w {
        // SAFETY: a tile of columns of the row; the caller vouches for `line`. A tile without
        // tests has all its windows within the image.
        unsafe {
            if KERNEL == 0 {
                any::<S, T, VECTORS>(s, g, line, x, epilogue);
                x += 1;
            } else {
                let count = COLUMNS.min(g.out_w - x);
                if count < COLUMNS {
                    tile::<S, T, VECTORS, KERNEL, STRIDE, ANY>(s, g, line, x, count, epilogue);
                } else if x >= line.inner.start && x + COLUMNS <= line.inner.end {
                    tile::<S, T, VECTORS, KERNEL, STRIDE, NONE>(s, g, line, x, count, epilogue);
                } else {
                    let columns = (COLUMNS - 1) * STRIDE + KERNEL;
                    let before = g.pad_left.saturating_sub(x * STRIDE);
                    let after = (x * STRIDE + columns).saturating_sub(g.in_w + g.pad_left);
                    if before.max(after) <= KERNEL / 2 {
                        tile::<S, T, VECTORS, KERNEL, STRIDE, EDGES>(
                            s, g, line, x, count, epilogue,
                        );
                    } else {
                        tile::<S, T, VECTORS, KERNEL, STRIDE, ANY>(s, g, line, x, count, epilogue);
                    }
                }
                x += count;
            }
        }
    }
}

/// Which columns that a tile reads may lie in the padding.
const NONE: u8 = 0;
/// Half a filter's at either end.
const EDGES: u8 = 1;
/// Any.
const ANY: u8 = 2;

/// Does something for each literal below a constant.
macro_rules! unrolled {
    ($index:ident < $end:expr, $body:block; $($literal:literal)*) => {
        $(
            if $literal < $end {
                let $index: usize = $literal;
                $body
            }
        )*
    };
}

/// `count` output columns from `x` on; [`COLUMNS`] unless `PADDING` is [`ANY`]. What is read lies
/// within the image except for what `PADDING` says.
///
/// # Safety
/// As [`line`].
#[inline(always)]
unsafe fn tile<
    S: Io<T>,
    T: Element,
    const VECTORS: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const PADDING: u8,
>(
    s: S,
    g: &ConvGeometry,
    line: &Line<'_, T, S::C>,
    x: usize,
    count: usize,
    epilogue: &Epilogue<S::C>,
) {
    let width = VECTORS * S::LANES;
    let zero = s.splat(S::C::default());
    // SAFETY: the caller vouches for `line`; a pixel is read only if it lies within the image.
    unsafe {
        let bias: [S::V; VECTORS] = std::array::from_fn(|v| s.load(line.bias.add(v * S::LANES)));
        let mut acc = [bias; COLUMNS];
        // Wraps below 0 for columns in the padding.
        let first = (x * STRIDE).wrapping_sub(g.pad_left);
        let mut row = line.input.wrapping_add(first.wrapping_mul(g.in_c));
        let mut weights = line.weights;
        for _ in 0..line.taps {
            let mut w = [[zero; VECTORS]; KERNEL];
            for (j, w) in w.iter_mut().enumerate() {
                *w = std::array::from_fn(|v| s.load(weights.add(j * width + v * S::LANES)));
            }
            unrolled!(col < (COLUMNS - 1) * STRIDE + KERNEL, {
                let at_edge =
                    col < KERNEL / 2 || col + KERNEL / 2 >= (COLUMNS - 1) * STRIDE + KERNEL;
                let tested = PADDING == ANY || (PADDING == EDGES && at_edge);
                // The padding adds nothing.
                if !tested || first.wrapping_add(col) < g.in_w {
                    let pixel = s.apart(row.wrapping_add(col * g.in_c));
                    let mut value = [zero; VECTORS];
                    for (v, value) in value.iter_mut().enumerate() {
                        *value = s.read(pixel.add(v * S::LANES));
                    }
                    for t in 0..COLUMNS {
                        if col >= t * STRIDE && col - t * STRIDE < KERNEL {
                            for v in 0..VECTORS {
                                acc[t][v] = s.fma(acc[t][v], value[v], w[col - t * STRIDE][v]);
                            }
                        }
                    }
                }
            }; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
            row = row.wrapping_add(g.dilation_h * g.in_w * g.in_c);
            weights = weights.wrapping_add(KERNEL * width);
        }
        finish::<S, T, VECTORS, COLUMNS>(s, g, line, x, count, epilogue, acc);
    }
}

/// One output column of any filter.
///
/// # Safety
/// As [`line`].
#[inline(always)]
unsafe fn any<S: Io<T>, T: Element, const VECTORS: usize>(
    s: S,
    g: &ConvGeometry,
    line: &Line<'_, T, S::C>,
    x: usize,
    epilogue: &Epilogue<S::C>,
) {
    let width = VECTORS * S::LANES;
    // SAFETY: the caller vouches for `line`; a pixel is read only if it lies within the image.
    unsafe {
        let mut acc: [S::V; VECTORS] = std::array::from_fn(|v| s.load(line.bias.add(v * S::LANES)));
        for i in 0..line.taps {
            let row = line.input.add(i * g.dilation_h * g.in_w * g.in_c);
            for j in 0..g.kernel_w {
                let Some(col) = g.input_col(x, j) else { continue };
                let weights = line.weights.add((i * g.kernel_w + j) * width);
                for (v, acc) in acc.iter_mut().enumerate() {
                    let value = s.read(row.add(col * g.in_c + v * S::LANES));
                    *acc = s.fma(*acc, value, s.load(weights.add(v * S::LANES)));
                }
            }
        }
        finish::<S, T, VECTORS, 1>(s, g, line, x, 1, epilogue, [acc]);
    }
}

/// Applies the activation and writes the first `count` columns.
///
/// # Safety
/// As [`line`].
#[inline(always)]
unsafe fn finish<S: Io<T>, T: Element, const VECTORS: usize, const COUNT: usize>(
    s: S,
    g: &ConvGeometry,
    line: &Line<'_, T, S::C>,
    x: usize,
    count: usize,
    epilogue: &Epilogue<S::C>,
    acc: [[S::V; VECTORS]; COUNT],
) {
    let mut output = line.output.wrapping_add(x * g.out_c);
    if epilogue.only_bounds() {
        let (min, max) = (s.splat(epilogue.min), s.splat(epilogue.max));
        for (t, acc) in acc.iter().enumerate() {
            if t < count {
                for (v, &acc) in acc.iter().enumerate() {
                    let value = s.min(s.max(acc, min), max);
                    // SAFETY: a vector of a column of the row.
                    unsafe { s.write(output.add(v * S::LANES), value) };
                }
            }
            output = output.wrapping_add(g.out_c);
        }
    } else {
        s.vectorize(Finish { s, acc, output, stride: g.out_c, count, epilogue });
    }
}

/// The end of a tile whose activation is a longer computation: not inlined, and `acc` is a copy,
/// so that the sums themselves stay in registers.
struct Finish<'a, S: Simd, T, const VECTORS: usize, const COUNT: usize> {
    s: S,
    acc: [[S::V; VECTORS]; COUNT],
    output: *mut T,
    stride: usize,
    count: usize,
    epilogue: &'a Epilogue<S::C>,
}

impl<S: Io<T>, T: Element, const VECTORS: usize, const COUNT: usize> Vectorized
    for Finish<'_, S, T, VECTORS, COUNT>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut output = self.output;
        for acc in self.acc.iter().take(self.count) {
            for (v, &acc) in acc.iter().enumerate() {
                let value = self.epilogue.apply(self.s, acc);
                // SAFETY: a vector of a column of the row that `finish`'s caller vouches for.
                unsafe { self.s.write(output.add(v * S::LANES), value) };
            }
            output = output.wrapping_add(self.stride);
        }
    }
}
