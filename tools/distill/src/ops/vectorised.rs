//! Functions for the widest vectors that the processor has.

/// Defines a function without a result whose loops are compiled for several instruction sets; which
/// one runs is chosen when it is called. Slices have the lifetime `'a`.
macro_rules! vectorised {
    ($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        fn $name<'a>($($argument: $type),*) {
            struct Call<'a> {
                $($argument: $type),*
            }
            impl<'a> pulp::WithSimd for Call<'a> {
                type Output = ();

                // Inlined into a function of each instruction set.
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Self { $($argument),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Call { $($argument),* });
        }
    };
}

pub(super) use vectorised;
