//! int8 regions: parts of the graph that run in our own integer kernels, on NHWC codes, out of
//! one arena, as a single operator of the tract plan.
//!
//! `step` says what is computed, `shape` how large it is, `plan` builds the kernels and places
//! the values, `run` runs them, `op` is tract's view of it.

mod arena;
mod build;
mod codes;
mod fuse;
mod op;
mod plan;
mod run;
mod shape;
mod step;

pub(crate) use codes::{Codes, Stored};
pub(crate) use op::{PlannedRegion, RegionOp};
pub(crate) use plan::StepInfo;
pub(crate) use step::{
    ConvShape, Padding, Quantization, QuantizedOutput, Region, Step, StepKind, Weights,
};
