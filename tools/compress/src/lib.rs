//! Import, inspect, quantize and evaluate classifiers.
//!
//! Start with [`import`]: from trained weights to a model file. [`inspect`] says what is in one,
//! [`quantize`] and [`half`] make it smaller, [`evaluate`] measures what that cost.

pub mod arch;
pub mod atomic;
pub mod dataset;
pub mod evaluate;
mod golden;
mod graph;
pub mod half;
pub mod import;
pub mod inspect;
pub mod page;
mod parallel;
pub mod quantize;
pub mod recipe;
pub mod splitmix;
pub mod weights;
