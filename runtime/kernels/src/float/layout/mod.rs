//! `f32` NCHW, the layout of a model's inputs and outputs, to NHWC and back.

mod packed;
mod scalar;

pub use packed::Build;

use super::Element;
use crate::{ConvGeometry, Isa, KernelError};

/// Transposes `[channels][pixels]` of `f32` into `[pixels][channels]`, rounding to the element
/// type.
pub struct ToNhwc<T: Element> {
    border: Border<T>,
}

/// Transposes `[pixels][channels]` into `[channels][pixels]` of `f32`: exact.
pub struct ToNchw<T: Element> {
    border: Border<T>,
}

/// What both directions hold.
struct Border<T> {
    channels: usize,
    pixels: usize,
    body: Box<dyn Body<T>>,
}

/// Both transpositions for one instruction set. The slices' lengths were checked by the callers.
pub trait Body<T>: Send + Sync {
    fn name(&self) -> &'static str;

    /// `[channels][pixels]` to `[pixels][channels]`.
    fn to_nhwc(&self, channels: usize, input: &[f32], output: &mut [T]);

    /// `[pixels][channels]` to `[channels][pixels]`.
    fn to_nchw(&self, channels: usize, input: &[T], output: &mut [f32]);
}

impl<T: Element> Border<T> {
    fn new(isa: Isa, channels: usize, pixels: usize) -> Result<Border<T>, KernelError> {
        isa.check()?;
        ConvGeometry::pointwise(pixels, 1, channels, channels.min(1)).check()?;
        let body = T::layout(isa, Build { channels });
        Ok(Border { channels, pixels, body })
    }

    fn check(&self, input: usize, output: usize) {
        assert_eq!(input, self.channels * self.pixels, "input length");
        assert_eq!(output, self.channels * self.pixels, "output length");
    }
}

impl<T: Element> ToNhwc<T> {
    /// Chooses the kernel for images of `channels` x `pixels`.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`, [`KernelError::Geometry`] if a size
    /// is zero or the tensor has more than 2147483647 elements.
    pub fn new(isa: Isa, channels: usize, pixels: usize) -> Result<ToNhwc<T>, KernelError> {
        Ok(ToNhwc { border: Border::new(isa, channels, pixels)? })
    }

    /// The kernel's name, `layout_{type}_{isa}[_{lanes}]`.
    pub fn kernel(&self) -> &'static str {
        self.border.body.name()
    }

    /// Transposes one image.
    ///
    /// # Panics
    /// If a slice has another length than `channels * pixels`.
    pub fn run(&self, input: &[f32], output: &mut [T]) {
        self.border.check(input.len(), output.len());
        self.border.body.to_nhwc(self.border.channels, input, output);
    }
}

impl<T: Element> ToNchw<T> {
    /// Chooses the kernel for images of `channels` x `pixels`.
    ///
    /// # Errors
    /// As [`ToNhwc::new`].
    pub fn new(isa: Isa, channels: usize, pixels: usize) -> Result<ToNchw<T>, KernelError> {
        Ok(ToNchw { border: Border::new(isa, channels, pixels)? })
    }

    /// The kernel's name, `layout_{type}_{isa}[_{lanes}]`.
    pub fn kernel(&self) -> &'static str {
        self.border.body.name()
    }

    /// Transposes one image.
    ///
    /// # Panics
    /// If a slice has another length than `channels * pixels`.
    pub fn run(&self, input: &[T], output: &mut [f32]) {
        self.border.check(input.len(), output.len());
        self.border.body.to_nchw(self.border.channels, input, output);
    }
}
