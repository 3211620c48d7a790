//! Integers for fully connected layers that were put on a quantized backbone.

use kinglet_engine::onnx::GraphProto;

use super::histogram::Histogram;
use super::plan::{Effect, Layer, Plan, Point};
use super::range::{self, Calibrator, Form, Quantization, View};
use super::weights::{self, LayerCodes, LayerWeights, Rule};
use super::write::{self, Choice};

/// A layer (a Gemm node with its weights transposed and a bias), and what it reads.
pub(crate) struct HeadLayer<'a> {
    /// Position of the node.
    pub node: usize,
    /// `[outputs][inputs]`.
    pub weights: &'a [f32],
    /// `[outputs]`.
    pub bias: &'a [f32],
    /// The inputs of the layer, as they were for the pictures: `[pictures][inputs]`.
    pub inputs: &'a [f32],
    /// Where they come from.
    pub source: Source<'a>,
}

/// What the quantization of a layer's input is.
pub(crate) enum Source<'a> {
    /// The input is codes of this scale already.
    Codes(f32),
    /// The input is this value of the graph, the result of a Relu on that one: it gets a quantization
    /// with the range that occurred.
    Relu(&'a str, &'a str),
}

/// Quantizes layers: 8 bits a weight with a scale an output, 8 bits for what they read.
pub(crate) fn quantize_head(graph: &mut GraphProto, layers: &[HeadLayer<'_>]) {
    let rule = Rule { largest: 127, search: true, correct_bias: true };
    let mut plan = Plan::default();
    let mut points = Vec::new();
    let mut codes: Vec<LayerCodes> = Vec::new();
    for layer in layers {
        let input = match layer.source {
            Source::Codes(scale) => Quantization { scale, zero_point: 0, largest: 255 },
            Source::Relu(value, base) => {
                let mut histogram = Histogram::new();
                histogram.add(layer.inputs, 1);
                let bounds = (0.0, f32::INFINITY);
                let form = Form { largest: 255, symmetric: false };
                let chosen = range::choose(&histogram, bounds, View::PLAIN, Calibrator::Mse, form);
                plan.points.push(Point {
                    value: value.to_owned(),
                    base: base.to_owned(),
                    clamps: vec![value.to_owned()],
                    bounds,
                    effect: Effect::Identity,
                    next: None,
                    feeds_weights: true,
                });
                points.push(Some(chosen.quantization));
                chosen.quantization
            }
        };
        let width = layer.weights.len() / layer.bias.len().max(1);
        let (mean, variance) = crate::statistics::moments(layer.inputs, width);
        let weights = LayerWeights {
            weights: layer.weights,
            bias: layer.bias,
            input,
            mean: &mean,
            variance: &variance,
            depthwise: false,
        };
        codes.push(weights::quantize(weights, rule));
        plan.layers.push(Layer { node: layer.node, input: 0 });
    }
    let layers: Vec<_> = codes.iter().map(Some).collect();
    write::write(graph, &plan, &Choice { points: &points, layers: &layers, signed: false });
}
