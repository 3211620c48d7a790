//! Import, inspect, quantize and evaluate classifiers.
//!
//! Start with [`import`]: from trained weights to a model file. [`inspect`] says what is in one,
//! [`prune`], [`quantize`] and [`half`] make it smaller, [`evaluate`] measures what that cost.

pub mod arch;
pub mod atomic;
pub mod dataset;
pub mod evaluate;
pub mod fit;
mod golden;
mod gradient;
mod graph;
pub mod half;
pub mod import;
pub mod inspect;
mod moments;
mod parallel;
pub mod prune;
pub mod quantize;
mod random;
pub mod recipe;
mod timing;
mod watch;
pub mod weights;
