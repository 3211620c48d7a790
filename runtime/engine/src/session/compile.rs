//! From a checked model to a tract plan, and running it. The only file that drives tract.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kinglet_kernels::{Isa, Workers};
use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::Cost;
use tract_onnx::tract_core::plan::eval;
use tract_onnx::tract_hir::internal::InferenceModel;
use tract_onnx::tract_hir::ops::expandable::expand;

use super::{Options, ShapedOutput, interface};
use crate::error::ModelError;
use crate::metadata::Metadata;
use crate::onnx::ModelProto;
use crate::preprocess::{InputKind, InputTensor};
use crate::region::{PlannedRegion, RegionOp};
use crate::report::{Layer, Report};
use crate::rewrite::{self, REGION_OP, Rewritten};

/// Most elements of any value of the plan: 2^26.
const MAX_ELEMENTS: usize = 1 << 26;

type State = TypedSimpleState;

/// A tract plan with our regions in it, and its interface.
pub(super) struct Compiled {
    state: State,
    /// The region, where it is the whole graph: it runs without tract then.
    alone: Option<PlannedRegion>,
    isa: Isa,
    workers: Arc<Workers>,
    float_convs: Vec<(String, String)>,
    tract_convs: Vec<(String, String)>,
    stored_f16: bool,
    pub input_kind: InputKind,
    pub input_size: [usize; 2],
    pub classes: usize,
    pub gives_probabilities: bool,
}

/// tract's error, with what was being done.
fn tract_error(doing: &str, error: TractError) -> ModelError {
    ModelError::Tract { doing: doing.to_owned(), source: error.into() }
}

/// Runs tract code. tract may panic on a model that it did not expect: that is an error here.
fn guarded<T>(doing: &str, work: impl FnOnce() -> TractResult<T>) -> Result<T, ModelError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| tract_error(doing, e)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(ModelError::Tract {
                doing: doing.to_owned(),
                source: format!("tract stopped: {text}").into(),
            })
        }
    }
}

/// Starts the threads that share a layer's work.
pub(super) fn workers(options: &Options) -> Result<Arc<Workers>, ModelError> {
    let start = if options.pin { Workers::pinned } else { Workers::new };
    let started = start(options.threads).map(Arc::new);
    started.map_err(|e| ModelError::Unsuitable { why: format!("cannot start threads: {e}") })
}

/// Compiles a checked model.
pub(super) fn compile(
    mut proto: ModelProto,
    metadata: &Metadata,
    options: &Options,
    workers: Arc<Workers>,
) -> Result<Compiled, ModelError> {
    let graph =
        proto.graph.as_mut().ok_or_else(|| ModelError::NotOnnx { why: "no graph".into() })?;
    let input_size = interface::fix_input(graph, metadata)?;
    let gives_probabilities = interface::ends_with_softmax(graph);
    let isa = match options.isa {
        Some(isa) => isa,
        None => Isa::select().map_err(|e| ModelError::Unsuitable { why: e.to_string() })?,
    };
    let rewritten = rewrite::rewrite(
        proto,
        rewrite::Choice {
            float: !options.tract_float,
            half: options.half.unwrap_or(isa == Isa::NeonFp16),
        },
    )?;
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    check_operators(&onnx, &rewritten)?;
    let Rewritten { mut model, regions, input_codes, float_convs, tract_convs, stored_f16 } =
        rewritten;
    // tract would keep a copy.
    model.metadata_props.clear();
    let choices = Arc::new(options.choices.clone());
    let (state, alone) = guarded("planning the model", || {
        let mut inference = onnx.parse(&model, None)?.model;
        drop(model);
        for (name, region) in regions {
            let op = RegionOp::new(region, isa, workers.clone(), choices.clone());
            let node = inference.nodes.iter_mut().find(|n| n.name == name);
            let node = node.ok_or_else(|| TractError::msg("a region was lost"))?;
            node.op = expand(op);
        }
        plan(inference)
    })?;
    let classes = output_classes(&state)?;
    Ok(Compiled {
        state,
        alone,
        isa,
        workers,
        float_convs,
        tract_convs,
        stored_f16,
        input_kind: match input_codes {
            Some(q) => InputKind::U8Nhwc { scale: q.scale, zero_point: q.zero_point },
            None => InputKind::F32Nchw,
        },
        input_size,
        classes,
        gives_probabilities,
    })
}

