//! A dense and a depthwise convolution that one kernel runs.

use std::collections::HashMap;

use super::build::{self, Built, Context};
use super::fuse::{self, Triple};
use super::plan::{Kernel, Place, PlannedStep, StepInfo, Value};
use super::step::{Payload, Region};

/// Two steps and their kernel, until it is planned.
pub(super) struct Pair {
    pub at: Triple,
    built: Option<Built>,
    /// Bytes of one image's result, which lies in blocks of channels.
    pub output_bytes: usize,
}

/// Builds the kernels that run two steps each, and notes which values lie in blocks for it.
pub(super) fn pairs<'a>(
    region: &'a Region,
    payloads: &mut [Payload],
    values: &HashMap<&str, Value>,
    context: &mut Context<'a>,
) -> Result<Vec<Pair>, String> {
    let mut pairs = Vec::new();
    for at in fuse::triples(region) {
        let indices = [at.expand, at.depthwise];
        let steps = indices.map(|i| &region.steps[i]);
        let codes = indices.map(|i| payloads[i].codes().map(|c| c.widened()).unwrap_or_default());
        let inputs = steps.map(|step| &values[step.inputs[0].as_str()].shape);
        let built = build::pair(steps, [&codes[0], &codes[1]], inputs, context)
            .map_err(|why| format!("steps '{}' and '{}': {why}", steps[0].name, steps[1].name))?;
        let Some(built) = built else { continue };
        let Kernel::ExpandDepthwise(kernel) = &built.kernel else { continue };
        let output_bytes = kernel.output_len();
        indices.iter().for_each(|&i| payloads[i] = Payload::None);
        context.blocked.insert(&steps[1].output);
        pairs.push(Pair { at, built: Some(built), output_bytes });
    }
    Ok(pairs)
}

/// The name without what comes before its last dot or slash.
fn last_part(name: &str) -> &str {
    name.rsplit(['.', '/']).next().unwrap_or(name)
}

impl Pair {
    /// The step that both become; called once.
    pub(super) fn planned(
        &mut self,
        region: &Region,
        values: &HashMap<&str, Value>,
        places: &HashMap<&str, Place>,
    ) -> Result<PlannedStep, String> {
        let built = self.built.take().ok_or("a pair of steps was planned twice")?;
        let [expand, depthwise] = [self.at.expand, self.at.depthwise].map(|i| &region.steps[i]);
        let input = expand.inputs[0].as_str();
        let shape = values[depthwise.output.as_str()].shape.clone();
        Ok(PlannedStep {
            inputs: vec![places[input].clone()],
            output: places[depthwise.output.as_str()].clone(),
            input_bytes: vec![values[input].shape.iter().skip(1).product()],
            output_bytes: self.output_bytes,
            about: StepInfo {
                name: format!("{} + {}", expand.name, last_part(&depthwise.name)),
                fused: vec![expand.name.clone(), depthwise.name.clone()],
                operation: match expand.kind.operation() {
                    "pointwise" => "pointwise + depthwise",
                    _ => "conv + depthwise",
                },
                kernel: built.name,
                data_type: "int8",
                codes: depthwise.kind.codes(),
                macs: built.macs * shape.first().map_or(1, |&batch| batch as u64),
                parameters: built.parameters,
                shape,
            },
            kernel: built.kernel,
        })
    }
}
