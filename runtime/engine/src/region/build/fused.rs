//! From a pattern of steps to the kernel that runs them all.

use std::collections::HashMap;

use half::f16;
use kinglet_kernels::conv::{Conv, ConvOptions, Form};
use kinglet_kernels::conv_pool::ConvPool;
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::expand_depthwise::{ExpandDepthwise, Part};
use kinglet_kernels::lookup::Lookup;
use kinglet_kernels::mbconv::{First, MbConv, Projection};
use kinglet_kernels::squeeze_excite::{ImageLayout, SqueezeExcite, SqueezeParts};
use kinglet_kernels::{Isa, KernelError};

use super::{Built, Context, ConvPart, conv_part, fused_float, layout, mul_params, pool_params};
use crate::region::pattern::{Pattern, Squeeze, Tabled};
use crate::region::plan::{Element, Kernel, Value};
use crate::region::step::{Payload, Region, StepKind};

/// What a pattern's steps are, and their weights.
struct Steps<'a> {
    region: &'a Region,
    values: &'a HashMap<&'a str, Value>,
    context: &'a Context<'a>,
    /// Of each step, widened; empty for those without weights.
    codes: HashMap<usize, Vec<i16>>,
    /// How convolutions are computed.
    form: Form,
}

/// Builds the kernel of a pattern; `None` where there is none, and then `payloads` are as they were.
pub(in crate::region) fn fused(
    pattern: &Pattern,
    region: &Region,
    payloads: &mut [Payload],
    values: &HashMap<&str, Value>,
    context: &Context<'_>,
) -> Result<Option<Built>, String> {
    let at = pattern.steps();
    if matches!(region.steps[at[0]].kind, StepKind::Float(_)) {
        return match context.element {
            Element::F16 => fused_float::fused::<f16>(pattern, region, payloads, values, context),
            _ => fused_float::fused::<f32>(pattern, region, payloads, values, context),
        };
    }
    let codes = |&at: &usize| Some((at, payloads[at].codes()?.widened()));
    let form = context.choices.form(&region.steps[at[0]].name);
    let codes = at.iter().filter_map(codes).collect();
    let steps = Steps { region, values, context, codes, form };
    let built = match *pattern {
        Pattern::Block { expand, first, squeeze, project } => {
            steps.block(expand, first, squeeze, project)?
        }
        Pattern::Head { conv, pool } => Some(steps.head(conv, pool)?),
        Pattern::Squeeze(squeeze) => Some(steps.squeeze_alone(squeeze)?),
    };
    if built.is_some() {
        at.iter().for_each(|&at| payloads[at] = Payload::None);
    }
    Ok(built)
}

fn text(error: KernelError) -> String {
    error.to_string()
}

/// A convolution as fused kernels take it.
fn as_part<'p>(part: &'p ConvPart<'_>, table: Option<&'p [u8; 256]>) -> Part<'p> {
    Part {
        geometry: part.geometry,
        weights: &part.codes,
        input: part.input,
        output: part.output.clone(),
        table,
    }
}