fn plan(mut inference: InferenceModel) -> TractResult<(State, Option<PlannedRegion>)> {
    inference.analyse(false)?;
    let mut model = inference.into_typed()?;
    check_sizes(&model)?;
    let alone = whole_graph(&model).cloned();
    // In a graph that is one region there is nothing for tract to optimise.
    if alone.is_none() {
        model = model.into_optimized()?;
        check_sizes(&model)?;
    }
    Ok((TypedSimplePlan::new(model)?.spawn()?, alone))
}

/// The region that takes the model's only input and gives its only output.
fn whole_graph(model: &TypedModel) -> Option<&PlannedRegion> {
    let &[output] = model.output_outlets().ok()? else { return None };
    let node = model.node(output.node);
    let region = node.op_as::<PlannedRegion>()?;
    let whole = model.input_outlets().ok()? == &node.inputs[..] && node.inputs.len() == 1;
    (whole && region.gives_one_f32()).then_some(region)
}

/// Refuses a plan in which a value would be larger than [`MAX_ELEMENTS`] or has no fixed shape.
fn check_sizes(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let shape = output.fact.shape.as_concrete();
            let volume = shape.and_then(|s| {
                s.iter().try_fold(1_usize, |n, &d| n.checked_mul(d).filter(|n| *n <= MAX_ELEMENTS))
            });
            if volume.is_none() {
                return Err(TractError::msg(format!(
                    "node '{}': its result {:?} is too large or has no fixed shape",
                    node.name, output.fact.shape
                )));
            }
        }
    }
    Ok(())
}

fn check_operators(onnx: &Onnx, rewritten: &Rewritten) -> Result<(), ModelError> {
    let graph = rewritten.model.graph.as_ref();
    let unknown = graph
        .into_iter()
        .flat_map(|g| &g.node)
        .find(|n| n.op_type != REGION_OP && !onnx.op_register.0.contains_key(&n.op_type));
    match unknown {
        None => Ok(()),
        Some(node) => Err(ModelError::UnsupportedOperator {
            op: if node.domain.is_empty() {
                node.op_type.clone()
            } else {
                format!("{}::{}", node.domain, node.op_type)
            },
            node: crate::model_file::check::node_name(node).to_owned(),
        }),
    }
}

fn output_classes(state: &State) -> Result<usize, ModelError> {
    let fact = guarded("reading the output's shape", || Ok(state.model().output_fact(0)?.clone()))?;
    let shape: Vec<usize> = fact.shape.as_concrete().map(<[usize]>::to_vec).unwrap_or_default();
    let class_axes = shape.iter().skip(1).filter(|&&d| d > 1).count();
    if fact.datum_type != f32::datum_type() || shape.first() != Some(&1) || class_axes > 1 {
        return Err(ModelError::Unsuitable {
            why: format!(
                "the output has type {:?} and shape {shape:?}; a classifier gives f32 (1, classes)",
                fact.datum_type
            ),
        });
    }
    Ok(shape.iter().product())
}

impl Compiled {
    /// The error of `require_int8`, if any convolution runs in float.
    pub(super) fn first_float_conv(&self) -> Option<ModelError> {
        let (node, why) = self.float_convs.first()?;
        let count = self.float_convs.len();
        Some(ModelError::NotInt8 { count, node: node.clone(), why: why.clone() })
    }

    fn check_input(&self, input: &InputTensor) -> Result<(), ModelError> {
        let [h, w] = self.input_size;
        let (codes, length) = match input {
            InputTensor::F32(v) => (false, v.len()),
            InputTensor::U8(v) => (true, v.len()),
        };
        if length != 3 * h * w || codes != matches!(self.input_kind, InputKind::U8Nhwc { .. }) {
            return Err(ModelError::Unsuitable {
                why: format!(
                    "an input tensor of {length} {} elements does not fit {:?} of {h}x{w}",
                    if codes { "u8" } else { "f32" },
                    self.input_kind
                ),
            });
        }
        Ok(())
    }

    fn input(&self, input: &InputTensor) -> Result<TVec<TValue>, ModelError> {
        self.check_input(input)?;
        let [h, w] = self.input_size;
        let tensor = match input {
            InputTensor::F32(v) => Tensor::from_shape(&[1, 3, h, w], v),
            InputTensor::U8(v) => Tensor::from_shape(&[1, h, w, 3], v),
        };
        Ok(tvec!(tensor.map_err(|e| tract_error("making the input", e))?.into_tvalue()))
    }

    /// Runs the model; `output` gets its first output.
    pub(super) fn run(
        &mut self,
        input: &InputTensor,
        output: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        if let Some(region) = &self.alone {
            self.check_input(input)?;
            return guarded("running the model", || {
                region.run_alone(input, output);
                Ok(())
            });
        }
        let input = self.input(input)?;
        let state = &mut self.state;
        *output = guarded("running the model", || to_f32(&state.run(input)?[0]))?;
        Ok(())
    }

