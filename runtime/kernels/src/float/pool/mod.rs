//! Mean over all pixels, channel by channel.

mod packed;
mod scalar;

pub use packed::Build;

use super::Element;
use crate::{ConvGeometry, Isa, KernelError, Scratch};

/// `out[c] = (sum over pixels of x[pixel, c]) * (1 / pixels)`; the sum is in `f32` for every element
/// type and on every instruction set, in the order of the pixels.
pub struct GlobalAveragePool<T: Element> {
    pixels: usize,
    channels: usize,
    body: Box<dyn Body<T>>,
}

/// A mean for one instruction set. The slices' lengths were checked by [`GlobalAveragePool::run`].
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    fn run(&self, input: &[T], output: &mut [T], scratch: &mut Scratch);
}

impl<T: Element> GlobalAveragePool<T> {
    /// Chooses the kernel for images of `pixels` x `channels`.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`, [`KernelError::Geometry`] if a size
    /// is zero or the tensor has more than 2147483647 elements.
    pub fn new(
        isa: Isa,
        pixels: usize,
        channels: usize,
    ) -> Result<GlobalAveragePool<T>, KernelError> {
        isa.check()?;
        ConvGeometry::pointwise(pixels, 1, channels, channels.min(1)).check()?;
        // The sum is in `f32` also where arithmetic could be in `f16`.
        let isa = if isa == Isa::NeonFp16 { Isa::Neon } else { isa };
        Ok(GlobalAveragePool { pixels, channels, body: T::pool(isa, Build { pixels }) })
    }

    /// The kernel's name, `pool_{type}_{isa}_{lanes}`.
    pub fn kernel(&self) -> &'static str {
        self.body.name()
    }

    /// Computes the means; `input` is `[pixels][channels]`, `output` is `[channels]`.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn run(&self, input: &[T], output: &mut [T], scratch: &mut Scratch) {
        assert_eq!(input.len(), self.pixels * self.channels, "input length");
        assert_eq!(output.len(), self.channels, "output length");
        self.body.run(input, output, scratch);
    }
}
