//! Float steps: what is left of the graph after the integer steps have been found, node by node
//! with what follows it (batch norm, activation, residual).
//!
//! A step writes its result under a name of its own (NHWC), and a step that brings it out under
//! the model's name; those that nothing reads are dropped afterwards.

use std::collections::{HashMap, HashSet};

use super::Item;
use super::params::Why;
use crate::graph::{GraphIndex, input};
use crate::model_file::check::node_name;
use crate::onnx::{GraphProto, NodeProto};
use crate::region::shape::{self, Shape};
use crate::region::{FloatKind, Step, StepKind};

mod chain;
mod outside;
mod rules;
mod weights;

/// A value that lives in a region as floats.
#[derive(Debug, Clone)]
struct Inside {
    /// Its name in the region.
    name: String,
    /// NHWC.
    shape: Shape,
}

/// A float step that was found.
struct Found<'a> {
    kind: FloatKind,
    /// The model's names of the values read.
    inputs: Vec<&'a str>,
    /// The model's name of the value written.
    output: &'a str,
    /// Positions of later nodes that the step computes too.
    absorbed: Vec<usize>,
}

/// What becomes of a node.
enum Rule<'a> {
    Step(Box<Found<'a>>),
    /// The second value is the first one.
    Same(&'a str, &'a str),
}

/// The graph as its items read it, and the values found so far.
struct Context<'a> {
    index: &'a GraphIndex<'a>,
    items: &'a [Item],
    /// Positions of the items that read a value.
    readers: HashMap<&'a str, Vec<usize>>,
    /// Values that must exist under the model's name: outputs, and what subgraphs read.
    pinned: HashSet<&'a str>,
    /// Values inside regions, by the model's name.
    inside: HashMap<&'a str, Inside>,
    /// Shapes of values outside, as NHWC where they have four axes; all known ones.
    outside: HashMap<&'a str, Shape>,
    /// Shapes of codes, NHWC.
    codes: HashMap<&'a str, Shape>,
    /// Positions of nodes that an earlier step has absorbed.
    absorbed: HashSet<usize>,
    /// No value of the model starts with this.
    prefix: String,
}

/// Replaces nodes by float steps. Also says why convolutions stay with tract, by name.
pub(super) fn translate(items: Vec<Item>, graph: &GraphProto) -> (Vec<Item>, HashMap<String, Why>) {
    let index = GraphIndex::new(graph);
    let mut context = Context::new(&index, &items);
    let mut replaced: Vec<Option<Vec<Item>>> = Vec::with_capacity(items.len());
    let mut refused = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        replaced.push(match item {
            _ if context.absorbed.contains(&at) => Some(Vec::new()),
            Item::Step(step) => context.step(step),
            Item::Node(node) => match context.node(node) {
                Ok(new) => Some(new),
                Err(why) => {
                    if node.op_type == "Conv" {
                        refused.insert(node_name(node).to_owned(), why);
                    }
                    context.outside_shape(node);
                    None
                }
            },
        });
    }
    drop(context);
    let items = items
        .into_iter()
        .zip(replaced)
        .flat_map(|(item, new)| new.unwrap_or_else(|| vec![item]))
        .collect();
    (items, refused)
}

