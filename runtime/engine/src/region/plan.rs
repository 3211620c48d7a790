//! A region made ready for one input shape: kernels built, values placed.

use std::collections::HashMap;
use std::mem::take;
use std::ops::Range;

use half::f16;
use kinglet_kernels::{
    Bytes, Isa, add, conv, conv_pool, depthwise, linear, lookup, mbconv, mul, pool, pooled,
    quantize, squeeze_excite, trim_heap,
};

use super::arena::{self, Life};
use super::build::{self, Built, Context, FloatKernel};
use super::float::FloatKind;
use super::pattern::{self, Pattern};
use super::shape::{self, Shape};
use super::step::{Held, Payload, Quantization, Region, StepKind};
use crate::choices::Choices;

/// After so many bytes of weights were packed, what they were packed from is given back.
const TRIM_BYTES: usize = 2 << 20;

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
    MbConv(mbconv::MbConv),
    SqueezeExcite(squeeze_excite::SqueezeExcite),
    ConvPool(conv_pool::ConvPool),
    Linear(linear::Linear),
    Add(add::Add),
    Mul(mul::Mul),
    MulChannels(mul::Mul),
    Pool(pool::GlobalAveragePool),
    Lookup(lookup::Lookup),
    F32(FloatKernel<f32>),
    F16(FloatKernel<f16>),
}

impl Kernel {
    /// Bytes that it needs between its parts, in the arena.
    fn between_len(&self) -> usize {
        match self {
            Self::MbConv(kernel) => kernel.between_len(),
            Self::SqueezeExcite(kernel) => kernel.gates_len(),
            Self::F32(kernel) => kernel.between_len(),
            Self::F16(kernel) => kernel.between_len(),
            _ => 0,
        }
    }
}

/// A step made ready, or several that run as one.
pub(super) struct PlannedStep {
    pub kernel: Kernel,
    pub inputs: Vec<Place>,
    pub output: Place,
    /// What lies between the parts of several steps, in the arena.
    pub between: Range<usize>,
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
    pub operation: String,
    /// Type it computes in.
    pub data_type: &'static str,
    /// Kernel that runs it.
    pub kernel: String,
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
    /// What the last fully connected layer reads, where it is still there after a run.
    pub(super) features: Option<Features>,
}

