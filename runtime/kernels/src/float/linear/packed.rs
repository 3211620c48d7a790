//! Fully connected layer for vectors: a matrix product of one row.

use std::ops::Range;

use super::{Body, Layer};
use crate::float::panels::Panels;
use crate::float::simd::{self, Dispatch, Epilogue, Io, MAX_LANES, MAX_PANEL, Simd, Vectorized};
use crate::float::tile::{self, Rows, Target, Weights};
use crate::float::{Activation, Element};

/// Values of the input that are converted at a time: the layers of classifiers have no more, and
/// convert it once.
const CHUNK: usize = 2048;

/// Builds the body for the vectors chosen.
pub struct Build<'a>(pub(super) Layer<'a>);

impl<T: Element> Dispatch<T> for Build<'_> {
    type Output = Box<dyn Body<T>>;

    fn scalar(self) -> Box<dyn Body<T>> {
        Box::new(super::scalar::Kernel::<T>::new(&self.0))
    }

    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Box<dyn Body<T>> {
        let layer = self.0;
        let panels = Panels::<S>::new::<T>(layer.out_features, layer.weights, layer.bias);
        let width = panels.panels[0].vectors * S::LANES;
        Box::new(Kernel {
            simd,
            panels,
            epilogue: Epilogue::new(layer.activation),
            name: simd::name(format!("linear_{}_{}_1x{width}", T::NAME, S::NAME)),
        })
    }
}

struct Kernel<S: Simd> {
    simd: S,
    panels: Panels<S>,
    epilogue: Epilogue<S::C>,
    name: &'static str,
}

impl<S: Simd> Kernel<S> {
    /// The outputs `range`, written as `O`.
    fn outputs<T: Element, O: Element>(&self, input: &[T], range: Range<usize>, output: &mut [O])
    where
        S: Io<T> + Io<O> + Io<f32>,
    {
        let same = <S as Io<T>>::SAME;
        let chunk = if same { input.len() } else { CHUNK };
        let mut converted = [S::C::default(); CHUNK];
        if !same && input.len() <= CHUNK {
            self.simd.vectorize(Convert { s: self.simd, from: input, to: &mut converted });
        }
        for panel in &self.panels.panels {
            let wanted = panel.first.max(range.start)..(panel.first + panel.columns).min(range.end);
            if wanted.is_empty() {
                continue;
            }
            let packed = self.panels.weights(panel);
            let bias = self.panels.bias(panel);
            // The sums so far.
            let mut sums = [S::C::default(); MAX_PANEL * MAX_LANES];
            sums[..bias.len()].copy_from_slice(bias);
            let mut done = 0;
            let mut next = || {
                let from = &input[done..input.len().min(done + chunk)];
                let start = if same {
                    from.as_ptr().cast::<S::C>()
                } else {
                    if input.len() > CHUNK {
                        self.simd.vectorize(Convert { s: self.simd, from, to: &mut converted });
                    }
                    converted.as_ptr()
                };
                let weights = packed[done * bias.len()..].as_ptr();
                done += from.len();
                let rows = Rows { start, stride: 0, runs: 1, run_stride: 0, run: from.len() };
                (rows, weights)
            };
            for _ in 1..input.len().div_ceil(chunk) {
                let (rows, weights) = next();
                let weights = Weights { vectors: panel.vectors, weights, bias: sums.as_ptr() };
                let mut partial = [0.0f32; MAX_PANEL * MAX_LANES];
                let target = Target {
                    output: partial.as_mut_ptr(),
                    residual: std::ptr::null(),
                    stride: 0,
                    columns: panel.columns,
                };
                let none = Epilogue::new(Activation::None);
                // SAFETY: as below.
                unsafe { tile::run(self.simd, rows, 1, weights, target, &none) };
                for (sum, partial) in sums.iter_mut().zip(partial) {
                    *sum = S::C::from_f32(partial);
                }
            }
            let (rows, weights) = next();
            let weights = Weights { vectors: panel.vectors, weights, bias: sums.as_ptr() };
            let mut all = [O::default(); MAX_PANEL * MAX_LANES];
            let target = Target {
                output: all.as_mut_ptr(),
                residual: std::ptr::null(),
                stride: 0,
                columns: panel.columns,
            };
            // SAFETY: one row of what is left of the panel's depth, and room for all its columns.
            unsafe { tile::run(self.simd, rows, 1, weights, target, &self.epilogue) };
            output[wanted.start - range.start..wanted.end - range.start]
                .copy_from_slice(&all[wanted.start - panel.first..wanted.end - panel.first]);
        }
    }
}

impl<S: Io<T> + Io<f32>, T: Element> Body<T> for Kernel<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, input: &[T], range: Range<usize>, output: &mut [T]) {
        self.outputs::<T, T>(input, range, output);
    }

    fn run_f32(&self, input: &[T], range: Range<usize>, output: &mut [f32]) {
        self.outputs::<T, f32>(input, range, output);
    }
}

/// Converts `from` into the type of arithmetic; `to` has as many whole registers or more.
struct Convert<'a, S: Io<T>, T: Element> {
    s: S,
    from: &'a [T],
    to: &'a mut [S::C; CHUNK],
}

impl<S: Io<T>, T: Element> Vectorized for Convert<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let s = self.s;
        for (from, to) in self.from.chunks(S::LANES).zip(self.to.chunks_exact_mut(S::LANES)) {
            // SAFETY: `from` has these values, and `to` is a register.
            unsafe {
                let values = if from.len() == S::LANES {
                    s.read(from.as_ptr())
                } else {
                    s.read_part(from.as_ptr(), from.len())
                };
                s.store(to.as_mut_ptr(), values);
            }
        }
    }
}
