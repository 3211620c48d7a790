//! What the quantizer chose, as data for a table.

use kinglet_engine::onnx::GraphProto;

use super::bits::Role;
use super::plan::Plan;
use super::range::Chosen;
use super::weights::LayerCodes;
use crate::graph;

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Quantized values, in the order of the graph.
    pub values: Vec<ValueReport>,
    /// Layers with integer weights, in the order of the graph.
    pub layers: Vec<LayerReport>,
    /// Convolutions left in float: name and reason.
    pub left_in_float: Vec<(String, String)>,
}

/// A quantized value.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueReport {
    /// Its name.
    pub name: String,
    /// Bits of its codes: 8 (0..=255) or 7 (0..=127).
    pub bits: u8,
    /// Why so many: what the value is, or what reads it.
    pub role: Role,
    /// Least number that has a code.
    pub low: f32,
    /// Largest number that has a code.
    pub high: f32,
    /// Share of the calibration's values below the range, 0..=1, each value counted as much as it
    /// matters to the layers that read it.
    pub clipped_low: f64,
    /// Share of the calibration's values above the range, counted likewise.
    pub clipped_high: f64,
    /// Ratio of the signal's power to the error's, dB, seen through the function that reads it.
    pub sqnr_db: f64,
}

/// A layer with integer weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// Its name.
    pub name: String,
    /// Output channels.
    pub channels: usize,
    /// Ratio of the weights' power to the error's, dB.
    pub sqnr_db: f64,
}

pub(super) fn report(
    graph: &GraphProto,
    plan: &Plan,
    chosen: &[Chosen],
    roles: &[Role],
    layers: &[LayerCodes],
) -> Report {
    let values = plan.points.iter().zip(chosen).zip(roles).map(|((point, chosen), role)| {
        let (low, high) = chosen.quantization.range();
        ValueReport {
            name: point.value.clone(),
            bits: if chosen.quantization.largest <= 127 { 7 } else { 8 },
            role: role.clone(),
            low,
            high,
            clipped_low: chosen.clipped_low,
            clipped_high: chosen.clipped_high,
            sqnr_db: chosen.sqnr_db,
        }
    });
    let layers = plan.layers.iter().zip(layers).map(|(layer, codes)| LayerReport {
        name: graph::name(&graph.node[layer.node]).to_owned(),
        channels: codes.scale.len(),
        sqnr_db: codes.sqnr_db,
    });
    Report { values: values.collect(), layers: layers.collect(), left_in_float: plan.left.clone() }
}
