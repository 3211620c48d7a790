//! Teachers train a smaller classifier.
//!
//! Start with [`Distillation`]: it lists the pictures, lets the teachers look at them once, trains
//! the student and gives a model file. The training graph ([`student`]) is burn's, with two
//! operators of our own ([`ops`]); everything random follows from one seed and the number of the
//! step, so that a training continued from a checkpoint ends in the same bytes.

pub mod batch;
pub mod config;
pub mod data;
mod distillation;
pub mod error;
pub mod export;
pub mod fake;
pub mod init;
pub mod layout;
pub mod lesson;
pub mod loss;
pub mod ops;
pub mod optimizer;
pub mod spec;
pub mod state;
pub mod student;
pub mod teacher;
pub mod train;
pub mod views;

pub use config::{Config, Recipe};
pub use data::Folders;
pub use distillation::{Distillation, Outcome, Watch};
pub use error::DistillError;
pub use spec::{Spec, SpecError};
pub use train::{Flow, Progress};
