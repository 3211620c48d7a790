//! Shapes of a region's values: NHWC where there are four axes.

use super::step::{ConvShape, Padding, Step, StepKind};
use kinglet_kernels::ConvGeometry;

/// Largest number of elements of one activation: 2^26 (EfficientNet-B7 at 600 needs 2^24.1).
const MAX_ELEMENTS: usize = 1 << 26;

/// A value's shape inside a region. Four axes are (batch, height, width, channels).
pub(crate) type Shape = Vec<usize>;

/// (N, C, H, W) to (N, H, W, C); other ranks stay as they are.
pub(crate) fn to_nhwc(shape: &[usize]) -> Shape {
    match *shape {
        [n, c, h, w] => vec![n, h, w, c],
        _ => shape.to_vec(),
    }
}

/// (N, H, W, C) to (N, C, H, W); other ranks stay as they are.
pub(crate) fn to_nchw(shape: &[usize]) -> Shape {
    match *shape {
        [n, h, w, c] => vec![n, c, h, w],
        _ => shape.to_vec(),
    }
}

/// Number of elements, if it is at most [`MAX_ELEMENTS`].
pub(crate) fn volume(shape: &[usize]) -> Result<usize, String> {
    shape
        .iter()
        .try_fold(1_usize, |n, &d| n.checked_mul(d).filter(|n| *n <= MAX_ELEMENTS))
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("an activation of shape {shape:?} is empty or too large"))
}

/// Batch, height, width and channels of a value with four axes.
pub(crate) fn map(shape: &[usize]) -> Result<[usize; 4], String> {
    let four = shape.try_into();
    four.map_err(|_| format!("expected a value with four axes, got shape {shape:?}"))
}

/// The shape of a product; the second factor may hold one pixel, which applies to all.
pub(crate) fn product(first: &[usize], second: &[usize]) -> Result<Shape, String> {
    let gate = matches!((first, second), ([n, _, _, c], [m, 1, 1, d]) if n == m && c == d);
    if second != first && !gate {
        return Err(format!("cannot multiply shapes {first:?} and {second:?}"));
    }
    Ok(first.to_vec())
}

/// The shape a step gives for inputs of these shapes (NHWC).
pub(crate) fn output_shape(step: &Step, inputs: &[&[usize]]) -> Result<Shape, String> {
    let first = *inputs.first().ok_or("a step without inputs")?;
    let flattened = |flat: bool, shape: Shape| {
        if flat { vec![shape[0], shape.iter().skip(1).product()] } else { shape }
    };
    Ok(match &step.kind {
        StepKind::Quantize(_) | StepKind::Dequantize(_) => first.to_vec(),
        StepKind::Lookup { flat, .. } => flattened(*flat, first.to_vec()),
        StepKind::GlobalAveragePool { flat, .. } => {
            let [n, _, _, c] = map(first)?;
            flattened(*flat, vec![n, 1, 1, c])
        }
        StepKind::Add { .. } => {
            if inputs[1] != first {
                return Err(format!("cannot add shapes {first:?} and {:?}", inputs[1]));
            }
            first.to_vec()
        }
        StepKind::Mul { .. } => product(first, inputs[1])?,
        StepKind::Linear { in_features, weights, .. } => {
            let (&batch, rest) = first.split_first().ok_or("a value without axes")?;
            if rest.iter().product::<usize>() != *in_features {
                return Err(format!("expected {in_features} features, got shape {first:?}"));
            }
            vec![batch, weights.scale.len()]
        }
        StepKind::Conv { shape, residual, .. } => {
            let [n, h, w, c] = map(first)?;
            let geometry = conv_geometry(shape, [h, w, c])?;
            let output = vec![n, geometry.out_h, geometry.out_w, geometry.out_c];
            if residual.is_some() && inputs.get(1) != Some(&output.as_slice()) {
                return Err(format!("cannot add {:?} to shape {output:?}", inputs.get(1)));
            }
            output
        }
        StepKind::Float(kind) => kind.output_shape(inputs)?,
    })
}

/// The full geometry of a convolution on a picture of (height, width, channels).
pub(crate) fn conv_geometry(
    shape: &ConvShape,
    [in_h, in_w, in_c]: [usize; 3],
) -> Result<ConvGeometry, String> {
    if shape.group_c.checked_mul(shape.groups) != Some(in_c) {
        return Err(format!(
            "the weights want {} groups of {} input channels, the value has {in_c}",
            shape.groups, shape.group_c
        ));
    }
    let [(out_h, pad_top), (out_w, pad_left)] = [
        one_axis(shape, in_h, 0).ok_or("the kernel does not fit the picture")?,
        one_axis(shape, in_w, 1).ok_or("the kernel does not fit the picture")?,
    ];
    Ok(ConvGeometry {
        in_h,
        in_w,
        in_c,
        out_h,
        out_w,
        out_c: shape.out_c,
        kernel_h: shape.kernel[0],
        kernel_w: shape.kernel[1],
        stride_h: shape.stride[0],
        stride_w: shape.stride[1],
        dilation_h: shape.dilation[0],
        dilation_w: shape.dilation[1],
        pad_top,
        pad_left,
    })
}

/// Output size and leading padding along one axis.
fn one_axis(shape: &ConvShape, input: usize, axis: usize) -> Option<(usize, usize)> {
    let stride = shape.stride[axis];
    let reach = shape.kernel[axis].checked_sub(1)?.checked_mul(shape.dilation[axis])? + 1;
    if stride == 0 || shape.dilation[axis] == 0 {
        return None;
    }
    if let Padding::Explicit(pads) = shape.padding {
        let (before, after) = (pads[axis], pads[axis + 2]);
        let room = (input + before + after).checked_sub(reach)?;
        return Some((room / stride + 1, before));
    }
    let output = input.div_ceil(stride);
    let total = ((output.checked_sub(1)?) * stride + reach).saturating_sub(input);
    let before = if shape.padding == Padding::SameUpper { total / 2 } else { total - total / 2 };
    Some((output, before))
}
