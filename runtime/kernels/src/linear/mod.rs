//! Fully connected layer on one feature vector.
//!
//! `acc[n] = sum over k of (x[k] - input.zero_point) * w[n, k]`, then [`LinearOutput`]. Start
//! with `scalar.rs`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod packed;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use crate::isa::{Avx2, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use crate::isa::{Neon, NeonDot};
use crate::requantize::{check_accumulators, check_len, check_multipliers, check_weights};
use crate::{InputCodes, Isa, KernelError, Requantize, Scratch};

/// Outputs that are computed together.
pub const GROUP: usize = 4;

/// What a fully connected layer ends with.
#[derive(Clone, PartialEq, Debug)]
pub enum LinearOutput {
    /// `u8` activations.
    Quantized(Requantize),
    /// Real numbers: `out[n] = (acc + bias[n]) as f32 * multiplier[n]`, one `f32` product.
    Float {
        /// `s_in * s_weight[n]`, finite, not negative; one per output.
        multiplier: Vec<f32>,
        /// Bias in units of `multiplier[n]`; one per output.
        bias: Vec<i32>,
    },
}

impl LinearOutput {
    fn multiplier(&self) -> &[f32] {
        match self {
            LinearOutput::Quantized(output) => &output.multiplier,
            LinearOutput::Float { multiplier, .. } => multiplier,
        }
    }

    fn bias(&self) -> &[i32] {
        match self {
            LinearOutput::Quantized(output) => &output.bias,
            LinearOutput::Float { bias, .. } => bias,
        }
    }

    fn check(&self, out_features: usize) -> Result<(), KernelError> {
        match self {
            LinearOutput::Quantized(output) => output.check(out_features),
            LinearOutput::Float { multiplier, bias } => {
                check_multipliers(multiplier, out_features)?;
                check_len("bias", out_features, bias.len())
            }
        }
    }

    /// Output `n` of a quantized layer, from its accumulator with the bias already added.
    fn quantized(&self, n: usize, sum: i32) -> u8 {
        match self {
            LinearOutput::Quantized(output) => crate::requantize::finish(
                sum as f32 * output.multiplier[n],
                output.zero_point,
                output.min,
                output.max,
            ),
            LinearOutput::Float { .. } => panic!("run_u8 on a layer with float output"),
        }
    }

    /// Output `n` of a float layer, from its accumulator with the bias already added.
    fn float(&self, n: usize, sum: i32) -> f32 {
        match self {
            LinearOutput::Float { multiplier, .. } => sum as f32 * multiplier[n],
            LinearOutput::Quantized(_) => panic!("run_f32 on a layer with quantized output"),
        }
    }
}

/// A fully connected layer with its weights packed for one instruction set.
pub struct Linear {
    in_features: usize,
    out_features: usize,
    output: LinearOutput,
    body: Body,
}

enum Body {
    Scalar(scalar::Kernel),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Kernel),
    #[cfg(target_arch = "x86_64")]
    Vnni(vnni::Kernel),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Kernel),
}

