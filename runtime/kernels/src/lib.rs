//! Integer kernels for image classifiers, on NHWC slices of one image.
//!
//! For what: the operations where a quantized classifier spends its time, for Raspberry Pi class
//! boards (aarch64) and for PCs (x86-64). Not for: graphs, files, threads. This crate knows no
//! model; a caller splits an image by the `range` argument of `run` to use several threads.
//!
//! Every operation is built once, from checked parameters and an [`Isa`], and then run many
//! times; running allocates nothing once the [`Scratch`] it borrows has grown. Activations are
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
//! | fully connected | [`linear::Linear`] |
//! | addition, product of two tensors | [`add::Add`], [`mul::Mul`] |
//! | any function of one activation | [`lookup::Lookup`] |
//! | mean over all pixels | [`pool::GlobalAveragePool`] |
//! | `f32` NCHW to `u8` NHWC and back | [`quantize::Quantize`], [`quantize::Dequantize`] |

pub mod add;
#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "aarch64")]
mod arm_end;
pub mod catalogue;
pub mod conv;
pub mod depthwise;
mod error;
mod geometry;
mod input;
mod isa;
pub mod linear;
pub mod lookup;
pub mod mul;
pub mod pool;
pub mod quantize;
mod requantize;
mod scratch;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use error::KernelError;
pub use geometry::ConvGeometry;
pub use input::InputCodes;
pub use isa::Isa;
pub use requantize::Requantize;
pub use scratch::Scratch;
