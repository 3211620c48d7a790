//! Gradients of a function of a classifier's outputs with respect to values inside it.
//!
//! Reverse mode over the operators of convolutional classifiers; the forward values come from the
//! engine, which runs the model with them among its outputs. Only activations have gradients
//! here: nothing is trained.

use std::collections::{HashMap, HashSet};

use kinglet_engine::onnx::{GraphProto, NodeProto};
use kinglet_engine::tensor;

use crate::graph::{self, Index, float, input, int, ints};
use crate::inspect::shapes::{Shape, Shapes};
use crate::watch::variables;

mod conv;

use conv::Conv;

/// An operator without a rule.
#[derive(Debug, Clone, thiserror::Error)]
#[error("operator {op} (node '{node}') has no gradient here")]
pub struct NoGradient {
    /// The operator.
    pub op: String,
    /// The node's name.
    pub node: String,
}

/// What the gradient of a node's input is made of.
enum Rule {
    Conv(Conv),
    /// Rows of weights `[outputs][inputs]`.
    Linear(Vec<f32>, usize),
    /// Passes where the output is inside the bounds.
    Clamp(f32, f32),
    Sigmoid,
    HardSwish,
    Mul,
    Add,
    /// Spreads the mean.
    Pool,
    /// Elements only move.
    Same,
}

struct Step {
    inputs: Vec<String>,
    output: String,
    rule: Rule,
}

/// Walks back from a classifier's logits to chosen values.
pub(crate) struct Backward {
    /// In the order of walking.
    steps: Vec<Step>,
    wanted: HashSet<String>,
    shapes: HashMap<String, Shape>,
    logits: String,
}

/// Forward values by name.
pub(crate) type Values<'a> = HashMap<&'a str, &'a [f32]>;

impl Backward {
    /// Plans the way back from the graph's first output to `wanted`. A Softmax at the end is left
    /// out: gradients are those of what goes into it.
    pub(crate) fn new(
        graph: &GraphProto,
        shapes: &Shapes,
        wanted: &[&str],
    ) -> Result<Self, NoGradient> {
        let index = Index::new(graph);
        let logits = logits(&index);
        let mut reached: HashSet<&str> = wanted.iter().copied().collect();
        let mut steps = Vec::new();
        let last = index.producer(&logits).map_or(0, |at| at + 1);
        for (at, node) in graph.node.iter().enumerate().take(last) {
            let inputs: Vec<&str> = variables(&index, at).collect();
            let (Some(output), true) =
                (node.output.first(), inputs.iter().any(|i| reached.contains(i)))
            else {
                continue;
            };
            reached.insert(output);
            let none =
                || NoGradient { op: node.op_type.clone(), node: graph::name(node).to_owned() };
            steps.push(Step {
                rule: rule(&index, shapes, node).ok_or_else(none)?,
                inputs: inputs.iter().map(|&i| i.to_owned()).collect(),
                output: output.clone(),
            });
        }
        steps.reverse();
        let named = steps.iter().flat_map(|s| s.inputs.iter().chain([&s.output]));
        let known = named.filter_map(|v| Some((v.clone(), shapes.shape(v)?.clone())));
        let shapes = known.collect();
        let wanted = wanted.iter().map(|&w| w.to_owned()).collect();
        Ok(Self { steps, wanted, shapes, logits })
    }

    /// The value that the way starts from.
    pub(crate) fn logits(&self) -> &str {
        &self.logits
    }

    /// The forward values that [`Self::run`] needs.
    pub(crate) fn needed(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let of = |step: &Step| -> Vec<String> {
            match step.rule {
                Rule::Clamp(..) | Rule::Sigmoid => vec![step.output.clone()],
                Rule::Mul | Rule::HardSwish => step.inputs.clone(),
                _ => Vec::new(),
            }
        };
        let all: HashSet<String> = self.steps.iter().flat_map(of).collect();
        let named = self.steps.iter().flat_map(|s| s.inputs.iter().chain([&s.output]));
        named.map(String::as_str).filter(|v| all.contains(*v) && seen.insert(*v)).collect()
    }

    /// Gradients of the wanted values, from the gradient of the logits.
    pub(crate) fn run(&self, values: &Values<'_>, logits: Vec<f32>) -> HashMap<&str, Vec<f32>> {
        let mut gradients: HashMap<&str, Vec<f32>> = HashMap::new();
        gradients.insert(&self.logits, logits);
        let mut kept = HashMap::new();
        for step in &self.steps {
            let Some(from) = gradients.remove(step.output.as_str()) else { continue };
            for (at, input) in step.inputs.iter().enumerate() {
                if let Some(part) = self.back(step, at, &from, values) {
                    match gradients.get_mut(input.as_str()) {
                        Some(sum) => sum.iter_mut().zip(&part).for_each(|(s, p)| *s += p),
                        None => {
                            gradients.insert(input, part);
                        }
                    }
                }
            }
            if self.wanted.contains(&step.output) {
                kept.insert(step.output.as_str(), from);
            }
        }
        let left = gradients.into_iter().filter(|(name, _)| self.wanted.contains(*name));
        kept.extend(left);
        kept
    }

