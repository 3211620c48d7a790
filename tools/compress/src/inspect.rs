//! What is in a model: layers, shapes, types, work and memory.

pub mod attributes;
pub mod shapes;
