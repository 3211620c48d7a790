//! From a pattern of float steps to the kernel that runs them all.

use std::collections::HashMap;
use std::mem::take;

use kinglet_kernels::float::mbconv::{First, MbConv, Pair, Projection, Squeeze};
use kinglet_kernels::float::{self, Activation};
use kinglet_kernels::{ConvGeometry, Isa, KernelError};

use super::float::{Float, FloatKernel, macs, ordered, parameters};
use super::{Built, Context};
use crate::region::float::FloatKind;
use crate::region::pattern::{self, Pattern};
use crate::region::plan::Value;
use crate::region::shape;
use crate::region::step::{ConvShape, Payload, Region, StepKind};

/// Fewest bytes of the expanded image for which a block runs as one: what a small board's caches do
/// not hold. Smaller blocks gain nothing, and their bands are too few pixels for the tiles.
const MIN_BETWEEN: usize = 1 << 20;

/// A convolution's parameters.
struct Part<'a> {
    shape: &'a ConvShape,
    geometry: ConvGeometry,
    values: Vec<f32>,
    bias: &'a [f32],
    activation: Activation,
    residual: bool,
}

/// The parts of a pattern, and what the report says of them.
struct Parts<'a> {
    region: &'a Region,
    payloads: &'a mut [Payload],
    values: &'a HashMap<&'a str, Value>,
    macs: u64,
    parameters: u64,
}

/// Builds the kernel of a pattern; `None` where there is none, and then `payloads` are as they were.
pub(super) fn fused<T: Float>(
    pattern: &Pattern,
    region: &Region,
    payloads: &mut [Payload],
    values: &HashMap<&str, Value>,
    context: &Context<'_>,
) -> Result<Option<Built>, String> {
    if let Pattern::Block { expand, first, .. } = *pattern {
        let between = expand.unwrap_or(first).conv;
        let between = &values[region.steps[between].output.as_str()].shape;
        if between.iter().skip(1).product::<usize>() * size_of::<T>() < MIN_BETWEEN {
            return Ok(None);
        }
    }
    let mut parts = Parts { region, payloads, values, macs: 0, parameters: 0 };
    let isa = context.isa;
    let (kernel, name) = match *pattern {
        Pattern::Block { expand, first, squeeze, project: Some(project) } => {
            let first = parts.first::<T>(expand.map(|at| at.conv), first.conv, isa)?;
            let squeeze = squeeze.map(|at| parts.squeeze::<T>(at, isa)).transpose()?;
            let part = parts.take::<T>(project)?;
            let project = Projection {
                geometry: part.geometry,
                weights: &part.values,
                bias: part.bias,
                activation: part.activation,
                adds: part.residual,
            };
            let kernel = MbConv::new(isa, first, squeeze, project).map_err(text)?;
            let names: Vec<&str> = kernel.kernels().collect();
            let name = names.join(" + ");
            (FloatKernel::MbConv(Box::new(kernel)), name)
        }
        Pattern::Head { conv, .. } => {
            let Part { geometry, values, bias, activation, .. } = parts.take::<T>(conv.conv)?;
            let threads = context.threads;
            let kernel = float::ConvPool::new(isa, threads, geometry, &values, bias, activation);
            let kernel = kernel.map_err(text)?;
            let (conv, pool) = kernel.kernels();
            (FloatKernel::ConvPool(kernel), format!("{conv} + {pool}"))
        }
        _ => return Ok(None),
    };
    let (macs, parameters) = (parts.macs, parts.parameters);
    Ok(Some(Built { kernel: T::wrap(kernel), name, macs, parameters }))
}

fn text(error: KernelError) -> String {
    error.to_string()
}

impl<'a> Parts<'a> {
    /// A convolution's parameters, its weights taken.
    fn take<T>(&mut self, at: usize) -> Result<Part<'a>, String> {
        let step = &self.region.steps[at];
        let StepKind::Float(FloatKind::Conv { shape, weights, activation, residual }) = &step.kind
        else {
            return Err(format!("step '{}' is no convolution", step.name));
        };
        let [_, h, w, c] = shape::map(&self.values[step.inputs[0].as_str()].shape)?;
        let geometry = shape::conv_geometry(shape, [h, w, c])?;
        let (_, values) = take(&mut self.payloads[at]).widened();
        self.macs += macs(shape, &geometry);
        self.parameters += parameters::<T>(&values, &weights.bias);
        let bias = &weights.bias;
        Ok(Part { shape, geometry, values, bias, activation: *activation, residual: *residual })
    }

    fn first<T: Float>(
        &mut self,
        expand: Option<usize>,
        at: usize,
        isa: Isa,
    ) -> Result<First<T>, String> {
        let expand = expand.map(|at| self.dense(at, isa)).transpose()?;
        let Part { shape, geometry, values, bias, activation, .. } = self.take::<T>(at)?;
        let values = ordered(shape, &values);
        if shape.groups == 1 {
            let kernel = float::Conv::new(isa, geometry, &values, bias, activation);
            return kernel.map(First::Conv).map_err(text);
        }
        let kernel = float::Depthwise::new(isa, geometry, &values, bias, activation);
        let kernel = kernel.map_err(text)?;
        Ok(match expand {
            Some(expand) => First::Pair(Pair::new(expand, kernel).map_err(text)?),
            None => First::Depthwise(kernel),
        })
    }

    fn dense<T: Float>(&mut self, at: usize, isa: Isa) -> Result<float::Conv<T>, String> {
        let Part { shape, geometry, values, bias, activation, .. } = self.take::<T>(at)?;
        let values = ordered(shape, &values);
        float::Conv::new(isa, geometry, &values, bias, activation).map_err(text)
    }

    fn squeeze<T: Float>(&mut self, at: pattern::Squeeze, isa: Isa) -> Result<Squeeze<T>, String> {
        let mut linear = |at: usize| {
            let Part { geometry, values, bias, activation, .. } = self.take::<T>(at)?;
            let (from, to) = (geometry.in_c, geometry.out_c);
            float::Linear::new(isa, from, to, &values, bias, activation).map_err(text)
        };
        let (reduce, excite) = (linear(at.reduce.conv)?, linear(at.excite.conv)?);
        let image = &self.values[self.region.steps[at.pool].inputs[0].as_str()].shape;
        let [_, h, w, _] = shape::map(image)?;
        Squeeze::new(isa, h * w, reduce, excite).map_err(text)
    }
}
