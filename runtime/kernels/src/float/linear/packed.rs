//! Fully connected layer for vectors: a matrix product of one row.

use std::ops::Range;

use super::{Body, Layer};
use crate::float::Element;
use crate::float::panels::Panels;
use crate::float::simd::{self, Dispatch, Epilogue, Io, MAX_LANES, MAX_PANEL, Simd};
use crate::float::tile::{self, Rows, Target, Weights};

/// Builds the body for the vectors chosen.
pub(super) struct Build<'a>(pub(super) Layer<'a>);

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
        S: Io<T> + Io<O>,
    {
        let converted: Vec<S::C>;
        let start = if <S as Io<T>>::SAME {
            input.as_ptr().cast::<S::C>()
        } else {
            converted = input.iter().map(|x| S::C::from_f32(x.to_f32())).collect();
            converted.as_ptr()
        };
        let rows = Rows { start, stride: 0, runs: 1, run_stride: 0, run: input.len() };
        for panel in &self.panels.panels {
            let wanted = panel.first.max(range.start)..(panel.first + panel.columns).min(range.end);
            if wanted.is_empty() {
                continue;
            }
            let weights = Weights {
                vectors: panel.vectors,
                weights: self.panels.weights(panel).as_ptr(),
                bias: self.panels.bias(panel).as_ptr(),
            };
            let mut all = [O::default(); MAX_PANEL * MAX_LANES];
            let target = Target {
                output: all.as_mut_ptr(),
                residual: std::ptr::null(),
                stride: 0,
                columns: panel.columns,
            };
            // SAFETY: one row of the panel's depth, and room for all its columns.
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