/// Where features lie in the arena, and what they are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Features {
    pub range: Range<usize>,
    pub element: Element,
    /// Of codes.
    pub quantization: Option<Quantization>,
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
    /// Builds the kernels of a region for inputs of these shapes, and its arena. `payloads` are the weights of its
    /// steps in their order; each is freed as soon as its kernel is ready.
    pub(super) fn new(
        region: &Region,
        payloads: Vec<Payload>,
        inputs: &[Shape],
        isa: Isa,
        threads: usize,
        choices: &Choices,
    ) -> Result<(Self, Bytes), String> {
        let values = values(region, inputs)?;
        // Weights may be widened; not all values are there at a time. What is not taken is not there either.
        let image =
            |v: &Value| v.shape.iter().product::<usize>() * Element::of(v.held, region).bytes();
        let weights = payloads.iter().map(|payload| 2 * payload.bytes());
        let capacity = values.values().map(image).chain(weights).fold(0, usize::saturating_add);
        pooled(capacity, || {
            let plan = Self::of_values(region, payloads, inputs, values, isa, threads, choices)?;
            let arena = Bytes::zeroed(plan.arena_bytes);
            Ok((plan, arena))
        })
    }

    fn of_values(
        region: &Region,
        mut payloads: Vec<Payload>,
        inputs: &[Shape],
        values: HashMap<&str, Value>,
        isa: Isa,
        threads: usize,
        choices: &Choices,
    ) -> Result<Self, String> {
        let batch = inputs.first().and_then(|s| s.first()).copied().unwrap_or(1).max(1);
        if values.values().any(|v| v.shape.first() != Some(&batch)) {
            return Err("values of different batch sizes in one region".into());
        }
        payloads.resize_with(region.steps.len(), Payload::default);
        let context = Context {
            isa,
            threads,
            element: Element::of(Held::Float, region),
            ranges: build::ranges(region),
            choices,
        };
        let mut ready = build_all(region, &mut payloads, &values, &context)?;
        ready.sort_by_key(Ready::at);
        let places = places(region, &values, &ready)?;
        let between = places.between.iter();
        let planned = ready.into_iter().zip(between);
        let steps: Vec<PlannedStep> = planned
            .map(|(ready, between)| ready.planned(region, &values, &places, between, &context))
            .collect();
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
        let features = features(region, &places, &steps);
        Ok(Self { steps, batch, arena_bytes: places.bytes, exports, features })
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

/// The input of the fully connected layer that makes the region's output, unless something is written
/// over it later.
fn features(region: &Region, places: &Places<'_>, steps: &[PlannedStep]) -> Option<Features> {
    let linear = |kind: &StepKind| match kind {
        StepKind::Linear { input, .. } => Some(Some(*input)),
        StepKind::Float(FloatKind::Linear { .. }) => Some(None),
        _ => None,
    };
    let last = region.steps.iter().rev().filter(|s| region.outputs.contains(&s.output));
    let (step, quantization) = last.map(|s| (s, linear(&s.kind))).next()?;
    let quantization = quantization?;
    let Place::Arena(range) = places.by_name.get(step.inputs.first()?.as_str())? else {
        return None;
    };
    let element = Element::of(step.kind.reads(), region);
    let overlaps = |other: &Range<usize>| other.start < range.end && range.start < other.end;
    let reads = |planned: &PlannedStep| planned.inputs.contains(&Place::Arena(range.clone()));
    // From the last kernel that reads it on.
    let reader = steps.iter().rposition(reads)?;
    let kept = steps[reader..].iter().all(|planned| {
        let written = match &planned.output {
            Place::Arena(output) => overlaps(output),
            _ => false,
        };
        !written && !overlaps(&planned.between)
    });
    kept.then(|| Features { range: range.clone(), element, quantization })
}

/// Steps that one kernel runs, and the kernel.
struct Ready {
    /// The greatest writes the result; the others' results are values of this kernel alone.
    steps: Vec<usize>,
    built: Built,
}

/// What is to be built: one kernel for several steps if there is one, or for one step.
enum Task {
    Fused(Pattern),
    One(usize),
}

impl Task {
    fn steps(&self) -> Vec<usize> {
        match self {
            Self::Fused(pattern) => pattern.steps(),
            Self::One(at) => vec![*at],
        }
    }
}

/// Builds all kernels. Those of the largest weights first: they lie in memory three times for a moment,
/// and then the other layers' are not yet packed.
fn build_all(
    region: &Region,
    payloads: &mut [Payload],
    values: &HashMap<&str, Value>,
    context: &Context<'_>,
) -> Result<Vec<Ready>, String> {
    let mut tasks: Vec<Task> = pattern::patterns(region).into_iter().map(Task::Fused).collect();
    let fused: Vec<usize> = tasks.iter().flat_map(Task::steps).collect();
    let alone = (0..region.steps.len()).filter(|at| !fused.contains(at));
    tasks.extend(alone.map(Task::One));
    let bytes = |task: &Task| task.steps().iter().map(|&at| payloads[at].bytes()).sum::<usize>();
    tasks.sort_by_key(|task| bytes(task));
    let mut ready = Vec::new();
    let mut freed = 0;
    while let Some(task) = tasks.pop() {
        let steps = task.steps();
        let before = steps.iter().map(|&at| payloads[at].bytes()).sum::<usize>();
        match task {
            Task::One(at) => {
                let step = &region.steps[at];
                let shapes: Vec<&Shape> =
                    step.inputs.iter().map(|input| &values[input.as_str()].shape).collect();
                let built = build::kernel(step, take(&mut payloads[at]), &shapes, context);
                let built = built.map_err(|why| {
                    format!("step '{}' ({}): {why}", step.name, step.kind.operation())
                })?;
                ready.push(Ready { steps, built });
            }
            Task::Fused(pattern) => {
                match build::fused(&pattern, region, payloads, values, context)? {
                    Some(built) => ready.push(Ready { steps, built }),
                    None => {
                        let parts = pattern.parts();
                        let rest = steps.into_iter();
                        let rest = rest.filter(|at| parts.iter().all(|p| !p.steps().contains(at)));
                        tasks.extend(rest.map(Task::One));
                        tasks.extend(parts.into_iter().map(Task::Fused));
                    }
                }
            }
        }
        freed += before;
        if freed >= TRIM_BYTES {
            trim_heap();
            freed = 0;
        }
    }
    Ok(ready)
}

struct Places<'a> {
    by_name: HashMap<&'a str, Place>,
    /// Of what lies between the parts of each kernel.
    between: Vec<Range<usize>>,
    bytes: usize,
}

