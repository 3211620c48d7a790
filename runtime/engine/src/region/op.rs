//! tract's view of a region: one operator.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use kinglet_kernels::{Isa, Workers};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::Expansion;

use super::codes::Codes;
use super::fuse;
use super::plan::{self, Export, Plan};
use super::run::{Given, RunState};
use super::shape;
use super::step::Region;
use crate::preprocess::InputTensor;

/// A region before its input shapes are known.
#[derive(Debug, Clone)]
pub(crate) struct RegionOp {
    /// The steps, their weights' codes taken out.
    region: Arc<Region>,
    /// The codes of each step, until the kernels are built from them.
    codes: Arc<Mutex<Vec<Codes>>>,
    isa: Isa,
    workers: Arc<Workers>,
}

impl RegionOp {
    /// A region that will run in kernels of this instruction set on these threads.
    pub(crate) fn new(mut region: Region, isa: Isa, workers: Arc<Workers>) -> Self {
        fuse::residuals(&mut region);
        let codes = region
            .steps
            .iter_mut()
            .map(|s| s.kind.weights_mut().map_or_else(Codes::default, |w| take(&mut w.codes)))
            .collect();
        Self { region: Arc::new(region), codes: Arc::new(Mutex::new(codes)), isa, workers }
    }

    fn input_type(&self, at: usize) -> DatumType {
        let f32_input = plan::is_f32_input(&self.region, &self.region.inputs[at]);
        if f32_input { f32::datum_type() } else { u8::datum_type() }
    }

    fn output_type(&self, at: usize) -> DatumType {
        let name = &self.region.outputs[at];
        let float = self.region.steps.iter().any(|s| s.output == *name && shape::is_f32_output(s));
        if float { f32::datum_type() } else { u8::datum_type() }
    }

    /// Shapes of the outputs as tract sees them.
    fn output_shapes(&self, inputs: &[Vec<usize>]) -> TractResult<Vec<Vec<usize>>> {
        let known = plan::shapes(&self.region, inputs).map_err(|e| format_err!("{e}"))?;
        Ok(self
            .region
            .outputs
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let shape = &known[name.as_str()];
                let float = self.output_type(at) == f32::datum_type();
                if float { shape::to_nchw(shape) } else { shape.clone() }
            })
            .collect())
    }
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
        let codes = take(&mut *self.codes.lock().unwrap_or_else(PoisonError::into_inner));
        let plan = Plan::new(&self.region, codes, &shapes, self.isa, self.workers.threads())
            .map_err(|e| format_err!("{e}"))?;
        let planned = PlannedRegion {
            plan: Arc::new(plan),
            workers: self.workers.clone(),
            state: Arc::default(),
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
            InputTensor::U8(codes) => Given::Codes(codes),
            InputTensor::F32(real) => Given::F32(real),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.plan.run(&self.workers, &mut state, &[given], std::slice::from_mut(output));
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
        let given = inputs
            .iter()
            .map(|t| {
                let view = t.try_as_plain_ram()?;
                Ok(if t.datum_type() == u8::datum_type() {
                    Given::Codes(view.as_slice::<u8>()?)
                } else {
                    Given::F32(view.as_slice::<f32>()?)
                })
            })
            .collect::<TractResult<Vec<_>>>()?;
        let mut floats: Vec<Vec<f32>> = self
            .plan
            .exports
            .iter()
            .map(|e| match e {
                Export::F32(shape) => vec![0.0; shape.iter().product()],
                Export::Codes(..) => Vec::new(),
            })
            .collect();
        self.plan.run(&self.workers, &mut state, &given, &mut floats);
        self.plan
            .exports
            .iter()
            .zip(floats)
            .map(|(export, floats)| {
                Ok(match export {
                    Export::F32(shape) => Tensor::from_shape(shape, &floats)?.into_tvalue(),
                    Export::Codes(shape, range) => {
                        Tensor::from_shape(shape, state.codes(range))?.into_tvalue()
                    }
                })
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
            .map(|export| match export {
                Export::F32(shape) => f32::fact(shape),
                Export::Codes(shape, _) => u8::fact(shape),
            })
            .collect())
    }

    as_op!();
}
