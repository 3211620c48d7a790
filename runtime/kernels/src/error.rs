//! The one error type of this crate: everything a constructor can refuse.

use crate::Isa;

/// Why a kernel could not be built.
///
/// Running a kernel cannot fail: whatever could go wrong is checked when it is built, and slices
/// of the wrong length are a programming error (each `run` documents its panics).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The name of an instruction set is not one this crate knows.
    #[error(
        "unknown instruction set {name:?}; known names: scalar, avx2, avx512-vnni, neon32, neon, neon-dot, \
         neon-fp16; available on this CPU: {}",
        names(available)
    )]
    UnknownIsa {
        /// What was asked for.
        name: String,
        /// What this CPU can run, worst first.
        available: Vec<Isa>,
    },
    /// This CPU (or this build) cannot run the instruction set.
    #[error(
        "instruction set {} is not available on this CPU; available: {}", isa.name(),
        names(available)
    )]
    Unavailable {
        /// What was asked for.
        isa: Isa,
        /// What this CPU can run, worst first.
        available: Vec<Isa>,
    },
    /// A size is zero, too large, or sizes contradict each other.
    #[error("invalid geometry: {0}")]
    Geometry(String),
    /// A parameter slice has the wrong number of elements.
    #[error("{what}: expected {expected} elements, got {actual}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// How many elements the geometry asks for.
        expected: usize,
        /// How many elements were given.
        actual: usize,
    },
    /// A weight lies outside -255..=255.
    #[error("weight {index} is {value}, outside -255..=255")]
    Weight {
        /// Flat index in the slice given.
        index: usize,
        /// The weight.
        value: i16,
    },
    /// A multiplier or a scale is negative, infinite or not a number (or zero where not allowed).
    #[error("{what} {index} is {value}, not a finite positive number")]
    Multiplier {
        /// Which parameter.
        what: &'static str,
        /// Flat index (0 for a scalar parameter).
        index: usize,
        /// The value.
        value: f32,
    },
    /// The bounds of a float activation are not numbers, or the lower exceeds the upper.
    #[error("activation bounds: min {min}, max {max} must be numbers, min not above max")]
    ActivationRange {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// The output's lower bound exceeds its upper bound.
    #[error("output range is empty: min {min} > max {max}")]
    ClampRange {
        /// Lower bound.
        min: u8,
        /// Upper bound.
        max: u8,
    },
    /// The 32-bit accumulator of a channel could overflow for some input.
    #[error("channel {channel}: |accumulator| can reach {bound}, beyond 2147483647")]
    AccumulatorOverflow {
        /// Output channel.
        channel: usize,
        /// Largest absolute value that accumulator plus bias can take.
        bound: i64,
    },
}

fn names(available: &[Isa]) -> String {
    available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}
