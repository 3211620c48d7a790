//! Finds inverted residuals: channels that one convolution expands to, that only channelwise
//! operators touch, and that one pointwise convolution projects.

use std::collections::{BTreeSet, HashSet};

use kinglet_engine::onnx::{GraphProto, NodeProto};
use kinglet_engine::tensor;

use crate::graph::{self, Index, input, int, ints};
use crate::inspect::shapes::{Shape, Shapes, elements};
use crate::watch::variables;

/// Operators that compute each element from the one at the same place.
const ELEMENTWISE: [&str; 9] = [
    "Relu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Tanh",
    "Softplus",
    "Identity",
];

/// The expanded channels of one inverted residual, and the nodes that have them.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) name: String,
    pub(super) channels: usize,
    /// Makes the channels.
    pub(super) expand: usize,
    /// Work on each alone.
    pub(super) depthwise: Vec<usize>,
    pub(super) squeeze: Option<Squeeze>,
    /// Reads them.
    pub(super) project: usize,
    /// The value that the projection reads.
    pub(super) input: String,
    /// What the projection makes.
    pub(super) output: String,
    /// Where the projection's result only goes into a sum: the other summand and the sum.
    pub(super) residual: Option<[String; 2]>,
    /// Multiply-accumulates of one channel, in all layers together.
    pub(super) macs: u64,
}

/// The two convolutions of a squeeze-and-excite.
#[derive(Debug, Clone)]
pub(super) struct Squeeze {
    pub(super) reduce: usize,
    pub(super) excite: usize,
    /// The pooled channels.
    pub(super) input: String,
    /// What the first makes of them.
    pub(super) output: String,
}

impl Block {
    /// All nodes that have the channels.
    pub(super) fn nodes(&self) -> Vec<usize> {
        let squeeze = self.squeeze.iter().flat_map(|s| [s.reduce, s.excite]);
        [self.expand]
            .into_iter()
            .chain(self.depthwise.iter().copied())
            .chain(squeeze)
            .chain([self.project])
            .collect()
    }
}

/// All inverted residuals, in the order of execution.
pub(super) fn find(graph: &GraphProto, shapes: &Shapes) -> Vec<Block> {
    let index = Index::new(graph);
    let at = |(at, node): (usize, &NodeProto)| {
        let expands = node.op_type == "Conv" && int(node, "group").unwrap_or(1) == 1;
        expands
            .then(|| Channels::follow(&index, shapes, at)?.block())
            .flatten()
            .filter(|b| b.expand == at)
    };
    let mut blocks: Vec<Block> = graph.node.iter().enumerate().filter_map(at).collect();
    blocks.sort_by_key(|b| b.project);
    blocks
}

/// Everything that shares the channels of one convolution's output.
struct Channels<'a> {
    index: &'a Index<'a>,
    shapes: &'a Shapes,
    channels: usize,
    writers: BTreeSet<usize>,
    readers: BTreeSet<usize>,
    depthwise: BTreeSet<usize>,
}

impl<'a> Channels<'a> {
    fn follow(index: &'a Index<'a>, shapes: &'a Shapes, from: usize) -> Option<Self> {
        let start = index.graph.node[from].output.first()?.as_str();
        let channels = *shapes.shape(start)?.get(1)?;
        let (writers, readers, depthwise) = Default::default();
        let mut own = Self { index, shapes, channels, writers, readers, depthwise };
        let mut values = vec![start];
        let mut seen: HashSet<&str> = HashSet::new();
        while let Some(value) = values.pop() {
            if !seen.insert(value) {
                continue;
            }
            let shape = shapes.shape(value)?;
            if index.is_output(value) || shape.len() != 4 || shape[1] != channels {
                return None;
            }
            let producer = index.producer(value)?;
            if own.writes(producer)? {
                own.writers.insert(producer);
            } else {
                values.extend(own.passes(producer)?);
            }
            for &reader in index.readers(value) {
                if own.reads(reader)? {
                    own.readers.insert(reader);
                } else {
                    own.passes(reader)?;
                    values.push(index.graph.node[reader].output.first()?);
                }
            }
        }
        Some(own)
    }

    /// Dimensions of a convolution's weights, if those and its bias are constants.
    fn weights(&self, node: &NodeProto) -> Option<[usize; 4]> {
        let (dims, _) = tensor::shape(self.index.constant(input(node, 1)?)?).ok()?;
        if let Some(bias) = input(node, 2) {
            self.index.constant(bias)?;
        }
        dims.try_into().ok()
    }

    /// Whether a producer makes the channels out of others; `None` where that cannot be pruned.
    fn writes(&self, at: usize) -> Option<bool> {
        let node = &self.index.graph.node[at];
        if node.op_type != "Conv" || int(node, "group").unwrap_or(1) != 1 {
            return Some(false);
        }
        (self.weights(node)?[0] == self.channels).then_some(true)
    }

    fn reads(&self, at: usize) -> Option<bool> {
        let node = &self.index.graph.node[at];
        if node.op_type != "Conv" || int(node, "group").unwrap_or(1) != 1 {
            return Some(false);
        }
        (self.weights(node)?[1] == self.channels).then_some(true)
    }

