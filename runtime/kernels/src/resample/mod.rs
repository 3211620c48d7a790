//! The two passes of a separable resize of 8-bit samples, in the fixed point of Pillow.
//!
//! A sample after a pass is `clamp(floor((sum(weight * sample) + 2^21) / 2^22), 0, 255)`, with
//! sums that wrap in an `i32` (weights that sum to 2^22 and overshoot by less than half of it never
//! do). For what: the passes over slices; which weights to use is the caller's affair.
//!
//! The horizontal pass works on [`ROWS`] rows at a time that were turned on their side
//! ([`Resample::turn`]): byte `x` of all the rows lies in one `[u8; ROWS]`, so that one weight
//! multiplies a run of them, whatever the pixels' layout ([`Layout`]).

#[cfg(target_arch = "x86_64")]
mod avx2;
mod channels;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neondot;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod quads;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod vnni_channels;
#[cfg(target_arch = "x86_64")]
mod vnni_rows;

pub use channels::{Packing, ROW_STEP, Weights};

#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use crate::isa::{Neon, NeonDot};
use crate::{Isa, KernelError};

/// Rows in a turned block.
pub const ROWS: usize = 8;
/// Bits after the point of a weight.
pub const PRECISION_BITS: u32 = 22;
/// A half in the sums' fixed point.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Byte columns of [`ROWS`] rows.
pub type Turned = [u8; ROWS];

/// Where the samples of a pass lie among the byte columns of a turned block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Byte column of the first sample of pixel 0.
    pub first: usize,
    /// Byte columns from one pixel to the next, at least 1.
    pub step: usize,
    /// Samples of a pixel, in adjacent byte columns: 1 or 3.
    pub channels: usize,
}

/// The weights of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Taps<'a> {
    /// For each output, the first pixel that it reads.
    pub starts: &'a [u32],
    /// For each output, how many pixels it reads, at most `taps`.
    pub counts: &'a [u32],
    /// `taps` weights for each output.
    pub weights: &'a [i32],
    /// Room for weights of one output.
    pub taps: usize,
}

impl<'a> Taps<'a> {
    /// The first pixel of an output and its weights.
    fn of(&self, output: usize) -> (usize, &'a [i32]) {
        let weights = &self.weights[output * self.taps..][..self.counts[output] as usize];
        (self.starts[output] as usize, weights)
    }
}

/// The passes on one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Resample {
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// The vertical pass, and the horizontal one of channels; the others are AVX2's.
    #[cfg(target_arch = "x86_64")]
    Vnni(Avx512Vnni, Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// The passes of channels; the others are NEON's.
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot, Neon),
}

impl Resample {
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn new(isa: Isa) -> Result<Resample, KernelError> {
        isa.check()?;
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => match (Avx512Vnni::detect(), Avx2::detect()) {
                (Some(vnni), Some(avx2)) => Body::Vnni(vnni, avx2),
                _ => Body::Scalar,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map_or(Body::Scalar, Body::Avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::detect().map_or(Body::Scalar, Body::Neon),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => match (NeonDot::detect(), Neon::detect()) {
                (Some(dot), Some(neon)) => Body::NeonDot(dot, neon),
                (_, neon) => neon.map_or(Body::Scalar, Body::Neon),
            },
            _ => Body::Scalar,
        };
        Ok(Resample { body })
    }

    /// The kernel's name, `resample_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match self.body {
            Body::Scalar => "resample_u8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(_) => "resample_u8_avx2_8",
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(..) => "resample_u8_vnni_64",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(_) => "resample_u8_neon_8",
            #[cfg(target_arch = "aarch64")]
            Body::NeonDot(..) => "resample_u8_neondot_16",
        }
    }

    /// One row of the vertical pass: `to[x]` from `rows[x + stride * tap]`, a tap for each weight.
    ///
    /// # Panics
    /// If there is no weight, or `rows` ends before the last sample needed.
    pub fn vertical(&self, rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
        check_rows(rows, stride, weights.len(), to.len());
        match self.body {
            Body::Scalar => scalar::vertical(rows, stride, weights, to),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) => avx2::vertical(token, rows, stride, weights, to),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(token, avx2) => vnni::vertical(token, avx2, rows, stride, weights, to),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) | Body::NeonDot(_, token) => {
                neon::vertical(token, rows, stride, weights, to)
            }
        }
    }

    /// Turns up to [`ROWS`] rows, one every `stride` bytes, on their side; a block that is not
    /// full repeats its last row.
    ///
    /// # Panics
    /// If `rows` is not 1..=[`ROWS`], or `from` ends before the last sample needed.
    pub fn turn(&self, from: &[u8], stride: usize, rows: usize, to: &mut [Turned]) {
        assert!((1..=ROWS).contains(&rows), "{rows} rows");
        check_rows(from, stride, rows, to.len());
        let starts = std::array::from_fn(|row: usize| row.min(rows - 1) * stride);
        match self.body {
            Body::Scalar => scalar::turn(from, starts, 0, to),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) | Body::Vnni(_, token) => avx2::turn(token, from, starts, to),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) | Body::NeonDot(_, token) => neon::turn(token, from, starts, to),
        }
    }

    /// Turns a block back: `to` holds up to [`ROWS`] whole rows of the block's length, the rest of
    /// the block is dropped.
    ///
    /// # Panics
    /// If `to` is not 1..=[`ROWS`] rows.
    pub fn turn_back(&self, from: &[Turned], to: &mut [u8]) {
        let rows = to.len() / from.len().max(1);
        let whole = (1..=ROWS).contains(&rows) && rows * from.len() == to.len();
        assert!(whole, "{} bytes for rows of {}", to.len(), from.len());
        match self.body {
            Body::Scalar => scalar::turn_back(from, to, rows, 0),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) | Body::Vnni(_, token) => avx2::turn_back(token, from, to, rows),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) | Body::NeonDot(_, token) => neon::turn_back(token, from, to, rows),
        }
    }

    /// The horizontal pass of a turned block. `to` receives the `layout.channels` samples of each
    /// output pixel in adjacent byte columns.
    ///
    /// # Panics
    /// If the layout has another number of channels than 1 or 3, `to` is not as long as the outputs
    /// need, or an output reads beyond the block.
    pub fn horizontal(&self, from: &[Turned], layout: Layout, taps: &Taps, to: &mut [Turned]) {
        let Layout { first, step, channels } = layout;
        assert!(channels == 1 || channels == 3, "{channels} channels");
        assert_eq!(to.len(), taps.starts.len() * channels, "output length");
        for output in 0..taps.starts.len() {
            let (start, weights) = taps.of(output);
            let last = first + (start + weights.len()).saturating_sub(1) * step + channels;
            assert!(last <= from.len(), "output {output} reads beyond the block");
        }
        match self.body {
            Body::Scalar => scalar::horizontal(from, layout, taps, to),
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(token) | Body::Vnni(_, token) => {
                avx2::horizontal(token, from, layout, taps, to)
            }
            #[cfg(target_arch = "aarch64")]
            Body::Neon(token) | Body::NeonDot(_, token) => {
                neon::horizontal(token, from, layout, taps, to)
            }
        }
    }
}

/// Panics unless `rows` rows of `length` bytes, one every `stride`, lie within `from`.
fn check_rows(from: &[u8], stride: usize, rows: usize, length: usize) {
    let needed = rows.checked_sub(1).and_then(|r| r.checked_mul(stride)?.checked_add(length));
    assert!(needed.is_some_and(|n| n <= from.len()), "{rows} rows of {length} every {stride}");
}
