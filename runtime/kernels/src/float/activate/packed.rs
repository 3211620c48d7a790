//! An activation on its own, for vectors.

use super::{Body, scalar};
use crate::float::elementwise::Unary;
use crate::float::simd::{self, Dispatch, Epilogue, Io, Simd, Vectorized};
use crate::float::{Activation, Element, elementwise};

/// Builds the body for the vectors chosen.
pub struct Build(pub(super) Activation);

impl<T: Element> Dispatch<T> for Build {
    type Output = Box<dyn Body<T>>;

    fn scalar(self) -> Box<dyn Body<T>> {
        Box::new(scalar::Kernel { activation: self.0 })
    }

    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Box<dyn Body<T>> {
        let name = simd::name(format!("activate_{}_{}_{}", T::NAME, S::NAME, S::LANES));
        Box::new(Kernel { simd, epilogue: Epilogue::new(self.0), name })
    }
}

struct Kernel<S: Simd> {
    simd: S,
    epilogue: Epilogue<S::C>,
    name: &'static str,
}

impl<S: Io<T>, T: Element> Body<T> for Kernel<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, input: &[T], output: &mut [T]) {
        self.simd.vectorize(Run { s: self.simd, epilogue: &self.epilogue, input, output });
    }
}

struct Run<'a, S: Simd, T> {
    s: S,
    epilogue: &'a Epilogue<S::C>,
    input: &'a [T],
    output: &'a mut [T],
}

impl<S: Io<T>, T: Element> Vectorized for Run<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        elementwise::unary(self.s, self.input, self.output, &Function(self.epilogue));
    }
}

struct Function<'a, C>(&'a Epilogue<C>);

impl<S: Simd> Unary<S> for Function<'_, S::C> {
    #[inline(always)]
    fn apply(&self, s: S, x: S::V) -> S::V {
        self.0.apply(s, x)
    }
}
