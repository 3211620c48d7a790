//! A region made ready for one input shape: kernels built, values placed.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use half::f16;
use kinglet_kernels::{
    Isa, add, conv, depthwise, expand_depthwise, linear, lookup, mul, pool, quantize,
};

use super::arena::{self, Life};
use super::build::{self, Context, FloatKernel};
use super::pair::{self, Pair};
use super::shape::{self, Shape};
use super::step::{Held, Payload, Region, Step, StepKind};
use crate::choices::Choices;

/// Largest arena, bytes: 1 GiB.
const MAX_ARENA: usize = 1 << 30;

/// Element type of a value while the region runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    U8,
    F16,
    F32,
}

impl Element {
    /// Of what a region's steps read and write.
    pub(super) fn of(held: Held, region: &Region) -> Self {
        match held {
            Held::Codes => Self::U8,
            Held::Float if region.half => Self::F16,
            Held::Float | Held::Outside => Self::F32,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Where a value lives while the region runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes of the arena.
    Arena(Range<usize>),
    /// A tensor given from outside, by position.
    Input(usize),
    /// An f32 tensor given to the outside, by position.
    Output(usize),
}

/// The kernel of a step, for one image.
#[expect(clippy::large_enum_variant, reason = "some dozens, made once and never moved again")]
pub(super) enum Kernel {
    Quantize(quantize::Quantize),
    Dequantize(quantize::Dequantize),
    LinearF32(linear::Linear),
    Conv(conv::Conv),
    Depthwise(depthwise::Depthwise),
    ExpandDepthwise(expand_depthwise::ExpandDepthwise),
    Linear(linear::Linear),
    Add(add::Add),
    Mul(mul::Mul),
    MulChannels(mul::Mul),
    Pool(pool::GlobalAveragePool),
    Lookup(lookup::Lookup),
    F32(FloatKernel<f32>),
    F16(FloatKernel<f16>),
}

/// A step made ready.
pub(super) struct PlannedStep {
    pub kernel: Kernel,
    pub inputs: Vec<Place>,
    pub output: Place,
    /// Bytes of one image, for each input and for the output.
    pub input_bytes: Vec<usize>,
    pub output_bytes: usize,
    pub about: StepInfo,
}

/// What the report says of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepInfo {
    /// Name of the model's node.
    pub name: String,
    /// Names of the model's nodes, where it runs several.
    pub fused: Vec<String>,
    /// Operation.
    pub operation: &'static str,
    /// Type it computes in.
    pub data_type: &'static str,
    /// Kernel that runs it.
    pub kernel: &'static str,
    /// Shape of the result, NHWC.
    pub shape: Shape,
    /// Smallest and largest code of the result, if it has codes.
    pub codes: Option<(u8, u8)>,
    /// Multiply-accumulates of the whole batch.
    pub macs: u64,
    /// Bytes of weights in the model's own type.
    pub parameters: u64,
}

/// An output of the region.
pub(super) enum Export {
    /// f32, of this shape (NCHW where it has four axes).
    F32(Shape),
    /// Copied from the arena, of this shape (NHWC where it has four axes).
    Arena(Shape, Element, Range<usize>),
}

impl Export {
    /// Shape and element type, as tract sees them.
    pub(super) fn form(&self) -> (&Shape, Element) {
        match self {
            Self::F32(shape) => (shape, Element::F32),
            Self::Arena(shape, element, _) => (shape, *element),
        }
    }
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

/// A value of a region: what it is, and its shape (NHWC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub held: Held,
    pub shape: Shape,
}

/// All values of a region, by name. `inputs` are the shapes that tract gives.
pub(super) fn values<'a>(
    region: &'a Region,
    inputs: &[Shape],
) -> Result<HashMap<&'a str, Value>, String> {
    let mut known: HashMap<&str, Value> = HashMap::new();
    for (name, shape) in region.inputs.iter().zip(inputs) {
        let held = input_held(region, name);
        let outside = held == Held::Outside;
        let shape = if outside { shape::to_nhwc(shape) } else { shape.clone() };
        shape::volume(&shape)?;
        known.insert(name, Value { held, shape });
    }
    for step in &region.steps {
        let bad = |why| format!("step '{}' ({}): {why}", step.name, step.kind.operation());
        let held = step.kind.reads();
        let given: Option<Vec<&[usize]>> = step
            .inputs
            .iter()
            .map(|i| known.get(i.as_str()).filter(|v| v.held == held).map(|v| v.shape.as_slice()))
            .collect();
        let given = given.ok_or_else(|| bad("it reads an unknown value".into()))?;
        let shape = shape::output_shape(step, &given).map_err(bad)?;
        shape::volume(&shape)?;
        known.insert(&step.output, Value { held: step.kind.writes(), shape });
    }
    Ok(known)
}

/// What a region's input is: what the steps that read it take it for.
pub(super) fn input_held(region: &Region, name: &str) -> Held {
    let reader = region.steps.iter().find(|s| s.inputs.iter().any(|i| i == name));
    reader.map_or(Held::Outside, |s| s.kind.reads())
}

