//! Integer and float kernels for image classifiers, on NHWC slices of one image.
//!
//! For what: the operations where a quantized classifier spends its time, for Raspberry Pi class
//! boards (aarch64) and for PCs (x86-64). Not for: graphs, files. This crate knows no model; a
//! caller splits an image by the `range` argument of `run` to use several threads ([`Workers`]),
//! no kernel starts any, and only operations that join
//! several layers ([`mbconv`], [`conv_pool`]) use them.
//!
//! Every operation is built once, from checked parameters and an [`Isa`], and then run many
//! times; running allocates nothing once the [`Scratch`] it borrows has grown. The same operations
//! in `f32` and `f16` are in [`float`]. What follows is about the integer ones: activations are
//! `u8` with a zero point, accumulators `i32`, and results end with the rule of [`Requantize`].
//! For the same input all instruction sets give the same bytes: the scalar files are the
//! specification, and the tests hold the others to it.
//!
//! Where to start: [`conv::Conv`], then `conv/scalar.rs`, then the instruction set you care for.
//!
//! | operation | type |
//! |---|---|
//! | dense convolution, pointwise included | [`conv::Conv`] |
//! | depthwise convolution | [`depthwise::Depthwise`] |
//! | a dense and a depthwise convolution in one | [`expand_depthwise::ExpandDepthwise`] |
//! | a whole block: inverted residual, MBConv, fused MBConv | [`mbconv::MbConv`] |
//! | squeeze-and-excitation | [`squeeze_excite::SqueezeExcite`] |
//! | a pointwise convolution and its mean | [`conv_pool::ConvPool`] |
//! | fully connected | [`linear::Linear`] |
//! | addition, product of two tensors | [`add::Add`], [`mul::Mul`] |
//! | any function of one activation | [`lookup::Lookup`] |
//! | mean over all pixels | [`pool::GlobalAveragePool`] |
//! | resizing of 8-bit samples | [`resample::Resample`] |
//! | luma and chroma to RGB | [`yuv::YuvToRgb`] |
//! | inverse cosine transform and chroma of JPEG | [`jpeg::Jpeg`] |
//! | `f32` NCHW to `u8` NHWC and back | [`quantize::Quantize`], [`quantize::Dequantize`] |

// Where there are few kernels or none, what others need is unused.
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, unused_variables)
)]

pub mod add;
#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "arm")]
mod arm32;
#[cfg(target_arch = "aarch64")]
mod arm_end;
pub mod catalogue;
pub mod conv;
pub mod conv_pool;
pub mod depthwise;
mod error;
pub mod expand_depthwise;
pub mod float;
mod geometry;
mod input;
mod isa;
pub mod jpeg;
pub mod linear;
pub mod lookup;
pub mod mbconv;
mod memory;
pub mod mul;
pub mod peak;
pub mod pool;
pub mod quantize;
mod requantize;
pub mod resample;
mod scratch;
pub mod squeeze_excite;
mod workers;
#[cfg(target_arch = "x86_64")]
mod x86;
pub mod yuv;

pub use error::KernelError;
pub use geometry::ConvGeometry;
pub use input::InputCodes;
pub use isa::Isa;
pub use memory::{Bytes, pooled, pooled_bytes, trim_heap};
pub use requantize::{Requantize, Residual};
pub use scratch::Scratch;
pub use workers::{Division, Workers};
