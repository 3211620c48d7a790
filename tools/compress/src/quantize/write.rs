//! Writes the quantized graph: QuantizeLinear and DequantizeLinear around every quantized value,
//! weights and biases as integers behind a DequantizeLinear.

use std::collections::{HashMap, HashSet};

use kinglet_engine::onnx::{GraphProto, NodeProto};
use kinglet_engine::tensor;

use super::plan::{Plan, Point};
use super::range::Quantization;
use super::weights::LayerCodes;
use crate::graph::{self, Index, Namer, int_attribute};

/// What of a plan is written in integers.
pub(super) struct Choice<'a> {
    /// Quantization of each point; `None`: it stays in float.
    pub points: &'a [Option<Quantization>],
    /// Codes of each layer; `None`: it stays in float.
    pub layers: &'a [Option<&'a LayerCodes>],
    /// Codes of activations are int8 instead of uint8.
    pub signed: bool,
}

/// Rewrites a prepared graph. Gives the name of the dequantized form of each quantized value.
pub(super) fn write(
    graph: &mut GraphProto,
    plan: &Plan,
    choice: &Choice<'_>,
) -> HashMap<String, String> {
    let skipped = superfluous_clamps(graph, plan, choice.points);
    let mut writer = Writer {
        namer: Namer::new(graph),
        nodes: Vec::new(),
        initializers: Vec::new(),
        dequantized: HashMap::new(),
        zeros: HashMap::new(),
        signed: choice.signed,
    };
    let old = std::mem::take(&mut graph.node);
    // A point is quantized as soon as its value, or the value before superfluous clamps, is there.
    let mut after: HashMap<String, (&Point, Quantization)> = HashMap::new();
    for (point, quantization) in plan.points.iter().zip(choice.points) {
        let base = if skipped.contains(&point.value) { &point.base } else { &point.value };
        if let &Some(quantization) = quantization {
            after.insert(base.clone(), (point, quantization));
        }
    }
    for input in &graph.input {
        if let Some(&(point, quantization)) = after.get(&input.name) {
            writer.quantize(&input.name, point, quantization);
        }
    }
    let layer_of: HashMap<usize, usize> =
        plan.layers.iter().enumerate().map(|(i, l)| (l.node, i)).collect();
    for (at, mut node) in old.into_iter().enumerate() {
        if skipped.contains(&node.output[0]) {
            continue;
        }
        for input in &mut node.input {
            if let Some(name) = writer.dequantized.get(input) {
                input.clone_from(name);
            }
        }
        if let Some(codes) = layer_of.get(&at).and_then(|&layer| choice.layers[layer]) {
            writer.layer(graph, &mut node, codes);
        }
        let output = node.output[0].clone();
        writer.nodes.push(node);
        if let Some(&(point, quantization)) = after.get(&output) {
            writer.quantize(&output, point, quantization);
        }
    }
    graph.node = writer.nodes;
    graph.initializer.extend(writer.initializers);
    graph::drop_unread(graph);
    writer.dequantized
}

/// Results of clamps that do nothing that the codes' own range does not do.
fn superfluous_clamps(
    graph: &GraphProto,
    plan: &Plan,
    points: &[Option<Quantization>],
) -> HashSet<String> {
    let index = Index::new(graph);
    let superfluous = |(point, q): &(&Point, &Option<Quantization>)| {
        let Some(q) = q else { return false };
        let (low, high) = point.bounds;
        let does_nothing = q.quantize(low.max(f32::MIN)) == 0
            && q.quantize(high.min(f32::MAX)) == q.largest
            && !is_clamped(point, *q);
        does_nothing && !index.is_output(&point.value)
    };
    let all = plan.points.iter().zip(points).filter(superfluous);
    all.flat_map(|(point, _)| point.clamps.iter().cloned()).collect()
}

/// Whether the clamps of a value keep its codes inside a range of less than 8 bits: QuantizeLinear
/// itself only clamps to 0..=255.
fn is_clamped(point: &Point, q: Quantization) -> bool {
    let whole = Quantization { largest: 255, ..q };
    q.largest < 255 && whole.quantize(point.bounds.1.min(f32::MAX)) <= q.largest
}

struct Writer {
    namer: Namer,
    nodes: Vec<NodeProto>,
    initializers: Vec<kinglet_engine::onnx::TensorProto>,
    /// The dequantized form of each point's value.
    dequantized: HashMap<String, String>,
    /// Shared zero points: name by (whether of 32 bits, length).
    zeros: HashMap<(bool, usize), String>,
    signed: bool,
}

impl Writer {
    /// Adds Q and DQ of a point whose value, as the graph has it, is `value`; before them a Clip
    /// if the codes' range has less than 8 bits.
    fn quantize(&mut self, value: &str, point: &Point, quantization: Quantization) {
        let base = &point.value;
        let clamped = (quantization.largest < 255 && !is_clamped(point, quantization))
            .then(|| self.clip(value, base, quantization.range()));
        let value = clamped.as_deref().unwrap_or(value);
        let scale = self.namer.fresh(&format!("{base}.scale"));
        let zero = self.namer.fresh(&format!("{base}.zero_point"));
        let codes = self.namer.fresh(&format!("{base}.quantized"));
        let real = self.namer.fresh(&format!("{base}.dequantized"));
        self.initializers.push(tensor::from_f32(&scale, &[], &[quantization.scale]));
        let code = quantization.zero_point;
        self.initializers.push(if self.signed {
            tensor::from_i8(&zero, &[], &[(i16::from(code) - 128) as i8])
        } else {
            tensor::from_u8(&zero, &[], &[code])
        });
        self.node("QuantizeLinear", [value, &scale, &zero], &codes);
        self.node("DequantizeLinear", [&codes, &scale, &zero], &real);
        self.dequantized.insert(base.clone(), real);
    }

