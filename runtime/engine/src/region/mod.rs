//! Regions: parts of the graph that run in our own kernels, on NHWC codes or floats, out of one
//! arena, as a single operator of the tract plan.
//!
//! `step` says what is computed (`float` in float), `shape` how large it is, `build` makes the
//! kernels, `plan` places the values, `run` runs it all, `op` is tract's view of it.

mod arena;
mod build;
mod codes;
mod float;
mod fuse;
mod op;
mod pattern;
mod plan;
mod run;
pub(crate) mod shape;
mod step;

pub(crate) use codes::{Codes, Stored};
pub(crate) use float::{FloatKind, FloatWeights, Pending};
pub(crate) use op::{PlannedRegion, RegionOp};
pub(crate) use plan::StepInfo;
pub(crate) use step::{
    ConvShape, Padding, Quantization, QuantizedOutput, Region, Step, StepKind, Weights,
};
