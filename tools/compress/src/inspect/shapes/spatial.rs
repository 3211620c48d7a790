//! Shapes of convolutions, pools and pads.

use kinglet_engine::onnx::NodeProto;

use super::super::attributes::{int, ints, text};
use super::Shape;

/// [N, C, …] and [M, C / group, k…] to [N, M, …].
pub(super) fn convolution(
    node: &NodeProto,
    input: Option<&Shape>,
    weight: Option<&Shape>,
) -> Option<Shape> {
    let (input, weight) = (input?, weight?);
    let (&[batch, channels, ref size @ ..], &[outputs, per_group, ref kernel @ ..]) =
        (input.as_slice(), weight.as_slice())
    else {
        return None;
    };
    let group = usize::try_from(int(node, "group", 1)).ok()?;
    if size.len() != kernel.len() || per_group.checked_mul(group)? != channels {
        return None;
    }
    let mut out = vec![batch, outputs];
    out.extend(windows(node, size, kernel)?);
    Some(out)
}

/// [N, C, …] to [N, C, …].
pub(super) fn pool(node: &NodeProto, input: Option<&Shape>) -> Option<Shape> {
    let &[batch, channels, ref size @ ..] = input?.as_slice() else { return None };
    let kernel: Shape = ints(node, "kernel_shape")?
        .iter()
        .map(|&k| usize::try_from(k).ok())
        .collect::<Option<_>>()?;
    if kernel.len() != size.len() {
        return None;
    }
    let mut out = vec![batch, channels];
    out.extend(windows(node, size, &kernel)?);
    Some(out)
}

/// Number of places of a window along each axis.
///
/// Source: the ONNX specification of Conv and MaxPool.
fn windows(node: &NodeProto, size: &[usize], kernel: &[usize]) -> Option<Shape> {
    let rank = size.len();
    let per_axis = |name: &str, count: usize, default: i64| -> Option<Vec<usize>> {
        let values = ints(node, name).map_or_else(|| vec![default; count], <[i64]>::to_vec);
        if values.len() != count {
            return None;
        }
        values.into_iter().map(|v| usize::try_from(v).ok()).collect()
    };
    let strides = per_axis("strides", rank, 1)?;
    let dilations = per_axis("dilations", rank, 1)?;
    let pads = per_axis("pads", 2 * rank, 0)?;
    let auto = text(node, "auto_pad").unwrap_or("NOTSET");
    let ceil = int(node, "ceil_mode", 0) != 0;
    (0..rank)
        .map(|i| {
            let stride = strides[i];
            if auto.starts_with("SAME") {
                return (stride > 0).then(|| size[i].div_ceil(stride));
            }
            let pads = if auto == "VALID" { 0 } else { pads[i].checked_add(pads[i + rank])? };
            let covered = kernel[i].checked_sub(1)?.checked_mul(dilations[i])?.checked_add(1)?;
            let room = size[i].checked_add(pads)?.checked_sub(covered)?;
            let steps = if ceil {
                room.checked_add(stride.checked_sub(1)?)?.checked_div(stride)?
            } else {
                room.checked_div(stride)?
            };
            steps.checked_add(1)
        })
        .collect()
}

/// Each axis grown by its pads: all the first ends, then all the second.
pub(super) fn pad(input: Option<&Shape>, pads: Option<&[i64]>) -> Option<Shape> {
    let (input, pads) = (input?, pads?);
    if pads.len() != 2 * input.len() {
        return None;
    }
    let grown = |(i, &d): (usize, &usize)| {
        let total = pads[i].checked_add(pads[i + input.len()])?;
        usize::try_from(i64::try_from(d).ok()?.checked_add(total)?).ok()
    };
    input.iter().enumerate().map(grown).collect()
}