    pub(super) fn run_all(&mut self, input: &InputTensor) -> Result<Vec<ShapedOutput>, ModelError> {
        let input = self.input(input)?;
        let state = &mut self.state;
        guarded("running the model", || {
            state.run(input)?.iter().map(|t| Ok((t.shape().to_vec(), to_f32(t)?))).collect()
        })
    }

    /// The features of the last run, if a region of ours has them.
    pub(super) fn features_into(&self, features: &mut Vec<f32>) -> bool {
        match &self.alone {
            Some(region) => region.features_into(features),
            None => self.regions().last().is_some_and(|region| region.features_into(features)),
        }
    }

    fn regions(&self) -> impl Iterator<Item = &PlannedRegion> {
        self.state.model().nodes().iter().filter_map(|n| n.op_as::<PlannedRegion>())
    }

    fn time_steps(&self, on: bool) {
        for region in self.regions() {
            let mut state = region.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.times = on.then(Vec::new);
        }
    }

    /// Runs once, timing every layer.
    pub(super) fn profile(&mut self, input: &InputTensor) -> Result<Report, ModelError> {
        let input = self.input(input)?;
        self.time_steps(true);
        let mut times = vec![None; self.state.model().nodes().len()];
        let state = &mut self.state;
        guarded("running the model", || {
            state.run_plan_with_eval(input, |context, op_state, node, inputs| {
                let start = Instant::now();
                let result = eval(context, op_state, node, inputs);
                times[node.id] = Some(start.elapsed());
                result
            })
        })?;
        let report = self.lines(&times);
        self.time_steps(false);
        Ok(report)
    }

    pub(super) fn report(&self) -> Report {
        self.lines(&vec![None; self.state.model().nodes().len()])
    }

    fn lines(&self, times: &[Option<Duration>]) -> Report {
        let model = self.state.model();
        let mut layers = Vec::new();
        for &id in self.state.plan().order_without_consts() {
            let node = model.node(id);
            match node.op_as::<PlannedRegion>() {
                Some(region) => layers.extend(region_layers(region)),
                None if node.inputs.is_empty() => {}
                None => layers.push(tract_layer(model, node, times[id])),
            }
        }
        Report {
            isa: self.isa.name(),
            threads: self.workers.threads(),
            stored: if self.stored_f16 { "f16" } else { "f32" },
            layers,
            float_convs: self.float_convs.clone(),
            tract_convs: self.tract_convs.clone(),
            arena_bytes: self.regions().map(|r| r.plan.arena_bytes()).sum(),
        }
    }
}

fn to_f32(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let tensor = tensor.cast_to::<f32>()?;
    Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

fn region_layers(region: &PlannedRegion) -> Vec<Layer> {
    let state = region.state.lock().unwrap_or_else(PoisonError::into_inner);
    let times = state.times.as_deref().unwrap_or_default();
    let layer = |(at, info): (usize, &crate::region::StepInfo)| Layer {
        name: info.name.clone(),
        fused: info.fused.clone(),
        operation: info.operation.clone(),
        data_type: info.data_type,
        kernel: info.kernel.clone(),
        shape: info.shape.clone(),
        codes: info.codes,
        macs: info.macs,
        time: times.get(at).copied(),
    };
    region.plan.about().enumerate().map(layer).collect()
}

fn tract_layer(model: &TypedModel, node: &TypedNode, time: Option<Duration>) -> Layer {
    let operation = node.op.name();
    let facts = model.node_input_facts(node.id).unwrap_or_default();
    let costs = catch_unwind(AssertUnwindSafe(|| node.op.cost(&facts).unwrap_or_default()))
        .unwrap_or_default();
    // tract counts scalings and sums as well; only products of weights count here.
    let products = ["Conv", "MatMul", "EinSum"].iter().any(|p| operation.contains(p));
    let macs = costs
        .iter()
        .filter(|(cost, _)| products && matches!(cost, Cost::FMA(_)))
        .filter_map(|(_, n)| n.to_i64().ok())
        .sum::<i64>();
    Layer {
        name: node.name.clone(),
        fused: Vec::new(),
        operation: operation.to_string(),
        data_type: "f32",
        kernel: "tract".to_owned(),
        shape: node.outputs[0].fact.shape.as_concrete().map(<[usize]>::to_vec).unwrap_or_default(),
        codes: None,
        macs: u64::try_from(macs).unwrap_or(0),
        time,
    }
}
