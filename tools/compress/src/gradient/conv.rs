//! The gradient of a convolution's input.

use kinglet_engine::onnx::NodeProto;
use kinglet_engine::tensor;

use crate::graph::{Index, input, int, ints};
use crate::inspect::shapes::{Shape, Shapes};

/// A convolution of any groups, without dilation.
pub(super) struct Conv {
    weights: Vec<f32>,
    /// Outputs, inputs of a group, height and width of the kernel.
    dims: [usize; 4],
    groups: usize,
    stride: [usize; 2],
    /// Rows above, columns before.
    pad: [usize; 2],
    output: Shape,
}

impl Conv {
    pub(super) fn new(index: &Index<'_>, shapes: &Shapes, node: &NodeProto) -> Option<Self> {
        let (dims, _) = tensor::shape(index.constant(input(node, 1)?)?).ok()?;
        let stated = node.attribute.iter().find(|a| a.name == "auto_pad");
        let padded = stated.is_some_and(|a| !a.s.is_empty() && a.s != b"NOTSET");
        let dilated = ints(node, "dilations").is_some_and(|d| d.iter().any(|&d| d != 1));
        if padded || dilated {
            return None;
        }
        let pair = |name: &str, none: usize| match ints(node, name) {
            Some([a, b, ..]) => Some([usize::try_from(*a).ok()?, usize::try_from(*b).ok()?]),
            _ => Some([none; 2]),
        };
        Some(Self {
            weights: index.floats(input(node, 1)?)?,
            dims: dims.try_into().ok()?,
            groups: usize::try_from(int(node, "group").unwrap_or(1)).ok()?.max(1),
            stride: pair("strides", 1)?,
            pad: pair("pads", 0)?,
            output: shapes.shape(node.output.first()?)?.clone(),
        })
    }

    /// `dx[i] = sum over outputs o and taps of w[o][i] * dy[o]`.
    pub(super) fn back(&self, from: &[f32], shape: &[usize]) -> Vec<f32> {
        let [outputs, inner, height, width] = self.dims;
        let per_group = outputs / self.groups;
        let (pixels, seen) = (shape[2] * shape[3], self.output[2] * self.output[3]);
        let mut gradient = vec![0.0; shape.iter().product()];
        let pointwise = [height, width] == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0];
        for (channel, plane) in gradient.chunks_exact_mut(pixels.max(1)).enumerate() {
            let (group, within) = (channel / inner, channel % inner);
            let taps = |o: usize| &self.weights[(o * inner + within) * height * width..];
            let own = group * per_group..(group + 1) * per_group;
            if pointwise {
                let rows: Vec<(f32, &[f32])> =
                    own.map(|o| (taps(o)[0], &from[o * seen..][..seen])).collect();
                add_scaled(plane, &rows);
                continue;
            }
            for o in own {
                let taps = &taps(o)[..height * width];
                self.spread(plane, [shape[2], shape[3]], taps, &from[o * seen..][..seen]);
            }
        }
        gradient
    }

    /// Adds one output's gradient to the plane of one input.
    fn spread(&self, plane: &mut [f32], [rows, columns]: [usize; 2], taps: &[f32], from: &[f32]) {
        let [_, _, _, width] = self.dims;
        let out_columns = self.output[3];
        for (tap, &w) in taps.iter().enumerate() {
            let (ky, kx) = (tap / width, tap % width);
            // Output columns whose tap lies inside the picture.
            let inside = |x: usize| (x * self.stride[1] + kx).checked_sub(self.pad[1]);
            let first = (0..out_columns).find(|&x| inside(x).is_some()).unwrap_or(out_columns);
            let end = (first..out_columns)
                .find(|&x| inside(x).is_none_or(|x| x >= columns))
                .unwrap_or(out_columns);
            for (y, row) in from.chunks_exact(out_columns.max(1)).enumerate() {
                let Some(at) = (y * self.stride[0] + ky).checked_sub(self.pad[0]) else { continue };
                let (Some(start), true) = (inside(first), at < rows && first < end) else {
                    continue;
                };
                let target = &mut plane[at * columns + start..(at + 1) * columns];
                let row = &row[first..end];
                if self.stride[1] == 1 {
                    target.iter_mut().zip(row).for_each(|(t, g)| *t += w * g);
                } else {
                    let target = target.iter_mut().step_by(self.stride[1]);
                    target.zip(row).for_each(|(t, g)| *t += w * g);
                }
            }
        }
    }
}

/// Adds rows with factors, four at a time.
fn add_scaled(sum: &mut [f32], rows: &[(f32, &[f32])]) {
    let fours = rows.chunks_exact(4);
    for (w, row) in fours.remainder() {
        sum.iter_mut().zip(*row).for_each(|(s, g)| *s += w * g);
    }
    for four in fours {
        let [(a, ra), (b, rb), (c, rc), (d, rd)] = [four[0], four[1], four[2], four[3]];
        let rows = ra.iter().zip(rb).zip(rc.iter().zip(rd));
        for (s, ((x, y), (z, u))) in sum.iter_mut().zip(rows) {
            *s += a * x + b * y + (c * z + d * u);
        }
    }
}