    /// The values with these channels that a channelwise node reads.
    fn passes(&mut self, at: usize) -> Option<Vec<&'a str>> {
        let node = &self.index.graph.node[at];
        let variables: Vec<&str> = variables(self.index, at).collect();
        match node.op_type.as_str() {
            "Conv" => {
                let [outputs, inner, ..] = self.weights(node)?;
                let group = usize::try_from(int(node, "group").unwrap_or(1)).ok()?;
                if [outputs, group, inner] != [self.channels, self.channels, 1] {
                    return None;
                }
                self.depthwise.insert(at);
            }
            "Mul" | "Add" => {
                let scalar = |v: &str| {
                    self.index.constant(v).is_some_and(|t| t.dims.iter().all(|&d| d == 1))
                };
                let known = node.input.iter().all(|v| variables.contains(&v.as_str()) || scalar(v));
                known.then_some(())?;
            }
            "GlobalAveragePool" => {}
            "ReduceMean" => {
                let shape = self.shapes.shape(node.output.first()?)?;
                (shape.len() == 4 && shape[2..] == [1, 1]).then_some(())?;
            }
            op => ELEMENTWISE.contains(&op).then_some(())?,
        }
        Some(variables)
    }

    fn pooled(&self, at: usize) -> bool {
        let value = input(&self.index.graph.node[at], 0).and_then(|v| self.index.producer(v));
        value.is_some_and(|at| {
            ["GlobalAveragePool", "ReduceMean"]
                .contains(&self.index.graph.node[at].op_type.as_str())
        })
    }

    /// The block, if the channels are those of an inverted residual.
    fn block(self) -> Option<Block> {
        let nodes = &self.index.graph.node;
        let (pooled, plain): (Vec<usize>, Vec<usize>) =
            self.readers.iter().partition(|&&at| self.pooled(at));
        let [project] = plain[..] else { return None };
        let writers: Vec<usize> = self.writers.iter().copied().collect();
        let (expand, squeeze) = match (&writers[..], &pooled[..]) {
            (&[expand], []) => (expand, None),
            (&[expand, excite], &[reduce]) if expand < reduce && reduce < excite => {
                let [input, output] = [input(&nodes[reduce], 0)?, nodes[reduce].output.first()?];
                let squeeze =
                    Squeeze { reduce, excite, input: input.into(), output: output.into() };
                (expand, Some(squeeze))
            }
            _ => return None,
        };
        let node = &nodes[project];
        let [outputs, _, height, width] = self.weights(node)?;
        let plain =
            |name: &str, value: i64| ints(node, name).is_none_or(|v| v.iter().all(|&v| v == value));
        if [height, width] != [1, 1]
            || !plain("strides", 1)
            || !plain("pads", 0)
            || outputs >= self.channels
        {
            return None;
        }
        let (from, to) = (input(node, 0)?, node.output.first()?);
        let block = Block {
            name: name(
                graph::name(&nodes[self.depthwise.first().copied().unwrap_or(expand)]),
                graph::name(node),
            ),
            channels: self.channels,
            expand,
            depthwise: self.depthwise.iter().copied().collect(),
            squeeze,
            project,
            input: from.to_owned(),
            output: to.clone(),
            residual: self.residual(to),
            macs: 0,
        };
        let macs = block.nodes().iter().map(|&at| self.macs_of_channel(at)).sum::<Option<u64>>()?;
        Some(Block { macs, ..block })
    }

    /// The other summand and the sum, where only a sum reads the projection.
    fn residual(&self, output: &str) -> Option<[String; 2]> {
        let add = &self.index.graph.node[self.index.only_reader(output)?];
        let [a, b] = [input(add, 0)?, input(add, 1)?];
        let other = if a == output { b } else { a };
        let same = |v: &str| self.shapes.shape(v) == self.shapes.shape(output);
        let sum = add.output.first()?;
        let is_sum = add.op_type == "Add"
            && other != output
            && same(other)
            && self.index.constant(other).is_none();
        is_sum.then(|| [other.to_owned(), sum.clone()])
    }

    /// Work that one channel causes in a node.
    fn macs_of_channel(&self, at: usize) -> Option<u64> {
        let node = &self.index.graph.node[at];
        let shape: &Shape = self.shapes.shape(node.output.first()?)?;
        let weights = self.weights(node)?;
        let inner = if self.readers.contains(&at) { 1 } else { weights[1] };
        let outputs = if self.readers.contains(&at) { shape[1] } else { 1 };
        let all = [shape[0], outputs, shape[2], shape[3], inner, weights[2], weights[3]];
        elements(&all).map(|n| n as u64)
    }
}

/// What two names have in common, up to a full stop or a slash.
fn name(first: &str, last: &str) -> String {
    let common = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
    match last.get(..common).and_then(|c| c.rfind(['.', '/'])) {
        Some(end) if end > 0 => last[..end].to_owned(),
        _ => last.to_owned(),
    }
}
