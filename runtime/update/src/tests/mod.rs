//! The state machine on a file system that fails as real ones do, and under attack.

mod attacks;
mod flips;
mod hostile_store;
mod power;
mod steps;
mod support;
