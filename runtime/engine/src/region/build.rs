//! From a step and its shapes to a kernel.

use kinglet_kernels::{
    InputCodes, Isa, Requantize, add, conv, depthwise, linear, lookup, mul, pool, quantize,
};

use super::plan::Kernel;
use super::shape::{self, Shape};
use super::step::{ConvShape, Quantization, QuantizedOutput, Step, StepKind, Weights};

/// A kernel and what the report says of it.
pub(super) struct Built {
    pub kernel: Kernel,
    pub name: &'static str,
    pub macs: u64,
    pub parameters: u64,
}

/// Builds the kernel of a step for inputs of these shapes (codes, NHWC).
pub(super) fn kernel(step: &Step, inputs: &[&Shape], isa: Isa) -> Result<Built, String> {
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
            linear_kernel(*in_features, weights, *input, output.as_ref(), isa)?
        }
        StepKind::Conv { shape, weights, input, output } => {
            conv_kernel(shape, weights, *input, output, first, isa)?
        }
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
        &weights.codes,
        InputCodes::any(input.zero_point),
        result,
    )
    .map_err(|e| e.to_string())?;
    Ok(Built {
        name: kernel.kernel(),
        macs: (in_features * out_features) as u64,
        parameters: (weights.codes.len() + 4 * out_features) as u64,
        kernel: Kernel::Linear(kernel),
    })
}

fn conv_kernel(
    shape: &ConvShape,
    weights: &Weights,
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
    let parameters = (weights.codes.len() + 4 * shape.out_c) as u64;
    let text = |e: kinglet_kernels::KernelError| e.to_string();
    let (kernel, name) = if shape.groups > 1 {
        // [channel][tap] to [tap][channel]
        let codes = transpose(&weights.codes, shape.out_c, taps);
        let codes_in = InputCodes::any(input.zero_point);
        let k =
            depthwise::Depthwise::new(isa, geometry, &codes, codes_in, requantize).map_err(text)?;
        let name = k.kernel();
        (Kernel::Depthwise(k), name)
    } else {
        // [out][in][tap] to [out][tap][in]
        let codes: Vec<i16> = weights
            .codes
            .chunks_exact(shape.group_c * taps)
            .flat_map(|filter| transpose(filter, shape.group_c, taps))
            .collect();
        let k =
            conv::Conv::new(isa, geometry, &codes, InputCodes::any(input.zero_point), requantize);
        let k = k.map_err(text)?;
        let name = k.kernel();
        (Kernel::Conv(k), name)
    };
    Ok(Built { kernel, name, macs, parameters })
}

fn transpose(codes: &[i16], rows: usize, columns: usize) -> Vec<i16> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| codes[r * columns + c])).collect()
}
