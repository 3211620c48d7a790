//! Any function of one activation, as a table of its 256 values (sigmoid, swish, a change of
//! scale).

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod vbmi;

#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512Vbmi};
use crate::{Isa, KernelError};

/// A table of 256 activations.
pub struct Lookup {
    table: [u8; 256],
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Vbmi(Avx512Vbmi),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Lookup {
    /// Takes the table: the output for input `x` is `table[x]`.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn new(isa: Isa, table: [u8; 256]) -> Result<Lookup, KernelError> {
        isa.check()?;
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni if Avx512Vbmi::detect().is_some() => {
                Avx512Vbmi::detect().map_or(Body::Scalar, Body::Vbmi)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => Avx2::detect().map_or(Body::Scalar, Body::Avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => Neon::detect().map_or(Body::Scalar, Body::Neon),
            _ => Body::Scalar,
        };
        Ok(Lookup { table, body })
    }

    /// For codes less `input`, giving results less `output`, both modulo 256.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    pub(crate) fn less(&self, input: u8, output: u8) -> Lookup {
        let at = |code: usize| self.table[usize::from((code as u8).wrapping_add(input))];
        Lookup { table: std::array::from_fn(|code| at(code).wrapping_sub(output)), body: self.body }
    }

    /// The result of each code.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) fn table(&self) -> &[u8; 256] {
        &self.table
    }

    /// The kernel's name, `lookup_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "lookup_u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "lookup_u8_avx2_32",
            #[cfg(target_arch = "x86_64")]
            Body::Vbmi(_) => "lookup_u8_vbmi_64",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "lookup_u8_neon_16",
        }
    }

    /// Looks each element up.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn run(&self, input: &[u8], output: &mut [u8]) {
        assert_eq!(input.len(), output.len(), "input length");
        // SAFETY: both slices are that long, and disjoint.
        unsafe { self.run_at(input.as_ptr(), output.as_mut_ptr(), output.len()) }
    }

    /// Replaces each element by what the table says.
    pub fn run_in_place(&self, codes: &mut [u8]) {
        let at = codes.as_mut_ptr();
        // SAFETY: the slice is that long; input and output are the same.
        unsafe { self.run_at(at, at, codes.len()) }
    }

    /// # Safety
    /// `len` bytes at `from` can be read and as many at `to` written; the two are the same or
    /// disjoint.
    unsafe fn run_at(&self, from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: passed on.
        unsafe {
            match self.body {
                Body::Scalar => scalar::run(&self.table, from, to, len),
                #[cfg(target_arch = "x86_64")]
                Body::Avx2(token) => avx2::run(token, &self.table, from, to, len),
                #[cfg(target_arch = "x86_64")]
                Body::Vbmi(token) => vbmi::run(token, &self.table, from, to, len),
                #[cfg(target_arch = "aarch64")]
                Body::Neon(token) => neon::run(token, &self.table, from, to, len),
            }
        }
    }
}
