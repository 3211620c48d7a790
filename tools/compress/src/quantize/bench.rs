//! A model on the workbench: what is known of it, and drafts of its quantized form.

use std::collections::{BTreeSet, HashMap};

use kinglet_engine::metadata::Preprocess;
use kinglet_engine::onnx::{GraphProto, ModelProto};
use kinglet_engine::{ModelError, OnnxFile, tensor};

use super::bits::{self, Role};
use super::calibrate::Calibration;
use super::plan::{Layer, Plan, Point};
use super::range::{self, Calibrator, Chosen, Form, Quantization, View};
use super::weights::{self, LayerCodes, LayerWeights, Rule};
use super::{QuantizeError, QuantizeOptions, write};
use crate::graph::{self, Index, input};
use crate::journal::Journal;
use crate::watch;

/// A prepared float model and what calibration saw of it.
pub(super) struct Bench<'a> {
    pub model: ModelProto,
    pub plan: Plan,
    pub roles: Vec<Role>,
    pub calibration: Calibration,
    pub options: &'a QuantizeOptions,
    pub preprocess: &'a Preprocess,
    pub threads: usize,
    /// What has been found already.
    pub journal: &'a Journal,
    /// For each point the layers that compute and read it; the first is none for the input.
    around: Vec<(Option<usize>, BTreeSet<usize>)>,
}

/// What is chosen for every point and layer.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub points: Vec<Chosen>,
    pub layers: Vec<LayerCodes>,
    /// Layers that stay in float, with the operations up to the next layer.
    pub float: BTreeSet<usize>,
}

/// Weights `[outputs][inputs][taps]`, their shape, and the bias.
type Weights = (Vec<f32>, Vec<usize>, Vec<f32>);

impl<'a> Bench<'a> {
    pub(super) fn new(
        model: ModelProto,
        plan: Plan,
        calibration: Calibration,
        options: &'a QuantizeOptions,
        preprocess: &'a Preprocess,
        threads: usize,
        journal: &'a Journal,
    ) -> Self {
        let empty = GraphProto::default();
        let graph = model.graph.as_ref().unwrap_or(&empty);
        let roles = bits::roles(graph, &plan);
        let units = units(graph, &plan);
        let around = around(graph, &plan, &units);
        Self { model, plan, roles, calibration, options, preprocess, threads, journal, around }
    }

    pub(super) fn graph(&self) -> &GraphProto {
        self.model.graph.as_ref().expect("prepared: the model has a graph")
    }

    /// Name of a layer.
    pub(super) fn name(&self, layer: usize) -> &str {
        graph::name(&self.graph().node[self.plan.layers[layer].node])
    }

    /// Name of what a layer computes, before its activation.
    pub(super) fn result(&self, layer: usize) -> &str {
        &self.graph().node[self.plan.layers[layer].node].output[0]
    }

    /// The value that the last fully connected layer reads: what the network makes of a picture.
    pub(super) fn features(&self) -> Option<&str> {
        self.plan.features(self.graph())
    }