impl Steps<'_> {
    fn isa(&self) -> Isa {
        self.context.isa
    }

    fn part(&self, at: usize) -> Result<ConvPart<'_>, String> {
        let step = &self.region.steps[at];
        let input = &self.values[step.inputs[0].as_str()].shape;
        let codes = self.codes.get(&at).map_or(&[][..], Vec::as_slice);
        let part = conv_part(step, codes, input, self.context);
        part.map_err(|why| format!("step '{}': {why}", step.name))
    }

    fn table(&self, at: Option<usize>) -> Option<&[u8; 256]> {
        match &self.region.steps[at?].kind {
            StepKind::Lookup { table, .. } => Some(table),
            _ => None,
        }
    }

    fn lookup(&self, at: Option<usize>) -> Result<Option<Lookup>, String> {
        let table = self.table(at);
        table.map(|table| Lookup::new(self.isa(), *table)).transpose().map_err(text)
    }

    fn conv(&self, part: &ConvPart<'_>) -> Result<Conv, String> {
        let (codes, output) = (&part.codes, part.output.clone());
        let options =
            ConvOptions { residual: part.residual, form: self.form, ..Default::default() };
        let (isa, geometry) = (self.isa(), part.geometry);
        Conv::with_options(isa, geometry, codes, part.input, output, options).map_err(text)
    }

    fn block(
        &self,
        expand: Option<Tabled>,
        at: Tabled,
        squeeze: Option<Squeeze>,
        project: Option<usize>,
    ) -> Result<Option<Built>, String> {
        let (isa, threads) = (self.isa(), self.context.threads);
        let part = self.part(at.conv)?;
        let (mut macs, mut parameters) = (part.macs, part.parameters);
        let mut count = |other: &ConvPart<'_>| {
            macs += other.macs;
            parameters += other.parameters;
        };
        let first = if let Some(expand) = expand {
            let Some(offer) = self.context.choices.offer(&self.region.steps[expand.conv].name)
            else {
                return Ok(None);
            };
            let front = self.part(expand.conv)?;
            count(&front);
            let front = as_part(&front, self.table(expand.table));
            let back = as_part(&part, self.table(at.table));
            match ExpandDepthwise::new(isa, threads, offer, front, back).map_err(text)? {
                Some(pair) => First::Pair(pair),
                None => return Ok(None),
            }
        } else if part.depthwise {
            let output = part.output.clone();
            let kernel = Depthwise::new(isa, part.geometry, &part.codes, part.input, output);
            First::Depthwise(kernel.map_err(text)?, self.lookup(at.table)?)
        } else {
            First::Conv(self.conv(&part)?, self.lookup(at.table)?)
        };
        let squeeze = squeeze.map(|at| self.squeeze(at, &mut count)).transpose()?;
        let projection = project.map(|at| self.part(at)).transpose()?;
        let residual = projection.as_ref().and_then(|part| part.residual);
        projection.iter().for_each(&mut count);
        let projection = projection.as_ref();
        let form = self.form;
        let projection =
            projection.map(|part| Projection { part: as_part(part, None), residual, form });
        let block = MbConv::new(isa, threads, first, squeeze, projection).map_err(text)?;
        let (first, project) = block.kernels();
        let name = project.map_or(first.to_owned(), |project| format!("{first} + {project}"));
        Ok(Some(Built { kernel: Kernel::MbConv(block), name, macs, parameters }))
    }

    fn squeeze(
        &self,
        at: Squeeze,
        count: &mut impl FnMut(&ConvPart<'_>),
    ) -> Result<SqueezeParts, String> {
        let [reduce, excite] = [self.part(at.reduce.conv)?, self.part(at.excite.conv)?];
        count(&reduce);
        count(&excite);
        let StepKind::Mul { inputs, output } = &self.region.steps[at.product].kind else {
            return Err("a product that is none".into());
        };
        Ok(SqueezeParts {
            pool: self.pool(at.pool)?,
            reduce: self.conv(&reduce)?,
            activation: self.lookup(at.reduce.table)?,
            excite: self.conv(&excite)?,
            gate: self.lookup(at.excite.table)?,
            product: mul_params(inputs, output),
        })
    }

    fn pool(&self, at: usize) -> Result<kinglet_kernels::pool::PoolParams, String> {
        let step = &self.region.steps[at];
        let StepKind::GlobalAveragePool { input, output, .. } = &step.kind else {
            return Err("a pooling that is none".into());
        };
        let (_, pixels) = layout(&self.values[step.inputs[0].as_str()].shape);
        Ok(pool_params(*input, output, pixels))
    }

    fn squeeze_alone(&self, at: Squeeze) -> Result<Built, String> {
        let (mut macs, mut parameters) = (0, 0);
        let parts = self.squeeze(at, &mut |part: &ConvPart<'_>| {
            macs += part.macs;
            parameters += part.parameters;
        })?;
        let image = self.region.steps[at.pool].inputs[0].as_str();
        let (channels, pixels) = layout(&self.values[image].shape);
        let image = ImageLayout::nhwc(pixels, channels);
        let kernel = SqueezeExcite::new(self.isa(), image, parts).map_err(text)?;
        let name = kernel.kernel().into();
        Ok(Built { kernel: Kernel::SqueezeExcite(kernel), name, macs, parameters })
    }

    fn head(&self, at: Tabled, pool: usize) -> Result<Built, String> {
        let part = self.part(at.conv)?;
        let (isa, threads) = (self.isa(), self.context.threads);
        let both = as_part(&part, self.table(at.table));
        let kernel = ConvPool::new(isa, threads, both, self.pool(pool)?).map_err(text)?;
        let (conv, pool) = kernel.kernels();
        Ok(Built {
            name: format!("{conv} + {pool}"),
            kernel: Kernel::ConvPool(kernel),
            macs: part.macs,
            parameters: part.parameters,
        })
    }
}
