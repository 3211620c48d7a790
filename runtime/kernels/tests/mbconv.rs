//! Whole blocks give the bytes of their layers one after the other, on every instruction set and
//! number of threads: inverted residuals, with squeeze-and-excitation, fused MBConv, layers with their
//! activation; and so do a head with its mean and a squeeze-and-excitation alone.
#![allow(missing_docs)]

mod common;

use common::{Guarded, Random, SYMMETRIC, ZERO_POINTS, assert_same};
use kinglet_kernels::conv::{Conv, ConvOptions, Form};
use kinglet_kernels::conv_pool::ConvPool;
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::expand_depthwise::{ExpandDepthwise, Offer, Part};
use kinglet_kernels::lookup::Lookup;
use kinglet_kernels::mbconv::{First, MbConv, Projection};
use kinglet_kernels::mul::{Mul, MulParams};
use kinglet_kernels::pool::{GlobalAveragePool, PoolParams};
use kinglet_kernels::squeeze_excite::{ImageLayout, SqueezeExcite, SqueezeParts};
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, Requantize, Residual, Scratch, Workers};

/// A convolution with everything that belongs to it.
#[derive(Clone)]
struct Layer {
    geometry: ConvGeometry,
    weights: Vec<i16>,
    input: InputCodes,
    output: Requantize,
    table: Option<[u8; 256]>,
}

impl Layer {
    /// `same` padding; `depthwise` if there is one input channel a filter.
    fn random(
        random: &mut Random,
        (h, w): (usize, usize),
        (kernel, stride): (usize, usize),
        (in_c, out_c): (usize, usize),
        depthwise: bool,
        zero_point: u8,
    ) -> Layer {
        let out = |size: usize| size.div_ceil(stride);
        let before = |size: usize| ((out(size) - 1) * stride + kernel).saturating_sub(size) / 2;
        let geometry = ConvGeometry {
            out_h: out(h),
            out_w: out(w),
            kernel_h: kernel,
            kernel_w: kernel,
            stride_h: stride,
            stride_w: stride,
            pad_top: before(h),
            pad_left: before(w),
            ..ConvGeometry::pointwise(h, w, in_c, out_c)
        };
        let depth = kernel * kernel * if depthwise { 1 } else { in_c };
        let mut output = random.requantize(out_c, depth);
        output.zero_point = output.zero_point.clamp(output.min, output.max);
        let weights = random.weights(depth * out_c, SYMMETRIC);
        Layer { geometry, weights, input: InputCodes::any(zero_point), output, table: None }
    }

    fn with_table(mut self, random: &mut Random, wanted: bool) -> Layer {
        self.table = wanted.then(|| random.bytes(256).try_into().unwrap());
        self
    }

    fn part(&self) -> Part<'_> {
        Part {
            geometry: self.geometry,
            weights: &self.weights,
            input: self.input,
            output: self.output.clone(),
            table: self.table.as_ref(),
        }
    }

    fn conv(&self, isa: Isa, residual: Option<Residual>) -> Conv {
        let options = ConvOptions { residual, ..Default::default() };
        let (weights, output) = (&self.weights, self.output.clone());
        Conv::with_options(isa, self.geometry, weights, self.input, output, options).unwrap()
    }

    fn depthwise(&self, isa: Isa) -> Depthwise {
        Depthwise::new(isa, self.geometry, &self.weights, self.input, self.output.clone()).unwrap()
    }

    fn lookup(&self, isa: Isa) -> Option<Lookup> {
        self.table.map(|table| Lookup::new(isa, table).unwrap())
    }

    /// Alone, by the scalar kernel, the table applied.
    fn run(&self, input: &[u8], residual: Option<(Residual, &[u8])>) -> Vec<u8> {
        let conv = self.conv(Isa::Scalar, residual.map(|(residual, _)| residual));
        let mut out = vec![0; self.geometry.output_len()];
        let added = residual.map(|(_, added)| added);
        conv.run_adding(input, added, 0..conv.pixels(), &mut out, &mut Scratch::new());
        self.looked_up(out)
    }

    fn run_depthwise(&self, input: &[u8]) -> Vec<u8> {
        let conv = self.depthwise(Isa::Scalar);
        let mut out = vec![0; self.geometry.output_len()];
        conv.run(input, 0..conv.rows(), &mut out, &mut Scratch::new());
        self.looked_up(out)
    }

    fn looked_up(&self, codes: Vec<u8>) -> Vec<u8> {
        match self.table {
            Some(table) => codes.iter().map(|&code| table[usize::from(code)]).collect(),
            None => codes,
        }
    }

    fn shape(&self) -> (usize, usize) {
        (self.geometry.out_h, self.geometry.out_w)
    }
}

