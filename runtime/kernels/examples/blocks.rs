//! Times blocks of EfficientNet-Lite0, B0 and V2-B0 on one thread: layer by layer, with expansion and
//! depthwise convolution in one, and as one operator; what each takes is the least of many runs, which
//! alternate: `cargo run --release -p kinglet-kernels --example blocks [isa] [repetitions]`.
#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use kinglet_kernels::conv::{Conv, ConvOptions, Form};
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::expand_depthwise::{ExpandDepthwise, Offer, Part};
use kinglet_kernels::lookup::Lookup;
use kinglet_kernels::mbconv::{First, MbConv, Projection};
use kinglet_kernels::mul::{Mul, MulParams};
use kinglet_kernels::pool::{GlobalAveragePool, PoolParams};
use kinglet_kernels::squeeze_excite::SqueezeParts;
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, Requantize, Scratch, Workers};

/// Side of the input; its channels, those between, those of the output; size and stride of the filter.
type Shape = (usize, [usize; 3], usize, usize);

/// What an int8 Lite0 is made of, the stem with the first block first; B0 has the same shapes.
const INVERTED: [Shape; 8] = [
    (224, [3, 32, 16], 3, 1),
    (112, [16, 96, 24], 3, 2),
    (56, [24, 144, 24], 3, 1),
    (28, [40, 240, 40], 5, 1),
    (14, [80, 480, 80], 3, 1),
    (14, [112, 672, 112], 5, 1),
    (7, [192, 1152, 192], 5, 1),
    (7, [192, 1152, 320], 3, 1),
];
/// The dense blocks of V2-B0.
const DENSE: [Shape; 4] = [
    (112, [16, 64, 32], 3, 2),
    (56, [32, 128, 32], 3, 1),
    (56, [32, 128, 48], 3, 2),
    (28, [48, 192, 48], 3, 1),
];

const CODES: InputCodes = InputCodes::any(128);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next();
    let named = |isa: &Isa| name.as_deref().is_none_or(|name| name == isa.name());
    let isa = Isa::available().into_iter().rfind(named).expect("it is available");
    let repetitions = arguments.next().map_or(50, |n| n.parse().expect("repetitions"));
    println!("{}, microseconds: layers, with a pair, one operator", isa.name());
    for (network, squeezes) in [("Lite0", false), ("B0", true)] {
        for shape in INVERTED {
            let layers = Layers::new(shape, true, squeezes);
            report(network, shape, &layers.times(isa, repetitions));
        }
    }
    for shape in DENSE {
        report("V2-B0", shape, &Layers::new(shape, false, true).times(isa, repetitions));
    }
}

fn report(network: &str, (side, channels, kernel, stride): Shape, times: &[f64; 3]) {
    let [single, pair, block] = times;
    let ratio = block / single;
    println!(
        "{network:6} {side:3} {channels:?} k{kernel}s{stride}: {single:8.1} {pair:8.1} {block:8.1}  {ratio:.3}"
    );
}

/// The layers of one block.
struct Layers {
    expand: Option<ConvGeometry>,
    first: ConvGeometry,
    project: ConvGeometry,
    table: Option<[u8; 256]>,
    squeezes: bool,
}

/// A filter with as much padding as keeps the size, or halves it.
fn same(side: usize, kernel: usize, stride: usize, in_c: usize, out_c: usize) -> ConvGeometry {
    let out = side.div_ceil(stride);
    let before = ((out - 1) * stride + kernel).saturating_sub(side) / 2;
    ConvGeometry {
        out_h: out,
        out_w: out,
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        pad_top: before,
        pad_left: before,
        ..ConvGeometry::pointwise(side, side, in_c, out_c)
    }
}

