//! Steps that become one step: a projection and the sum that only it feeds; functions of one code.
//!
//! The first kind changes numbers, for the better: the sum is rounded once, from real numbers,
//! instead of once before and once after it. It is therefore done whatever the instruction set. The
//! second kind changes nothing: what is computed of a code is the same for each of its 256 values.

use std::collections::HashMap;

use kinglet_kernels::{Isa, mul};

use super::build::mul_params;
use super::step::{Region, Step, StepKind};

/// How often each value is read, by a step or from outside.
fn readers(region: &Region) -> HashMap<&str, usize> {
    let mut readers = HashMap::new();
    let inside = region.steps.iter().flat_map(|s| &s.inputs);
    for name in inside.chain(&region.outputs) {
        *readers.entry(name.as_str()).or_default() += 1;
    }
    readers
}

/// Turns `Add(Conv(x), y)` into a convolution with a residual, where nothing else reads the
/// convolution's result and no activation lies between.
pub(super) fn residuals(region: &mut Region) {
    let mut add = 0;
    while add < region.steps.len() {
        match conv_of(region, add) {
            Some((conv, operand)) => {
                merge(region, conv, add, operand);
                // What followed moved one step forward.
            }
            None => add += 1,
        }
    }
}

/// The convolution that step `add`, if it is a sum, can be merged with, and which of the sum's
/// inputs that is. Of two the later one: it is ready last anyway.
fn conv_of(region: &Region, add: usize) -> Option<(usize, usize)> {
    let sum = &region.steps[add];
    let StepKind::Add { .. } = sum.kind else { return None };
    let readers = readers(region);
    let found = |operand: usize| {
        let name = sum.inputs.get(operand)?;
        let conv = region.steps[..add].iter().rposition(|s| s.output == *name)?;
        let StepKind::Conv { shape, output, residual: None, .. } = &region.steps[conv].kind else {
            return None;
        };
        let plain = shape.groups == 1 && (output.min, output.max) == (0, 255);
        (plain && readers.get(name.as_str()) == Some(&1)).then_some((conv, operand))
    };
    found(0).max(found(1))
}

/// Puts the sum's place in the order, output and other input into the convolution.
fn merge(region: &mut Region, conv: usize, add: usize, operand: usize) {
    let sum = region.steps.remove(add);
    let StepKind::Add { inputs, output: sum_output } = sum.kind else { return };
    let mut step = region.steps.remove(conv);
    if let StepKind::Conv { output, residual, .. } = &mut step.kind {
        *output = sum_output;
        *residual = Some(inputs[1 - operand]);
    }
    step.inputs.push(sum.inputs[1 - operand].clone());
    step.output = sum.output;
    region.steps.insert(add - 1, step);
}

/// Turns products of a value and a function of it (a swish that was quantized in two steps) into one
/// table, and a table of a table that nothing else reads too.
pub(super) fn tables(region: &mut Region) {
    for at in 0..region.steps.len() {
        if let Some(step) = product_table(region, at).or_else(|| double_table(region, at)) {
            region.steps[at] = step;
        }
    }
    // Tables that nobody reads any more.
    loop {
        let readers = readers(region);
        let unread = |s: &Step| {
            matches!(s.kind, StepKind::Lookup { .. }) && !readers.contains_key(s.output.as_str())
        };
        let Some(at) = region.steps.iter().position(unread) else { break };
        region.steps.remove(at);
    }
}

/// The table that gives value `name`, and what it reads.
fn table_of<'a>(region: &'a Region, name: &str) -> Option<(&'a [u8; 256], bool, &'a String)> {
    let step = region.steps.iter().find(|s| s.output == name)?;
    match &step.kind {
        StepKind::Lookup { table, flat } => Some((table, *flat, step.inputs.first()?)),
        _ => None,
    }
}

fn product_table(region: &Region, at: usize) -> Option<Step> {
    let step = &region.steps[at];
    let StepKind::Mul { inputs, output } = &step.kind else { return None };
    let codes: [u8; 256] = std::array::from_fn(|code| code as u8);
    let [a, b] = step.inputs.as_slice() else { return None };
    let of = |source: &String, function: &String| {
        let (table, flat, input) = table_of(region, function)?;
        (!flat && input == source).then_some((source.clone(), *table))
    };
    let ((source, table), first) = match (of(a, b), of(b, a)) {
        (Some(found), _) => (found, true),
        (None, Some(found)) => (found, false),
        (None, None) => return None,
    };
    let product = mul::Mul::new(Isa::Scalar, mul_params(inputs, output)).ok()?;
    let (a, b) = if first { (&codes, &table) } else { (&table, &codes) };
    let mut both = Box::new([0; 256]);
    product.run(a, b, both.as_mut_slice());
    let kind = StepKind::Lookup { table: both, flat: false };
    Some(Step { kind, inputs: vec![source], ..step.clone() })
}

fn double_table(region: &Region, at: usize) -> Option<Step> {
    let step = &region.steps[at];
    let StepKind::Lookup { table: second, flat } = &step.kind else { return None };
    let name = step.inputs.first()?;
    let (first, inner_flat, source) = table_of(region, name)?;
    if readers(region).get(name.as_str()) != Some(&1) {
        return None;
    }
    let table = Box::new(first.map(|code| second[usize::from(code)]));
    let kind = StepKind::Lookup { table, flat: *flat || inner_flat };
    Some(Step { kind, inputs: vec![source.clone()], ..step.clone() })
}
