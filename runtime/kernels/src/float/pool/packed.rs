//! Mean over all pixels, for vectors: a few registers of channels, pixel after pixel.

use super::{Body, scalar};
use crate::Scratch;
use crate::float::Element;
use crate::float::simd::{self, Dispatch, Io, Simd, Vectorized};

/// Registers that are summed side by side.
const VECTORS: usize = 4;

/// Builds the body for the vectors chosen.
pub struct Build {
    pub(super) pixels: usize,
}

impl<T: Element> Dispatch<T> for Build {
    type Output = Box<dyn Body<T>>;

    fn scalar(self) -> Box<dyn Body<T>> {
        Box::new(scalar::Kernel { pixels: self.pixels })
    }

    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Box<dyn Body<T>> {
        let name = simd::name(format!("pool_{}_{}_{}", T::NAME, S::NAME, S::LANES));
        Box::new(Kernel { simd, pixels: self.pixels, name })
    }
}

struct Kernel<S: Simd> {
    simd: S,
    pixels: usize,
    name: &'static str,
}

impl<S: Io<T>, T: Element> Body<T> for Kernel<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, input: &[T], output: &mut [T], _scratch: &mut Scratch) {
        self.simd.vectorize(Run { s: self.simd, pixels: self.pixels, input, output });
    }
}

struct Run<'a, S: Simd, T> {
    s: S,
    pixels: usize,
    input: &'a [T],
    output: &'a mut [T],
}

impl<S: Io<T>, T: Element> Run<'_, S, T> {
    /// The means of `N` registers of channels from `first` on.
    #[inline(always)]
    fn whole<const N: usize>(&mut self, first: usize) {
        let (s, channels) = (self.s, self.output.len());
        assert!(first + N * S::LANES <= channels && self.input.len() == self.pixels * channels);
        let mut sums = [s.splat(S::C::default()); N];
        let factor = s.splat(S::C::from_f32(1.0 / self.pixels as f32));
        for pixel in 0..self.pixels {
            for (n, sum) in sums.iter_mut().enumerate() {
                // SAFETY: a register within a pixel's channels.
                unsafe {
                    let from = self.input.as_ptr().add(pixel * channels + first + n * S::LANES);
                    *sum = s.add(*sum, s.read(from));
                }
            }
        }
        for (n, &sum) in sums.iter().enumerate() {
            // SAFETY: a register within the channels.
            unsafe {
                s.write(self.output.as_mut_ptr().add(first + n * S::LANES), s.mul(sum, factor));
            }
        }
    }

    /// The means of the channels from `first` on, fewer than a register.
    #[inline(always)]
    fn part(&mut self, first: usize) {
        let (s, channels) = (self.s, self.output.len());
        let count = channels - first;
        assert!(count < S::LANES && self.input.len() == self.pixels * channels);
        let mut sum = s.splat(S::C::default());
        for pixel in 0..self.pixels {
            // SAFETY: the last channels of a pixel.
            let value =
                unsafe { s.read_part(self.input.as_ptr().add(pixel * channels + first), count) };
            sum = s.add(sum, value);
        }
        let factor = s.splat(S::C::from_f32(1.0 / self.pixels as f32));
        // SAFETY: the last channels.
        unsafe { s.write_part(self.output.as_mut_ptr().add(first), count, s.mul(sum, factor)) };
    }
}

impl<S: Io<T>, T: Element> Vectorized for Run<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let channels = self.output.len();
        let mut first = 0;
        while first + VECTORS * S::LANES <= channels {
            self.whole::<VECTORS>(first);
            first += VECTORS * S::LANES;
        }
        while first + S::LANES <= channels {
            self.whole::<1>(first);
            first += S::LANES;
        }
        if first < channels {
            self.part(first);
        }
    }
}
