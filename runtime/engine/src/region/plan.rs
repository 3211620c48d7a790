//! A region made ready for one input shape: kernels built, values placed.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use kinglet_kernels::{
    Isa, add, conv, depthwise, expand_depthwise, linear, lookup, mul, pool, quantize,
};

use super::arena::{self, Life};
use super::build::{self, Built, Context};
use super::codes::Codes;
use super::fuse::{self, Triple};
use super::shape::{self, Shape};
use super::step::{Region, Step};

/// Where a value lives while the region runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Codes in the arena.
    Arena(Range<usize>),
    /// A tensor given from outside, by position.
    Input(usize),
    /// An f32 tensor given to the outside, by position.
    Output(usize),
}

/// The kernel of a step, for one image.
pub(super) enum Kernel {
    Quantize(quantize::Quantize),
    Dequantize(quantize::Dequantize),
    Conv(conv::Conv),
    Depthwise(depthwise::Depthwise),
    ExpandDepthwise(expand_depthwise::ExpandDepthwise),
    Linear(linear::Linear),
    Add(add::Add),
    Mul(mul::Mul),
    MulChannels(mul::Mul),
    Pool(pool::GlobalAveragePool),
    Lookup(lookup::Lookup),
}

/// A step made ready.
pub(super) struct PlannedStep {
    pub kernel: Kernel,
    pub inputs: Vec<Place>,
    pub output: Place,
    /// Elements of one image, for each input and for the output.
    pub input_lens: Vec<usize>,
    pub output_len: usize,
    pub about: StepInfo,
}

/// What the report says of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepInfo {
    /// Name of the model's node.
    pub name: String,
    /// Operation.
    pub operation: &'static str,
    /// Kernel that runs it.
    pub kernel: &'static str,
    /// Shape of the result, NHWC.
    pub shape: Shape,
    /// Multiply-accumulates of the whole batch.
    pub macs: u64,
    /// Bytes of weights in the model's own type.
    pub parameters: u64,
}

/// An output of the region.
pub(super) enum Export {
    /// f32, of this shape (NCHW where it has four axes).
    F32(Shape),
    /// Codes copied from the arena, of this shape (NHWC where it has four axes).
    Codes(Shape, Range<usize>),
}

/// A region made ready for one input shape.
pub(crate) struct Plan {
    pub(super) steps: Vec<PlannedStep>,
    pub(super) batch: usize,
    pub(super) arena_bytes: usize,
    pub(super) exports: Vec<Export>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan of {} steps, arena {} bytes", self.steps.len(), self.arena_bytes)
    }
}

/// Shapes of all values of a region, by name, as codes (NHWC); inputs that are f32 come as NCHW.
pub(super) fn shapes<'a>(
    region: &'a Region,
    inputs: &[Shape],
) -> Result<HashMap<&'a str, Shape>, String> {
    let mut known: HashMap<&str, Shape> = HashMap::new();
    for (name, shape) in region.inputs.iter().zip(inputs) {
        let f32_input = is_f32_input(region, name);
        known.insert(name, if f32_input { shape::to_nhwc(shape) } else { shape.clone() });
    }
    for step in &region.steps {
        let given: Option<Vec<&[usize]>> =
            step.inputs.iter().map(|i| known.get(i.as_str()).map(Vec::as_slice)).collect();
        let given = given.ok_or_else(|| format!("step '{}' reads an unknown value", step.name))?;
        let found = shape::output_shape(step, &given)
            .map_err(|why| format!("step '{}' ({}): {why}", step.name, step.kind.operation()))?;
        shape::volume(&found)?;
        known.insert(&step.output, found);
    }
    Ok(known)
}

/// Whether a region's input is f32: it is read by a quantizing step.
pub(super) fn is_f32_input(region: &Region, name: &str) -> bool {
    region.steps.iter().any(|s| {
        matches!(s.kind, super::step::StepKind::Quantize(_)) && s.inputs.iter().any(|i| i == name)
    })
}