    /// The part of the gradient of a step's input that comes through the step.
    fn back(&self, step: &Step, at: usize, from: &[f32], values: &Values<'_>) -> Option<Vec<f32>> {
        let own = self.shapes.get(&step.inputs[at])?;
        let output = values.get(step.output.as_str());
        let each = |values: &[f32], f: &dyn Fn(f32, f32) -> f32| {
            from.iter().zip(values).map(|(&g, &v)| f(g, v)).collect::<Vec<f32>>()
        };
        Some(match &step.rule {
            Rule::Conv(conv) => conv.back(from, own),
            Rule::Linear(weights, inputs) => {
                let mut gradient = vec![0.0; *inputs];
                for (row, &g) in weights.chunks_exact(*inputs).zip(from) {
                    gradient.iter_mut().zip(row).for_each(|(s, w)| *s += g * w);
                }
                gradient
            }
            Rule::Clamp(low, high) => {
                each(output?, &|g, y| if y > *low && y < *high { g } else { 0.0 })
            }
            Rule::Sigmoid => each(output?, &|g, y| g * y * (1.0 - y)),
            Rule::HardSwish => each(values.get(step.inputs[at].as_str())?, &|g, x| {
                let slope = if x <= -3.0 {
                    0.0
                } else if x >= 3.0 {
                    1.0
                } else {
                    x / 3.0 + 0.5
                };
                g * slope
            }),
            Rule::Mul => {
                let other = values.get(step.inputs.get(1 - at)?.as_str())?;
                let repeat = from.len() / other.len().max(1);
                let product = from.iter().enumerate();
                let product = product.map(|(i, g)| g * other[i / repeat.max(1)]).collect();
                reduce(product, own)
            }
            Rule::Add => reduce(from.to_vec(), own),
            Rule::Pool => {
                let pixels = own.iter().skip(2).product::<usize>().max(1);
                let spread = |&g: &f32| std::iter::repeat_n(g / pixels as f32, pixels);
                from.iter().flat_map(spread).collect()
            }
            Rule::Same => from.to_vec(),
        })
    }
}

/// Sums over the pixels where the input has one element a channel.
fn reduce(gradient: Vec<f32>, shape: &[usize]) -> Vec<f32> {
    let elements = shape.iter().product::<usize>().max(1);
    let repeat = gradient.len() / elements;
    if repeat <= 1 {
        return gradient;
    }
    gradient.chunks_exact(repeat).map(|pixels| pixels.iter().sum()).collect()
}

/// What goes into the Softmax at the end, or the output.
fn logits(index: &Index<'_>) -> String {
    let output = index.graph.output.first().map_or("", |o| o.name.as_str());
    let traced = index.trace(output);
    let softmax = index.producer(traced).map(|at| &index.graph.node[at]);
    match softmax.filter(|n| n.op_type == "Softmax").and_then(|n| input(n, 0)) {
        Some(logits) => logits.to_owned(),
        None => output.to_owned(),
    }
}

fn rule(index: &Index<'_>, shapes: &Shapes, node: &NodeProto) -> Option<Rule> {
    let shape = |at: usize| input(node, at).and_then(|v| shapes.shape(v));
    Some(match node.op_type.as_str() {
        "Conv" => Rule::Conv(Conv::new(index, shapes, node)?),
        "Gemm" | "MatMul" => {
            let (dims, _) = tensor::shape(index.constant(input(node, 1)?)?).ok()?;
            let &[rows, columns] = dims.as_slice() else { return None };
            let weights = index.floats(input(node, 1)?)?;
            let alpha = float(node, "alpha").unwrap_or(1.0);
            if int(node, "transA").unwrap_or(0) != 0 || alpha != 1.0 {
                return None;
            }
            if int(node, "transB").unwrap_or(0) != 0 {
                Rule::Linear(weights, columns)
            } else {
                let transposed = (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c)));
                Rule::Linear(transposed.map(|(r, c)| weights[r * columns + c]).collect(), rows)
            }
        }
        "Relu" | "Clip" => {
            let (low, high) = index.clamp(node)?;
            Rule::Clamp(low, high)
        }
        "Sigmoid" => Rule::Sigmoid,
        "HardSwish" => Rule::HardSwish,
        "Mul" | "Add" => {
            let (a, b) = (shape(0)?, shape(1)?);
            let elements = |s: &Shape| s.iter().product::<usize>();
            let pooled = |s: &Shape| s.len() == 4 && s[2..] == [1, 1];
            let variable =
                (0..2).all(|i| input(node, i).is_some_and(|v| index.constant(v).is_none()));
            let fit = a == b
                || (a.len() == 4 && b.len() == 4 && a[..2] == b[..2] && (pooled(a) || pooled(b)));
            if !variable || !fit || elements(a) == 0 {
                return None;
            }
            if node.op_type == "Mul" { Rule::Mul } else { Rule::Add }
        }
        "GlobalAveragePool" => Rule::Pool,
        "ReduceMean" => {
            let axes = ints(node, "axes")?;
            (matches!(axes, [2, 3] | [-2, -1]) && shape(0)?.len() == 4).then_some(Rule::Pool)?
        }
        "Flatten" | "Reshape" | "Squeeze" | "Identity" | "Dropout" => Rule::Same,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
