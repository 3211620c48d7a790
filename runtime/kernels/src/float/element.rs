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
    use half::f16;

    use crate::Isa;
    use crate::float::simd::{select_f16, select_f32};
    use crate::float::{activate, add, conv, depthwise, layout, linear, mul, pool};

    /// One function for each operation, which builds its kernel for the vectors that `isa` uses for this type.
    ///
    /// Generic code is compiled, and optimised, with the crate that first says for which types: it must be this one,
    /// since others may be compiled for size. So none of these functions is generic.
    macro_rules! sealed {
        ($($operation:ident $(<$life:lifetime>)?),*) => {
            /// Keeps [`super::Element`] to the two types that kernels exist for, and builds these.
            pub trait Sealed: Sized + 'static {
                $(
                    /// The operation's kernel.
                    fn $operation(
                        isa: Isa,
                        build: $operation::Build $(<$life>)?,
                    ) -> Box<dyn $operation::Body<Self>>;
                )*
            }

            sealed!(@ f32, select_f32, $($operation $(<$life>)?),*);
            sealed!(@ f16, select_f16, $($operation $(<$life>)?),*);
        };
        (@ $element:ty, $select:ident, $($operation:ident $(<$life:lifetime>)?),*) => {
            impl Sealed for $element {
                $(
                    #[inline(never)]
                    fn $operation(
                        isa: Isa,
                        build: $operation::Build $(<$life>)?,
                    ) -> Box<dyn $operation::Body<$element>> {
                        $select(isa, build)
                    }
                )*
            }
        };
    }

    sealed!(activate, add, conv<'_>, depthwise<'_>, layout, linear<'_>, mul, pool);
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