impl Plan {
    /// Builds the kernels of a region for inputs of these shapes. `payloads` are the weights of its
    /// steps in their order; each is freed as soon as its kernel is ready.
    pub(super) fn new(
        region: &Region,
        mut payloads: Vec<Payload>,
        inputs: &[Shape],
        isa: Isa,
        threads: usize,
        choices: &Choices,
    ) -> Result<Self, String> {
        let values = values(region, inputs)?;
        let batch = inputs.first().and_then(|s| s.first()).copied().unwrap_or(1).max(1);
        if values.values().any(|v| v.shape.first() != Some(&batch)) {
            return Err("values of different batch sizes in one region".into());
        }
        payloads.resize_with(region.steps.len(), Payload::default);
        let mut context = Context {
            isa,
            threads,
            element: Element::of(Held::Float, region),
            ranges: build::ranges(region),
            blocked: HashSet::new(),
            choices,
        };
        let mut pairs = pair::pairs(region, &mut payloads, &values, &mut context)?;
        let places = places(region, &values, &pairs)?;
        // The largest first: its weights lie in memory three times for a moment, and then the other
        // layers' are not yet packed.
        let mut order: Vec<usize> = (0..region.steps.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(payloads[at].bytes()));
        let mut steps: Vec<Option<PlannedStep>> = Vec::new();
        steps.resize_with(order.len(), || None);
        for at in order {
            if pairs.iter().any(|pair| pair.at.expand == at) {
                continue;
            }
            steps[at] = Some(match pairs.iter_mut().find(|pair| pair.at.depthwise == at) {
                Some(pair) => pair.planned(region, &values, &places.by_name)?,
                None => {
                    let payload = std::mem::take(&mut payloads[at]);
                    planned(&region.steps[at], payload, region, &values, &places.by_name, &context)?
                }
            });
        }
        let steps = steps.into_iter().flatten().collect();
        let exports = region
            .outputs
            .iter()
            .map(|name| {
                let value = &values[name.as_str()];
                match &places.by_name[name.as_str()] {
                    Place::Arena(range) => {
                        let element = Element::of(value.held, region);
                        Export::Arena(value.shape.clone(), element, range.clone())
                    }
                    _ => Export::F32(shape::to_nchw(&value.shape)),
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

struct Places<'a> {
    by_name: HashMap<&'a str, Place>,
    bytes: usize,
}

fn places<'a>(
    region: &'a Region,
    values: &HashMap<&str, Value>,
    pairs: &[Pair],
) -> Result<Places<'a>, String> {
    let mut by_name: HashMap<&str, Place> = HashMap::new();
    for (at, name) in region.inputs.iter().enumerate() {
        by_name.insert(name, Place::Input(at));
    }
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (at, step) in region.steps.iter().enumerate() {
        // What an expansion reads is read when the depthwise convolution runs.
        let pair = pairs.iter().find(|pair| pair.at.expand == at);
        let at = pair.map_or(at, |pair| pair.at.depthwise);
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
        if pairs.iter().any(|pair| pair.at.expand == at) {
            // Never a whole value.
            continue;
        }
        let value = &values[name];
        if value.held == Held::Outside {
            let position = region.outputs.iter().position(|o| o == name);
            by_name.insert(name, Place::Output(position.unwrap_or(usize::MAX)));
        } else {
            names.push(name);
            let blocks = pairs.iter().find(|pair| pair.at.depthwise == at).map(|p| p.output_bytes);
            let bytes = match blocks {
                Some(one) => one * value.shape.first().copied().unwrap_or(1),
                None => {
                    let elements: usize = value.shape.iter().product();
                    elements * Element::of(value.held, region).bytes()
                }
            };
            lives.push(Life { bytes, first: at, last: last.get(name).copied().unwrap_or(at) });
        }
    }
    let (ranges, bytes) = arena::place(&lives);
    if bytes > MAX_ARENA {
        return Err(format!("its values need {bytes} bytes at once, over {MAX_ARENA}"));
    }
    by_name.extend(names.into_iter().zip(ranges.into_iter().map(Place::Arena)));
    Ok(Places { by_name, bytes })
}

fn planned(
    step: &Step,
    payload: Payload,
    region: &Region,
    values: &HashMap<&str, Value>,
    places: &HashMap<&str, Place>,
    context: &Context<'_>,
) -> Result<PlannedStep, String> {
    let inputs: Vec<&Value> = step.inputs.iter().map(|i| &values[i.as_str()]).collect();
    let shapes: Vec<&Shape> = inputs.iter().map(|v| &v.shape).collect();
    let output = &values[step.output.as_str()];
    let built = build::kernel(step, payload, &shapes, context)
        .map_err(|why| format!("step '{}' ({}): {why}", step.name, step.kind.operation()))?;
    let bytes = |v: &Value| {
        let elements: usize = v.shape.iter().skip(1).product();
        elements * Element::of(v.held, region).bytes()
    };
    Ok(PlannedStep {
        inputs: step.inputs.iter().map(|i| places[i.as_str()].clone()).collect(),
        output: places[step.output.as_str()].clone(),
        input_bytes: match &built.kernel {
            // Blocks of channels take more than the value's shape says.
            Kernel::Conv(k) => {
                let first = std::iter::once(k.input_len());
                first.chain(inputs.iter().skip(1).map(|v| bytes(v))).collect()
            }
            _ => inputs.iter().map(|v| bytes(v)).collect(),
        },
        output_bytes: bytes(output),
        about: StepInfo {
            name: step.name.clone(),
            fused: Vec::new(),
            operation: step.kind.operation(),
            data_type: match (&step.kind, context.element) {
                (StepKind::Float(_), Element::F16) => "f16",
                (StepKind::Float(_), _) => "f32",
                _ => "int8",
            },
            kernel: built.name,
            shape: output.shape.clone(),
            codes: step.kind.codes(),
            macs: built.macs * output.shape[0] as u64,
            parameters: built.parameters,
        },
        kernel: built.kernel,
    })
}