impl Plan {
    /// Builds the kernels of a region for inputs of these shapes. `codes` are the weights' of its
    /// steps in their order; each is freed as soon as its kernel is ready.
    pub(super) fn new(
        region: &Region,
        mut codes: Vec<Codes>,
        inputs: &[Shape],
        isa: Isa,
        threads: usize,
    ) -> Result<Self, String> {
        let shapes = shapes(region, inputs)?;
        let batch = inputs.first().and_then(|s| s.first()).copied().unwrap_or(1).max(1);
        if shapes.values().any(|s| s.first() != Some(&batch)) {
            return Err("values of different batch sizes in one region".into());
        }
        codes.resize_with(region.steps.len(), Codes::default);
        let mut context =
            Context { isa, threads, ranges: build::ranges(region), blocked: HashSet::new() };
        let mut fused = fused(region, &mut codes, &shapes, &mut context)?;
        let absent: HashSet<usize> = fused.iter().map(|f| f.at.expand).collect();
        let places = places(region, &shapes, &fused);
        // The largest first: its weights lie in memory three times for a moment, and then the other
        // layers' are not yet packed.
        let mut order: Vec<usize> = (0..region.steps.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(codes[at].len()));
        let mut steps: Vec<Option<PlannedStep>> = Vec::new();
        steps.resize_with(order.len(), || None);
        for at in order {
            if absent.contains(&at) {
                continue;
            }
            let found = fused.iter().position(|f| f.at.depthwise == at);
            steps[at] = Some(match found.map(|i| fused.swap_remove(i)) {
                Some(f) => pair_planned(region, f, &shapes, &places.by_name, batch),
                None => {
                    let stored = std::mem::take(&mut codes[at]);
                    let codes = stored.widened();
                    drop(stored);
                    let step = &region.steps[at];
                    planned(step, &codes, &shapes, &places.by_name, batch, &context)?
                }
            });
        }
        let steps = steps.into_iter().flatten().collect();
        let exports = region
            .outputs
            .iter()
            .map(|name| {
                let shape = shapes[name.as_str()].clone();
                match &places.by_name[name.as_str()] {
                    Place::Arena(range) => Export::Codes(shape, range.clone()),
                    _ => Export::F32(shape::to_nchw(&shape)),
                }
            })
            .collect();
        Ok(Self { steps, batch, arena_bytes: places.bytes, exports })
    }

    /// What the report says, a step a line.
    pub(crate) fn about(&self) -> impl Iterator<Item = &StepInfo> {
        self.steps.iter().map(|s| &s.about)
    }

    /// Size of the buffer that all values of the region share, bytes.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }
}

/// Two steps that one kernel runs.
struct Fused {
    at: Triple,
    built: Built,
    /// Bytes of one image's result.
    output_len: usize,
}

/// Builds the kernels that run two steps each, and notes which values lie in blocks for it.
fn fused<'a>(
    region: &'a Region,
    codes: &mut [Codes],
    shapes: &HashMap<&str, Shape>,
    context: &mut Context<'a>,
) -> Result<Vec<Fused>, String> {
    let mut fused = Vec::new();
    for at in fuse::triples(region) {
        let steps = [at.expand, at.depthwise].map(|i| &region.steps[i]);
        let widened = [at.expand, at.depthwise].map(|i| codes[i].widened());
        let inputs = steps.map(|step| &shapes[step.inputs[0].as_str()]);
        let built = build::pair(steps, [&widened[0], &widened[1]], inputs, context)
            .map_err(|why| format!("step '{}' and '{}': {why}", steps[0].name, steps[1].name))?;
        let Some(built) = built else { continue };
        let Kernel::ExpandDepthwise(kernel) = &built.kernel else { continue };
        let output_len = kernel.output_len();
        codes[at.expand] = Codes::default();
        codes[at.depthwise] = Codes::default();
        context.blocked.insert(&steps[1].output);
        fused.push(Fused { at, built, output_len });
    }
    Ok(fused)
}

/// The name without what comes before its last dot or slash.
fn last_part(name: &str) -> &str {
    name.rsplit(['.', '/']).next().unwrap_or(name)
}

