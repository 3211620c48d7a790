//! Float kernels for image classifiers, on NHWC slices of one image, in `f32` or `f16`.
//!
//! For what: models that are not quantized. The operations are those of the integer side, with
//! the same ranges and the same rules: built once from checked parameters and an [`crate::Isa`],
//! run many times, and an image split by `range` gives the same bits as the whole.
//!
//! # Numbers
//!
//! The scalar files are the specification: sums in `f32`, in the order of the weights, starting
//! from the bias; then the [`Activation`]; then the residual, where there is one; then one rounding
//! to the element type. Other instruction sets fuse multiplication and addition, and differ from
//! the scalar result by rounding only. With [`half::f16`] the weights are rounded to `f16` when a
//! kernel is built. [`crate::Isa::NeonFp16`] also computes in `f16`; there a sum is cut into
//! blocks of [`F16_BLOCK`] products, whose sums are then added, so that the error grows with
//! the square root of the block and not with that of the whole depth. Elsewhere `f16` is a way of
//! storing activations: values are widened to `f32` on load and rounded once on store.
//!
//! Not a number in, not a number out, through every operation and every activation.
//! Padding reads 0.
//!
//! Where to start: [`Conv`], then `conv/scalar.rs`.

mod activate;
mod activation;
mod add;
mod conv;
mod conv_pool;
mod depthwise;
mod element;
mod elementwise;
mod layout;
mod linear;
pub mod mbconv;
mod mul;
mod panels;
mod pool;
mod simd;
mod tile;

pub use activate::Activate;
pub use activation::Activation;
pub use add::Add;
pub use conv::Conv;
pub use conv_pool::ConvPool;
pub use depthwise::Depthwise;
pub use element::Element;
pub use layout::{ToNchw, ToNhwc};
pub use linear::{LINEAR_GROUP, Linear};
pub use mul::Mul;
pub use pool::GlobalAveragePool;

use crate::KernelError;

/// Products that are summed in `f16` before their sum is added to the total, where arithmetic
/// is in `f16`.
pub const F16_BLOCK: usize = 128;

/// Refuses a parameter slice of another length.
fn check_length(what: &'static str, expected: usize, actual: usize) -> Result<(), KernelError> {
    if expected == actual { Ok(()) } else { Err(KernelError::Length { what, expected, actual }) }
}
