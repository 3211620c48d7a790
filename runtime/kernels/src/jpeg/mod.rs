//! What a JPEG decoder computes once the entropy coding is undone: the inverse cosine transform of
//! 8 by 8 blocks, and chroma at half its size brought to full size.
//!
//! The results are those of libjpeg's default (`islow`, "fancy" upsampling) bit for bit. Conversion
//! to RGB is [`crate::yuv`]'s. Source: Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT
//! algorithms with 11 multiplications" (1989), in the fixed point of libjpeg's jidctint.c.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
use crate::isa::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::isa::Neon;
use crate::{Isa, KernelError};

/// Dequantized coefficients, row by row.
pub type Block = [i16; 64];

/// How a row of samples becomes one of twice the length: sample `i` of `n`, with its neighbours
/// (themselves at the ends), gives `(3 s[i] + s[i - 1] + round[0]) >> shift` and
/// `(3 s[i] + s[i + 1] + round[1]) >> shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    round: [u16; 2],
    shift: u32,
}

impl Spread {
    /// For samples.
    pub const SAMPLES: Spread = Spread { round: [1, 2], shift: 2 };
    /// For sums of two rows, `3 near + far`.
    pub const SUMS: Spread = Spread { round: [8, 7], shift: 4 };
}

/// The steps on one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Jpeg {
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Jpeg {
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn new(isa: Isa) -> Result<Jpeg, KernelError> {
        isa.check()?;
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => Avx2::detect().map_or(Body::Scalar, Body::Avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => Neon::detect().map_or(Body::Scalar, Body::Neon),
            _ => Body::Scalar,
        };
        Ok(Jpeg { body })
    }

    /// The kernel's name, `jpeg_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "jpeg_u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "jpeg_u8_avx2_8",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "jpeg_u8_neon_8",
        }
    }

    /// The inverse transform of one block: eight rows of eight samples, one every `stride`.
    /// Arithmetic wraps (which coefficients of an 8-bit picture never make it do).
    ///
    /// # Panics
    /// If the rows overlap or `to` ends before the last.
    pub fn inverse(&self, block: &Block, to: &mut [u8], stride: usize) {
        let fits = stride >= 8 && to.len() >= 8 && (to.len() - 8) / stride >= 7;
        assert!(fits, "{} bytes, one row every {stride}", to.len());
        match self.body {
            Body::Scalar => scalar::inverse(block, to, stride),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::inverse(token, block, to, stride),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::inverse(token, block, to, stride),
        }
    }

    /// `3 near + far`, sample by sample.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn sums(&self, near: &[u8], far: &[u8], to: &mut [u16]) {
        assert_eq!([near.len(), far.len()], [to.len(); 2], "lengths");
        match self.body {
            Body::Scalar => scalar::sums(near, far, to),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::sums(token, near, far, to),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::sums(token, near, far, to),
        }
    }

    /// Spreads a row: `from` begins and ends with a neighbour that makes no samples itself.
    ///
    /// # Panics
    /// If `to` is not two samples for each of `from` but the first and last.
    pub fn spread(&self, how: Spread, from: &[u16], to: &mut [u8]) {
        assert_eq!(from.len().checked_sub(2).map(|n| n * 2), Some(to.len()), "lengths");
        match self.body {
            Body::Scalar => scalar::spread(how, from, to),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::spread(token, how, from, to),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) => neon::spread(token, how, from, to),
        }
    }
}