    /// Adds a Clip; gives the name of its result.
    fn clip(&mut self, value: &str, base: &str, (low, high): (f32, f32)) -> String {
        let least = self.namer.fresh(&format!("{base}.low"));
        let most = self.namer.fresh(&format!("{base}.high"));
        let result = self.namer.fresh(&format!("{base}.clipped"));
        self.initializers.push(tensor::from_f32(&least, &[], &[low]));
        self.initializers.push(tensor::from_f32(&most, &[], &[high]));
        self.node("Clip", [value, &least, &most], &result);
        result
    }

    /// Gives a layer integer weights and bias.
    fn layer(&mut self, graph: &GraphProto, node: &mut NodeProto, codes: &LayerCodes) {
        let channels = codes.scale.len();
        let dims: Vec<usize> = graph
            .initializer
            .iter()
            .find(|t| t.name == node.input[1])
            .map(|t| t.dims.iter().map(|&d| d as usize).collect())
            .unwrap_or_default();
        let base = node.input[1].clone();
        let weights = self.namer.fresh(&format!("{base}.quantized"));
        self.initializers.push(tensor::from_i8(&weights, &dims, &codes.codes));
        let real_weights = self.dequantize_channels(&base, &weights, &codes.scale, false);
        let base = match graph::input(node, 2) {
            Some(bias) => bias.to_owned(),
            None => format!("{}.bias", graph::name(node)),
        };
        let bias = self.namer.fresh(&format!("{base}.quantized"));
        self.initializers.push(tensor::from_i32(&bias, &[channels], &codes.bias));
        let real_bias = self.dequantize_channels(&base, &bias, &codes.bias_scale, true);
        node.input.truncate(1);
        node.input.extend([real_weights, real_bias]);
    }

    /// Adds the DQ of a constant with one scale an element of axis 0.
    fn dequantize_channels(
        &mut self,
        base: &str,
        codes: &str,
        scales: &[f32],
        wide: bool,
    ) -> String {
        let scale = self.namer.fresh(&format!("{base}.scale"));
        let real = self.namer.fresh(&format!("{base}.dequantized"));
        self.initializers.push(tensor::from_f32(&scale, &[scales.len()], scales));
        let zero = self.zeros(wide, scales.len());
        self.node("DequantizeLinear", [codes, &scale, &zero], &real);
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(int_attribute("axis", 0));
        }
        real
    }

    /// The shared constant of `length` zeros.
    fn zeros(&mut self, wide: bool, length: usize) -> String {
        if let Some(name) = self.zeros.get(&(wide, length)) {
            return name.clone();
        }
        let kind = if wide { "i32" } else { "i8" };
        let name = self.namer.fresh(&format!("zero_points.{kind}.{length}"));
        self.initializers.push(if wide {
            tensor::from_i32(&name, &[length], &vec![0; length])
        } else {
            tensor::from_i8(&name, &[length], &vec![0; length])
        });
        self.zeros.insert((wide, length), name.clone());
        name
    }

    fn node(&mut self, op: &str, inputs: [&str; 3], output: &str) {
        self.nodes.push(NodeProto {
            input: inputs.map(str::to_owned).to_vec(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            ..Default::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::plan::Effect;

    /// What QuantizeLinear makes of a number.
    fn quantize_linear(real: f32, q: Quantization) -> u8 {
        Quantization { largest: 255, ..q }.quantize(real)
    }

    fn point(bounds: (f32, f32)) -> Point {
        Point {
            value: "v".into(),
            base: "v".into(),
            clamps: Vec::new(),
            bounds,
            effect: Effect::Identity,
            next: None,
            feeds_weights: true,
        }
    }

    /// Clip and then QuantizeLinear, as any runtime computes them, are the codes of 7 bits.
    #[test]
    fn a_clip_keeps_the_codes_in_seven_bits() {
        for (low, high) in [(-1.0, 1.0), (-0.37, 7.7), (0.0, 3.3), (-5.0, 0.0), (-1e-3, 2e4)] {
            let q = Quantization::spanning(low, high, 127);
            let (least, most) = q.range();
            let mut codes = HashSet::new();
            for step in -3000..3000_i16 {
                let real = f32::from(step) / 1000.0 * (high - low);
                let code = quantize_linear(real.clamp(least, most), q);
                assert_eq!(code, q.quantize(real), "{real} of {q:?}");
                codes.insert(code);
            }
            assert_eq!(codes, (0..=127).collect(), "{q:?}");
        }
    }

    #[test]
    fn a_clamp_that_is_there_is_used() {
        let six = Quantization::spanning(0.0, 6.0, 127);
        assert_eq!(quantize_linear(6.0, six), 127);
        assert!(is_clamped(&point((0.0, 6.0)), six));
        assert!(is_clamped(&point((0.0, 5.0)), six));
        assert!(!is_clamped(&point((0.0, f32::INFINITY)), six));
        assert!(!is_clamped(&point((0.0, 6.0)), Quantization::spanning(0.0, 4.0, 127)));
        assert!(!is_clamped(&point((0.0, 6.0)), Quantization::spanning(0.0, 6.0, 255)));
    }
}
