//! Dense convolution for vectors: blocks of pixels, one panel of weights after the other.
//!
//! A pointwise convolution multiplies the image as it lies there. So does one with larger filters
//! where a filter's columns lie side by side in the image: each row of a tile is then one run of
//! values per filter row. What reaches into the padding, is dilated, or is not in the type of
//! arithmetic is gathered into rows first (`gather.rs`).

use std::ops::Range;

use super::gather::gather;
use super::{Body, Layer};
use crate::float::Element;
use crate::float::panels::Panels;
use crate::float::simd::{self, Dispatch, Epilogue, Io, Simd};
use crate::float::tile::{self, Rows, Target, Weights};
use crate::{ConvGeometry, Scratch};

/// Bytes of activations, in and out, that one block of pixels of a pointwise convolution may take.
const BLOCK_BYTES: usize = 192 * 1024;
/// Bytes of gathered rows in one block.
const GATHERED_BYTES: usize = 24 * 1024;

/// Builds the body for the vectors chosen.
pub struct Build<'a>(pub(super) Layer<'a>);

impl<T: Element> Dispatch<T> for Build<'_> {
    type Output = Box<dyn Body<T>>;

    fn scalar(self) -> Box<dyn Body<T>> {
        Box::new(super::scalar::Kernel::<T>::new(&self.0))
    }

    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Box<dyn Body<T>> {
        Box::new(Kernel::new::<T>(simd, &self.0))
    }
}

struct Kernel<S: Simd> {
    simd: S,
    geometry: ConvGeometry,
    panels: Panels<S>,
    epilogue: Epilogue<S::C>,
    /// Pixels of one block.
    block: usize,
    /// Output columns whose windows lie within the image's columns, side by side.
    inner: Range<usize>,
    name: &'static str,
}

