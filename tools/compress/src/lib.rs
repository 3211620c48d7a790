//! Import, inspect, quantize and evaluate classifiers.
//!
//! Start with [`import`]: from trained weights to a model file. [`inspect`] says what is in one,
//! [`retrain`] teaches it other classes, [`quantize`] and [`half`] make it smaller, [`evaluate`] measures
//! what that cost.

pub mod arch;
pub mod chart;
pub mod classifier;
pub mod dataset;
pub mod evaluate;
pub mod explain;
mod golden;
mod gradient;
mod graph;
pub mod half;
pub mod import;
pub mod inspect;
pub mod page;
mod parallel;
pub mod quantize;
pub mod recipe;
pub mod retrain;
pub mod robustness;
pub mod splitmix;
pub mod statistics;
#[allow(dead_code, clippy::type_complexity)]
mod watch;
pub mod weights;

pub use kinglet_engine::atomic;
