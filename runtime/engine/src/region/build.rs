//! From a step and its shapes to a kernel.

use std::borrow::Cow;
use std::collections::HashMap;

use kinglet_kernels::{
    ConvGeometry, InputCodes, Isa, Requantize, Residual, add, conv, depthwise, linear, lookup, mul,
    pool, quantize,
};

mod float;
mod fused;
mod fused_float;

pub(super) use float::FloatKernel;
pub(super) use fused::fused;

use super::plan::{Element, Kernel};
use super::shape::{self, Shape};
use super::step::{Payload, Quantization, QuantizedOutput, Region, Step, StepKind, Weights};
use crate::choices::Choices;

/// A kernel and what the report says of it.
pub(super) struct Built {
    pub kernel: Kernel,
    pub name: String,
    pub macs: u64,
    pub parameters: u64,
}

/// What the kernels of a region depend on besides their own step.
pub(super) struct Context<'a> {
    pub isa: Isa,
    pub threads: usize,
    /// The region's float type.
    pub element: Element,
    /// Smallest and largest code of each value that a step writes.
    pub ranges: HashMap<&'a str, (u8, u8)>,
    /// What was chosen for steps, by name.
    pub choices: &'a Choices,
}

impl Context<'_> {
    /// The codes that a value may hold.
    fn codes_of(&self, name: &str, quantization: Quantization) -> InputCodes {
        let (min, max) = self.ranges.get(name).copied().unwrap_or((0, 255));
        InputCodes { zero_point: quantization.zero_point, min, max }
    }
}

/// Smallest and largest code of each value that a region's steps write.
pub(super) fn ranges(region: &Region) -> HashMap<&str, (u8, u8)> {
    let known = region.steps.iter().filter_map(|s| Some((s.output.as_str(), s.kind.codes()?)));
    known.collect()
}

/// Builds the kernel of a step for inputs of these shapes (NHWC). `payload` is its weights, if it has
/// any.
pub(super) fn kernel(
    step: &Step,
    payload: Payload,
    inputs: &[&Shape],
    context: &Context<'_>,
) -> Result<Built, String> {
    let (isa, element) = (context.isa, context.element);
    let (codes, values) = payload.widened();
    let codes = codes.as_slice();
    let text = |e: kinglet_kernels::KernelError| e.to_string();
    let first = inputs[0];
    let plain =
        |kernel: Kernel, name: &str| Built { kernel, name: name.into(), macs: 0, parameters: 0 };
    Ok(match &step.kind {
        StepKind::Quantize(q) => {
            let (channels, pixels) = layout(first);
            let k = quantize::Quantize::new(isa, channels, pixels, q.scale, q.zero_point);
            let k = k.map_err(text)?;
            let name = k.kernel();
            plain(Kernel::Quantize(k), name)
        }
        StepKind::Dequantize(q) => {
            let (channels, pixels) = layout(first);
            let k = quantize::Dequantize::new(isa, channels, pixels, q.scale, q.zero_point);
            let k = k.map_err(text)?;
            let name = k.kernel();
            plain(Kernel::Dequantize(k), name)
        }
        StepKind::Lookup { table, .. } => {
            let k = lookup::Lookup::new(isa, **table).map_err(text)?;
            let name = k.kernel();
            plain(Kernel::Lookup(k), name)
        }
        StepKind::Add { inputs: [a, b], output } => {
            let params = add::AddParams {
                a_zero_point: a.zero_point,
                b_zero_point: b.zero_point,
                a_multiplier: a.scale / output.quantization.scale,
                b_multiplier: b.scale / output.quantization.scale,
                zero_point: output.quantization.zero_point,
                min: output.min,
                max: output.max,
            };
            let k = add::Add::new(isa, params).map_err(text)?;
            let name = k.kernel();
            plain(Kernel::Add(k), name)
        }
        StepKind::Mul { inputs: factors, output } => {
            let k = mul::Mul::new(isa, mul_params(factors, output)).map_err(text)?;
            let name = k.kernel();
            let whole = inputs[0] == inputs[1];
            plain(if whole { Kernel::Mul(k) } else { Kernel::MulChannels(k) }, name)
        }
        StepKind::GlobalAveragePool { input, output, .. } => {
            let (channels, pixels) = layout(first);
            let params = pool_params(*input, output, pixels);
            let k = pool::GlobalAveragePool::new(isa, pixels, channels, params).map_err(text)?;
            let name = k.kernel();
            plain(Kernel::Pool(k), name)
        }
        StepKind::Linear { in_features, weights, input, output } => {
            let read = context.codes_of(&step.inputs[0], *input);
            linear_kernel(*in_features, weights, codes, *input, read, output.as_ref(), isa)?
        }
        StepKind::Conv { .. } => conv_kernel(&conv_part(step, codes, first, context)?, context)?,
        StepKind::Float(kind) if element == Element::F16 => {
            float::kernel::<half::f16>(kind, &values, inputs, isa)?
        }
        StepKind::Float(kind) => float::kernel::<f32>(kind, &values, inputs, isa)?,
    })
}

/// Channels and pixels of one image; without pixels, everything counts as channels.
fn layout(shape: &Shape) -> (usize, usize) {
    match *shape.as_slice() {
        [_, h, w, c] => (c, h * w),
        _ => (shape.iter().skip(1).product(), 1),
    }
}

fn multiplier(input: Quantization, weight_scale: f32, output: &QuantizedOutput) -> f32 {
    let unit = f64::from(input.scale) * f64::from(weight_scale);
    (unit / f64::from(output.quantization.scale)) as f32
}

