//! Steps that run as one: a projection and the sum that only it feeds; an expansion and the depthwise
//! convolution that only it feeds.
//!
//! The first kind changes numbers, for the better: the sum is rounded once, from real numbers,
//! instead of once before and once after it. It is therefore done whatever the instruction set. The
//! second kind changes nothing but time, and is done where there are kernels for it.

use std::collections::HashMap;

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

/// Steps that may run as one, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Triple {
    pub expand: usize,
    pub depthwise: usize,
    /// Reads what the two write, in blocks of channels.
    pub project: usize,
}

/// Dense convolutions that feed a depthwise one alone, which feeds a pointwise one alone.
pub(super) fn triples(region: &Region) -> Vec<Triple> {
    let readers = readers(region);
    let reader_of = |name: &str| {
        let alone = readers.get(name) == Some(&1);
        let reader = region.steps.iter().position(|s| s.inputs.iter().any(|i| i == name));
        reader.filter(|_| alone)
    };
    let groups = |step: &Step| match &step.kind {
        StepKind::Conv { shape, .. } => Some(shape.groups),
        _ => None,
    };
    let triple = |(expand, step): (usize, &Step)| {
        if groups(step) != Some(1) || step.inputs.len() > 1 {
            return None;
        }
        let depthwise = reader_of(&step.output)?;
        let second = &region.steps[depthwise];
        let project = reader_of(&second.output)?;
        let third = &region.steps[project];
        let StepKind::Conv { shape, .. } = &third.kind else { return None };
        let wanted = groups(second)? > 1
            && third.inputs.first() == Some(&second.output)
            && shape.groups == 1
            && shape.is_pointwise();
        wanted.then_some(Triple { expand, depthwise, project })
    };
    region.steps.iter().enumerate().filter_map(triple).collect()
}
