//! A view of a graph by value name, and small helpers for nodes.

use std::collections::{HashMap, HashSet};

use kinglet_engine::onnx::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType,
};
use kinglet_engine::tensor;

/// Who produces and who reads a value, and which values are constants.
pub(crate) struct Index<'a> {
    pub(crate) graph: &'a GraphProto,
    producers: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, Vec<usize>>,
    constants: HashMap<&'a str, &'a TensorProto>,
    outputs: HashSet<&'a str>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(graph: &'a GraphProto) -> Self {
        let mut producers = HashMap::new();
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                producers.insert(output.as_str(), at);
            }
            for input in node.input.iter().filter(|i| !i.is_empty()) {
                readers.entry(input).or_default().push(at);
            }
        }
        let constants = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let outputs = graph.output.iter().map(|o| o.name.as_str()).collect();
        Self { graph, producers, readers, constants, outputs }
    }

    /// Position of the node that produces a value.
    pub(crate) fn producer(&self, value: &str) -> Option<usize> {
        self.producers.get(value).copied()
    }

    /// Positions of the nodes that read a value; one that reads it twice is there twice.
    pub(crate) fn readers(&self, value: &str) -> &[usize] {
        self.readers.get(value).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn constant(&self, value: &str) -> Option<&'a TensorProto> {
        self.constants.get(value).copied()
    }

    /// The elements of a constant float value.
    pub(crate) fn floats(&self, value: &str) -> Option<Vec<f32>> {
        tensor::to_f32(self.constant(value)?).ok()
    }

    pub(crate) fn is_output(&self, value: &str) -> bool {
        self.outputs.contains(value)
    }

    /// The only node that reads a value which is not an output of the graph.
    pub(crate) fn only_reader(&self, value: &str) -> Option<usize> {
        match self.readers(value) {
            [one] if !self.is_output(value) => Some(*one),
            _ => None,
        }
    }

    /// Bounds of a Relu or Clip node with constant bounds.
    pub(crate) fn clamp(&self, node: &NodeProto) -> Option<(f32, f32)> {
        match node.op_type.as_str() {
            "Relu" => Some((0.0, f32::INFINITY)),
            "Clip" => {
                let bound = |at: usize, name: &str, none: f32| match input(node, at) {
                    Some(value) => match self.floats(value)?.as_slice() {
                        [one] => Some(*one),
                        _ => None,
                    },
                    None => Some(float(node, name).unwrap_or(none)),
                };
                let low = bound(1, "min", f32::NEG_INFINITY)?;
                let high = bound(2, "max", f32::INFINITY)?;
                (low <= high).then_some((low, high))
            }
            _ => None,
        }
    }

    /// The value behind operators that move elements only: their quantization is the same.
    pub(crate) fn trace<'b>(&'b self, mut value: &'b str) -> &'b str {
        while let Some(at) = self.producer(value) {
            let node = &self.graph.node[at];
            let moves = ["Flatten", "Reshape", "Squeeze", "Identity", "Dropout"];
            match input(node, 0) {
                Some(next) if moves.contains(&node.op_type.as_str()) => value = next,
                _ => break,
            }
        }
        value
    }
}

/// A node's input by position; `None` when it is absent or left empty.
pub(crate) fn input(node: &NodeProto, at: usize) -> Option<&str> {
    node.input.get(at).map(String::as_str).filter(|s| !s.is_empty())
}

/// A node's name for messages: its own, or that of its first output.
pub(crate) fn name(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", |o| o) } else { &node.name }
}

fn find<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// An integer attribute.
pub(crate) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    find(node, name).map(|a| a.i)
}

/// An attribute that is a list of integers.
pub(crate) fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    find(node, name).map(|a| a.ints.as_slice())
}

/// A float attribute.
pub(crate) fn float(node: &NodeProto, name: &str) -> Option<f32> {
    find(node, name).map(|a| a.f)
}

/// A new integer attribute.
pub(crate) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: value,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    }
}

/// Makes names that the graph does not use yet.
pub(crate) struct Namer {
    used: HashSet<String>,
}

impl Namer {
    pub(crate) fn new(graph: &GraphProto) -> Self {
        let values = graph.node.iter().flat_map(|n| n.output.iter().chain(&n.input));
        let names = graph.node.iter().map(|n| &n.name);
        let constants = graph.initializer.iter().map(|t| &t.name);
        let outside = graph.input.iter().chain(&graph.output).map(|v| &v.name);
        Self { used: values.chain(names).chain(constants).chain(outside).cloned().collect() }
    }

    /// `base`, or `base.1` and so on when that is taken.
    pub(crate) fn fresh(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut number = 0;
        while !self.used.insert(name.clone()) {
            number += 1;
            name = format!("{base}.{number}");
        }
        name
    }
}

/// Drops initializers, and inputs with their names, that no node and no output reads.
pub(crate) fn drop_unread(graph: &mut GraphProto) {
    let read: HashSet<String> = graph
        .node
        .iter()
        .flat_map(|n| n.input.iter().cloned())
        .chain(graph.output.iter().map(|o| o.name.clone()))
        .collect();
    graph.initializer.retain(|t| read.contains(&t.name));
}

/// Constant nodes become initializers.
pub(crate) fn take_constants(graph: &mut GraphProto) {
    let (constants, nodes): (Vec<_>, Vec<_>) = std::mem::take(&mut graph.node)
        .into_iter()
        .partition(|n| n.op_type == "Constant" && n.attribute.iter().any(|a| a.t.is_some()));
    graph.node = nodes;
    for mut node in constants {
        let tensor = node.attribute.iter_mut().find_map(|a| a.t.take());
        if let (Some(mut tensor), Some(name)) = (tensor, node.output.pop()) {
            tensor.name = name;
            graph.initializer.push(tensor);
        }
    }
}
