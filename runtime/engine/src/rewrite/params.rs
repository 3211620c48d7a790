//! Quantization parameters, weights and biases read out of the model's constants.

use crate::graph::{GraphIndex, input, int};
use crate::onnx::{NodeProto, TensorProto, tensor_proto::DataType};
use crate::region::{Codes, Quantization, QuantizedOutput, Stored, Weights};
use crate::tensor;

/// Why a node cannot run in int8; shown in the report.
pub(super) type Why = String;

/// Scale and zero point of an activation: constants of one element.
pub(super) fn activation(
    index: &GraphIndex<'_>,
    scale: Option<&str>,
    zero_point: Option<&str>,
) -> Result<Quantization, Why> {
    let scale = scale
        .and_then(|s| index.scalar(s))
        .ok_or("the activation's scale is not one constant number")?;
    if !(scale.is_normal() && scale > 0.0) {
        return Err(format!("the activation's scale {scale} is not a positive number"));
    }
    // Without a zero point the type is uint8 and the zero point 0.
    let Some(name) = zero_point else { return Ok(Quantization { scale, zero_point: 0 }) };
    let tensor = index.constant(name).ok_or("the activation's zero point is not constant")?;
    let shift = match tensor::data_type(tensor) {
        Ok(DataType::Int8) => 128,
        Ok(DataType::Uint8) => 0,
        _ => return Err("the activation is neither int8 nor uint8".into()),
    };
    match tensor::to_i64(tensor).map_err(|e| e.to_string())?.as_slice() {
        [zero] => Ok(Quantization { scale, zero_point: (zero + shift) as u8 }),
        _ => Err("the activation has a zero point a channel".into()),
    }
}

/// Constant weights as stored, with a scale an output channel.
fn codes(
    index: &GraphIndex<'_>,
    name: &str,
    scale: &TensorProto,
    zero_point: Option<&TensorProto>,
    axis: i64,
    channel_axis: usize,
) -> Result<RawWeights, Why> {
    let tensor = index.constant(name).ok_or("the weights are not constant")?;
    let signed = match tensor::data_type(tensor) {
        Ok(DataType::Int8) => true,
        Ok(DataType::Uint8) => false,
        _ => return Err("the weights are neither int8 nor uint8".into()),
    };
    tensor::check(tensor).map_err(|e| e.to_string())?;
    let (dims, elements) = tensor::shape(tensor).map_err(|e| e.to_string())?;
    let channels = *dims.get(channel_axis).ok_or("the weights have too few axes")?;
    if elements == 0 {
        return Err("the weights are empty".into());
    }
    let scales = tensor::to_f32(scale).map_err(|e| e.to_string())?;
    let axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
    if scales.len() != 1 && (scales.len() != channels || axis != channel_axis as i64) {
        return Err(format!(
            "the weights have {} scales along axis {axis}, not one an output channel",
            scales.len()
        ));
    }
    if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
        return Err(format!("a weight scale is {bad}"));
    }
    let zeros = match zero_point {
        Some(zero) => tensor::to_i64(zero).map_err(|e| e.to_string())?,
        None => vec![0],
    };
    if zeros.len() != 1 && zeros.len() != channels {
        return Err(format!("the weights have {} zero points", zeros.len()));
    }
    if let Some(bad) = zeros.iter().find(|z| !(-128..=255).contains(*z)) {
        return Err(format!("a zero point of the weights is {bad}"));
    }
    let shape = [
        dims[..channel_axis].iter().product(),
        channels,
        dims[channel_axis + 1..].iter().product(),
    ];
    let typed: Vec<u8>;
    let (bytes, stored) = if tensor.raw_data.is_empty() {
        typed = tensor.int32_data.iter().map(|&code| code as u8).collect();
        (&typed, Stored::Here(typed.clone()))
    } else if index.producer(name).is_some() {
        (&tensor.raw_data, Stored::Here(tensor.raw_data.clone()))
    } else {
        (&tensor.raw_data, Stored::Initializer(name.to_owned()))
    };
    let zero_points = zeros.into_iter().map(|z| z as i16).collect();
    let codes = Codes { stored, signed, zero_points, shape, silent: Vec::new() };
    let magnitudes = codes.magnitudes(bytes);
    let scale = if scales.len() == 1 { vec![scales[0]; channels] } else { scales };
    Ok(RawWeights { codes, magnitudes, scale, bias: Vec::new(), dims })
}

/// The bias in units of `input_scale * weight scale`, from int32 codes or from floats.
fn bias(
    index: &GraphIndex<'_>,
    name: Option<&str>,
    input_scale: f32,
    weight_scale: &[f32],
    factor: f32,
) -> Result<Vec<f64>, Why> {
    let channels = weight_scale.len();
    let Some(name) = name else { return Ok(vec![0.0; channels]) };
    let real = constant_f32(index, name).ok_or("the bias is not constant")?;
    if real.len() != channels {
        return Err(format!("the bias has {} elements for {channels} channels", real.len()));
    }
    let code = |(&b, &s): (&f64, &f32)| {
        let b = b * f64::from(factor);
        // 0 / 0 is a channel without weights and bias.
        if b == 0.0 { 0.0 } else { (b / (f64::from(input_scale) * f64::from(s))).round_ties_even() }
    };
    Ok(real.iter().zip(weight_scale).map(code).collect())
}

/// Weights as read: the bias may still be too large for 32-bit sums.
pub(super) struct RawWeights {
    codes: Codes,
    /// Sum of the absolute codes of each output channel.
    magnitudes: Vec<u64>,
    scale: Vec<f32>,
    bias: Vec<f64>,
    /// Dimensions of the weight tensor.
    pub dims: Vec<usize>,
}

