//! Import, inspect, quantize and evaluate classifiers.
//!
//! Start with [`import`]: from trained weights to a model file. [`inspect`] says what is in one.

pub mod arch;
pub mod atomic;
pub mod import;
pub mod inspect;
pub mod recipe;
pub mod weights;