impl<S: Simd> Kernel<S> {
    fn new<T: Element>(simd: S, layer: &Layer<'_>) -> Kernel<S>
    where
        S: Io<T>,
    {
        let g = layer.geometry;
        let panels = Panels::<S>::new::<T>(g.out_c, layer.weights, layer.bias);
        let depth = g.taps() * g.in_c;
        let same = <S as Io<T>>::SAME;
        let block = if g.is_pointwise() && same {
            BLOCK_BYTES / (depth * size_of::<S::C>() + g.out_c * size_of::<T>())
        } else {
            GATHERED_BYTES / (depth * size_of::<S::C>())
        };
        let vectors = panels.panels[0].vectors;
        let height = S::ROWS[vectors - 1];
        let op = if g.is_pointwise() { "pointwise" } else { "conv" };
        let width = vectors * S::LANES;
        Kernel {
            simd,
            geometry: g,
            panels,
            epilogue: Epilogue::new(layer.activation),
            block: block.next_multiple_of(height).max(height),
            inner: if same && g.dilation_w == 1 { g.inner_columns() } else { 0..0 },
            name: simd::name(format!("{op}_{}_{}_{height}x{width}", T::NAME, S::NAME)),
        }
    }

    /// Multiplies `count` rows by all panels; `skip` values of each channel's filter come before
    /// the first.
    ///
    /// # Safety
    /// `rows` must be valid for reads of `count` rows, `target` for writes (its residual for
    /// reads) of as many rows of all channels.
    unsafe fn multiply<T: Element>(
        &self,
        rows: Rows<S::C>,
        count: usize,
        skip: usize,
        target: Target<T>,
    ) where
        S: Io<T>,
    {
        for panel in &self.panels.panels {
            let weights = Weights {
                vectors: panel.vectors,
                weights: self.panels.weights(panel)[skip * panel.vectors * S::LANES..].as_ptr(),
                bias: self.panels.bias(panel).as_ptr(),
            };
            let mut target = target;
            target.output = target.output.wrapping_add(panel.first);
            if !target.residual.is_null() {
                target.residual = target.residual.wrapping_add(panel.first);
            }
            target.columns = panel.columns;
            // SAFETY: the caller vouches for rows and target; the panel was packed for this depth.
            unsafe { tile::run(self.simd, rows, count, weights, target, &self.epilogue) };
        }
    }

    /// Pixels whose windows are gathered first.
    fn gathered<T: Element>(
        &self,
        input: &[T],
        pixels: Range<usize>,
        target: Target<T>,
        scratch: &mut Scratch,
    ) where
        S: Io<T>,
    {
        let g = &self.geometry;
        let depth = g.taps() * g.in_c;
        let values = scratch.floats::<S::C>(self.block * depth);
        for start in pixels.clone().step_by(self.block) {
            let block = start..(start + self.block).min(pixels.end);
            let count = block.len();
            gather(self.simd, g, input, block, values);
            let rows =
                Rows { start: values.as_ptr(), stride: depth, runs: 1, run_stride: 0, run: depth };
            let target = target.after(start - pixels.start);
            // SAFETY: `count` rows were gathered; `run` checked the output's length.
            unsafe { self.multiply(rows, count, 0, target) };
        }
    }

    /// The pixels of a pointwise convolution, as they lie in the image.
    fn pointwise<T: Element>(&self, input: &[T], pixels: Range<usize>, target: Target<T>)
    where
        S: Io<T>,
    {
        let depth = self.geometry.in_c;
        for start in pixels.clone().step_by(self.block) {
            let count = self.block.min(pixels.end - start);
            let rows = Rows {
                start: in_arithmetic::<S, T>(&input[start * depth..]),
                stride: depth,
                runs: 1,
                run_stride: 0,
                run: depth,
            };
            // SAFETY: `Conv::run` checked the lengths of input and output.
            unsafe { self.multiply(rows, count, 0, target.after(start - pixels.start)) };
        }
    }

    /// The output columns `xs` of row `y`, all of them inner ones.
    fn direct<T: Element>(&self, input: &[T], y: usize, xs: Range<usize>, target: Target<T>)
    where
        S: Io<T>,
    {
        let g = &self.geometry;
        let run = g.kernel_w * g.in_c;
        let line = g.in_w * g.in_c;
        let inside = |i: &usize| g.input_row(y, *i).is_some();
        let first = (0..g.kernel_h).position(|i| inside(&i)).unwrap_or(0);
        let runs = (first..g.kernel_h).take_while(inside).count();
        let start = match g.input_row(y, first) {
            Some(row) => row * line + (xs.start * g.stride_w - g.pad_left) * g.in_c,
            None => 0,
        };
        let rows = Rows {
            start: in_arithmetic::<S, T>(&input[start..]),
            stride: g.stride_w * g.in_c,
            runs,
            run_stride: g.dilation_h * line,
            run,
        };
        // SAFETY: the filter rows `first..first + runs` of inner columns lie within the image;
        // `Conv::run` checked the output's length.
        unsafe { self.multiply(rows, xs.len(), first * run, target) };
    }
}

/// Where values are that need no conversion.
fn in_arithmetic<S: Io<T>, T: Element>(values: &[T]) -> *const S::C {
    const { assert!(size_of::<T>() == size_of::<S::C>() || !<S as Io<T>>::SAME) };
    values.as_ptr().cast::<S::C>()
}

impl<S: Io<T>, T: Element> Body<T> for Kernel<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(
        &self,
        input: &[T],
        residual: Option<&[T]>,
        range: Range<usize>,
        output: &mut [T],
        scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        let target = Target {
            output: output.as_mut_ptr(),
            residual: residual.map_or(std::ptr::null(), <[T]>::as_ptr),
            stride: g.out_c,
            columns: g.out_c,
        };
        if !<S as Io<T>>::SAME || (!g.is_pointwise() && self.inner.is_empty()) {
            return self.gathered(input, range, target, scratch);
        }
        if g.is_pointwise() {
            return self.pointwise(input, range, target);
        }
        let mut pixel = range.start;
        while pixel < range.end {
            let (y, x) = (pixel / g.out_w, pixel % g.out_w);
            let (is_inner, end) = match x {
                x if x < self.inner.start => (false, self.inner.start),
                x if x < self.inner.end => (true, self.inner.end),
                _ => (false, g.out_w),
            };
            let count = (end - x).min(range.end - pixel);
            let target = target.after(pixel - range.start);
            if is_inner {
                self.direct(input, y, x..x + count, target);
            } else {
                self.gathered(input, pixel..pixel + count, target, scratch);
            }
            pixel += count;
        }
    }
}
