//! tract's view of a region: one operator.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use kinglet_kernels::{Isa, Workers};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::Expansion;

use super::fuse;
use super::plan::{self, Element, Export, Plan};
use super::run::RunState;
use super::shape;
use super::step::{Held, Payload, Region};
use crate::choices::Choices;
use crate::preprocess::InputTensor;

/// A region before its input shapes are known.
#[derive(Debug, Clone)]
pub(crate) struct RegionOp {
    /// The steps, their weights taken out.
    region: Arc<Region>,
    /// The weights of each step, until the kernels are built from them.
    payloads: Arc<Mutex<Vec<Payload>>>,
    isa: Isa,
    workers: Arc<Workers>,
    choices: Arc<Choices>,
}

impl RegionOp {
    /// A region that will run in kernels of this instruction set on these threads.
    pub(crate) fn new(
        mut region: Region,
        isa: Isa,
        workers: Arc<Workers>,
        choices: Arc<Choices>,
    ) -> Self {
        fuse::tables(&mut region);
        fuse::residuals(&mut region);
        let payloads = region.steps.iter_mut().map(|s| s.kind.take_payload()).collect();
        let (region, payloads) = (Arc::new(region), Arc::new(Mutex::new(payloads)));
        Self { region, payloads, isa, workers, choices }
    }

    fn input_type(&self, at: usize) -> DatumType {
        let held = plan::input_held(&self.region, &self.region.inputs[at]);
        datum_type(Element::of(held, &self.region))
    }

    fn output_type(&self, at: usize) -> DatumType {
        let name = &self.region.outputs[at];
        let step = self.region.steps.iter().find(|s| s.output == *name);
        let held = step.map_or(Held::Outside, |s| s.kind.writes());
        datum_type(Element::of(held, &self.region))
    }

    /// Shapes of the outputs as tract sees them.
    fn output_shapes(&self, inputs: &[Vec<usize>]) -> TractResult<Vec<Vec<usize>>> {
        let known = plan::values(&self.region, inputs).map_err(|e| format_err!("{e}"))?;
        let shape = |name: &String| {
            let value = &known[name.as_str()];
            let outside = value.held == Held::Outside;
            if outside { shape::to_nchw(&value.shape) } else { value.shape.clone() }
        };
        Ok(self.region.outputs.iter().map(shape).collect())
    }
}

fn datum_type(element: Element) -> DatumType {
    match element {
        Element::U8 => u8::datum_type(),
        Element::F16 => f16::datum_type(),
        Element::F32 => f32::datum_type(),
    }
}

/// The bytes of a tensor.
fn bytes(tensor: &Tensor) -> TractResult<&[u8]> {
    let view = tensor.try_as_plain_ram()?;
    let kind = tensor.datum_type();
    Ok(if kind == u8::datum_type() {
        view.as_slice::<u8>()?
    } else if kind == f16::datum_type() {
        bytemuck::cast_slice::<u16, u8>(view.as_slice::<f16>()?.reinterpret_cast())
    } else {
        bytemuck::cast_slice(view.as_slice::<f32>()?)
    })
}

/// A tensor of these bytes, which lie aligned in the arena.
fn tensor(shape: &[usize], element: Element, bytes: &[u8]) -> TractResult<TValue> {
    let tensor = match element {
        Element::U8 => Tensor::from_shape(shape, bytes),
        Element::F16 => {
            let halves: &[f16] = bytemuck::cast_slice::<u8, u16>(bytes).reinterpret_cast();
            Tensor::from_shape(shape, halves)
        }
        Element::F32 => Tensor::from_shape(shape, bytemuck::cast_slice::<u8, f32>(bytes)),
    };
    Ok(tensor?.into_tvalue())
}

