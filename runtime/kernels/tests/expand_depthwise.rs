//! The fused pair gives the bytes of the two layers one after the other, for every shape it takes,
//! however its units are shared out; and a projection reads its blocks as it reads an image.
#![allow(missing_docs)]

mod common;

use common::{Guarded, Random, SYMMETRIC, WEIGHT_RANGES, ZERO_POINTS, assert_same};
use kinglet_kernels::conv::{BLOCK_CHANNELS, Conv, ConvOptions};
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::expand_depthwise::{ExpandDepthwise, Offer, Part};
use kinglet_kernels::lookup::Lookup;
use kinglet_kernels::{ConvGeometry, InputCodes, Isa, Requantize, Residual, Scratch};

struct Pair {
    expand: ConvGeometry,
    depthwise: ConvGeometry,
    weights: [Vec<i16>; 2],
    codes: [InputCodes; 2],
    outputs: [Requantize; 2],
    tables: [Option<[u8; 256]>; 2],
    input: Vec<u8>,
}

/// A square filter with `before` rows and columns of padding in front and as much behind as the
/// output needs.
fn square(
    size: (usize, usize),
    kernel: usize,
    stride: usize,
    channels: (usize, usize),
) -> ConvGeometry {
    let out = |size: usize| size.div_ceil(stride);
    let before = |size: usize| ((out(size) - 1) * stride + kernel).saturating_sub(size) / 2;
    ConvGeometry {
        out_h: out(size.0),
        out_w: out(size.1),
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        pad_top: before(size.0),
        pad_left: before(size.1),
        ..ConvGeometry::pointwise(size.0, size.1, channels.0, channels.1)
    }
}

impl Pair {
    fn random(expand: ConvGeometry, kernel: usize, stride: usize, seed: u64) -> Pair {
        let mut random = Random::new(seed);
        let c = expand.out_c;
        let depthwise = square((expand.out_h, expand.out_w), kernel, stride, (c, c));
        let depth = expand.kernel_h * expand.kernel_w * expand.in_c;
        let mut outputs = [random.requantize(c, depth), random.requantize(c, kernel * kernel)];
        // The padding's value is one that the expansion can give.
        outputs[0].zero_point = outputs[0].zero_point.clamp(outputs[0].min, outputs[0].max);
        Pair {
            expand,
            depthwise,
            weights: [
                random.weights(depth * c, SYMMETRIC),
                random.weights(kernel * kernel * c, SYMMETRIC),
            ],
            codes: [random.pick(&ZERO_POINTS), outputs[0].zero_point].map(InputCodes::any),
            outputs,
            tables: [None; 2],
            input: random.bytes(expand.input_len()),
        }
    }

    /// The same with a table after either layer, or both, of any codes; the depthwise convolution
    /// reads what the first gives, or a padding that it never gives.
    fn with_tables(mut self, which: usize, seed: u64) -> Pair {
        let mut random = Random::new(seed);
        for (i, table) in self.tables.iter_mut().enumerate() {
            if which >> i & 1 == 1 {
                *table = random.bytes(256).try_into().ok();
            }
        }
        if let Some(table) = self.tables[0] {
            self.outputs[0].zero_point = random.pick(&ZERO_POINTS);
            let zero_point = random.pick(&ZERO_POINTS);
            let codes = self.outputs[0].min..=self.outputs[0].max;
            let given = || codes.clone().map(|code| table[usize::from(code)]);
            let (min, max) = (given().min().unwrap(), given().max().unwrap());
            self.codes[1] = InputCodes { zero_point, min, max };
        }
        self
    }

    /// The same with an input of a narrow range, and weights of `bits` bits.
    fn narrow(mut self, (min, max): (u8, u8), bits: u32) -> Pair {
        for code in &mut self.input {
            *code = min + *code % (max - min + 1);
        }
        let zero_point = self.codes[0].zero_point.clamp(min, max);
        self.codes[0] = InputCodes { zero_point, min, max };
        self.weights[0].iter_mut().for_each(|w| *w >>= 8 - bits);
        self
    }

