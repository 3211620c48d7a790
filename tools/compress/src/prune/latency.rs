//! What channels cost on this machine, as the engine measures it.

use kinglet_engine::onnx::{GraphProto, ModelProto};
use kinglet_engine::{ModelError, OnnxFile, Options, Session};

use super::block::Block;
use crate::{graph, timing};

/// Runs; the least of them counts.
const RUNS: usize = 30;

/// Milliseconds of one inference on one thread.
pub(super) struct Latency {
    pub(super) total: f64,
    /// Of each block's layers.
    pub(super) blocks: Vec<f64>,
}

/// Measures a model with random input.
pub(super) fn measure(model: &ModelProto, blocks: &[Block]) -> Result<Latency, ModelError> {
    let file = OnnxFile::from_proto(model.clone())?;
    let options = Options { self_test: false, ..Options::default() };
    let mut session = Session::new(file, &options)?;
    let input = session.sample_input();
    let mut least: Vec<(String, f64)> = Vec::new();
    let total = timing::least_ms(&mut session, RUNS, std::time::Duration::ZERO)?;
    for _ in 0..RUNS {
        let layers = session.profile(&input)?.layers;
        let ms = |time: Option<std::time::Duration>| time.map_or(0.0, |t| 1e3 * t.as_secs_f64());
        if least.is_empty() {
            least = layers.iter().map(|l| (l.name.clone(), f64::INFINITY)).collect();
        }
        for (least, layer) in least.iter_mut().zip(&layers) {
            least.1 = least.1.min(ms(layer.time));
        }
    }
    let graph = model.graph.as_ref();
    let of_block = |block: &Block| {
        let own = least.iter().filter(|(name, _)| graph.is_some_and(|g| owns(g, block, name)));
        own.map(|(_, ms)| ms).sum()
    };
    Ok(Latency { total, blocks: blocks.iter().map(of_block).collect() })
}

/// Whether a layer of the report is a block's: it has a node's name, alone or before what is fused
/// with it.
fn owns(graph: &GraphProto, block: &Block, layer: &str) -> bool {
    let named = |&at: &usize| {
        let rest = layer.strip_prefix(graph::name(&graph.node[at]));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '.']))
    };
    block.nodes().iter().any(named)
}
