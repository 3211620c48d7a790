//! What can be wrong with a model.

use std::path::PathBuf;

/// Why a model was refused or could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {why}")]
    NotOnnx {
        /// What is wrong.
        why: String,
    },
    /// A limit that protects memory was exceeded.
    #[error("{what} is {actual}, over the limit of {limit}")]
    Limit {
        /// What was measured.
        what: String,
        /// Its value.
        actual: u64,
        /// The largest that is accepted.
        limit: u64,
    },
    /// A tensor stored in the model is inconsistent.
    #[error("tensor '{tensor}': {why}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        why: String,
    },
    /// The graph is inconsistent.
    #[error("graph: {why}")]
    Graph {
        /// What is wrong, with the node's name.
        why: String,
    },
    /// A metadata property cannot be understood.
    #[error("metadata '{key}': {why}")]
    Metadata {
        /// The property's key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The model's operators are not supported.
    #[error("operator {op} (node '{node}') is not supported: neither Kinglet nor tract has it")]
    UnsupportedOperator {
        /// The ONNX operator.
        op: String,
        /// The node's name.
        node: String,
    },
    /// The model is not an image classifier that this engine can feed.
    #[error("{why}")]
    Unsuitable {
        /// What is wrong and what to do.
        why: String,
    },
    /// `require_int8` was asked for and some convolution would run in float.
    #[error("{count} convolution(s) would not run in int8, the first is '{node}' ({why})")]
    NotInt8 {
        /// How many.
        count: usize,
        /// The first one's name.
        node: String,
        /// Why it cannot.
        why: String,
    },
    /// The self-test gave other scores than the host measured.
    #[error(
        "self-test failed: sample '{sample}', output {index} is {actual}, expected {expected} \
         (off by {difference:.3e} of the largest output, allowed {tolerance:.3e})"
    )]
    SelfTest {
        /// The sample's name.
        sample: String,
        /// The output's index.
        index: u32,
        /// What this machine computed.
        actual: f32,
        /// What the host measured.
        expected: f32,
        /// Difference, relative to the largest output.
        difference: f32,
        /// The allowed difference.
        tolerance: f32,
    },
    /// tract refused the model or failed while running it.
    #[error("{doing}: {source}")]
    Tract {
        /// What was being done.
        doing: String,
        /// tract's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
