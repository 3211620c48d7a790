//! The float steps of a region, as data.

use kinglet_kernels::float::Activation;

use super::shape::{self, Shape};
use super::step::{ConvShape, Held, Quantization};

/// Constant weights of a float convolution or fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FloatWeights {
    /// In the model's order: `[out][in/group][kh][kw]`, or `[out][in]`; empty while `pending`.
    pub values: Vec<f32>,
    /// One an output channel.
    pub bias: Vec<f32>,
    /// Set while the values are still in the graph.
    pub pending: Option<Pending>,
}

/// Weights that are still in the graph, so that a network's are not held twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    /// The initializer that holds them.
    pub initializer: String,
    /// One factor an output channel for each normalisation that follows, in its order.
    pub factors: Vec<Vec<f64>>,
}

impl FloatWeights {
    /// Multiplies the weights of each output channel, now or when they come.
    pub(crate) fn scale(&mut self, factors: Vec<f64>) {
        if let Some(pending) = &mut self.pending {
            pending.factors.push(factors);
            return;
        }
        let inner = self.values.len() / factors.len().max(1);
        for (filter, factor) in self.values.chunks_exact_mut(inner.max(1)).zip(factors) {
            filter.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        }
    }

    /// Gives pending weights their values.
    pub(crate) fn fill(&mut self, values: Vec<f32>) {
        self.values = values;
        let factors = self.pending.take().map_or_else(Vec::new, |p| p.factors);
        factors.into_iter().for_each(|f| self.scale(f));
    }
}

/// What a float step computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FloatKind {
    /// f32 NCHW to the region's floats.
    FromOutside,
    /// The region's floats to f32 NCHW.
    ToOutside,
    /// Codes to the region's floats.
    FromCodes(Quantization),
    /// The region's floats to codes.
    ToCodes(Quantization),
    /// Dense, pointwise or depthwise convolution.
    Conv {
        /// Geometry.
        shape: ConvShape,
        /// Weights and bias.
        weights: FloatWeights,
        /// Applied to the result.
        activation: Activation,
        /// The step's second input is added after the activation.
        residual: bool,
    },
    /// Fully connected layer on a value with two axes.
    Linear {
        /// Input features.
        in_features: usize,
        /// Weights and bias.
        weights: FloatWeights,
        /// Applied to the result.
        activation: Activation,
        /// The result is f32 and leaves the region.
        outside: bool,
    },
    /// Sum of two values of one shape.
    Add(Activation),
    /// Product of two values; the second may hold one pixel, which applies to all.
    Mul,
    /// Mean over all pixels.
    GlobalAveragePool {
        /// The result has two axes (batch, channels) instead of four.
        flat: bool,
    },
    /// A function of each element.
    Activate(Activation),
    /// One pixel with two axes (`flat`) or four.
    View {
        /// The result has two axes (batch, channels) instead of four.
        flat: bool,
    },
}

impl FloatWeights {
    /// Whether f16 can hold every number: none is beyond 65504.
    fn fits_f16(&self) -> bool {
        let largest = f32::from(half::f16::MAX);
        self.values.iter().chain(&self.bias).all(|v| v.abs() <= largest)
    }
}

impl FloatKind {
    /// The step's weights, if it has any.
    pub(crate) fn weights_mut(&mut self) -> Option<&mut FloatWeights> {
        match self {
            Self::Conv { weights, .. } | Self::Linear { weights, .. } => Some(weights),
            _ => None,
        }
    }

    /// Whether the step can run in f16.
    pub(crate) fn fits_f16(&self) -> bool {
        match self {
            Self::FromCodes(_) | Self::ToCodes(_) => false,
            Self::Conv { weights, .. } | Self::Linear { weights, .. } => weights.fits_f16(),
            _ => true,
        }
    }

    /// What the step reads.
    pub(super) fn reads(&self) -> Held {
        match self {
            Self::FromOutside => Held::Outside,
            Self::FromCodes(_) => Held::Codes,
            _ => Held::Float,
        }
    }

    /// What the step writes.
    pub(super) fn writes(&self) -> Held {
        match self {
            Self::ToOutside | Self::Linear { outside: true, .. } => Held::Outside,
            Self::ToCodes(_) => Held::Codes,
            _ => Held::Float,
        }
    }

    /// Name of the operation in reports.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::FromOutside => "to_nhwc",
            Self::ToOutside => "to_nchw",
            Self::FromCodes(_) => "dequantize",
            Self::ToCodes(_) => "quantize",
            Self::Conv { shape, .. } => shape.operation(),
            Self::Linear { .. } => "linear",
            Self::Add(_) => "add",
            Self::Mul => "mul",
            Self::GlobalAveragePool { .. } => "global_average_pool",
            Self::Activate(_) => "activation",
            Self::View { .. } => "reshape",
        }
    }

    /// The shape the step gives for inputs of these shapes (NHWC).
    pub(crate) fn output_shape(&self, inputs: &[&[usize]]) -> Result<Shape, String> {
        let first = *inputs.first().ok_or("a step without inputs")?;
        let second = || inputs.get(1).copied().ok_or("a step without its second input");
        Ok(match self {
            Self::FromOutside
            | Self::ToOutside
            | Self::FromCodes(_)
            | Self::ToCodes(_)
            | Self::Activate(_) => first.to_vec(),
            Self::Conv { shape, residual, .. } => {
                let [n, h, w, c] = shape::map(first)?;
                let geometry = shape::conv_geometry(shape, [h, w, c])?;
                let found = vec![n, geometry.out_h, geometry.out_w, geometry.out_c];
                if *residual && second()? != found {
                    return Err(format!("cannot add shapes {found:?} and {:?}", second()?));
                }
                found
            }
            Self::Linear { in_features, weights, .. } => match *first {
                [n, features] if features == *in_features => vec![n, weights.bias.len()],
                _ => return Err(format!("expected {in_features} features, got {first:?}")),
            },
            Self::Add(_) => {
                if second()? != first {
                    return Err(format!("cannot add shapes {first:?} and {:?}", second()?));
                }
                first.to_vec()
            }
            Self::Mul => shape::product(first, second()?)?,
            Self::GlobalAveragePool { flat } => {
                let [n, _, _, c] = shape::map(first)?;
                if *flat { vec![n, c] } else { vec![n, 1, 1, c] }
            }
            Self::View { flat } => match (first, flat) {
                (&[n, 1, 1, c], true) => vec![n, c],
                (&[n, c], false) => vec![n, 1, 1, c],
                _ => return Err(format!("a value of shape {first:?} is no single pixel")),
            },
        })
    }
}