impl RawWeights {
    fn with_bias(self, bias: Vec<f64>) -> Result<Self, Why> {
        match bias.iter().find(|b| b.is_nan()) {
            Some(bad) => Err(format!("a bias is {bad}")),
            None => Ok(Self { bias, ..self }),
        }
    }

    /// Weights whose sums fit 32 bits.
    ///
    /// Quantizers give channels that have (almost) no weights tiny scales and so huge biases. As
    /// long as such a channel's output is one and the same code for every input, it becomes
    /// that constant, which is exact.
    pub(super) fn settle(
        mut self,
        input: Quantization,
        output: Option<&QuantizedOutput>,
    ) -> Result<Weights, Why> {
        let mut bias = Vec::with_capacity(self.magnitudes.len());
        for (channel, magnitude) in self.magnitudes.into_iter().enumerate() {
            let reach = 255.0 * magnitude as f64;
            let code = self.bias[channel];
            if code.abs() + reach < f64::from(1 << 30) {
                bias.push(code as i32);
                continue;
            }
            let unit = f64::from(input.scale) * f64::from(self.scale[channel]);
            let constant = output.and_then(|o| {
                let at =
                    |acc: f64| o.quantization.quantize((acc * unit) as f32).clamp(o.min, o.max);
                (at(code - reach) == at(code + reach)).then(|| (at(code), o.quantization))
            });
            let (value, quantization) = constant.ok_or_else(|| {
                format!("the bias of channel {channel} is too large for its scale {unit:e}")
            })?;
            bias.push(i32::from(value) - i32::from(quantization.zero_point));
            self.scale[channel] = quantization.scale / input.scale;
            self.codes.silent.push(channel);
        }
        Ok(Weights { codes: self.codes, scale: self.scale, bias })
    }
}

/// A constant float vector, directly or as int32 codes behind a DequantizeLinear.
fn constant_f32(index: &GraphIndex<'_>, name: &str) -> Option<Vec<f64>> {
    if let Some(tensor) = index.constant(name) {
        return Some(tensor::to_f32(tensor).ok()?.into_iter().map(f64::from).collect());
    }
    let node = index.producer(name).filter(|n| n.op_type == "DequantizeLinear")?;
    let codes = tensor::to_i64(index.constant(input(node, 0)?)?).ok()?;
    let scales = tensor::to_f32(index.constant(input(node, 1)?)?).ok()?;
    let zeros = match input(node, 2) {
        Some(zero) => tensor::to_i64(index.constant(zero)?).ok()?,
        None => vec![0],
    };
    let at = |i: usize, len: usize| if len == 1 { 0 } else { i };
    if [scales.len(), zeros.len()].iter().any(|&l| l != 1 && l != codes.len()) {
        return None;
    }
    let real = |(i, &code): (usize, &i64)| {
        (code - zeros[at(i, zeros.len())]) as f64 * f64::from(scales[at(i, scales.len())])
    };
    Some(codes.iter().enumerate().map(real).collect())
}

/// Weights behind a DequantizeLinear.
pub(super) fn dequantized_weights(
    index: &GraphIndex<'_>,
    weight: Option<&str>,
    bias_name: Option<&str>,
    input_scale: f32,
    channel_axis: usize,
    bias_factor: f32,
) -> Result<RawWeights, Why> {
    let not_int8 = "the weights are not quantized constants";
    let node = weight
        .and_then(|w| index.producer(w))
        .filter(|n| n.op_type == "DequantizeLinear")
        .ok_or(not_int8)?;
    let constant = |i: usize| input(node, i).and_then(|name| index.constant(name));
    let zero = match input(node, 2) {
        Some(_) => Some(constant(2).ok_or("the weights' zero point is not constant")?),
        None => None,
    };
    let axis = int(node, "axis").unwrap_or(1);
    let name = input(node, 0).filter(|name| index.constant(name).is_some()).ok_or(not_int8)?;
    let scale = constant(1).ok_or("the weights' scale is not constant")?;
    let raw = codes(index, name, scale, zero, axis, channel_axis)?;
    let bias = bias(index, bias_name, input_scale, &raw.scale, bias_factor)?;
    raw.with_bias(bias)
}

/// Weights given directly to a QLinear operator: inputs `at`, `at + 1` and `at + 2` of the node are
/// tensor, scale and zero point; the bias is int32 codes.
pub(super) fn qlinear_weights(
    index: &GraphIndex<'_>,
    node: &NodeProto,
    at: usize,
    bias_at: Option<usize>,
    channel_axis: usize,
) -> Result<RawWeights, Why> {
    let constant = |i: usize, what: &str| {
        input(node, i)
            .and_then(|name| index.constant(name))
            .ok_or_else(|| format!("the weights' {what} is not constant"))
    };
    let name = input(node, at).ok_or("the weights' tensor is missing")?;
    let scale = constant(at + 1, "scale")?;
    let zero = constant(at + 2, "zero point")?;
    let raw = codes(index, name, scale, Some(zero), channel_axis as i64, channel_axis)?;
    let channels = raw.scale.len();
    let Some(name) = bias_at.and_then(|i| input(node, i)) else {
        return raw.with_bias(vec![0.0; channels]);
    };
    let tensor = index.constant(name).ok_or("the bias is not constant")?;
    let bias = tensor::to_i64(tensor).map_err(|e| e.to_string())?;
    if bias.len() != channels {
        return Err("the bias's length".into());
    }
    raw.with_bias(bias.into_iter().map(|b| b as f64).collect())
}