    /// Results as they are (two seeds of three), but with nothing to clamp for one of them; or so
    /// large that many leave 16 bits.
    fn end_in_all_ways(&mut self, seed: u64) {
        for output in &mut self.outputs {
            match seed % 3 {
                0 => output.multiplier.iter_mut().for_each(|m| *m *= 100.0),
                1 => (output.zero_point, output.min, output.max) = (0, 0, 255),
                _ => {}
            }
        }
        self.codes[1] = InputCodes::any(self.outputs[0].zero_point);
    }

    fn part(&self, which: usize) -> Part<'_> {
        Part {
            geometry: [self.expand, self.depthwise][which],
            weights: &self.weights[which],
            input: self.codes[which],
            output: self.outputs[which].clone(),
            table: self.tables[which].as_ref(),
        }
    }

    fn look_up(&self, which: usize, codes: Vec<u8>) -> Vec<u8> {
        let Some(table) = self.tables[which] else { return codes };
        let mut out = vec![0; codes.len()];
        Lookup::new(Isa::Scalar, table).unwrap().run(&codes, &mut out);
        out
    }

    /// One layer after the other, NHWC.
    fn expected(&self) -> Vec<u8> {
        let mut scratch = Scratch::new();
        let (a, b) = (self.part(0), self.part(1));
        let conv = Conv::new(Isa::Scalar, a.geometry, a.weights, a.input, a.output).unwrap();
        let mut between = vec![0; self.expand.output_len()];
        conv.run(&self.input, 0..conv.pixels(), &mut between, &mut scratch);
        let between = self.look_up(0, between);
        let conv = Depthwise::new(Isa::Scalar, b.geometry, b.weights, b.input, b.output).unwrap();
        let mut out = vec![0; self.depthwise.output_len()];
        conv.run(&between, 0..conv.rows(), &mut out, &mut scratch);
        self.look_up(1, out)
    }

    /// The result of a pair with one block of channels, some rows at a time.
    fn by_bands(&self, fused: &ExpandDepthwise, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for unit in 0..fused.units() {
            let mut next = fused.unit_rows(unit).start;
            fused.run_by_bands(input, unit, &mut Scratch::new(), |band, _| {
                assert_eq!(band.rows.start, next);
                next = band.rows.end;
                out.extend_from_slice(&from_blocks(band.codes, self.depthwise.out_c));
            });
            assert_eq!(next, fused.unit_rows(unit).end);
        }
        out
    }

    /// How many instruction sets offer a fused kernel for it; those that only could are run too.
    fn check(&self) -> usize {
        let expected = self.expected();
        let mut found = 0;
        for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
            let fused = |offer| {
                ExpandDepthwise::new(isa, threads, offer, self.part(0), self.part(1)).unwrap()
            };
            found += usize::from(fused(Offer::WherePays).is_some());
            let Some(fused) = fused(Offer::Everywhere) else { continue };
            let what = format!("{} {:?} {:?}", fused.kernel(), self.expand, self.depthwise);
            let input = Guarded::of(&self.input, threads);
            let mut out = vec![0; fused.output_len()];
            for (unit, place) in fused.division().pieces().iter().enumerate() {
                let mut part = Guarded::zeros(place.len(), threads);
                fused.run(input.get(), unit, part.get_mut(), &mut Scratch::new());
                part.check(&what);
                out[place.clone()].copy_from_slice(part.get());
            }
            assert_eq!(fused.units(), fused.division().pieces().len());
            assert_same(&from_blocks(&out, self.depthwise.out_c), &expected, &what);
            if fused.has_bands() {
                assert_same(&self.by_bands(&fused, input.get()), &expected, &what);
            }
        }
        found
    }
}

/// Blocks of channels to NHWC.
fn from_blocks(blocks: &[u8], channels: usize) -> Vec<u8> {
    let pixels = blocks.len() / channels.next_multiple_of(BLOCK_CHANNELS);
    let at = |p: usize, c: usize| {
        blocks[(c / BLOCK_CHANNELS * pixels + p) * BLOCK_CHANNELS + c % BLOCK_CHANNELS]
    };
    (0..pixels).flat_map(|p| (0..channels).map(move |c| at(p, c))).collect()
}