    /// All in integers, ranges by this calibrator.
    pub(super) fn draft(&self, calibrator: Calibrator) -> Result<Draft, QuantizeError> {
        let points = self.ranges(calibrator);
        let layers = (0..self.plan.layers.len()).map(|at| self.codes(at, &points));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Draft { points, layers, float: BTreeSet::new() })
    }

    /// The form that a point's range has.
    pub(super) fn form(&self, point: usize) -> Form {
        let narrow = self.roles[point] == Role::Pointwise && self.options.pointwise_bits == 7;
        Form { largest: if narrow { 127 } else { 255 }, symmetric: self.options.symmetric }
    }

    /// How a point's value is seen, given the ranges of the points behind it.
    pub(super) fn view(&self, point: usize, range_of: impl Fn(usize) -> (f32, f32)) -> View {
        let Point { effect, next, .. } = &self.plan.points[point];
        let range = next.filter(|&next| next > point).map_or(View::PLAIN.range, range_of);
        View { effect: *effect, range }
    }

    fn ranges(&self, calibrator: Calibrator) -> Vec<Chosen> {
        let mut chosen: Vec<Option<Chosen>> = vec![None; self.plan.points.len()];
        // Backwards: what is chosen for a function's result says how much of its argument is seen.
        for at in (0..chosen.len()).rev() {
            let range =
                |next: usize| chosen[next].map_or(View::PLAIN.range, |c| c.quantization.range());
            let view = self.view(at, range);
            let histogram = &self.calibration.points[at].histogram;
            chosen[at] = Some(if self.roles[at] == Role::Picture {
                let quantization = range::of_pictures(self.preprocess.mean, self.preprocess.std);
                range::describe(histogram, quantization, view)
            } else {
                let bounds = self.plan.points[at].bounds;
                range::choose(histogram, bounds, view, calibrator, self.form(at))
            });
        }
        chosen.into_iter().flatten().collect()
    }

    /// A layer's float weights.
    pub(super) fn weights(&self, layer: usize) -> Result<Weights, QuantizeError> {
        let index = Index::new(self.graph());
        let node = &self.graph().node[self.plan.layers[layer].node];
        let constant = |at: usize| input(node, at).and_then(|v| index.constant(v));
        let Some(tensor) = constant(1) else { return Err(QuantizeError::NoConvolution) };
        let weights = tensor::to_f32(tensor)?;
        let (dims, _) = tensor::shape(tensor)?;
        let channels = dims.first().copied().unwrap_or(0);
        let bias = match constant(2) {
            Some(bias) => tensor::to_f32(bias)?,
            None => vec![0.0; channels],
        };
        if weights.iter().chain(&bias).any(|v| !v.is_finite()) {
            return Err(QuantizeError::NotFinite { value: tensor.name.clone() });
        }
        if bias.len() != channels {
            let why = format!("{} elements for {channels} channels", bias.len());
            let tensor = constant(2).map(|t| t.name.clone()).unwrap_or_default();
            return Err(ModelError::Tensor { tensor, why }.into());
        }
        Ok((weights, dims, bias))
    }

    /// Whether each output channel of a layer has an input channel of its own.
    pub(super) fn depthwise(&self, layer: usize) -> bool {
        let node = &self.graph().node[self.plan.layers[layer].node];
        graph::int(node, "group").unwrap_or(1) > 1
    }

    /// Largest magnitude of a weight's code.
    pub(super) fn largest(&self) -> i8 {
        if self.options.weight_bits == 7 { 63 } else { 127 }
    }

    fn codes(&self, at: usize, points: &[Chosen]) -> Result<LayerCodes, QuantizeError> {
        let Layer { input, .. } = self.plan.layers[at];
        let (weights, _, bias) = self.weights(at)?;
        let (mean, variance) = self.calibration.moments(input);
        let layer = LayerWeights {
            weights: &weights,
            bias: &bias,
            input: points[input].quantization,
            mean: &mean,
            variance: &variance,
            depthwise: self.depthwise(at),
        };
        let rule = Rule {
            largest: self.largest(),
            search: self.options.search_weights,
            correct_bias: self.options.correct_bias,
        };
        Ok(weights::quantize(layer, rule))
    }

    /// A draft with another quantization of one point.
    pub(super) fn with_point(&self, draft: &Draft, point: usize, new: Quantization) -> Draft {
        let mut draft = draft.clone();
        let old = std::mem::replace(&mut draft.points[point].quantization, new);
        for (layer, codes) in self.plan.layers.iter().zip(&mut draft.layers) {
            if layer.input == point {
                *codes = codes.with_input(old, new);
            }
        }
        draft
    }

    /// The layers that have to be in float for a point to be in float.
    pub(super) fn around(&self, point: usize) -> Option<BTreeSet<usize>> {
        let (before, after) = &self.around[point];
        before.map(|before| after.iter().copied().chain([before]).collect())
    }

    /// Whether a point stays in float.
    pub(super) fn is_float(&self, draft: &Draft, point: usize) -> bool {
        self.around(point).is_some_and(|around| around.is_subset(&draft.float))
    }

    /// The draft as a model. `watched` values become outputs behind the model's own: those that are
    /// quantized in their dequantized form, others, and all of `raw`, as they are. Layers in float
    /// keep their weights as codes behind a DequantizeLinear: only their values are floats.
    pub(super) fn file(
        &self,
        draft: &Draft,
        watched: &[&str],
        raw: &[&str],
    ) -> Result<OnnxFile, QuantizeError> {
        let point = |(at, chosen): (usize, &Chosen)| {
            (!self.is_float(draft, at)).then_some(chosen.quantization)
        };
        let points: Vec<_> = draft.points.iter().enumerate().map(point).collect();
        let layers: Vec<_> = draft.layers.iter().map(Some).collect();
        self.written(&points, &layers, watched, raw)
    }

    /// A model of which only some points and layers are in integers.
    pub(super) fn written(
        &self,
        points: &[Option<Quantization>],
        layers: &[Option<&LayerCodes>],
        watched: &[&str],
        raw: &[&str],
    ) -> Result<OnnxFile, QuantizeError> {
        let mut model = self.model.clone();
        let mut names = HashMap::new();
        if let Some(graph) = model.graph.as_mut() {
            let choice = write::Choice { points, layers, signed: self.options.signed };
            names = write::write(graph, &self.plan, &choice);
        }
        let real = |value: &&str| names.get(*value).map_or(*value, String::as_str).to_owned();
        let outputs = watched.iter().map(real).chain(raw.iter().map(|&v| v.to_owned()));
        watch::expose(&mut model, outputs);
        Ok(OnnxFile::from_proto(model)?)
    }

    /// The layers that really run in float: those around values that stay in float.
    pub(super) fn lifted(&self, draft: &Draft) -> BTreeSet<usize> {
        let float = (0..self.plan.points.len()).filter(|&point| self.is_float(draft, point));
        float.filter_map(|point| self.around(point)).flatten().collect()
    }
}

/// The layer that each node belongs to: the last one at or before it.
fn units(graph: &GraphProto, plan: &Plan) -> Vec<usize> {
    let starts: HashMap<usize, usize> =
        plan.layers.iter().enumerate().map(|(at, layer)| (layer.node, at)).collect();
    let mut unit = 0;
    (0..graph.node.len())
        .map(|node| {
            unit = starts.get(&node).copied().unwrap_or(unit);
            unit
        })
        .collect()
}

fn around(
    graph: &GraphProto,
    plan: &Plan,
    units: &[usize],
) -> Vec<(Option<usize>, BTreeSet<usize>)> {
    let index = Index::new(graph);
    let of_point = |point: &Point| {
        let before = index.producer(&point.base).map(|node| units[node]);
        let after = index.readers(&point.value).iter().map(|&node| units[node]).collect();
        (before, after)
    };
    plan.points.iter().map(of_point).collect()
}
