//! What the quantizer chose, as data for a table.

use std::time::Duration;

use kinglet_engine::OnnxFile;

use super::bits::Role;
use super::treat::{Step, Treated};
use super::{QuantizeError, Sensitivity, Target};

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Quantized values, in the order of the graph.
    pub values: Vec<ValueReport>,
    /// Layers with weights, in the order of the graph.
    pub layers: Vec<LayerReport>,
    /// Convolutions that no rule quantizes: name and reason.
    pub left_in_float: Vec<(String, String)>,
    /// What was tried, in order, and what it brought.
    pub steps: Vec<Step>,
    /// What the result was to meet.
    pub target: Target,
    /// What each layer does to the network, if it was measured.
    pub sensitivity: Vec<Sensitivity>,
    /// The float model.
    pub before: Cost,
    /// The result.
    pub after: Cost,
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

/// A layer with weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// Its name.
    pub name: String,
    /// ONNX operator; `Conv, depthwise` where each channel has a filter of its own.
    pub operator: String,
    /// Output channels.
    pub channels: usize,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Whether it stays in float.
    pub float: bool,
    /// Ratio of the weights' power to the error's, dB, if they are integers.
    pub sqnr_db: f64,
    /// Its result behind the activation: index of the value, if it is quantized.
    pub result: Option<usize>,
    /// What was done to it, and why.
    pub done: Vec<String>,
}

/// Sizes and times, the float model's and the result's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Bytes of the weights and everything else in the file.
    pub bytes: usize,
    /// Multiply-accumulates in integers.
    pub int8_macs: u64,
    /// Multiply-accumulates in all.
    pub macs: u64,
    /// Least time of a picture, one thread, on the machine that quantized.
    pub latency: Duration,
}

pub(super) fn report(treated: &Treated<'_>, file: &OnnxFile) -> Result<Report, QuantizeError> {
    let Treated { bench, draft, macs, .. } = treated;
    let plan = &bench.plan;
    let mut place = vec![None; plan.points.len()];
    let mut values = Vec::new();
    for (at, (point, chosen)) in plan.points.iter().zip(&draft.points).enumerate() {
        if bench.is_float(draft, at) {
            continue;
        }
        let (low, high) = chosen.quantization.range();
        place[at] = Some(values.len());
        values.push(ValueReport {
            name: point.value.clone(),
            bits: if chosen.quantization.largest <= 127 { 7 } else { 8 },
            role: bench.roles[at].clone(),
            low,
            high,
            clipped_low: chosen.clipped_low,
            clipped_high: chosen.clipped_high,
            sqnr_db: chosen.sqnr_db,
        });
    }
    let layer = |at: usize| {
        let operator = bench.graph().node[plan.layers[at].node].op_type.clone();
        let base = bench.result(at);
        let float = draft.float.contains(&at);
        let mut done: Vec<String> = treated
            .treated
            .iter()
            .filter(|(l, _)| *l == at)
            .map(|(_, what)| what.clone())
            .collect();
        if float {
            done.push("in float: the target needs it".to_owned());
        }
        let result = plan.points.iter().position(|p| p.base == base).and_then(|p| place[p]);
        LayerReport {
            name: bench.name(at).to_owned(),
            operator: if bench.depthwise(at) { format!("{operator}, depthwise") } else { operator },
            channels: draft.layers[at].scale.len(),
            macs: macs[at],
            float,
            sqnr_db: draft.layers[at].sqnr_db,
            result,
            done,
        }
    };
    let all = macs.iter().sum();
    let in_float: u64 = draft.float.iter().map(|&l| macs[l]).sum();
    let float_file = OnnxFile::from_proto(bench.model.clone())?;
    Ok(Report {
        values,
        layers: (0..plan.layers.len()).map(layer).collect(),
        left_in_float: plan.left.clone(),
        steps: treated.steps.clone(),
        target: bench.options.target,
        sensitivity: treated.sensitivity.clone(),
        before: Cost {
            bytes: float_file.to_bytes().len(),
            int8_macs: 0,
            macs: all,
            latency: treated.float_latency,
        },
        after: Cost {
            bytes: file.to_bytes().len(),
            int8_macs: all - in_float,
            macs: all,
            latency: treated.latency,
        },
    })
}
