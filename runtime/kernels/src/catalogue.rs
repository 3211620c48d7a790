//! The layer shapes of EfficientNet-Lite0 at 224 x 224, as data: one list drives tests and
//! benchmarks.
//!
//! Source: the stage table of EfficientNet-B0 (Tan and Le, 2019, table 1) without squeeze and
//! excitation, and with the "SAME" padding of TensorFlow.

mod layer;

use crate::ConvGeometry;
pub use layer::{Layer, SEVEN_BITS};

/// The operation of a catalogue entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Op {
    /// [`crate::conv::Conv`].
    Conv,
    /// [`crate::depthwise::Depthwise`].
    Depthwise,
    /// [`crate::linear::Linear`]; `in_c` and `out_c` are the features.
    Linear,
    /// [`crate::add::Add`] on `in_h * in_w * in_c` elements.
    Add,
    /// [`crate::pool::GlobalAveragePool`] over `in_h * in_w` pixels.
    Pool,
}

/// One distinct layer shape.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Operation, size and channels, for example `pointwise_112x112_32_16`.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// Its shape.
    pub geometry: ConvGeometry,
    /// Whether a convolution also adds a residual; none of [`efficientnet_lite0`] does.
    pub adds: bool,
    /// How often the network has this shape.
    pub count: usize,
}

impl Entry {
    /// Multiply-accumulates of one layer (for `Add` and `Pool`: elements).
    pub fn macs(&self) -> u64 {
        match self.op {
            Op::Conv | Op::Linear => self.geometry.macs(),
            Op::Depthwise => self.geometry.macs_depthwise(),
            Op::Add | Op::Pool => self.geometry.input_len() as u64,
        }
    }
}

/// A stage of blocks: expansion, output channels, blocks, stride of the first, filter size.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
];

/// An inverted residual of the network, or its stem with the block that follows.
#[derive(Clone, PartialEq, Debug)]
pub struct Block {
    /// The expansion; for the first block the stem.
    pub expand: ConvGeometry,
    /// The depthwise convolution.
    pub depthwise: ConvGeometry,
    /// The projection.
    pub project: ConvGeometry,
    /// Whether the block's input is added to its output.
    pub adds: bool,
}

/// The blocks of EfficientNet-Lite0 at 224 x 224, in order.
pub fn efficientnet_lite0_blocks() -> Vec<Block> {
    let stem = same(224, 3, 2, 3, 32);
    let mut blocks = Vec::new();
    let (mut size, mut channels) = (stem.out_h, stem.out_c);
    for (expansion, out, count, first_stride, kernel) in STAGES {
        for block in 0..count {
            let stride = if block == 0 { first_stride } else { 1 };
            let wide = channels * expansion;
            let expand = ConvGeometry::pointwise(size, size, channels, wide);
            let depthwise = same(size, kernel, stride, wide, wide);
            size = depthwise.out_h;
            blocks.push(Block {
                expand: if expansion > 1 { expand } else { stem },
                depthwise,
                project: ConvGeometry::pointwise(size, size, wide, out),
                adds: block > 0,
            });
            channels = out;
        }
    }
    blocks
}

/// Every distinct layer shape of EfficientNet-Lite0 at 224 x 224, in the order of first use.
pub fn efficientnet_lite0() -> Vec<Entry> {
    entries(false)
}

/// [`efficientnet_lite0`] with the sums in the projections, as an engine runs them.
pub fn efficientnet_lite0_adding() -> Vec<Entry> {
    entries(true)
}

fn entries(projections_add: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |op, geometry: ConvGeometry, adds: bool| {
        let g = &geometry;
        let size = format!("{}x{}", g.out_h, g.out_w);
        let name = match op {
            Op::Conv if g.is_pointwise() => format!("pointwise_{size}_{}_{}", g.in_c, g.out_c),
            Op::Conv => format!("conv{}s{}_{size}_{}_{}", g.kernel_h, g.stride_h, g.in_c, g.out_c),
            Op::Depthwise => format!("depthwise{}s{}_{size}_{}", g.kernel_h, g.stride_h, g.in_c),
            Op::Linear => format!("linear_{}_{}", g.in_c, g.out_c),
            Op::Add => format!("add_{size}_{}", g.in_c),
            Op::Pool => format!("pool_{}x{}_{}", g.in_h, g.in_w, g.in_c),
        };
        let name = if adds { name + "_adds" } else { name };
        match entries.iter_mut().find(|e: &&mut Entry| e.name == name) {
            Some(entry) => entry.count += 1,
            None => entries.push(Entry { name, op, geometry, adds, count: 1 }),
        }
    };
    let (mut size, mut channels) = (0, 0);
    for Block { expand, depthwise, project, adds } in efficientnet_lite0_blocks() {
        (size, channels) = (project.out_h, project.out_c);
        add(Op::Conv, expand, false);
        add(Op::Depthwise, depthwise, false);
        add(Op::Conv, project, adds && projections_add);
        if adds && !projections_add {
            add(Op::Add, ConvGeometry::pointwise(size, size, channels, channels), false);
        }
    }
    add(Op::Conv, ConvGeometry::pointwise(size, size, channels, 1280), false);
    add(Op::Pool, ConvGeometry::pointwise(size, size, 1280, 1280), false);
    add(Op::Linear, ConvGeometry::pointwise(1, 1, 1280, 1000), false);
    entries
}

/// A square filter on a square image with TensorFlow's "SAME" padding.
fn same(size: usize, kernel: usize, stride: usize, in_c: usize, out_c: usize) -> ConvGeometry {
    let out = size.div_ceil(stride);
    let padding = ((out - 1) * stride + kernel).saturating_sub(size);
    ConvGeometry {
        in_h: size,
        in_w: size,
        in_c,
        out_h: out,
        out_w: out,
        out_c,
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: padding / 2,
        pad_left: padding / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_has_385_million_macs() {
        let entries = efficientnet_lite0();
        let macs = |op| {
            let of_op = entries.iter().filter(|e| e.op == op);
            of_op.map(|e| e.macs() * e.count as u64).sum::<u64>()
        };
        let total = macs(Op::Conv) + macs(Op::Depthwise) + macs(Op::Linear);
        assert_eq!((total as f64 / 1e5).round(), 3852.0, "total {total}");
        assert_eq!(entries.iter().find(|e| e.op == Op::Linear).map(Entry::macs), Some(1_280_000));
        let adding = efficientnet_lite0_adding();
        let products = adding.iter().map(|e| (e.op != Op::Pool) as u64 * e.macs() * e.count as u64);
        assert_eq!(products.sum::<u64>(), total);
        let added = adding.iter().filter(|e| e.adds).map(|e| e.count).sum::<usize>();
        assert_eq!((added, adding.iter().any(|e| e.op == Op::Add)), (9, false));
    }
}
