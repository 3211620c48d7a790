//! Model file to tract plan with Kinglet's operators to scores; preprocessing.
//!
//! Start with [`Session`]: it loads a model and classifies pictures. [`OnnxFile`] is a model file,
//! checked but not yet planned; the host's tools read and rewrite it through that.

pub mod atomic;
pub mod choices;
pub mod drift;
pub mod error;
pub mod frame;
mod golden;
mod graph;
pub mod metadata;
pub mod model_file;
pub mod picture;
pub mod preprocess;
mod region;
pub mod report;
mod rewrite;
pub mod scores;
pub mod session;
pub mod tensor;
pub mod tune;

/// The ONNX schema, as generated protobuf types.
pub use tract_onnx::pb as onnx;

pub use error::ModelError;
pub use frame::FrameView;
pub use metadata::Metadata;
pub use model_file::OnnxFile;
pub use picture::Picture;
pub use scores::Scores;
pub use session::{Options, Session};

/// Instruction sets of the kernels.
pub use kinglet_kernels::Isa;
