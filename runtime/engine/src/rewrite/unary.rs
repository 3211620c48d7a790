//! Functions of one value: what a lookup table can hold.

use super::matching::Matcher;
use crate::graph::{GraphIndex, float, input};
use crate::onnx::NodeProto;

/// Longest chain of operators that is folded into one table.
const MAX_DEPTH: usize = 12;

/// A function of one quantized value.
pub(super) struct Chain {
    /// Name of the quantized value.
    pub source: String,
    /// Whether the chain flattens a pooled value.
    pub flat: bool,
    function: Function,
}

enum Function {
    Value,
    Clamp(f32, f32, Box<Function>),
    Sigmoid(Box<Function>),
    HardSigmoid(f32, f32, Box<Function>),
    HardSwish(Box<Function>),
    Tanh(Box<Function>),
    Product(Box<Function>, Box<Function>),
}

impl Chain {
    /// The function's value at `x`.
    pub(super) fn eval(&self, x: f32) -> f32 {
        self.function.eval(f64::from(x)) as f32
    }
}

impl Function {
    // In f64, so that every machine's tables agree after rounding to codes.
    fn eval(&self, x: f64) -> f64 {
        match self {
            Self::Value => x,
            Self::Clamp(low, high, f) => f.eval(x).clamp(f64::from(*low), f64::from(*high)),
            Self::Sigmoid(f) => 1.0 / (1.0 + (-f.eval(x)).exp()),
            Self::HardSigmoid(alpha, beta, f) => {
                (f64::from(*alpha) * f.eval(x) + f64::from(*beta)).clamp(0.0, 1.0)
            }
            Self::HardSwish(f) => {
                let v = f.eval(x);
                v * (v / 6.0 + 0.5).clamp(0.0, 1.0)
            }
            Self::Tanh(f) => f.eval(x).tanh(),
            Self::Product(f, g) => f.eval(x) * g.eval(x),
        }
    }
}

/// The chain of one-value operators that leads from a quantized value to `value`.
pub(super) fn chain(matcher: &Matcher<'_>, value: &str) -> Option<Chain> {
    follow(matcher, value, MAX_DEPTH)
}

fn follow(matcher: &Matcher<'_>, value: &str, depth: usize) -> Option<Chain> {
    let depth = depth.checked_sub(1)?;
    if let Some((source, known)) = matcher.source(value) {
        let flat = known.form == super::matching::Form::Flat;
        return Some(Chain { source: source.to_owned(), flat, function: Function::Value });
    }
    let node = matcher.index.producer(value)?;
    let inner = |i: usize| follow(matcher, input(node, i)?, depth);
    if let Some((low, high)) = clamp_bounds(&matcher.index, node) {
        return Some(inner(0)?.map(|f| Function::Clamp(low, high, f)));
    }
    match node.op_type.as_str() {
        "Sigmoid" => Some(inner(0)?.map(Function::Sigmoid)),
        "HardSwish" => Some(inner(0)?.map(Function::HardSwish)),
        "Tanh" => Some(inner(0)?.map(Function::Tanh)),
        "HardSigmoid" => {
            let alpha = float(node, "alpha").unwrap_or(0.2);
            let beta = float(node, "beta").unwrap_or(0.5);
            Some(inner(0)?.map(|f| Function::HardSigmoid(alpha, beta, f)))
        }
        "Mul" => {
            let (a, b) = (inner(0)?, inner(1)?);
            (a.source == b.source && a.flat == b.flat).then(|| Chain {
                source: a.source,
                flat: a.flat,
                function: Function::Product(Box::new(a.function), Box::new(b.function)),
            })
        }
        _ => None,
    }
}

impl Chain {
    fn map(self, wrap: impl FnOnce(Box<Function>) -> Function) -> Self {
        Self { function: wrap(Box::new(self.function)), ..self }
    }
}

/// The bounds of a Relu or Clip node whose bounds are constants.
pub(super) fn clamp_bounds(index: &GraphIndex<'_>, node: &NodeProto) -> Option<(f32, f32)> {
    match node.op_type.as_str() {
        "Relu" => Some((0.0, f32::INFINITY)),
        "Clip" => {
            let bound = |i: usize, name: &str, none: f32| match input(node, i) {
                Some(value) => index.scalar(value),
                None => Some(float(node, name).unwrap_or(none)),
            };
            let low = bound(1, "min", f32::NEG_INFINITY)?;
            let high = bound(2, "max", f32::INFINITY)?;
            (low <= high).then_some((low, high))
        }
        _ => None,
    }
}
