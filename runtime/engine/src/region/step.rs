//! The steps of a region, as data: what is computed, not yet how.
//!
//! Values inside a region are NHWC where they have four axes, and either codes (`u8` with one
//! scale and zero point each; int8 tensors of the model are shifted by 128 to get there, which
//! changes no result) or of the region's float type. Integer steps are here, float ones in
//! `float`.

use std::mem::take;

use super::codes::Codes;
use super::float::FloatKind;

/// How `u8` codes stand for real numbers: real = (code - zero_point) * scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantization {
    /// Size of one code; positive and finite.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: u8,
}

impl Quantization {
    /// The code of a real number: round half to even, clamped to 0..=255.
    pub(crate) fn quantize(&self, real: f32) -> u8 {
        let code = (real / self.scale).round_ties_even() + f32::from(self.zero_point);
        code.clamp(0.0, 255.0) as u8
    }

    /// The real number of a code.
    pub(crate) fn dequantize(&self, code: u8) -> f32 {
        (f32::from(code) - f32::from(self.zero_point)) * self.scale
    }
}

/// Quantized output of a step, with the activation's clamp folded into the codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct QuantizedOutput {
    /// Scale and zero point.
    pub quantization: Quantization,
    /// Smallest code.
    pub min: u8,
    /// Largest code.
    pub max: u8,
}

/// Constant weights of a convolution or a fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weights {
    /// `[out][in/group][kh][kw]`, or `[out][in]` or `[in][out]` as its shape says.
    pub codes: Codes,
    /// Scale of each output channel.
    pub scale: Vec<f32>,
    /// Bias of each output channel in units of input scale times weight scale.
    pub bias: Vec<i32>,
}

/// Rule for the border of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// Rows above, columns left, rows below, columns right.
    Explicit([usize; 4]),
    /// Output is ceil(input / stride); the odd row or column goes below and right.
    SameUpper,
    /// Output is ceil(input / stride); the odd row or column goes above and left.
    SameLower,
}

/// What makes a network large: a step's weights, which go when its kernel is ready.
#[derive(Debug, Default)]
pub(super) enum Payload {
    #[default]
    None,
    Codes(Codes),
    Floats(Vec<f32>),
}

impl Payload {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Codes(codes) => codes.len(),
            Self::Floats(values) => size_of_val(values.as_slice()),
        }
    }

    /// The codes, if it is codes.
    pub(super) fn codes(&self) -> Option<&Codes> {
        match self {
            Self::Codes(codes) => Some(codes),
            _ => None,
        }
    }

    /// Codes widened, and floats; one of the two is empty.
    pub(super) fn widened(self) -> (Vec<i16>, Vec<f32>) {
        match self {
            Self::None => Default::default(),
            Self::Codes(codes) => (codes.widened(), Vec::new()),
            Self::Floats(values) => (Vec::new(), values),
        }
    }
}

/// Geometry of a convolution, apart from the picture's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvShape {
    /// Output channels.
    pub out_c: usize,
    /// Input channels of one group.
    pub group_c: usize,
    /// Groups: 1, or the number of channels for a depthwise convolution.
    pub groups: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Distance of the taps down and right.
    pub dilation: [usize; 2],
    /// Rule for the border.
    pub padding: Padding,
}

impl ConvShape {
    /// One pixel in, one pixel out.
    pub(crate) fn is_pointwise(&self) -> bool {
        let padded = match self.padding {
            Padding::Explicit(pads) => pads != [0; 4],
            Padding::SameUpper | Padding::SameLower => false,
        };
        self.kernel == [1, 1] && self.stride == [1, 1] && !padded
    }

    /// Name of the operation in reports.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self { groups: 2.., .. } => "depthwise",
            Self { kernel: [1, 1], .. } => "pointwise",
            _ => "conv",
        }
    }
}

/// What a value of a region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// `u8` codes, NHWC.
    Codes,
    /// The region's float type, NHWC.
    Float,
    /// f32, NCHW: a value that tract reads or has written.
    Outside,
}

