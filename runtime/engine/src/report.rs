//! The execution report: which kernel runs which layer, in which type, for how long.

use std::time::Duration;

/// One line: a layer as it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Name of the model's node.
    pub name: String,
    /// Names of the model's nodes that it runs, where they are several.
    pub fused: Vec<String>,
    /// Operation: Kinglet's own name, or tract's.
    pub operation: String,
    /// Type it computes in: `int8`, `f16` or `f32`.
    pub data_type: &'static str,
    /// The kernel that runs it; `tract` where tract runs it.
    pub kernel: String,
    /// Shape of the result: NHWC for Kinglet's layers, tract's own otherwise.
    pub shape: Vec<usize>,
    /// Smallest and largest code of the result, where it has codes: the model's clamps are in it.
    pub codes: Option<(u8, u8)>,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Time of one run, if it was measured.
    pub time: Option<Duration>,
}

/// How a model runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Instruction set of Kinglet's kernels.
    pub isa: &'static str,
    /// Threads.
    pub threads: usize,
    /// Type the model's float tensors are stored in: `f32` or `f16`.
    pub stored: &'static str,
    /// The layers, in the order in which they run.
    pub layers: Vec<Layer>,
    /// Convolutions that run in float though the model has quantized tensors: name and reason.
    pub float_convs: Vec<(String, String)>,
    /// Convolutions that tract runs: name and reason.
    pub tract_convs: Vec<(String, String)>,
    /// Size of the buffers that the activations inside regions share, bytes.
    pub arena_bytes: usize,
}

impl Report {
    /// Multiply-accumulates of all layers, and of those that run in int8.
    #[must_use]
    pub fn macs(&self) -> (u64, u64) {
        let sum = |int8_only: bool| {
            let counted = self.layers.iter().filter(|l| !int8_only || l.data_type == "int8");
            counted.map(|l| l.macs).sum()
        };
        (sum(false), sum(true))
    }
}