/// The layers of a squeeze-and-excitation.
struct Squeeze {
    pool: PoolParams,
    reduce: Layer,
    excite: Layer,
    product: MulParams,
}

impl Squeeze {
    fn random(random: &mut Random, pixels: usize, channels: usize) -> Squeeze {
        let zero_point = random.pick(&ZERO_POINTS);
        let few = channels.div_ceil(6);
        let mut small = |channels| {
            let zero_point = random.pick(&ZERO_POINTS);
            let layer = Layer::random(random, (1, 1), (1, 1), channels, false, zero_point);
            let tabled = random.below(4) > 0;
            layer.with_table(random, tabled)
        };
        let (reduce, excite) = (small((channels, few)), small((few, channels)));
        Squeeze {
            pool: PoolParams {
                input_zero_point: zero_point,
                multiplier: 0.9 / pixels as f32,
                zero_point: random.pick(&ZERO_POINTS),
                min: 3,
                max: 255,
            },
            reduce,
            excite,
            product: MulParams {
                a_zero_point: zero_point,
                b_zero_point: random.pick(&ZERO_POINTS),
                multiplier: 0.011,
                zero_point: random.pick(&ZERO_POINTS),
                min: 0,
                max: 250,
            },
        }
    }

    fn parts(&self, isa: Isa) -> SqueezeParts {
        SqueezeParts {
            pool: self.pool,
            reduce: self.reduce.conv(isa, None),
            activation: self.reduce.lookup(isa),
            excite: self.excite.conv(isa, None),
            gate: self.excite.lookup(isa),
            product: self.product,
        }
    }

    fn run(&self, image: &[u8], pixels: usize) -> Vec<u8> {
        let channels = image.len() / pixels;
        let pool = GlobalAveragePool::new(Isa::Scalar, pixels, channels, self.pool).unwrap();
        let mut means = vec![0; channels];
        pool.run(image, &mut means, &mut Scratch::new());
        let gates = self.excite.run(&self.reduce.run(&means, None), None);
        let mut out = vec![0; image.len()];
        Mul::new(Isa::Scalar, self.product).unwrap().run_channels(image, &gates, &mut out);
        out
    }
}

/// A block of any kind.
struct Block {
    expand: Option<Layer>,
    first: Layer,
    depthwise: bool,
    squeeze: Option<Squeeze>,
    project: Option<(Layer, Option<Residual>)>,
    input: Vec<u8>,
    added: Vec<u8>,
}

impl Block {
    /// Also whether a pair has a kernel here, if it has an expansion.
    fn build(&self, isa: Isa, threads: usize, form: Form) -> Option<MbConv> {
        let (first, lookup) = (&self.first, self.first.lookup(isa));
        let first = match &self.expand {
            Some(expand) => First::Pair(
                ExpandDepthwise::new(isa, threads, Offer::WherePays, expand.part(), first.part())
                    .unwrap()?,
            ),
            None if self.depthwise => First::Depthwise(first.depthwise(isa), lookup),
            None => First::Conv(first.conv(isa, None), lookup),
        };
        let squeeze = self.squeeze.as_ref().map(|squeeze| squeeze.parts(isa));
        let project = self.project.as_ref();
        let project = project.map(|(layer, residual)| Projection {
            part: layer.part(),
            residual: *residual,
            form,
        });
        Some(MbConv::new(isa, threads, first, squeeze, project).unwrap())
    }

    fn expected(&self) -> Vec<u8> {
        let expanded = self.expand.as_ref().map(|layer| layer.run(&self.input, None));
        let input = expanded.as_ref().unwrap_or(&self.input);
        let first = &self.first;
        let mut image =
            if self.depthwise { first.run_depthwise(input) } else { first.run(input, None) };
        let (h, w) = first.shape();
        if let Some(squeeze) = &self.squeeze {
            image = squeeze.run(&image, h * w);
        }
        match &self.project {
            Some((layer, residual)) => {
                layer.run(&image, residual.map(|residual| (residual, &self.added[..])))
            }
            None => image,
        }
    }

