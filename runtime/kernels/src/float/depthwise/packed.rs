//! Depthwise convolution for vectors: packing, and the loops over channels, rows and columns.

use std::ops::Range;

use super::tile::{self, Line};
use super::{Body, Layer};
use crate::ConvGeometry;
use crate::float::Element;
use crate::float::simd::{self, Dispatch, Epilogue, Io, Simd, Vectorized};
use crate::scratch::PackedFloats;

/// Builds the body for the vectors chosen.
pub struct Build<'a>(pub(super) Layer<'a>);

impl<T: Element> Dispatch<T> for Build<'_> {
    type Output = Box<dyn Body<T>>;

    fn scalar(self) -> Box<dyn Body<T>> {
        Box::new(super::scalar::Kernel::<T>::new(&self.0))
    }

    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Box<dyn Body<T>> {
        if self.0.geometry.in_c < S::LANES {
            return Dispatch::<T>::scalar(self);
        }
        Box::new(Kernel::new::<T>(simd, &self.0))
    }
}

struct Kernel<S: Simd> {
    simd: S,
    geometry: ConvGeometry,
    groups: Vec<Group>,
    /// `[group][taps][vectors * LANES]`
    weights: PackedFloats<S::C>,
    /// `[group][vectors * LANES]`
    bias: PackedFloats<S::C>,
    epilogue: Epilogue<S::C>,
    name: &'static str,
}

/// Some consecutive channels: 1 or [`Simd::DEPTHWISE_VECTORS`] registers.
#[derive(Clone, Copy)]
struct Group {
    /// The first channel.
    first: usize,
    vectors: usize,
    /// Where its bias lies, and, times the number of taps, its weights.
    packed: usize,
}

impl<S: Simd> Kernel<S> {
    fn new<T: Element>(simd: S, layer: &Layer<'_>) -> Kernel<S> {
        let g = layer.geometry;
        let (channels, taps) = (g.in_c, g.taps());
        let mut groups = Vec::new();
        let (mut first, mut packed) = (0, 0);
        while first < channels {
            let whole = first + S::DEPTHWISE_VECTORS * S::LANES <= channels;
            let vectors = if whole { S::DEPTHWISE_VECTORS } else { 1 };
            // The last vector ends with the last channel and may overlap the one before.
            groups.push(Group { first: first.min(channels - S::LANES), vectors, packed });
            first += vectors * S::LANES;
            packed += vectors * S::LANES;
        }
        let round = |value: f32| S::C::from_f32(T::from_f32(value).to_f32());
        let weights = PackedFloats::new(packed * taps, |to| {
            for group in &groups {
                let width = group.vectors * S::LANES;
                let to = &mut to[group.packed * taps..][..width * taps];
                for (tap, to) in to.chunks_exact_mut(width).enumerate() {
                    for (c, to) in to.iter_mut().enumerate() {
                        *to = round(layer.weights[tap * channels + group.first + c]);
                    }
                }
            }
        });
        let bias = PackedFloats::new(packed, |to| {
            for group in &groups {
                for c in 0..group.vectors * S::LANES {
                    to[group.packed + c] = round(layer.bias[group.first + c]);
                }
            }
        });
        let shape = match (g.kernel_w, g.stride_w, g.dilation_w) {
            (3, 1, 1) => "k3s1_",
            (3, 2, 1) => "k3s2_",
            (5, 1, 1) => "k5s1_",
            (5, 2, 1) => "k5s2_",
            _ => "",
        };
        let tile = format!("{}x{}", tile::COLUMNS, groups[0].vectors * S::LANES);
        Kernel {
            simd,
            geometry: g,
            groups,
            weights,
            bias,
            epilogue: Epilogue::new(layer.activation),
            name: simd::name(format!("depthwise_{}_{}_{shape}{tile}", T::NAME, S::NAME)),
        }
    }
}

impl<S: Io<T>, T: Element> Body<T> for Kernel<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, input: &[T], above: usize, rows: Range<usize>, output: &mut [T]) {
        let g = &self.geometry;
        macro_rules! rows {
            ($vectors:tt, $kernel:literal, $stride:literal) => {
                self.simd.vectorize(Rows::<S, T, $vectors, $kernel, $stride> {
                    kernel: self,
                    input,
                    above,
                    rows,
                    output,
                })
            };
        }
        macro_rules! shapes {
            ($vectors:literal) => {
                match (g.kernel_w, g.stride_w, g.dilation_w) {
                    (3, 1, 1) => rows!($vectors, 3, 1),
                    (3, 2, 1) => rows!($vectors, 3, 2),
                    (5, 1, 1) => rows!($vectors, 5, 1),
                    (5, 2, 1) => rows!($vectors, 5, 2),
                    _ => rows!($vectors, 0, 0),
                }
            };
        }
        match S::DEPTHWISE_VECTORS {
            1 => shapes!(1),
            _ => shapes!(2),
        }
    }
}

/// All output rows of a range, `VECTORS` registers of channels at a time; filters of `KERNEL`
/// columns that move by `STRIDE`, or, if both are 0, any.
struct Rows<'a, S: Simd, T, const VECTORS: usize, const KERNEL: usize, const STRIDE: usize> {
    kernel: &'a Kernel<S>,
    input: &'a [T],
    above: usize,
    rows: Range<usize>,
    output: &'a mut [T],
}

impl<S: Io<T>, T: Element, const VECTORS: usize, const KERNEL: usize, const STRIDE: usize>
    Vectorized for Rows<'_, S, T, VECTORS, KERNEL, STRIDE>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let kernel = self.kernel;
        // A copy, which no store can change: its products stay in registers.
        let geometry = kernel.geometry;
        let g = &geometry;
        let inner = g.inner_columns();
        let first_row = self.rows.start;
        for y in self.rows {
            let inside = |i: &usize| g.input_row(y, *i).is_some();
            let first = (0..g.kernel_h).position(|i| inside(&i)).unwrap_or(0);
            let taps = (first..g.kernel_h).take_while(inside).count();
            let row = g.input_row(y, first).map_or(0, |row| row - self.above);
            let to = (y - first_row) * g.out_w * g.out_c;
            for group in &kernel.groups {
                let width = group.vectors * S::LANES;
                let weights = &kernel.weights.values()
                    [group.packed * g.taps() + first * g.kernel_w * width..];
                let line = Line {
                    input: self.input[row * g.in_w * g.in_c + group.first..].as_ptr(),
                    taps,
                    weights: weights.as_ptr(),
                    bias: kernel.bias.values()[group.packed..][..width].as_ptr(),
                    output: self.output[to + group.first..].as_mut_ptr(),
                    inner: &inner,
                };
                // SAFETY: rows `row..` that `taps` counts lie within `input` (`Depthwise` checked), the group's
                // channels within its pixels, weights and bias were packed for the group, and the
                // output has a row for each `y`.
                unsafe {
                    if group.vectors == VECTORS {
                        tile::line::<S, T, VECTORS, KERNEL, STRIDE>(
                            kernel.simd,
                            g,
                            &line,
                            &kernel.epilogue,
                        );
                    } else {
                        tile::line::<S, T, 1, KERNEL, STRIDE>(
                            kernel.simd,
                            g,
                            &line,
                            &kernel.epilogue,
                        );
                    }
                }
            }
        }
    }
}
