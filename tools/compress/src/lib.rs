//! Import, inspect, quantize and evaluate classifiers.
//!
//! Start with [`import`]: from trained weights to a model file. [`inspect`] says what is in one,
//! [`retrain`] teaches it other classes, [`prune`], [`quantize`] and [`half`] make it smaller,
//! [`evaluate`] measures what that cost, [`fit`] chooses a network for a board.

pub mod arch;
pub mod chart;
pub mod classifier;
pub mod dataset;
pub mod drift;
pub mod evaluate;
pub mod explain;
pub mod fit;
mod golden;
mod gradient;
mod graph;
pub mod half;
pub mod import;
pub mod inspect;
pub mod journal;
mod moments;
pub mod page;
pub mod parallel;
pub mod prune;
pub mod quantize;
pub mod recipe;
pub mod retrain;
pub mod robustness;
pub mod splitmix;
pub mod statistics;
mod timing;
mod watch;
pub mod weights;

pub use kinglet_engine::atomic;