impl<'a> Context<'a> {
    fn new(index: &'a GraphIndex<'a>, items: &'a [Item]) -> Self {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, item) in items.iter().enumerate() {
            let mut names: Vec<&str> = item.inputs().iter().map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                readers.entry(name).or_default().push(at);
            }
        }
        let graph = index.graph;
        let outputs = graph.output.iter().map(|o| o.name.as_str());
        let pinned = outputs.chain(super::nested_reads(graph)).collect();
        let mut prefix = "nhwc:".to_owned();
        let named = |prefix: &str| {
            let mut names = items.iter().flat_map(|i| i.inputs().iter().chain(i.outputs()));
            names.any(|n| n.starts_with(prefix))
        };
        while named(&prefix) {
            prefix.insert(0, '-');
        }
        Self {
            index,
            items,
            readers,
            pinned,
            inside: HashMap::new(),
            outside: outside::inputs(graph),
            codes: HashMap::new(),
            absorbed: HashSet::new(),
            prefix,
        }
    }

    /// The name of a value inside.
    fn name_inside(&self, value: &str) -> String {
        format!("{}{value}", self.prefix)
    }

    /// Shape of a value, inside or outside, NHWC.
    fn shape(&self, value: &str) -> Option<&Shape> {
        self.inside.get(value).map(|v| &v.shape).or_else(|| self.outside.get(value))
    }

    /// What an integer step becomes at the border to float ones; `None` leaves it as it is.
    fn step(&mut self, step: &'a Step) -> Option<Vec<Item>> {
        let output = step.output.as_str();
        let first = step.inputs.first().map(String::as_str)?;
        let make = |kind, input: &str, output: &str| {
            Item::Step(Step {
                name: step.name.clone(),
                kind: StepKind::Float(kind),
                inputs: vec![input.to_owned()],
                output: output.to_owned(),
            })
        };
        match &step.kind {
            StepKind::Quantize(q) => {
                let known = self.inside.get(first);
                let shape = known.map(|v| &v.shape).or_else(|| self.outside.get(first));
                if let Some(shape) = shape.cloned() {
                    self.codes.insert(output, shape);
                }
                let known = self.inside.get(first)?;
                Some(vec![make(FloatKind::ToCodes(*q), &known.name, output)])
            }
            StepKind::Dequantize(q) => {
                let shape = self.codes.get(first)?.clone();
                let name = self.name_inside(output);
                let new =
                    vec![Item::Step(step.clone()), make(FloatKind::FromCodes(*q), first, &name)];
                self.outside.insert(output, shape.clone());
                self.inside.insert(output, Inside { name, shape });
                Some(new)
            }
            kind => {
                let shapes: Option<Vec<&[usize]>> = step
                    .inputs
                    .iter()
                    .map(|i| self.codes.get(i.as_str()).map(Vec::as_slice))
                    .collect();
                let shape = shape::output_shape(step, &shapes?).ok()?;
                match kind {
                    StepKind::Linear { output: None, .. } => self.outside.insert(output, shape),
                    _ => self.codes.insert(output, shape),
                };
                None
            }
        }
    }

    /// The steps that replace a node, or why there are none.
    fn node(&mut self, node: &'a NodeProto) -> Result<Vec<Item>, Why> {
        let mut new = Vec::new();
        match self.rule(node)? {
            Rule::Same(value, output) => {
                let same = self.inside.get(value).ok_or("its input is not in a region")?.clone();
                self.bring_out(node, output, same, &mut new);
            }
            Rule::Step(found) => {
                let shape = self.check(&found)?;
                let inputs = found.inputs.iter().map(|v| self.bring_in(v, &mut new)).collect();
                let name = self.name_inside(found.output);
                new.push(Item::Step(Step {
                    name: node_name(node).to_owned(),
                    kind: StepKind::Float(found.kind),
                    inputs,
                    output: name.clone(),
                }));
                self.absorbed.extend(found.absorbed);
                self.bring_out(node, found.output, Inside { name, shape }, &mut new);
            }
        }
        Ok(new)
    }

    /// The shape of a step's result, if a kernel can be built for it.
    fn check(&self, found: &Found<'_>) -> Result<Shape, Why> {
        let shapes: Option<Vec<&[usize]>> =
            found.inputs.iter().map(|v| self.shape(v).map(Vec::as_slice)).collect();
        let shapes = shapes.ok_or("the shape of its input is not known")?;
        let result = found.kind.output_shape(&shapes)?;
        shape::volume(&result)?;
        if shapes.iter().any(|s| s.first() != Some(&1)) {
            return Err("it works on several pictures".into());
        }
        if let FloatKind::Conv { shape, .. } = &found.kind
            && let &[_, h, w, c] = shapes[0]
        {
            shape::conv_geometry(shape, [h, w, c])?.check().map_err(|e| e.to_string())?;
        }
        Ok(result)
    }

    /// The name inside of a value; a step that brings it in where it was outside.
    fn bring_in(&mut self, value: &'a str, new: &mut Vec<Item>) -> String {
        if let Some(known) = self.inside.get(value) {
            return known.name.clone();
        }
        let name = self.name_inside(value);
        new.push(Item::Step(Step {
            name: value.to_owned(),
            kind: StepKind::Float(FloatKind::FromOutside),
            inputs: vec![value.to_owned()],
            output: name.clone(),
        }));
        let shape = self.outside.get(value).cloned().unwrap_or_default();
        self.inside.insert(value, Inside { name: name.clone(), shape });
        name
    }

    /// Notes a value inside, and adds the step that brings it out.
    fn bring_out(&mut self, node: &NodeProto, value: &'a str, inside: Inside, new: &mut Vec<Item>) {
        new.push(Item::Step(Step {
            name: node_name(node).to_owned(),
            kind: StepKind::Float(FloatKind::ToOutside),
            inputs: vec![inside.name.clone()],
            output: value.to_owned(),
        }));
        self.outside.insert(value, inside.shape.clone());
        self.inside.insert(value, inside);
    }

    /// The only item that reads a value, where that is a node of the model.
    fn only_reader(&self, value: &str) -> Option<(usize, &'a NodeProto)> {
        match self.readers.get(value)?.as_slice() {
            &[at] => Some((at, self.free_node(at, value)?)),
            _ => None,
        }
    }

    /// A node that may be absorbed by what produces `value`.
    fn free_node(&self, at: usize, value: &str) -> Option<&'a NodeProto> {
        match &self.items[at] {
            Item::Node(node) if !self.pinned.contains(value) && !self.absorbed.contains(&at) => {
                Some(node)
            }
            _ => None,
        }
    }
}

/// Lets fully connected layers whose result only leaves the region write f32 themselves.
pub(super) fn leave_directly(items: &mut Vec<Item>) {
    let mut reads: HashMap<String, usize> = HashMap::new();
    for name in items.iter().flat_map(Item::inputs) {
        *reads.entry(name.clone()).or_default() += 1;
    }
    let mut leaving: HashMap<String, String> = items
        .iter()
        .filter_map(|item| match item {
            Item::Step(Step {
                kind: StepKind::Float(FloatKind::ToOutside),
                inputs,
                output,
                ..
            }) => (reads[&inputs[0]] == 1).then(|| (inputs[0].clone(), output.clone())),
            _ => None,
        })
        .collect();
    let mut left: HashSet<String> = HashSet::new();
    for item in items.iter_mut() {
        if let Item::Step(step) = item
            && let StepKind::Float(FloatKind::Linear { outside, .. }) = &mut step.kind
            && let Some(output) = leaving.remove(&step.output)
        {
            *outside = true;
            left.insert(std::mem::replace(&mut step.output, output));
        }
    }
    items.retain(|item| match item {
        Item::Step(step) => !(step.inputs.iter().any(|i| left.contains(i))),
        Item::Node(_) => true,
    });
}

/// A node's first input and output.
fn ends(node: &NodeProto) -> Result<(&str, &str), Why> {
    let output = node.output.first().filter(|o| !o.is_empty());
    let output = output.ok_or("its result has no name")?;
    if node.output.iter().skip(1).any(|o| !o.is_empty()) {
        return Err("it has several results".into());
    }
    Ok((input(node, 0).ok_or("it has no input")?, output))
}