/// NHWC to blocks of channels, filled up with something.
fn to_blocks(image: &[u8], channels: usize) -> Vec<u8> {
    let pixels = image.len() / channels;
    let mut blocks = vec![0xEE; pixels * channels.next_multiple_of(BLOCK_CHANNELS)];
    for (p, c) in (0..pixels).flat_map(|p| (0..channels).map(move |c| (p, c))) {
        blocks[(c / BLOCK_CHANNELS * pixels + p) * BLOCK_CHANNELS + c % BLOCK_CHANNELS] =
            image[p * channels + c];
    }
    blocks
}

/// How many instruction sets here have a fused kernel, counted as [`Pair::check`] does; NEON has one
/// for long rows of a pointwise expansion or a stem of three rows, and one thread.
fn fused_sets(expand: &ConvGeometry) -> usize {
    let dot = Isa::available().iter().any(|isa| isa.name() == "neon-dot");
    let long = usize::from(matches!(expand.kernel_h, 1 | 3) && expand.out_w >= 20);
    // Without the dot product, only in whole tiles of four columns, or one more.
    let tiles = usize::from(expand.out_w % 4 < 2);
    let sets = Isa::available().into_iter().map(|isa| match isa.name() {
        "avx2" | "avx512-vnni" => 2,
        "neon-dot" => long,
        "neon-fp16" if dot => long,
        "neon" | "neon-fp16" => long * tiles,
        _ => 0,
    });
    sets.sum()
}

#[test]
fn inverted_residuals_of_all_sizes() {
    let mut seed = 0;
    let short = [(1, 1), (2, 3), (5, 4), (7, 7), (8, 13), (14, 14)];
    let long = [(1, 20), (2, 24), (3, 22), (4, 29), (7, 28), (9, 27), (12, 41)];
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        for (h, w) in short.into_iter().chain(long) {
            for (in_c, out_c) in [(4, 32), (16, 96), (24, 144), (7, 40), (40, 17)] {
                seed += 1;
                let mut pair =
                    Pair::random(ConvGeometry::pointwise(h, w, in_c, out_c), kernel, stride, seed);
                pair.end_in_all_ways(seed);
                assert_eq!(pair.check(), fused_sets(&pair.expand), "{:?}", pair.depthwise);
            }
        }
    }
}

#[test]
fn tables_after_either_layer() {
    let mut seed = 7000;
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        for (h, w) in
            [(1, 1), (2, 3), (5, 4), (8, 13), (1, 20), (3, 24), (4, 29), (9, 28), (6, 112)]
        {
            for (in_c, out_c) in [(4, 32), (24, 144), (7, 40), (40, 17)] {
                for which in 1..4 {
                    seed += 1;
                    let expand = ConvGeometry::pointwise(h, w, in_c, out_c);
                    let mut pair = Pair::random(expand, kernel, stride, seed);
                    pair.end_in_all_ways(seed);
                    let pair = pair.with_tables(which, seed);
                    assert_eq!(pair.check(), fused_sets(&pair.expand), "{:?}", pair.depthwise);
                }
            }
        }
    }
    for (h, w) in [(6, 6), (11, 9), (24, 31), (5, 64)] {
        for which in 1..4 {
            seed += 1;
            let pair = Pair::random(square((h, w), 3, 2, (3, 32)), 3, 1, seed);
            let pair = pair.with_tables(which, seed);
            assert_eq!(pair.check(), fused_sets(&pair.expand), "{:?}", pair.expand);
        }
    }
}

#[test]
fn inputs_of_narrow_ranges_and_small_weights() {
    let mut seed = 500;
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        for (h, w) in [(1, 1), (2, 3), (7, 7), (9, 27)] {
            for (in_c, out_c) in [(4, 32), (24, 144), (7, 40), (81, 17)] {
                for (range, bits) in
                    [((0, 127), 8), ((100, 200), 8), ((0, 254), 5), ((0, 127), 6), ((60, 80), 8)]
                {
                    seed += 1;
                    let expand = ConvGeometry::pointwise(h, w, in_c, out_c);
                    let pair = Pair::random(expand, kernel, stride, seed).narrow(range, bits);
                    assert_eq!(pair.check(), fused_sets(&pair.expand), "{:?}", pair.depthwise);
                }
            }
        }
    }
    for range in [(0, 127), (100, 200)] {
        let expand = square((11, 9), 3, 2, (3, 32));
        let pair = Pair::random(expand, 3, 1, seed).narrow(range, 8);
        assert_eq!(pair.check(), fused_sets(&pair.expand), "{:?}", pair.expand);
    }
}

