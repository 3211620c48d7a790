//! From a step and its shapes to a kernel.

use kinglet_kernels::{
    InputCodes, Isa, Requantize, add, conv, depthwise, linear, lookup, mul, pool, quantize,
};

mod float;

pub(super) use float::FloatKernel;

use super::plan::{Element, Kernel};
use super::shape::{self, Shape};
use super::step::{
    ConvShape, Payload, Quantization, QuantizedOutput, Step, StepKind, Weights,
};

/// A kernel and what the report says of it.
pub(super) struct Built {
    pub kernel: Kernel,
    pub name: &'static str,
    pub macs: u64,
    pub parameters: u64,
}

/// Builds the kernel of a step for inputs of these shapes (NHWC). `payload` is its weights, if it has
/// any; `element` is the region's float type.
pub(super) fn kernel(
    step: &Step,
    payload: Payload,
    inputs: &[&Shape],
    element: Element,
    isa: Isa,
) -> Result<Built, String> {
    let (codes, values) = payload.widened();
    let codes = codes.as_slice();
    let text = |e: kinglet_kernels::KernelError| e.to_string();
    let first = inputs[0];
    let plain = |kernel: Kernel, name| Built { kernel, name, macs: 0, parameters: 0 };
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
        StepKind::Mul { inputs: [a, b], output } => {
            let params = mul::MulParams {
                a_zero_point: a.zero_point,
                b_zero_point: b.zero_point,
                multiplier: multiplier(*a, b.scale, output),
                zero_point: output.quantization.zero_point,
                min: output.min,
                max: output.max,
            };
            let k = mul::Mul::new(isa, params).map_err(text)?;
            let name = k.kernel();
            let whole = inputs[0] == inputs[1];
            plain(if whole { Kernel::Mul(k) } else { Kernel::MulChannels(k) }, name)
        }
        StepKind::GlobalAveragePool { input, output, .. } => {
            let (channels, pixels) = layout(first);
            let mean = (f64::from(input.scale)
                / (f64::from(output.quantization.scale) * pixels as f64))
                as f32;
            let zero = output.quantization.zero_point;
            let k = pool::GlobalAveragePool::new(
                isa,
                pixels,
                channels,
                input.zero_point,
                mean,
                zero,
                output.min,
                output.max,
            );
            let k = k.map_err(text)?;
            let name = k.kernel();
            plain(Kernel::Pool(k), name)
        }
        StepKind::Linear { in_features, weights, input, output } => {
            linear_kernel(*in_features, weights, codes, *input, output.as_ref(), isa)?
        }
        StepKind::Conv { shape, weights, input, output } => {
            conv_kernel(shape, weights, codes, *input, output, first, isa)?
        }
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
    let kernel = linear::Linear::new(
        isa,
        in_features,
        out_features,
        codes,
        InputCodes::any(input.zero_point),
        result,
    )
    .map_err(|e| e.to_string())?;
    Ok(Built {
        name: kernel.kernel(),
        macs: (in_features * out_features) as u64,
        parameters: (codes.len() + 4 * out_features) as u64,
        kernel: match output {
            Some(_) => Kernel::Linear(kernel),
            None => Kernel::LinearF32(kernel),
        },
    })
}

fn conv_kernel(
    shape: &ConvShape,
    weights: &Weights,
    codes: &[i16],
    input: Quantization,
    output: &QuantizedOutput,
    input_shape: &Shape,
    isa: Isa,
) -> Result<Built, String> {
    let &[_, h, w, c] = input_shape.as_slice() else {
        return Err(format!("expected four axes, got shape {input_shape:?}"));
    };
    let geometry = shape::conv_geometry(shape, [h, w, c])?;
    let requantize = requantize(weights, input, output);
    let taps = shape.kernel[0] * shape.kernel[1];
    let pixels = (geometry.out_h * geometry.out_w) as u64;
    let macs = pixels * (shape.out_c * shape.group_c * taps) as u64;
    let parameters = (codes.len() + 4 * shape.out_c) as u64;
    let text = |e: kinglet_kernels::KernelError| e.to_string();
    let (kernel, name) = if shape.groups > 1 {
        // [channel][tap] to [tap][channel]
        let mut moved = Vec::with_capacity(codes.len());
        transpose(codes, shape.out_c, taps, &mut moved);
        let codes_in = InputCodes::any(input.zero_point);
        let k =
            depthwise::Depthwise::new(isa, geometry, &moved, codes_in, requantize).map_err(text)?;
        let name = k.kernel();
        (Kernel::Depthwise(k), name)
    } else {
        // [out][in][tap] to [out][tap][in]
        let mut moved = Vec::new();
        if taps > 1 {
            moved.reserve_exact(codes.len());
            for filter in codes.chunks_exact(shape.group_c * taps) {
                transpose(filter, shape.group_c, taps, &mut moved);
            }
        }
        let codes = if taps > 1 { &moved } else { codes };
        let k =
            conv::Conv::new(isa, geometry, codes, InputCodes::any(input.zero_point), requantize);
        let k = k.map_err(text)?;
        let name = k.kernel();
        (Kernel::Conv(k), name)
    };
    Ok(Built { kernel, name, macs, parameters })
}

/// Appends `matrix[rows][columns]` as `[columns][rows]`; nothing where their number is another.
fn transpose<T: Copy>(matrix: &[T], rows: usize, columns: usize, to: &mut Vec<T>) {
    if matrix.len() == rows * columns {
        for column in 0..columns {
            to.extend(matrix[column..].iter().step_by(columns));
        }
    }
}