    /// How many instruction sets have a kernel, each with one, two and three threads.
    fn check(&self) -> usize {
        let expected = self.expected();
        let mut found = 0;
        for threads in 1..=3 {
            let workers = Workers::new(threads).unwrap();
            let mut scratches: Vec<Scratch> = (0..threads).map(|_| Scratch::new()).collect();
            let forms =
                |isa: Isa| Form::of(isa).iter().map(move |&form| (isa, form)).collect::<Vec<_>>();
            for (isa, form) in Isa::available().into_iter().flat_map(forms) {
                let Some(block) = self.build(isa, threads, form) else { continue };
                found += usize::from(form == Form::Usual);
                let what = format!("{:?} {threads} {:?}", block.kernels(), self.first.geometry);
                assert_eq!(block.output_len(), expected.len());
                let (input, added) = (Guarded::of(&self.input, 1), Guarded::of(&self.added, 3));
                let mut out = Guarded::zeros(expected.len(), threads);
                let mut between = Guarded::zeros(block.between_len(), 2);
                let added = block.adds().then_some(added.get());
                // Twice: what a run leaves behind changes nothing.
                for _ in 0..2 {
                    let (between, out) = (between.get_mut(), out.get_mut());
                    block.run(&workers, input.get(), added, between, out, &mut scratches);
                }
                out.check(&what);
                between.check(&what);
                assert_same(out.get(), &expected, &what);
            }
        }
        found
    }
}

fn projection(
    random: &mut Random,
    size: (usize, usize),
    channels: (usize, usize),
    adds: bool,
) -> (Layer, Option<Residual>) {
    let zero_point = random.pick(&ZERO_POINTS);
    let layer = Layer::random(random, size, (1, 1), channels, false, zero_point);
    let residual = Residual { zero_point: random.pick(&ZERO_POINTS), multiplier: 0.41 };
    (layer, adds.then_some(residual))
}

/// An inverted residual, or a stem and its block if `stem`.
fn inverted_residual(
    seed: u64,
    size: (usize, usize),
    (kernel, stride): (usize, usize),
    [input, between, out]: [usize; 3],
    stem: bool,
    squeezed: bool,
) -> Block {
    let mut random = Random::new(seed);
    let window = if stem { (3, 2) } else { (1, 1) };
    let zero_point = random.pick(&ZERO_POINTS);
    let tables = [seed & 1 > 0, seed & 2 > 0];
    let expand = Layer::random(&mut random, size, window, (input, between), false, zero_point);
    let expand = expand.with_table(&mut random, tables[0]);
    let zero_point = expand.output.zero_point;
    let channels = (between, between);
    let first =
        Layer::random(&mut random, expand.shape(), (kernel, stride), channels, true, zero_point);
    let first = first.with_table(&mut random, tables[1]);
    let (h, w) = first.shape();
    let project = projection(&mut random, (h, w), (between, out), seed & 4 > 0);
    Block {
        input: random.bytes(expand.geometry.input_len()),
        added: random.bytes(h * w * out),
        squeeze: squeezed.then(|| Squeeze::random(&mut random, h * w, between)),
        expand: Some(expand),
        first,
        depthwise: true,
        project: Some(project),
    }
}

#[test]
fn inverted_residuals_with_and_without_excitation() {
    let mut seed = 0;
    let mut found = 0;
    for window in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        for size in [(1, 1), (5, 4), (7, 7), (14, 14), (6, 28), (9, 33)] {
            for channels in [[16, 96, 24], [8, 32, 16], [24, 40, 9], [7, 17, 33]] {
                for squeezed in [false, true] {
                    seed += 1;
                    let block = inverted_residual(seed, size, window, channels, false, squeezed);
                    found += block.check();
                    // The same block where the pair has no kernel.
                    let alone = Block {
                        input: block.expand.as_ref().unwrap().run(&block.input, None),
                        expand: None,
                        ..block
                    };
                    assert_eq!(alone.check(), 3 * Isa::available().len());
                }
            }
        }
    }
    let none = matches!(Isa::best(), Isa::Scalar | Isa::Neon32);
    assert_eq!(found > 0, !none, "no pair on any instruction set");
}

#[test]
fn stems_and_first_blocks() {
    let mut seed = 900;
    for window in [(3, 1), (3, 2), (5, 1)] {
        for size in [(6, 6), (11, 9), (24, 31), (33, 64)] {
            for channels in [[3, 32, 16], [3, 24, 16], [3, 48, 8]] {
                for squeezed in [false, true] {
                    seed += 1;
                    inverted_residual(seed, size, window, channels, true, squeezed).check();
                }
            }
        }
    }
}

#[test]
fn dense_convolutions_and_projections() {
    let mut seed = 2000;
    for window in [(3, 1), (3, 2), (1, 1), (5, 1)] {
        for size in [(1, 1), (7, 5), (13, 14), (30, 29)] {
            for [input, between, out] in [[3, 32, 16], [16, 64, 32], [24, 128, 24], [9, 17, 5]] {
                for projected in [false, true] {
                    seed += 1;
                    let mut random = Random::new(seed);
                    let zero_point = random.pick(&ZERO_POINTS);
                    let channels = (input, between);
                    let first =
                        Layer::random(&mut random, size, window, channels, false, zero_point);
                    let first = first.with_table(&mut random, !projected || seed & 2 > 0);
                    let (h, w) = first.shape();
                    let project = projection(&mut random, (h, w), (between, out), seed & 4 > 0);
                    let block = Block {
                        input: random.bytes(first.geometry.input_len()),
                        added: random.bytes(h * w * out),
                        expand: None,
                        first,
                        depthwise: false,
                        squeeze: None,
                        project: projected.then_some(project),
                    };
                    assert_eq!(block.check(), 3 * Isa::available().len());
                }
            }
        }
    }
}

