//! Images of three channels for vectors: a register of each plane is converted, and its values go to
//! their pixels. Other numbers of channels, and the way back, are as in `scalar.rs`.

use super::{Body, scalar};
use crate::float::Element;
use crate::float::simd::{self, Dispatch, Io, MAX_LANES, Simd, Vectorized};

/// Channels of a picture.
const CHANNELS: usize = 3;

/// Builds the body for the vectors chosen.
pub struct Build {
    pub(super) channels: usize,
}

impl<T: Element> Dispatch<T> for Build {
    type Output = Box<dyn Body<T>>;

    fn scalar(self) -> Box<dyn Body<T>> {
        Box::new(scalar::Kernel)
    }

    fn simd<S: Io<T> + Io<f32>>(self, simd: S) -> Box<dyn Body<T>> {
        if self.channels != CHANNELS {
            return Box::new(scalar::Kernel);
        }
        let name = simd::name(format!("layout_{}_{}_{}", T::NAME, S::NAME, S::LANES));
        Box::new(Kernel { simd, name })
    }
}

struct Kernel<S: Simd> {
    simd: S,
    name: &'static str,
}

impl<S: Io<T> + Io<f32>, T: Element> Body<T> for Kernel<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn to_nhwc(&self, channels: usize, input: &[f32], output: &mut [T]) {
        assert!(channels == CHANNELS && input.len() == output.len());
        self.simd.vectorize(Interleave { s: self.simd, input, output });
    }

    fn to_nchw(&self, channels: usize, input: &[T], output: &mut [f32]) {
        scalar::Kernel.to_nchw(channels, input, output);
    }
}

/// `[3][pixels]` to `[pixels][3]`.
struct Interleave<'a, S, T> {
    s: S,
    input: &'a [f32],
    output: &'a mut [T],
}

impl<S: Io<T> + Io<f32>, T: Element> Vectorized for Interleave<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let pixels = self.input.len() / CHANNELS;
        let (a, rest) = self.input.split_at(pixels);
        let (b, c) = rest.split_at(pixels);
        let mut line = [[T::default(); MAX_LANES]; CHANNELS];
        let blocks = self.output.chunks_exact_mut(CHANNELS * S::LANES);
        let whole = pixels / S::LANES * S::LANES;
        for (first, out) in (0..whole).step_by(S::LANES).zip(blocks) {
            for (plane, line) in [a, b, c].iter().zip(&mut line) {
                let from = &plane[first..first + S::LANES];
                // SAFETY: both have room for a register: `from` was cut to one, and none is larger
                // than a line.
                unsafe {
                    let values: S::V = Io::<f32>::read(self.s, from.as_ptr());
                    Io::<T>::write(self.s, line.as_mut_ptr(), values);
                }
            }
            for (lane, out) in out.chunks_exact_mut(CHANNELS).enumerate() {
                (out[0], out[1], out[2]) = (line[0][lane], line[1][lane], line[2][lane]);
            }
        }
        for (pixel, out) in
            (whole..pixels).zip(self.output[CHANNELS * whole..].chunks_exact_mut(CHANNELS))
        {
            for (plane, out) in [a, b, c].iter().zip(out) {
                *out = T::from_f32(plane[pixel]);
            }
        }
    }
}