impl Layers {
    fn new(
        (side, [input, between, out], kernel, stride): Shape,
        inverted: bool,
        swish: bool,
    ) -> Layers {
        let window = if input == 3 { (3, 2) } else { (1, 1) };
        let expand = inverted.then(|| same(side, window.0, window.1, input, between));
        let side = expand.map_or(side, |g| g.out_h);
        let first = same(side, kernel, stride, if inverted { between } else { input }, between);
        let table = swish.then(|| std::array::from_fn(|code| (code / 2 + 30) as u8));
        let project = ConvGeometry::pointwise(first.out_h, first.out_w, between, out);
        Layers { expand, first, project, table, squeezes: inverted && swish }
    }

    fn times(&self, isa: Isa, repetitions: usize) -> [f64; 3] {
        let workers = Workers::new(1).expect("the caller's thread");
        let mut scratches = [Scratch::new()];
        let lookup = || self.table.map(|table| Lookup::new(isa, table).expect("it fits"));
        let depthwise = self.expand.is_some();
        let weights = [self.expand.unwrap_or(self.first), self.first, self.project]
            .map(|g| weights(&g, depthwise));
        let part = |which: usize, table: bool| Part {
            geometry: [self.expand.unwrap_or(self.first), self.first, self.project][which],
            weights: &weights[which],
            input: CODES,
            output: requantize([self.first.in_c, self.first.out_c, self.project.out_c][which]),
            table: self.table.as_ref().filter(|_| table),
        };
        let conv = |part: Part<'_>, blocked_input| {
            let options = ConvOptions { blocked_input, ..ConvOptions::default() };
            let Part { geometry, weights, input, output, .. } = part;
            Conv::with_options(isa, geometry, weights, input, output, options).expect("it fits")
        };
        let dw = |part: Part<'_>| {
            let Part { geometry, weights, input, output, .. } = part;
            Depthwise::new(isa, geometry, weights, input, output).expect("it fits")
        };
        let pair = || {
            self.expand?;
            ExpandDepthwise::new(isa, 1, Offer::WherePays, part(0, true), part(1, true))
                .expect("it fits")
        };
        let squeeze = Squeeze::new(isa, &self.first);

        let first = match pair() {
            Some(pair) => First::Pair(pair),
            None if depthwise => First::Depthwise(dw(part(1, false)), lookup()),
            None => First::Conv(conv(part(1, false), false), lookup()),
        };
        let projection = Projection { part: part(2, false), residual: None, form: Form::Usual };
        let parts = self.squeezes.then(|| Squeeze::new(isa, &self.first).parts(lookup));
        let block = MbConv::new(isa, 1, first, parts, Some(projection)).expect("it fits");

        let expand = self.expand.map(|_| conv(part(0, false), false));
        let (pair, table) = (pair(), lookup());
        let project = [false, true].map(|blocked| conv(part(2, false), blocked));
        let input = vec![100; self.expand.unwrap_or(self.first).input_len()];
        let mut wide = [0, 1].map(|_| vec![0; self.first.input_len()]);
        let mut image = [0, 1].map(|_| vec![0; 2 * self.first.output_len() + 32]);
        let mut between = vec![0; block.between_len()];
        let mut out = vec![0; self.project.output_len()];
        let dense = (!depthwise).then(|| conv(part(1, false), false));
        let deep = depthwise.then(|| dw(part(1, false)));
        let mut best = [f64::INFINITY; 3];
        for _ in 0..=repetitions {
            for (way, best) in best.iter_mut().enumerate() {
                let start = Instant::now();
                let scratch = &mut scratches[0];
                let len = self.first.output_len();
                match (way, &pair) {
                    (2, _) => {
                        block.run(&workers, &input, None, &mut between, &mut out, &mut scratches);
                    }
                    (1, Some(pair)) if !self.squeezes => {
                        for (unit, place) in pair.division().pieces().iter().enumerate() {
                            pair.run(&input, unit, &mut image[0][place.clone()], scratch);
                        }
                        let image = &image[0][..pair.output_len()];
                        project[1].run(image, 0..project[1].pixels(), &mut out, scratch);
                    }
                    _ => {
                        let [a, b] = &mut wide;
                        let mut read: &[u8] = &input;
                        if let Some(expand) = &expand {
                            expand.run(&input, 0..expand.pixels(), a, scratch);
                            read = a;
                            if let Some(table) = &table {
                                table.run(a, b);
                                read = b;
                            }
                        }
                        let [a, b] = &mut image;
                        let (a, b) = (&mut a[..len], &mut b[..len]);
                        if let Some(conv) = &dense {
                            conv.run(read, 0..conv.pixels(), a, scratch);
                        }
                        if let Some(conv) = &deep {
                            conv.run(read, 0..conv.rows(), a, scratch);
                        }
                        let (mut from, mut to) = (a, b);
                        if let Some(table) = &table {
                            table.run(from, to);
                            (from, to) = (to, from);
                        }
                        if self.squeezes {
                            squeeze.run(from, to, table.as_ref(), scratch);
                            (from, to) = (to, from);
                        }
                        let _ = to;
                        project[0].run(from, 0..project[0].pixels(), &mut out, scratch);
                    }
                }
                *best = best.min(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        best
    }
}

/// The small layers of a squeeze-and-excitation.
struct Squeeze {
    channels: usize,
    pool: GlobalAveragePool,
    reduce: Conv,
    excite: Conv,
    product: Mul,
}

const POOL: PoolParams =
    PoolParams { input_zero_point: 128, multiplier: 0.001, zero_point: 128, min: 0, max: 255 };
const PRODUCT: MulParams = MulParams {
    a_zero_point: 128,
    b_zero_point: 0,
    multiplier: 0.01,
    zero_point: 128,
    min: 0,
    max: 255,
};

impl Squeeze {
    fn new(isa: Isa, first: &ConvGeometry) -> Squeeze {
        let (channels, few) = (first.out_c, first.out_c.div_ceil(24));
        let small = |from: usize, to: usize| {
            let g = ConvGeometry::pointwise(1, 1, from, to);
            Conv::new(isa, g, &weights(&g, false), CODES, requantize(to)).expect("it fits")
        };
        let pixels = first.out_h * first.out_w;
        Squeeze {
            channels,
            pool: GlobalAveragePool::new(isa, pixels, channels, POOL).expect("it fits"),
            reduce: small(channels, few),
            excite: small(few, channels),
            product: Mul::new(isa, PRODUCT).expect("it fits"),
        }
    }

    fn parts(self, lookup: impl Fn() -> Option<Lookup>) -> SqueezeParts {
        SqueezeParts {
            pool: POOL,
            reduce: self.reduce,
            activation: lookup(),
            excite: self.excite,
            gate: lookup(),
            product: PRODUCT,
        }
    }

    fn run(&self, image: &[u8], out: &mut [u8], table: Option<&Lookup>, scratch: &mut Scratch) {
        let mut means = vec![0; self.channels];
        self.pool.run(image, &mut means, scratch);
        let mut reduced = vec![0; self.reduce.geometry().out_c];
        self.reduce.run(&means, 0..1, &mut reduced, scratch);
        if let Some(table) = table {
            table.run_in_place(&mut reduced);
        }
        self.excite.run(&reduced, 0..1, &mut means, scratch);
        if let Some(table) = table {
            table.run_in_place(&mut means);
        }
        self.product.run_channels(image, &means, out);
    }
}

/// Weights of -127 to 127, most of them small.
fn weights(g: &ConvGeometry, depthwise: bool) -> Vec<i16> {
    let depthwise = depthwise && g.in_c == g.out_c && g.kernel_h > 1;
    let depth = g.kernel_h * g.kernel_w * if depthwise { 1 } else { g.in_c };
    let mut state = (depth as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut weight = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[..4].iter().map(|&b| i16::from(b.max(1)) - 128).sum::<i16>() / 4
    };
    (0..depth * g.out_c).map(|_| weight()).collect()
}

fn requantize(channels: usize) -> Requantize {
    Requantize {
        multiplier: vec![0.001; channels],
        bias: vec![100; channels],
        zero_point: 128,
        min: 0,
        max: 255,
    }
}