/// What a step computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepKind {
    /// f32 NCHW to codes.
    Quantize(Quantization),
    /// Codes to f32 NCHW.
    Dequantize(Quantization),
    /// Dense, pointwise or depthwise convolution.
    Conv {
        /// Geometry.
        shape: ConvShape,
        /// Weights and bias.
        weights: Weights,
        /// Of the input.
        input: Quantization,
        /// Of the output.
        output: QuantizedOutput,
        /// Of the second input, which is added before rounding, if there is one.
        residual: Option<Quantization>,
    },
    /// Fully connected layer on a pooled value. `output: None` gives f32.
    Linear {
        /// Input features.
        in_features: usize,
        /// Weights and bias.
        weights: Weights,
        /// Of the input.
        input: Quantization,
        /// Of the output, or f32.
        output: Option<QuantizedOutput>,
    },
    /// Sum of two values of one shape.
    Add {
        /// Of the inputs.
        inputs: [Quantization; 2],
        /// Of the output.
        output: QuantizedOutput,
    },
    /// Product of two values; the second may hold one pixel, which applies to all.
    Mul {
        /// Of the inputs.
        inputs: [Quantization; 2],
        /// Of the output.
        output: QuantizedOutput,
    },
    /// Mean over all pixels.
    GlobalAveragePool {
        /// Of the input.
        input: Quantization,
        /// Of the output.
        output: QuantizedOutput,
        /// The result has two axes (batch, channels) instead of four.
        flat: bool,
    },
    /// Any function of one code.
    Lookup {
        /// The result of each code.
        table: Box<[u8; 256]>,
        /// The result has two axes (batch, channels) instead of four.
        flat: bool,
    },
    /// Anything that computes in float.
    Float(FloatKind),
}

impl StepKind {
    /// What the step reads; all its inputs are of one kind.
    pub(crate) fn reads(&self) -> Held {
        match self {
            Self::Quantize(_) => Held::Outside,
            Self::Float(kind) => kind.reads(),
            _ => Held::Codes,
        }
    }

    /// What the step writes.
    pub(crate) fn writes(&self) -> Held {
        match self {
            Self::Dequantize(_) | Self::Linear { output: None, .. } => Held::Outside,
            Self::Float(kind) => kind.writes(),
            _ => Held::Codes,
        }
    }

    /// Smallest and largest code that the step can write, as far as the model says it.
    pub(crate) fn codes(&self) -> Option<(u8, u8)> {
        match self {
            Self::Conv { output, .. }
            | Self::Add { output, .. }
            | Self::Mul { output, .. }
            | Self::Linear { output: Some(output), .. }
            | Self::GlobalAveragePool { output, .. } => Some((output.min, output.max)),
            Self::Lookup { table, .. } => {
                table.iter().min().copied().zip(table.iter().max().copied())
            }
            Self::Quantize(_) => Some((0, 255)),
            Self::Linear { output: None, .. } | Self::Dequantize(_) | Self::Float(_) => None,
        }
    }

    /// The step's integer weights, if it has any.
    pub(crate) fn weights_mut(&mut self) -> Option<&mut Weights> {
        match self {
            Self::Conv { weights, .. } | Self::Linear { weights, .. } => Some(weights),
            _ => None,
        }
    }

    /// Takes the step's weights out of it.
    pub(super) fn take_payload(&mut self) -> Payload {
        match self {
            Self::Conv { weights, .. } | Self::Linear { weights, .. } => {
                Payload::Codes(take(&mut weights.codes))
            }
            Self::Float(FloatKind::Conv { weights, .. } | FloatKind::Linear { weights, .. }) => {
                Payload::Floats(take(&mut weights.values))
            }
            _ => Payload::None,
        }
    }

    /// Name of the operation in reports.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Quantize(_) => "quantize",
            Self::Dequantize(_) => "dequantize",
            Self::Conv { shape, residual, .. } => match (shape.operation(), residual) {
                ("pointwise", Some(_)) => "pointwise + add",
                (_, Some(_)) => "conv + add",
                (operation, None) => operation,
            },
            Self::Linear { .. } => "linear",
            Self::Add { .. } => "add",
            Self::Mul { .. } => "mul",
            Self::GlobalAveragePool { .. } => "global_average_pool",
            Self::Lookup { .. } => "lookup",
            Self::Float(kind) => kind.operation(),
        }
    }
}

/// One step: named values in, one named value out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Name of the model's node, for reports.
    pub name: String,
    /// What is computed.
    pub kind: StepKind,
    /// Names of the values read.
    pub inputs: Vec<String>,
    /// Name of the value written.
    pub output: String,
}

/// A convex part of the graph that runs in our own kernels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Region {
    /// Floats are f16, not f32.
    pub half: bool,
    /// Steps in an order in which they can run.
    pub steps: Vec<Step>,
    /// Names of the values that come from outside.
    pub inputs: Vec<String>,
    /// Names of the values that are needed outside.
    pub outputs: Vec<String>,
}