fn pair_planned(
    region: &Region,
    fused: Fused,
    shapes: &HashMap<&str, Shape>,
    places: &HashMap<&str, Place>,
    batch: usize,
) -> PlannedStep {
    let [expand, depthwise] = [fused.at.expand, fused.at.depthwise].map(|i| &region.steps[i]);
    let input = expand.inputs[0].as_str();
    PlannedStep {
        inputs: vec![places[input].clone()],
        output: places[depthwise.output.as_str()].clone(),
        input_lens: vec![shapes[input].iter().skip(1).product()],
        output_len: fused.output_len,
        about: StepInfo {
            name: format!("{} + {}", expand.name, last_part(&depthwise.name)),
            operation: match expand.kind.operation() {
                "pointwise" => "pointwise + depthwise",
                _ => "conv + depthwise",
            },
            kernel: fused.built.name,
            shape: shapes[depthwise.output.as_str()].clone(),
            macs: fused.built.macs * batch as u64,
            parameters: fused.built.parameters,
        },
        kernel: fused.built.kernel,
    }
}

struct Places<'a> {
    by_name: HashMap<&'a str, Place>,
    bytes: usize,
}

fn places<'a>(region: &'a Region, shapes: &HashMap<&str, Shape>, fused: &[Fused]) -> Places<'a> {
    let mut by_name: HashMap<&str, Place> = HashMap::new();
    for (at, name) in region.inputs.iter().enumerate() {
        by_name.insert(name, Place::Input(at));
    }
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (at, step) in region.steps.iter().enumerate() {
        // What an expansion reads is read when the depthwise convolution runs.
        let fused = fused.iter().find(|f| f.at.expand == at);
        let at = fused.map_or(at, |f| f.at.depthwise);
        for input in &step.inputs {
            let last = last.entry(input).or_default();
            *last = at.max(*last);
        }
    }
    for name in &region.outputs {
        last.insert(name, region.steps.len());
    }
    let mut names = Vec::new();
    let mut lives = Vec::new();
    for (at, step) in region.steps.iter().enumerate() {
        let name = step.output.as_str();
        if fused.iter().any(|f| f.at.expand == at) {
            // Never a whole value.
            continue;
        }
        if shape::is_f32_output(step) {
            let position = region.outputs.iter().position(|o| o == name);
            by_name.insert(name, Place::Output(position.unwrap_or(usize::MAX)));
        } else {
            names.push(name);
            let one = fused.iter().find(|f| f.at.depthwise == at).map(|f| f.output_len);
            let batch = shapes[name].first().copied().unwrap_or(1);
            let bytes = one.map_or_else(|| shapes[name].iter().product(), |one| one * batch);
            lives.push(Life { bytes, first: at, last: last.get(name).copied().unwrap_or(at) });
        }
    }
    let (ranges, bytes) = arena::place(&lives);
    by_name.extend(names.into_iter().zip(ranges.into_iter().map(Place::Arena)));
    Places { by_name, bytes }
}

fn planned(
    step: &Step,
    codes: &[i16],
    shapes: &HashMap<&str, Shape>,
    places: &HashMap<&str, Place>,
    batch: usize,
    context: &Context<'_>,
) -> Result<PlannedStep, String> {
    let inputs: Vec<&Shape> = step.inputs.iter().map(|i| &shapes[i.as_str()]).collect();
    let shape = &shapes[step.output.as_str()];
    let built = build::kernel(step, codes, &inputs, context)
        .map_err(|why| format!("step '{}' ({}): {why}", step.name, step.kind.operation()))?;
    let one = |s: &Shape| s.iter().skip(1).product::<usize>();
    Ok(PlannedStep {
        inputs: step.inputs.iter().map(|i| places[i.as_str()].clone()).collect(),
        output: places[step.output.as_str()].clone(),
        input_lens: match &built.kernel {
            Kernel::Conv(k) => {
                let first = std::iter::once(k.input_len());
                first.chain(inputs.iter().skip(1).map(|s| one(s))).collect()
            }
            _ => inputs.iter().map(|s| one(s)).collect(),
        },
        output_len: one(shape),
        about: StepInfo {
            name: step.name.clone(),
            operation: step.kind.operation(),
            kernel: built.name,
            shape: shape.clone(),
            macs: built.macs * batch as u64,
            parameters: built.parameters,
        },
        kernel: built.kernel,
    })
}
