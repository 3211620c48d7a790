//! Constants of float steps.

use super::super::constants;
use super::super::params::Why;
use crate::graph::{GraphIndex, float, input, int};
use crate::onnx::{NodeProto, tensor_proto::DataType};
use crate::region::{FloatWeights, Pending};
use crate::tensor;

/// A constant: its dimensions and its elements.
pub(super) type Real = (Vec<usize>, Vec<f32>);

/// A constant float tensor, directly or as codes behind a DequantizeLinear.
pub(super) fn real(index: &GraphIndex<'_>, value: &str) -> Option<Real> {
    let read = |t| Some((tensor::shape(t).ok()?.0, tensor::to_f32(t).ok()?));
    if let Some(tensor) = index.constant(value) {
        return read(tensor);
    }
    let node = index.producer(value).filter(|n| n.op_type == "DequantizeLinear")?;
    let codes = index.constant(input(node, 0)?)?;
    read(&constants::dequantize(index, node, codes).ok()?)
}

/// A constant of one element, or of one an output channel along a first axis of `channels` that
/// broadcasts over `after` more axes.
pub(super) fn per_channel(
    index: &GraphIndex<'_>,
    value: &str,
    channels: usize,
    after: usize,
) -> Option<Vec<f32>> {
    let (dims, values) = real(index, value)?;
    if values.len() == 1 {
        return Some(vec![values[0]; channels]);
    }
    let dims: &[usize] = match dims.as_slice() {
        [1, rest @ ..] if rest.len() == after + 1 => rest,
        all => all,
    };
    let fits = dims.len() == after + 1 && dims[0] == channels && dims[1..].iter().all(|&d| d == 1);
    fits.then_some(values)
}

/// Weights left where they are, if that is a float initializer: its dimensions.
fn pending(index: &GraphIndex<'_>, value: &str) -> Option<(Vec<usize>, Pending)> {
    let tensor = index.constant(value).filter(|t| !t.raw_data.is_empty())?;
    let float = tensor::data_type(tensor).ok()? == DataType::Float;
    let stored = index.producer(value).is_none() && tensor::check(tensor).is_ok();
    let pending = Pending { initializer: value.to_owned(), factors: Vec::new() };
    (float && stored).then(|| Some((tensor::shape(tensor).ok()?.0, pending)))?
}

/// Weights and bias of a convolution, and the dimensions of the weights.
pub(super) fn conv(
    index: &GraphIndex<'_>,
    node: &NodeProto,
) -> Result<(Vec<usize>, FloatWeights), Why> {
    let name = input(node, 1).ok_or("it has no weights")?;
    let (dims, values, pending) = match pending(index, name) {
        Some((dims, pending)) => (dims, Vec::new(), Some(pending)),
        None => {
            let (dims, values) = real(index, name).ok_or("its weights are not constant")?;
            (dims, values, None)
        }
    };
    let out = *dims.first().filter(|d| **d > 0).ok_or("its weights are empty")?;
    let bias = match input(node, 2) {
        None => vec![0.0; out],
        Some(name) => real(index, name).ok_or("its bias is not constant")?.1,
    };
    if bias.len() != out {
        return Err(format!("its bias has {} elements for {out} channels", bias.len()));
    }
    Ok((dims, FloatWeights { values, bias, pending }))
}

/// Weights and bias of a Gemm or MatMul, `[out][in]`, and the number of input features.
pub(super) fn linear(
    index: &GraphIndex<'_>,
    node: &NodeProto,
) -> Result<(usize, FloatWeights), Why> {
    let gemm = node.op_type == "Gemm";
    if gemm && int(node, "transA").unwrap_or(0) != 0 {
        return Err("Gemm with transA".into());
    }
    let name = input(node, 1).ok_or("it has no weights")?;
    let alpha = if gemm { float(node, "alpha").unwrap_or(1.0) } else { 1.0 };
    let transposed = gemm && int(node, "transB").unwrap_or(0) != 0;
    let as_it_is = transposed && alpha == 1.0;
    let (dims, mut values, pending) = match pending(index, name).filter(|_| as_it_is) {
        Some((dims, pending)) => (dims, Vec::new(), Some(pending)),
        None => {
            let (dims, values) = real(index, name).ok_or("its weights are not constant")?;
            (dims, values, None)
        }
    };
    let &[rows, columns] = dims.as_slice() else {
        return Err("its weights are not a matrix".into());
    };
    let (in_features, out) = if transposed { (columns, rows) } else { (rows, columns) };
    if rows * columns == 0 {
        return Err("its weights are empty".into());
    }
    if !transposed {
        let at = |c: usize| (0..rows).map(move |r| r * columns + c);
        values = (0..columns).flat_map(at).map(|i| values[i]).collect();
    }
    let mut bias = match input(node, 2).filter(|_| gemm) {
        None => vec![0.0; out],
        Some(name) => per_channel(index, name, out, 0)
            .ok_or("what it adds is not constant, or not one number a class")?,
    };
    if gemm {
        let beta = float(node, "beta").unwrap_or(1.0);
        values.iter_mut().for_each(|v| *v *= alpha);
        bias.iter_mut().for_each(|v| *v *= beta);
    }
    Ok((in_features, FloatWeights { values, bias, pending }))
}

/// Factor and addend a channel of a BatchNormalization node.
pub(super) fn batch_norm(index: &GraphIndex<'_>, node: &NodeProto) -> Option<Vec<[f64; 2]>> {
    if int(node, "training_mode").unwrap_or(0) != 0 {
        return None;
    }
    let constant = |i| real(index, input(node, i)?).map(|r| r.1);
    let (scale, shift) = (constant(1)?, constant(2)?);
    let (mean, variance) = (constant(3)?, constant(4)?);
    let epsilon = f64::from(float(node, "epsilon").unwrap_or(1e-5));
    if [shift.len(), mean.len(), variance.len()].iter().any(|&l| l != scale.len()) {
        return None;
    }
    let channel = |i: usize| {
        let factor = f64::from(scale[i]) / (f64::from(variance[i]) + epsilon).sqrt();
        let addend = f64::from(shift[i]) - f64::from(mean[i]) * factor;
        (factor.is_finite() && addend.is_finite()).then_some([factor, addend])
    };
    (0..scale.len()).map(channel).collect()
}

/// Weights that give what a normalisation makes of the result.
pub(super) fn fold(weights: &mut FloatWeights, channels: &[[f64; 2]]) {
    weights.scale(channels.iter().map(|[factor, _]| *factor).collect());
    for (bias, [factor, addend]) in weights.bias.iter_mut().zip(channels) {
        *bias = (f64::from(*bias) * factor + addend) as f32;
    }
}