#[test]
fn heads_and_their_means() {
    let mut seed = 5000;
    for (size, in_c) in [((1, 1), 8), ((7, 7), 40), ((3, 5), 33), ((16, 17), 20)] {
        for out_c in [1, 17, 64, 100, 192, 500, 640] {
            seed += 1;
            let mut random = Random::new(seed);
            let zero_point = random.pick(&ZERO_POINTS);
            let head = Layer::random(&mut random, size, (1, 1), (in_c, out_c), false, zero_point);
            let head = head.with_table(&mut random, seed & 1 > 0);
            let pixels = size.0 * size.1;
            let params = Squeeze::random(&mut random, pixels, out_c).pool;
            let input = random.bytes(head.geometry.input_len());
            let pool = GlobalAveragePool::new(Isa::Scalar, pixels, out_c, params).unwrap();
            let mut expected = vec![0; out_c];
            pool.run(&head.run(&input, None), &mut expected, &mut Scratch::new());
            for (threads, isa) in
                (1..=3).flat_map(|n| Isa::available().into_iter().map(move |i| (n, i)))
            {
                let workers = Workers::new(threads).unwrap();
                let mut scratches: Vec<Scratch> = (0..threads).map(|_| Scratch::new()).collect();
                let both = ConvPool::new(isa, threads, head.part(), params).unwrap();
                let what = format!("{:?} {:?}", both.kernels(), head.geometry);
                let mut out = Guarded::zeros(out_c, threads);
                both.run(&workers, &input, out.get_mut(), &mut scratches);
                out.check(&what);
                assert_same(out.get(), &expected, &what);
            }
        }
    }
}

#[test]
fn squeeze_and_excitation_alone() {
    for (seed, (pixels, channels)) in
        [(1, 1), (49, 96), (30, 33), (300, 17), (12, 240)].into_iter().enumerate()
    {
        let mut random = Random::new(8000 + seed as u64);
        let squeeze = Squeeze::random(&mut random, pixels, channels);
        let image = random.bytes(pixels * channels);
        let expected = squeeze.run(&image, pixels);
        for isa in Isa::available() {
            let layout = ImageLayout::nhwc(pixels, channels);
            let kernel = SqueezeExcite::new(isa, layout, squeeze.parts(isa)).unwrap();
            let mut gates = vec![0; kernel.gates_len()];
            kernel.gates(&image, &mut gates, &mut Scratch::new());
            let split = pixels / 3;
            for range in [0..split, split..pixels] {
                let mut out = Guarded::zeros(range.len() * channels, 1);
                kernel.multiply(&image, &gates, range.clone(), range.len(), out.get_mut());
                out.check(kernel.kernel());
                let expected = &expected[range.start * channels..range.end * channels];
                assert_same(out.get(), expected, kernel.kernel());
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let isa = Isa::Scalar;
    let block = inverted_residual(3, (6, 6), (3, 1), [8, 40, 16], false, false);
    let first = || First::Depthwise(block.first.depthwise(isa), None);
    let (layer, _) = block.project.as_ref().unwrap();
    let mut narrow = layer.clone();
    narrow.geometry.in_c = 39;
    let mut other = layer.clone();
    (other.geometry.in_h, other.geometry.out_h) = (5, 5);
    for wrong in [narrow, other] {
        let project = Some(Projection { part: wrong.part(), residual: None, form: Form::Usual });
        assert!(MbConv::new(isa, 1, first(), None, project).is_err());
    }
    let mut random = Random::new(4);
    let squeeze = Squeeze::random(&mut random, 36, 39).parts(isa);
    let project = || Some(Projection { part: layer.part(), residual: None, form: Form::Usual });
    assert!(MbConv::new(isa, 1, first(), Some(squeeze), project()).is_err());
    let squeeze = Squeeze::random(&mut random, 36, 40).parts(isa);
    assert!(MbConv::new(isa, 1, first(), Some(squeeze), None).is_err());
    let squeeze = Squeeze::random(&mut random, 36, 40).parts(isa);
    assert!(MbConv::new(isa, 1, first(), Some(squeeze), project()).is_ok());
}