#[test]
fn stems() {
    let mut seed = 1000;
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1)] {
        for (h, w) in [(6, 6), (11, 9), (24, 31), (5, 64)] {
            for filter in [3, 5] {
                seed += 1;
                let pair = Pair::random(square((h, w), filter, 2, (3, 32)), kernel, stride, seed);
                assert_eq!(pair.check(), fused_sets(&pair.expand), "{:?}", pair.expand);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let pair = Pair::random(ConvGeometry::pointwise(4, 4, 8, 32), 3, 1, 5);
    let mut other = pair.part(1);
    other.geometry.in_h = 5;
    other.geometry.out_h = 5;
    assert!(ExpandDepthwise::new(Isa::Scalar, 1, Offer::Everywhere, pair.part(0), other).is_err());
    let mut short = pair.part(0);
    short.weights = &short.weights[1..];
    assert!(ExpandDepthwise::new(Isa::Scalar, 1, Offer::Everywhere, short, pair.part(1)).is_err());
}

#[test]
fn projections_add_the_residual_before_rounding_and_read_blocks() {
    let mut seed = 2000;
    let shapes = [
        (1, 32, 16),
        (13, 96, 24),
        (49, 144, 40),
        (7, 240, 80),
        (30, 40, 112),
        (25, 672, 192),
        (5, 33, 9),
        (61, 48, 48),
        (6, 64, 33),
    ];
    for ((pixels, in_c, out_c), range) in
        shapes.into_iter().flat_map(|shape| WEIGHT_RANGES.map(|range| (shape, range)))
    {
        seed += 1;
        let mut random = Random::new(seed);
        let g = ConvGeometry::pointwise(1, pixels, in_c, out_c);
        let weights = random.weights(in_c * out_c, range);
        let image = random.bytes(g.input_len());
        let zero_point = random.pick(&ZERO_POINTS);
        let output = random.requantize(out_c, in_c);
        let added = random.bytes(g.output_len());
        let residual = Residual { zero_point: random.pick(&ZERO_POINTS), multiplier: 0.37 };
        let mut expected = Vec::new();
        for p in 0..pixels {
            for n in 0..out_c {
                let sum: i32 = (0..in_c)
                    .map(|k| {
                        (i32::from(image[p * in_c + k]) - i32::from(zero_point))
                            * i32::from(weights[n * in_c + k])
                    })
                    .sum();
                let value = (sum + output.bias[n]) as f32 * output.multiplier[n];
                let code = i32::from(added[p * out_c + n]) - i32::from(residual.zero_point);
                let value = value + code as f32 * residual.multiplier;
                expected.push(common::finish(value, output.zero_point, output.min, output.max));
            }
        }
        let blocks = to_blocks(&image, in_c);
        for (isa, blocked_input) in
            Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)])
        {
            let options =
                ConvOptions { residual: Some(residual), blocked_input, ..ConvOptions::default() };
            let input = InputCodes::any(zero_point);
            let conv =
                Conv::with_options(isa, g, &weights, input, output.clone(), options).unwrap();
            let what = format!("{} {g:?} blocked {blocked_input}", conv.kernel());
            assert_eq!(conv.kernel().contains("scalar"), isa == Isa::Scalar, "{isa:?} {what}");
            let source = if blocked_input { &blocks } else { &image };
            let split = pixels / 3;
            for range in [0..pixels, 0..split, split..pixels] {
                let part = range.start * out_c..range.end * out_c;
                let (source, added) =
                    (Guarded::of(source, 1), Guarded::of(&added[part.clone()], 3));
                let mut out = Guarded::zeros(part.len(), 1);
                let (into, mut scratch) = (out.get_mut(), Scratch::new());
                conv.run_adding(source.get(), Some(added.get()), range, into, &mut scratch);
                out.check(&what);
                assert_same(out.get(), &expected[part], &what);
            }
        }
    }
}