/// The parameters of a product.
pub(super) fn mul_params([a, b]: &[Quantization; 2], output: &QuantizedOutput) -> mul::MulParams {
    mul::MulParams {
        a_zero_point: a.zero_point,
        b_zero_point: b.zero_point,
        multiplier: multiplier(*a, b.scale, output),
        zero_point: output.quantization.zero_point,
        min: output.min,
        max: output.max,
    }
}

fn pool_params(input: Quantization, output: &QuantizedOutput, pixels: usize) -> pool::PoolParams {
    let whole = f64::from(output.quantization.scale) * pixels as f64;
    pool::PoolParams {
        input_zero_point: input.zero_point,
        multiplier: (f64::from(input.scale) / whole) as f32,
        zero_point: output.quantization.zero_point,
        min: output.min,
        max: output.max,
    }
}

fn requantize(weights: &Weights, input: Quantization, output: &QuantizedOutput) -> Requantize {
    Requantize {
        multiplier: weights.scale.iter().map(|&s| multiplier(input, s, output)).collect(),
        bias: weights.bias.clone(),
        zero_point: output.quantization.zero_point,
        min: output.min,
        max: output.max,
    }
}

fn linear_kernel(
    in_features: usize,
    weights: &Weights,
    codes: &[i16],
    input: Quantization,
    read: InputCodes,
    output: Option<&QuantizedOutput>,
    isa: Isa,
) -> Result<Built, String> {
    let out_features = weights.scale.len();
    let result = match output {
        Some(output) => linear::LinearOutput::Quantized(requantize(weights, input, output)),
        None => linear::LinearOutput::Float {
            multiplier: weights.scale.iter().map(|s| s * input.scale).collect(),
            bias: weights.bias.clone(),
        },
    };
    let kernel = linear::Linear::new(isa, in_features, out_features, codes, read, result)
        .map_err(|e| e.to_string())?;
    Ok(Built {
        name: kernel.kernel().into(),
        macs: (in_features * out_features) as u64,
        parameters: (codes.len() + 4 * out_features) as u64,
        kernel: match output {
            Some(_) => Kernel::Linear(kernel),
            None => Kernel::LinearF32(kernel),
        },
    })
}

/// A convolution's parameters as kernels take them.
struct ConvPart<'a> {
    geometry: ConvGeometry,
    depthwise: bool,
    /// `[out][tap][in]`, or `[tap][channel]`.
    codes: Cow<'a, [i16]>,
    input: InputCodes,
    output: Requantize,
    residual: Option<Residual>,
    /// How it is computed where it runs alone.
    form: conv::Form,
    macs: u64,
    parameters: u64,
}

fn conv_part<'a>(
    step: &Step,
    codes: &'a [i16],
    input_shape: &Shape,
    context: &Context<'_>,
) -> Result<ConvPart<'a>, String> {
    let StepKind::Conv { shape, weights, input, output, residual } = &step.kind else {
        return Err("not a convolution".into());
    };
    let &[_, h, w, c] = input_shape.as_slice() else {
        return Err(format!("expected four axes, got shape {input_shape:?}"));
    };
    let geometry = shape::conv_geometry(shape, [h, w, c])?;
    let taps = shape.kernel[0] * shape.kernel[1];
    let pixels = (geometry.out_h * geometry.out_w) as u64;
    let depthwise = shape.groups > 1;
    let mut moved = Vec::new();
    if depthwise {
        // [channel][tap] to [tap][channel]
        moved.reserve_exact(codes.len());
        transpose(codes, shape.out_c, taps, &mut moved);
    } else if taps > 1 {
        // [out][in][tap] to [out][tap][in]
        moved.reserve_exact(codes.len());
        for filter in codes.chunks_exact(shape.group_c * taps) {
            transpose(filter, shape.group_c, taps, &mut moved);
        }
    }
    let residual = residual.map(|added| Residual {
        zero_point: added.zero_point,
        multiplier: added.scale / output.quantization.scale,
    });
    Ok(ConvPart {
        geometry,
        depthwise,
        codes: if depthwise || taps > 1 { Cow::Owned(moved) } else { Cow::Borrowed(codes) },
        input: context.codes_of(&step.inputs[0], *input),
        output: requantize(weights, *input, output),
        residual,
        form: context.choices.form(&step.name),
        macs: pixels * (shape.out_c * shape.group_c * taps) as u64,
        parameters: (codes.len() + 4 * shape.out_c) as u64,
    })
}

fn conv_kernel(part: &ConvPart<'_>, context: &Context<'_>) -> Result<Built, String> {
    let &ConvPart { geometry, input, residual, form, macs, parameters, .. } = part;
    let (isa, output) = (context.isa, part.output.clone());
    let text = |e: kinglet_kernels::KernelError| e.to_string();
    let (kernel, name) = if part.depthwise {
        let k = depthwise::Depthwise::new(isa, geometry, &part.codes, input, output);
        let k = k.map_err(text)?;
        let name = k.kernel();
        (Kernel::Depthwise(k), name)
    } else {
        let options = conv::ConvOptions { residual, form, ..Default::default() };
        let k = conv::Conv::with_options(isa, geometry, &part.codes, input, output, options);
        let k = k.map_err(text)?;
        let name = k.kernel();
        (Kernel::Conv(k), name)
    };
    Ok(Built { kernel, name: name.into(), macs, parameters })
}

/// Appends `matrix[rows][columns]` as `[columns][rows]`; nothing where their number is another.
fn transpose<T: Copy>(matrix: &[T], rows: usize, columns: usize, to: &mut Vec<T>) {
    if matrix.len() == rows * columns {
        for column in 0..columns {
            to.extend(matrix[column..].iter().step_by(columns));
        }
    }
}