impl Linear {
    /// Packs a fully connected layer.
    ///
    /// `weights` are `[out_features][in_features]`, each in -255..=255 with the weights' zero
    /// point already subtracted.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if a size is zero
    /// or too large, a length or a value does not fit, or an accumulator could overflow.
    pub fn new(
        isa: Isa,
        in_features: usize,
        out_features: usize,
        weights: &[i16],
        input: InputCodes,
        output: LinearOutput,
    ) -> Result<Linear, KernelError> {
        isa.check()?;
        crate::ConvGeometry::pointwise(1, 1, in_features, out_features).check()?;
        check_weights(weights, in_features * out_features)?;
        output.check(out_features)?;
        let input_zero_point = input.zero_point;
        let channel = |n: usize| weights[n * in_features..(n + 1) * in_features].iter();
        let reach = check_accumulators(channel, input, output.multiplier(), output.bias())?;
        let scalar =
            || Body::Scalar(scalar::Kernel::new(in_features, weights, input_zero_point, &output));
        let wide = !reach.weights_fit_i8;
        let body = match isa.for_integers() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni if !wide && let Some(token) = Avx512Vnni::detect() => Body::Vnni(
                vnni::Kernel::new(token, in_features, weights, input_zero_point, &output),
            ),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => Avx2::detect().map_or_else(scalar, |token| {
                let (zero_point, output) = (input_zero_point, &output);
                Body::Avx2(avx2::Kernel::new(token, in_features, weights, zero_point, output, wide))
            }),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => Neon::detect().map_or_else(scalar, |token| {
                let dot = NeonDot::detect().filter(|_| isa.for_integers() == Isa::NeonDot);
                Body::Neon(neon::Kernel::new(
                    token,
                    dot,
                    in_features,
                    weights,
                    input_zero_point,
                    &output,
                    wide,
                ))
            }),
            _ => scalar(),
        };
        Ok(Linear { in_features, out_features, output, body })
    }

    /// The kernel's name, `linear_{types}_{isa}_{tile}`.
    pub fn kernel(&self) -> &'static str {
        match &self.body {
            Body::Scalar(_) => "linear_u8s8_scalar",
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.name(),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(_) => "linear_u8s8_vnni_4x16",
            #[cfg(target_arch = "aarch64")]
            Body::Neon(kernel) => kernel.name(),
        }
    }

    /// Length of the input.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Length of the output.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Bytes of weights that a run reads.
    pub fn weight_bytes(&self) -> usize {
        self.in_features * self.out_features
    }

    /// Runs outputs `range` of a layer with [`LinearOutput::Quantized`]: `input[in_features]` to
    /// `output[range.len()]`. The range begins at a multiple of [`GROUP`].
    ///
    /// # Panics
    /// If a slice has another length, there is no such range, it begins within a group, or the layer
    /// was built with [`LinearOutput::Float`].
    pub fn run_u8(
        &self,
        input: &[u8],
        range: Range<usize>,
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        assert_eq!(output.len(), range.len(), "output length");
        let sums = self.sums(input, range.clone(), scratch);
        for (n, (out, &sum)) in range.zip(output.iter_mut().zip(sums)) {
            *out = self.output.quantized(n, sum);
        }
    }

    /// [`Linear::run_u8`] of a layer with [`LinearOutput::Float`].
    ///
    /// # Panics
    /// As [`Linear::run_u8`], with the types the other way round.
    pub fn run_f32(
        &self,
        input: &[u8],
        range: Range<usize>,
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        assert_eq!(output.len(), range.len(), "output length");
        let sums = self.sums(input, range.clone(), scratch);
        for (n, (out, &sum)) in range.zip(output.iter_mut().zip(sums)) {
            *out = self.output.float(n, sum);
        }
    }

    /// Accumulators of outputs `range` with the bias added.
    fn sums<'s>(&self, input: &[u8], range: Range<usize>, scratch: &'s mut Scratch) -> &'s [i32] {
        assert_eq!(input.len(), self.in_features, "input length");
        assert!(range.start.is_multiple_of(GROUP), "outputs {range:?} begin within a group");
        assert!(range.start <= range.end && range.end <= self.out_features, "outputs {range:?}");
        match &self.body {
            Body::Scalar(kernel) => {
                let sums = scratch.i32s(range.len());
                kernel.run(input, range, sums);
                sums
            }
            #[cfg(target_arch = "x86_64")]
            Body::Avx2(kernel) => kernel.run(input, range, scratch),
            #[cfg(target_arch = "x86_64")]
            Body::Vnni(kernel) => kernel.run(input, range, scratch),
            #[cfg(target_arch = "aarch64")]
            Body::Neon(kernel) => kernel.run(input, range, scratch),
        }
    }
}
