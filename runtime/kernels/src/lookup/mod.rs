//! Any function of one activation, as a table of its 256 values (sigmoid, swish, a change of
//! scale).

mod scalar;

use crate::{Isa, KernelError};

/// A table of 256 activations.
pub struct Lookup {
    table: [u8; 256],
    body: Body,
}

enum Body {
    Scalar,
}

impl Lookup {
    /// Takes the table: the output for input `x` is `table[x]`.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn new(isa: Isa, table: [u8; 256]) -> Result<Lookup, KernelError> {
        isa.check()?;
        Ok(Lookup { table, body: Body::Scalar })
    }

    /// The kernel's name, `lookup_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "lookup_u8_scalar",
        }
    }

    /// Looks each element up.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn run(&self, input: &[u8], output: &mut [u8]) {
        assert_eq!(input.len(), output.len(), "input length");
        match self.body {
            Body::Scalar => scalar::run(&self.table, input, output),
        }
    }
}
