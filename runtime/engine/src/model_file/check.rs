//! The consistency checks of a model just read. tract relies on them: it indexes by name.

use std::collections::HashSet;

use crate::error::ModelError;
use crate::onnx::{self, GraphProto, NodeProto};
use crate::tensor;

/// Most nodes of a graph, subgraphs included.
const MAX_NODES: usize = 50_000;
/// Deepest nesting of subgraphs.
const MAX_DEPTH: usize = 8;

/// Checks a model whose external data has been read in.
pub(super) fn check(model: &onnx::ModelProto) -> Result<(), ModelError> {
    let graph = model.graph.as_ref().ok_or_else(|| ModelError::NotOnnx {
        why: "it holds no graph; is this really an ONNX file?".into(),
    })?;
    if graph.node.is_empty() {
        return Err(ModelError::Graph { why: "it has no nodes".into() });
    }
    if graph.output.is_empty() {
        return Err(ModelError::Graph { why: "it has no outputs".into() });
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(ModelError::Graph { why: "sparse initializers are not supported".into() });
    }
    if !model.functions.is_empty() {
        return Err(ModelError::Graph { why: "model-local functions are not supported".into() });
    }
    let mut nodes = 0;
    check_graph(graph, &HashSet::new(), &mut nodes, 0)
}

fn check_graph<'a>(
    graph: &'a GraphProto,
    outer: &HashSet<&'a str>,
    nodes: &mut usize,
    depth: usize,
) -> Result<(), ModelError> {
    let bad = |why: String| ModelError::Graph { why };
    if depth > MAX_DEPTH {
        return Err(bad(format!("subgraphs nest deeper than {MAX_DEPTH}")));
    }
    *nodes += graph.node.len();
    if *nodes > MAX_NODES {
        return Err(ModelError::Limit {
            what: "number of nodes".into(),
            actual: *nodes as u64,
            limit: MAX_NODES as u64,
        });
    }
    let mut known = outer.clone();
    let mut own: HashSet<&str> = HashSet::new();
    for tensor in &graph.initializer {
        tensor::check(tensor)?;
        if tensor.name.is_empty() || !own.insert(&tensor.name) {
            return Err(bad(format!("initializer name '{}' is empty or used twice", tensor.name)));
        }
    }
    let mut inputs: HashSet<&str> = HashSet::new();
    for input in &graph.input {
        if input.name.is_empty() || !inputs.insert(&input.name) {
            return Err(bad(format!("input name '{}' is empty or used twice", input.name)));
        }
        own.insert(&input.name);
    }
    known.extend(own.iter().copied());
    for node in &graph.node {
        check_node(node, &mut known, &mut own, nodes, depth)?;
    }
    for output in &graph.output {
        if !known.contains(output.name.as_str()) {
            return Err(bad(format!("output '{}' is not produced by any node", output.name)));
        }
    }
    Ok(())
}

fn check_node<'a>(
    node: &'a NodeProto,
    known: &mut HashSet<&'a str>,
    own: &mut HashSet<&'a str>,
    nodes: &mut usize,
    depth: usize,
) -> Result<(), ModelError> {
    let bad = |why: String| ModelError::Graph {
        why: format!("node '{}' ({}) {why}", node_name(node), node.op_type),
    };
    if node.op_type.is_empty() {
        return Err(bad("has no operator".into()));
    }
    for input in node.input.iter().filter(|i| !i.is_empty()) {
        if !known.contains(input.as_str()) {
            return Err(bad(format!("reads '{input}' before anything has produced it")));
        }
    }
    for attribute in &node.attribute {
        let tensors = attribute.t.iter().chain(&attribute.tensors);
        tensors.into_iter().try_for_each(tensor::check)?;
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
            return Err(bad("has a sparse attribute, which is not supported".into()));
        }
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            check_graph(graph, known, nodes, depth + 1)?;
        }
    }
    if node.output.iter().all(String::is_empty) {
        return Err(bad("has no outputs".into()));
    }
    for output in node.output.iter().filter(|o| !o.is_empty()) {
        if !own.insert(output) {
            return Err(bad(format!("produces '{output}', which exists already")));
        }
        known.insert(output);
    }
    Ok(())
}

/// A node's name for messages: its own, or that of its first output.
pub(crate) fn node_name(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", |o| o) } else { &node.name }
}
