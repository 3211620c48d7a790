//! Product of two tensors, for vectors.

use super::{Body, scalar};
use crate::float::elementwise::Binary;
use crate::float::simd::{self, Dispatch, Io, Simd, Vectorized};
use crate::float::{Element, elementwise};

/// Builds the body for the vectors chosen.
pub struct Build;

impl<T: Element> Dispatch<T> for Build {
    type Output = Box<dyn Body<T>>;

    fn scalar(self) -> Box<dyn Body<T>> {
        Box::new(scalar::Kernel)
    }

    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Box<dyn Body<T>> {
        let name = simd::name(format!("mul_{}_{}_{}", T::NAME, S::NAME, S::LANES));
        Box::new(Kernel { simd, name })
    }
}

struct Kernel<S: Simd> {
    simd: S,
    name: &'static str,
}

impl<S: Io<T>, T: Element> Body<T> for Kernel<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, a: &[T], b: &[T], output: &mut [T]) {
        let period = b.len();
        self.simd.vectorize(Run { s: self.simd, a, b, period, output });
    }

    fn run_channels(&self, a: &[T], gate: &[T], output: &mut [T]) {
        self.simd.vectorize(Run { s: self.simd, a, b: gate, period: gate.len(), output });
    }
}

/// Multiplies each `period` values of `a` by `b`.
struct Run<'a, S: Simd, T> {
    s: S,
    a: &'a [T],
    b: &'a [T],
    period: usize,
    output: &'a mut [T],
}

impl<S: Io<T>, T: Element> Vectorized for Run<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let s = self.s;
        // Nothing to do where there are no values; chunks of no values are no chunks.
        let period = self.period.max(1);
        for (a, output) in self.a.chunks_exact(period).zip(self.output.chunks_exact_mut(period)) {
            elementwise::binary(s, a, self.b, output, &Product);
        }
    }
}

struct Product;

impl<S: Simd> Binary<S> for Product {
    #[inline(always)]
    fn apply(&self, s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, b)
    }
}
