//! Which values are quantized, and which layers compute in integers.
//!
//! The rules mirror those by which the engine finds integer layers: a convolution, fully connected
//! layer, addition, product, pooling or function of one value, with the clamps behind it. What no
//! rule covers stays in float and reads dequantized values.

use std::collections::{HashMap, HashSet};

use kinglet_engine::onnx::{GraphProto, NodeProto};

use crate::graph::{self, Index, input, int, ints};

/// A value that is quantized.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// The value, behind its clamps.
    pub value: String,
    /// The value before the clamps; the same when there are none.
    pub base: String,
    /// Results of the clamps.
    pub clamps: Vec<String>,
    /// Bounds that the clamps leave.
    pub bounds: (f32, f32),
    /// What its readers compute of it, if all compute the same function.
    pub effect: Effect,
    /// The point of that function's result.
    pub next: Option<usize>,
    /// Whether a layer with weights reads it.
    pub feeds_weights: bool,
}

/// The function through which a quantized value acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The value itself.
    Identity,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x * sigmoid(x)`.
    Swish,
}

impl Effect {
    /// The function's value.
    pub(super) fn eval(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Swish => x / (1.0 + (-x).exp()),
        }
    }
}

/// A Conv or Gemm with constant weights, one filter an output in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// Position of the node.
    pub node: usize,
    /// Its input's point.
    pub input: usize,
}

/// What the quantizer will do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub points: Vec<Point>,
    pub layers: Vec<Layer>,
    /// Convolutions that stay in float: name and reason.
    pub left: Vec<(String, String)>,
    by_value: HashMap<String, usize>,
}

impl Plan {
    /// The point of a value.
    pub(super) fn point(&self, value: &str) -> Option<usize> {
        self.by_value.get(value).copied()
    }

    /// The value that the last fully connected layer reads: what the network makes of a picture.
    pub(super) fn features(&self, graph: &GraphProto) -> Option<&str> {
        let last = self.layers.last()?;
        let gemm = graph.node[last.node].op_type == "Gemm";
        gemm.then(|| self.points[last.input].value.as_str())
    }
}

struct Planner<'a> {
    index: Index<'a>,
    plan: Plan,
    /// Clamps that a rule has taken.
    taken: HashSet<usize>,
    /// Functions that only serve a product with their own argument.
    inner: HashSet<usize>,
}

/// Plans a prepared graph.
pub(super) fn plan(graph: &GraphProto) -> Plan {
    let mut planner = Planner {
        index: Index::new(graph),
        plan: Plan::default(),
        taken: HashSet::new(),
        inner: HashSet::new(),
    };
    for (at, node) in graph.node.iter().enumerate() {
        if !planner.taken.contains(&at) {
            planner.visit(at, node);
        }
    }
    planner.finish()
}

impl Planner<'_> {
    fn visit(&mut self, at: usize, node: &NodeProto) {
        match node.op_type.as_str() {
            "Conv" => self.conv(at, node),
            "Gemm" => {
                let known = |i| input(node, i).is_some_and(|v| self.index.constant(v).is_some());
                if known(1) && known(2) && int(node, "transB") == Some(1) {
                    self.layer(at, node);
                }
            }
            "Add" | "Mul" if node.input.len() == 2 => {
                let known = |i| self.known(node, i);
                let both = known(0).is_some() && known(1).is_some();
                if both || self.is_self_product(node) {
                    self.end(at);
                }
            }
            "GlobalAveragePool" if self.known(node, 0).is_some() => self.end(at),
            "ReduceMean" if self.known(node, 0).is_some() && self.over_pixels(node) => {
                self.end(at);
            }
            "Sigmoid" | "HardSigmoid" | "HardSwish" | "Tanh" if self.known(node, 0).is_some() => {
                if self.only_serves_product(node) {
                    self.inner.insert(at);
                } else {
                    self.end(at);
                }
            }
            "Relu" | "Clip"
                if self.known(node, 0).is_some() && self.index.clamp(node).is_some() =>
            {
                self.end(at);
            }
            _ => {}
        }
    }

    /// The point behind a node's input.
    fn known(&self, node: &NodeProto, at: usize) -> Option<usize> {
        self.plan.point(self.index.trace(input(node, at)?))
    }

    fn conv(&mut self, at: usize, node: &NodeProto) {
        let constant = |i: usize| match input(node, i) {
            Some(value) => self.index.constant(value).is_some(),
            None => i == 2,
        };
        let dims = input(node, 1).and_then(|w| self.index.constant(w)).map(|t| t.dims.clone());
        let groups = int(node, "group").unwrap_or(1);
        let why = match dims.as_deref() {
            _ if !constant(1) || !constant(2) => "its weights or bias are not constant".to_owned(),
            Some(&[out, inner, ..]) if groups != 1 && !(groups == out && inner == 1) => {
                format!("{groups} groups of {inner} channels")
            }
            Some(&[_, _, _, _]) => String::new(),
            _ => "not two dimensions".to_owned(),
        };
        let output = &node.output[0];
        let why = if why.is_empty() && self.end_of(output).is_none() {
            "its result is the model's output".to_owned()
        } else {
            why
        };
        if why.is_empty() {
            self.layer(at, node);
            self.end(at);
        } else {
            self.plan.left.push((graph::name(node).to_owned(), why));
        }
    }

    fn layer(&mut self, at: usize, node: &NodeProto) {
        let Some(value) = input(node, 0) else { return };
        let source = self.index.trace(value).to_owned();
        if self.index.constant(&source).is_some() {
            return;
        }
        let point = self.make_point(&source);
        self.plan.points[point].feeds_weights = true;
        self.plan.layers.push(Layer { node: at, input: point });
    }

    /// A node's result, behind its clamps, becomes a point, unless it is the model's output.
    fn end(&mut self, at: usize) {
        if let Some(value) = self.end_of(&self.index.graph.node[at].output[0]) {
            self.make_point(&value);
        }
    }

    /// The value behind all clamps that alone read the one before them.
    fn end_of(&self, value: &str) -> Option<String> {
        let mut value = value;
        while let Some(reader) = self.index.only_reader(value) {
            let node = &self.index.graph.node[reader];
            if self.index.clamp(node).is_none() || input(node, 0) != Some(value) {
                break;
            }
            value = &node.output[0];
        }
        (!self.index.is_output(value)).then(|| value.to_owned())
    }

    fn make_point(&mut self, value: &str) -> usize {
        if let Some(point) = self.plan.point(value) {
            return point;
        }
        let (mut low, mut high) = (f32::NEG_INFINITY, f32::INFINITY);
        let mut base = value;
        let mut clamps = Vec::new();
        while let Some(at) = self.index.producer(base) {
            let node = &self.index.graph.node[at];
            let (Some(bounds), Some(next)) = (self.index.clamp(node), input(node, 0)) else {
                break;
            };
            // clamp(clamp(x, inner), outer)
            let inner = (bounds.0.clamp(low, high), bounds.1.clamp(low, high));
            if self.index.only_reader(next).is_none() || self.index.producer(next).is_none() {
                break;
            }
            (low, high) = inner;
            self.taken.insert(at);
            clamps.push(base.to_owned());
            base = next;
        }
        let point = self.plan.points.len();
        self.plan.by_value.insert(value.to_owned(), point);
        self.plan.points.push(Point {
            value: value.to_owned(),
            base: base.to_owned(),
            clamps,
            bounds: (low, high),
            effect: Effect::Identity,
            next: None,
            feeds_weights: false,
        });
        point
    }

    fn over_pixels(&self, node: &NodeProto) -> bool {
        let constant = || {
            let tensor = self.index.constant(input(node, 1)?)?;
            kinglet_engine::tensor::to_i64(tensor).ok()
        };
        let axes = ints(node, "axes").map(<[i64]>::to_vec).or_else(constant);
        matches!(axes.as_deref(), Some([2, 3] | [-2, -1] | [3, 2] | [-1, -2]))
    }

    /// Whether all readers of a function's value multiply it with the function's own argument.
    fn only_serves_product(&self, node: &NodeProto) -> bool {
        let (value, argument) = (node.output[0].as_str(), input(node, 0));
        let readers = self.index.readers(value);
        let own_product = |&reader: &usize| {
            let reader = &self.index.graph.node[reader];
            let other = reader.input.iter().find(|i| *i != value).map(String::as_str);
            reader.op_type == "Mul" && other == argument
        };
        !readers.is_empty() && !self.index.is_output(value) && readers.iter().all(own_product)
    }

    /// Whether a product is of a value and a function of the same value.
    fn is_self_product(&self, node: &NodeProto) -> bool {
        let inner = |i: usize| {
            let at = self.index.producer(input(node, i)?)?;
            self.inner.contains(&at).then_some(())
        };
        node.op_type == "Mul" && (inner(0).is_some() || inner(1).is_some())
    }

    /// What all readers of a point's value compute of it.
    fn effect(&self, value: &str) -> Effect {
        let nodes: Vec<(usize, &NodeProto)> =
            self.index.readers(value).iter().map(|&at| (at, &self.index.graph.node[at])).collect();
        if self.index.is_output(value) {
            return Effect::Identity;
        }
        let swish = nodes.iter().all(|(at, n)| {
            (self.inner.contains(at) && n.op_type == "Sigmoid") || self.is_self_product(n)
        });
        match nodes.as_slice() {
            [] => Effect::Identity,
            [(_, only)] if only.op_type == "Sigmoid" => Effect::Sigmoid,
            _ if swish => Effect::Swish,
            _ => Effect::Identity,
        }
    }

    /// The value that a point's effect leads to.
    fn next(&self, at: usize) -> Option<&str> {
        let point = &self.plan.points[at];
        let last = match point.effect {
            Effect::Identity => return None,
            Effect::Sigmoid => "Sigmoid",
            Effect::Swish => "Mul",
        };
        let readers = self.index.readers(&point.value);
        let mut readers = readers.iter().map(|&at| &self.index.graph.node[at]);
        readers.find(|n| n.op_type == last).map(|n| n.output[0].as_str())
    }

    fn finish(mut self) -> Plan {
        for at in 0..self.plan.points.len() {
            self.plan.points[at].effect = self.effect(&self.plan.points[at].value);
        }
        let by_base: HashMap<String, usize> =
            self.plan.points.iter().enumerate().map(|(i, p)| (p.base.clone(), i)).collect();
        for at in 0..self.plan.points.len() {
            self.plan.points[at].next = self.next(at).and_then(|v| by_base.get(v)).copied();
        }
        self.plan
    }
}