/// Places all values that leave their kernel; `ready` are all kernels in the order in which they run.
fn places<'a>(
    region: &'a Region,
    values: &HashMap<&str, Value>,
    ready: &[Ready],
) -> Result<Places<'a>, String> {
    let mut by_name: HashMap<&str, Place> = HashMap::new();
    for (at, name) in region.inputs.iter().enumerate() {
        by_name.insert(name, Place::Input(at));
    }
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (at, ready) in ready.iter().enumerate() {
        for input in ready.steps.iter().flat_map(|&step| &region.steps[step].inputs) {
            last.insert(input, at);
        }
    }
    for name in &region.outputs {
        last.insert(name, ready.len());
    }
    let mut names = Vec::new();
    let mut lives = Vec::new();
    for (at, ready) in ready.iter().enumerate() {
        let name = region.steps[ready.at()].output.as_str();
        let value = &values[name];
        if value.held == Held::Outside {
            let position = region.outputs.iter().position(|o| o == name);
            by_name.insert(name, Place::Output(position.unwrap_or(usize::MAX)));
        } else {
            names.push(name);
            let elements: usize = value.shape.iter().product();
            let bytes = elements * Element::of(value.held, region).bytes();
            lives.push(Life { bytes, first: at, last: last.get(name).copied().unwrap_or(at) });
        }
    }
    let between = ready.iter().enumerate();
    lives.extend(between.map(|(at, ready)| Life {
        bytes: ready.built.kernel.between_len(),
        first: at,
        last: at,
    }));
    let (mut ranges, bytes) = arena::place(&lives);
    if bytes > MAX_ARENA {
        return Err(format!("its values need {bytes} bytes at once, over {MAX_ARENA}"));
    }
    let between = ranges.split_off(names.len());
    by_name.extend(names.into_iter().zip(ranges.into_iter().map(Place::Arena)));
    Ok(Places { by_name, between, bytes })
}

impl Ready {
    /// The step that writes the result.
    fn at(&self) -> usize {
        self.steps.iter().copied().max().unwrap_or_default()
    }

    fn planned(
        self,
        region: &Region,
        values: &HashMap<&str, Value>,
        places: &Places<'_>,
        between: &Range<usize>,
        context: &Context<'_>,
    ) -> PlannedStep {
        let at = self.at();
        let own = |name: &str| self.steps.iter().any(|&step| region.steps[step].output == name);
        let mut steps = self.steps.clone();
        steps.sort_unstable();
        // What the first step reads, and of several what the last one adds to that.
        let first = steps.first().map_or(&[][..], |&step| &region.steps[step].inputs);
        let added = region.steps[at].inputs.iter().skip(1).filter(|_| steps.len() > 1);
        let inputs: Vec<&str> =
            first.iter().chain(added).map(String::as_str).filter(|name| !own(name)).collect();
        let bytes = |name: &str| {
            let value = &values[name];
            let elements: usize = value.shape.iter().skip(1).product();
            elements * Element::of(value.held, region).bytes()
        };
        let (name, operation) = names_of(region, &steps);
        let last = &region.steps[at];
        let shape = values[last.output.as_str()].shape.clone();
        PlannedStep {
            inputs: inputs.iter().map(|&name| places.by_name[name].clone()).collect(),
            input_bytes: inputs.iter().map(|&name| bytes(name)).collect(),
            output: places.by_name[last.output.as_str()].clone(),
            output_bytes: bytes(&last.output),
            between: between.clone(),
            about: StepInfo {
                name,
                fused: match steps.len() {
                    1 => Vec::new(),
                    _ => steps.iter().map(|&step| region.steps[step].name.clone()).collect(),
                },
                operation,
                data_type: match (&last.kind, context.element) {
                    (StepKind::Float(_), Element::F16) => "f16",
                    (StepKind::Float(_), _) => "f32",
                    _ => "int8",
                },
                kernel: self.built.name,
                codes: last.kind.codes(),
                macs: self.built.macs * shape.first().map_or(1, |&batch| batch as u64),
                parameters: self.built.parameters,
                shape,
            },
            kernel: self.built.kernel,
        }
    }
}

/// Of several steps: the first's name and the last parts of the others' names; and their operations.
/// Tables belong to the layer before them, and what squeezes and excites is one.
fn names_of(region: &Region, steps: &[usize]) -> (String, String) {
    let squeezes = |at: usize| {
        let pools = region.steps[at].kind.operation() == "global_average_pool";
        let multiplies = |&at: &usize| region.steps[at].kind.operation() == "mul";
        steps.iter().copied().find(multiplies).filter(|_| pools && steps.len() > 1)
    };
    let last_part = |name: &str| name.rsplit(['.', '/']).next().unwrap_or(name).to_owned();
    let (mut names, mut operations, mut next) = (Vec::new(), Vec::new(), 0);
    for &at in steps {
        let step = &region.steps[at];
        let table = matches!(step.kind, StepKind::Lookup { .. }) && !names.is_empty();
        if at < next || table {
            continue;
        }
        let squeeze = squeezes(at);
        next = squeeze.map_or(0, |product| product + 1);
        operations.push(squeeze.map_or(step.kind.operation(), |_| "squeeze_excite"));
        names.push(match names.is_empty() {
            true => step.name.clone(),
            false => squeeze.map_or(last_part(&step.name), |_| "squeeze_excite".to_owned()),
        });
    }
    (names.join(" + "), operations.join(" + "))
}
