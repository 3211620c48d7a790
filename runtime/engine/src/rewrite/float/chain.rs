//! What follows a step and can be computed by it: batch norm, activation, residual.

use kinglet_kernels::float::Activation;

use super::super::unary::clamp_bounds;
use super::{Context, weights};
use crate::graph::{float, input};
use crate::onnx::NodeProto;

/// Something that follows a value: where it ends, and the positions of its nodes.
pub(super) struct Tail<'a, T> {
    pub what: T,
    pub output: &'a str,
    pub absorbed: Vec<usize>,
}

impl<'a> Context<'a> {
    /// A BatchNormalization that alone reads `value`: factor and addend of each channel.
    pub(super) fn batch_norm(
        &self,
        value: &str,
        channels: usize,
    ) -> Option<Tail<'a, Vec<[f64; 2]>>> {
        let (at, node) = self.only_reader(value)?;
        let (from, output) = super::ends(node).ok()?;
        if node.op_type != "BatchNormalization" || from != value {
            return None;
        }
        let what = weights::batch_norm(self.index, node).filter(|c| c.len() == channels)?;
        Some(Tail { what, output, absorbed: vec![at] })
    }

    /// An addition of constants that alone reads `value`.
    pub(super) fn bias(&self, value: &str, channels: usize) -> Option<Tail<'a, Vec<f32>>> {
        let (at, node) = self.only_reader(value).filter(|(_, n)| n.op_type == "Add")?;
        let other = other_operand(node, value)?;
        let what = weights::per_channel(self.index, other, channels, 0)?;
        Some(Tail { what, output: node.output.first()?, absorbed: vec![at] })
    }

    /// The activation that alone reads `value`; without one, no activation and `value` itself.
    pub(super) fn activation(&self, value: &'a str) -> Tail<'a, Activation> {
        let none = || Tail { what: Activation::None, output: value, absorbed: Vec::new() };
        self.clamps(value)
            .or_else(|| {
                let (at, node) = self.only_reader(value)?;
                let what = self.function(node)?;
                Some(Tail { what, output: node.output.first()?, absorbed: vec![at] })
            })
            .or_else(|| self.gated(value))
            .unwrap_or_else(none)
    }

    /// Relu and Clip, as many as follow each other.
    fn clamps(&self, value: &'a str) -> Option<Tail<'a, Activation>> {
        let (mut low, mut high) = (f32::NEG_INFINITY, f32::INFINITY);
        let (mut output, mut absorbed) = (value, Vec::new());
        while let Some((at, node)) = self.only_reader(output)
            && let Some((next_low, next_high)) = clamp_bounds(self.index, node)
            && input(node, 0) == Some(output)
            && let Some(next) = node.output.first()
        {
            (low, high) = (low.clamp(next_low, next_high), high.clamp(next_low, next_high));
            output = next;
            absorbed.push(at);
        }
        (!absorbed.is_empty()).then(|| Tail { what: clamp(low, high), output, absorbed })
    }

    /// `value * gate(value)`, where nothing else reads either.
    fn gated(&self, value: &'a str) -> Option<Tail<'a, Activation>> {
        let &[a, b] = self.readers.get(value)?.as_slice() else { return None };
        let (first, second) = (self.free_node(a, value)?, self.free_node(b, value)?);
        let (gate_at, gate, product_at) =
            if first.op_type == "Mul" { (b, second, a) } else { (a, first, b) };
        let tail = self.product(value, gate).filter(|t| t.absorbed == [product_at])?;
        Some(Tail { absorbed: vec![gate_at, product_at], ..tail })
    }

    /// The product of `value` and what `gate` makes of it, which alone reads the gate.
    pub(super) fn product(&self, value: &str, gate: &NodeProto) -> Option<Tail<'a, Activation>> {
        let what = match self.function(gate)? {
            Activation::Sigmoid => Activation::Silu,
            Activation::HardSigmoid => Activation::HardSwish,
            _ => return None,
        };
        if input(gate, 0) != Some(value) {
            return None;
        }
        let (at, product) = self.only_reader(gate.output.first()?)?;
        let is_product =
            product.op_type == "Mul" && other_operand(product, gate.output.first()?) == Some(value);
        is_product.then_some(Tail { what, output: product.output.first()?, absorbed: vec![at] })
    }

    /// The activation that a node computes.
    pub(super) fn function(&self, node: &NodeProto) -> Option<Activation> {
        if let Some((low, high)) = clamp_bounds(self.index, node) {
            return Some(clamp(low, high));
        }
        Some(match node.op_type.as_str() {
            "Sigmoid" => Activation::Sigmoid,
            "HardSwish" => Activation::HardSwish,
            "HardSigmoid" => {
                let alpha = float(node, "alpha").unwrap_or(0.2);
                let beta = float(node, "beta").unwrap_or(0.5);
                if (alpha - 1.0 / 6.0).abs() > 1e-6 || beta != 0.5 {
                    return None;
                }
                Activation::HardSigmoid
            }
            _ => return None,
        })
    }

    /// An addition that alone reads `value`, of a value of the same shape that is inside already.
    pub(super) fn residual(&self, value: &str, shape: &[usize]) -> Option<Tail<'a, &'a str>> {
        let (at, node) = self.only_reader(value).filter(|(_, n)| n.op_type == "Add")?;
        let what = other_operand(node, value)?;
        let known = self.inside.get(what)?;
        (known.shape == shape).then_some(())?;
        Some(Tail { what, output: node.output.first()?, absorbed: vec![at] })
    }
}

/// The other operand of a node that reads `value` and something else.
fn other_operand<'n>(node: &'n NodeProto, value: &str) -> Option<&'n str> {
    match (input(node, 0)?, input(node, 1)?) {
        (a, b) if a == value && b != value => Some(b),
        (a, b) if b == value && a != value => Some(a),
        _ => None,
    }
}

fn clamp(low: f32, high: f32) -> Activation {
    match (low, high) {
        (f32::NEG_INFINITY, f32::INFINITY) => Activation::None,
        (0.0, f32::INFINITY) => Activation::Relu,
        (min, max) => Activation::Clamp { min, max },
    }
}