impl Expansion for RegionOp {
    fn name(&self) -> StaticName {
        "KingletRegion".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.region.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.region.inputs.len())?;
        check_output_arity(outputs, self.region.outputs.len())?;
        for (at, input) in inputs.iter().enumerate() {
            s.equals(&input.datum_type, self.input_type(at))?;
        }
        for (at, output) in outputs.iter().enumerate() {
            s.equals(&output.datum_type, self.output_type(at))?;
        }
        s.given_all(inputs.iter().map(|i| &i.shape), move |s, shapes| {
            let shapes = shapes.iter().map(concrete).collect::<TractResult<Vec<_>>>()?;
            for (output, shape) in outputs.iter().zip(self.output_shapes(&shapes)?) {
                let shape: TVec<TDim> = shape.iter().map(|d| d.to_dim()).collect();
                s.equals(&output.shape, shape)?;
            }
            Ok(())
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let shapes = inputs
            .iter()
            .map(|i| concrete(&model.outlet_fact(*i)?.shape.to_tvec()))
            .collect::<TractResult<Vec<_>>>()?;
        let payloads = take(&mut *self.payloads.lock().unwrap_or_else(PoisonError::into_inner));
        let threads = self.workers.threads();
        let (plan, arena) =
            Plan::new(&self.region, payloads, &shapes, self.isa, threads, &self.choices)
                .map_err(|e| format_err!("{e}"))?;
        let planned = PlannedRegion {
            plan: Arc::new(plan),
            workers: self.workers.clone(),
            state: Arc::new(Mutex::new(RunState::new(arena))),
        };
        model.wire_node(prefix, planned, inputs)
    }
}

/// A shape without symbols.
fn concrete(shape: &TVec<TDim>) -> TractResult<Vec<usize>> {
    shape.iter().map(|d| Ok(d.to_usize()?)).collect()
}

/// A region ready to run.
#[derive(Debug, Clone)]
pub(crate) struct PlannedRegion {
    /// Kernels and places.
    pub plan: Arc<Plan>,
    workers: Arc<Workers>,
    /// Buffers, and the times of the last run.
    pub state: Arc<Mutex<RunState>>,
}

impl PlannedRegion {
    /// Whether the region gives one value and that in f32, so that [`Self::run_alone`] can run it.
    pub(crate) fn gives_one_f32(&self) -> bool {
        matches!(self.plan.exports[..], [Export::F32(_)])
    }

    /// Runs a region that is the whole graph: no tensors of tract, and once warm no allocation.
    ///
    /// # Panics
    /// For a region that [`Self::gives_one_f32`] denies, or an input of another length.
    pub(crate) fn run_alone(&self, input: &InputTensor, output: &mut Vec<f32>) {
        let [Export::F32(shape)] = &self.plan.exports[..] else { panic!("gives one f32 value") };
        output.resize(shape.iter().product(), 0.0);
        let given = match input {
            InputTensor::U8(codes) => codes.as_slice(),
            InputTensor::F32(real) => bytemuck::cast_slice(real),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.plan.run(&self.workers, &mut state, &[given], std::slice::from_mut(output));
    }
}

impl PlannedRegion {
    /// What the last fully connected layer read in the last run; whether that is at hand.
    pub(crate) fn features_into(&self, features: &mut Vec<f32>) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.plan.features_into(&state, features)
    }
}

impl std::fmt::Debug for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunState")
    }
}

impl PartialEq for PlannedRegion {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }
}

impl Eq for PlannedRegion {}

impl Op for PlannedRegion {
    fn name(&self) -> StaticName {
        "KingletRegion".into()
    }

    op_as_typed_op!();
}

impl EvalOp for PlannedRegion {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let given = inputs.iter().map(|t| bytes(t)).collect::<TractResult<Vec<_>>>()?;
        let mut outputs: Vec<Vec<f32>> = self
            .plan
            .exports
            .iter()
            .map(|e| match e {
                Export::F32(shape) => vec![0.0; shape.iter().product()],
                Export::Arena(..) => Vec::new(),
            })
            .collect();
        self.plan.run(&self.workers, &mut state, &given, &mut outputs);
        let exports = self.plan.exports.iter().zip(outputs);
        exports
            .map(|(export, floats)| match export {
                Export::F32(shape) => Ok(Tensor::from_shape(shape, &floats)?.into_tvalue()),
                Export::Arena(shape, element, range) => tensor(shape, *element, state.left(range)),
            })
            .collect()
    }
}

impl TypedOp for PlannedRegion {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self
            .plan
            .exports
            .iter()
            .map(|export| {
                let (shape, element) = export.form();
                datum_type(element).fact(shape)
            })
            .collect())
    }

    as_op!();
}
