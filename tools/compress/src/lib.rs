//! Import, inspect, quantize and evaluate classifiers.
//!
//! Start with [`import`]: from trained weights to a model file. [`inspect`] says what is in one,
//! [`quantize`] and [`half`] make it smaller, [`evaluate`] measures what that cost.

pub mod arch;
pub mod dataset;
pub mod evaluate;
mod golden;
mod graph;
pub mod half;
pub mod import;
pub mod inspect;
mod parallel;
pub mod quantize;
pub mod recipe;
pub mod weights;

pub use kinglet_engine::atomic;
