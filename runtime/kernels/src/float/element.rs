//! The types of activations.

use half::f16;

/// The type of activations: `f32` or [`half::f16`].
pub trait Element:
    Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static + sealed::Sealed
{
    /// The name in kernels' names and reports: `f32` or `f16`.
    const NAME: &'static str;

    /// The nearest value of this type, ties to even; beyond its range infinity.
    fn from_f32(value: f32) -> Self;

    /// The same value as `f32`: exact.
    fn to_f32(self) -> f32;
}

pub(super) mod sealed {
    use crate::Isa;
    use crate::float::simd::{self, Dispatch};

    /// Keeps [`super::Element`] to the two types that kernels exist for.
    pub trait Sealed: Sized {
        /// The choice for the vectors that `isa` uses for this type.
        fn select<D: Dispatch<Self>>(isa: Isa, choice: D) -> D::Output
        where
            Self: super::Element;
    }

    impl Sealed for f32 {
        fn select<D: Dispatch<f32>>(isa: Isa, choice: D) -> D::Output {
            simd::select_f32(isa, choice)
        }
    }

    impl Sealed for half::f16 {
        fn select<D: Dispatch<half::f16>>(isa: Isa, choice: D) -> D::Output {
            simd::select_f16(isa, choice)
        }
    }
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    #[inline]
    fn from_f32(value: f32) -> f32 {
        value
    }

    #[inline]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for f16 {
    const NAME: &'static str = "f16";

    #[inline]
    fn from_f32(value: f32) -> f16 {
        f16::from_f32(value)
    }

    #[inline]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}
