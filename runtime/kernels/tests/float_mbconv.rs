//! Whole float blocks give the bits of their layers one after the other on the same instruction set,
//! on any number of threads; and so does a head with its mean.
#![allow(missing_docs)]

mod float_common;

use float_common::{ACTIVATIONS, Random};
use half::f16;
use kinglet_kernels::float::mbconv::{First, MbConv, Pair, Projection, Squeeze};
use kinglet_kernels::float::{
    Activation, Conv, ConvPool, Depthwise, Element, GlobalAveragePool, Linear, Mul,
};
use kinglet_kernels::{ConvGeometry, Isa, Scratch, Workers};

/// A layer's parameters.
struct Layer {
    geometry: ConvGeometry,
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl Layer {
    fn random(
        random: &mut Random,
        (h, w): (usize, usize),
        (kernel, stride): (usize, usize),
        (in_c, out_c): (usize, usize),
        depthwise: bool,
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
        Layer {
            geometry,
            weights: random.values(depth * out_c, 1.0 / (depth as f32).sqrt()),
            bias: random.values(out_c, 0.5),
            activation: ACTIVATIONS[random.below(ACTIVATIONS.len())],
        }
    }

    fn conv<T: Element>(&self, isa: Isa) -> Conv<T> {
        Conv::new(isa, self.geometry, &self.weights, &self.bias, self.activation).unwrap()
    }

    fn depthwise<T: Element>(&self, isa: Isa) -> Depthwise<T> {
        Depthwise::new(isa, self.geometry, &self.weights, &self.bias, self.activation).unwrap()
    }

    fn linear<T: Element>(&self, isa: Isa) -> Linear<T> {
        let (from, to) = (self.geometry.in_c, self.geometry.out_c);
        Linear::new(isa, from, to, &self.weights, &self.bias, self.activation).unwrap()
    }
}

fn same<T: Element>(found: &[T], expected: &[T], what: &str) {
    let bits = |value: &T| value.to_f32().to_bits();
    assert!(found.iter().map(bits).eq(expected.iter().map(bits)), "{what}");
}

/// What makes the many channels; a pair's first layer has this window.
#[derive(Clone, Copy, PartialEq)]
enum Front {
    Depthwise,
    Conv,
    Pair(usize, usize),
}

fn check<T: Element>(
    seed: u64,
    size: (usize, usize),
    window: (usize, usize),
    [input, between, out]: [usize; 3],
    (front, squeezed): (Front, bool),
) {
    let mut random = Random::new(seed);
    let expand = match front {
        Front::Pair(kernel, stride) => {
            Some(Layer::random(&mut random, size, (kernel, stride), (input, between), false))
        }
        _ => None,
    };
    let depthwise = front != Front::Conv;
    let size = expand.as_ref().map_or(size, |e| (e.geometry.out_h, e.geometry.out_w));
    let input = if depthwise { between } else { input };
    let first = Layer::random(&mut random, size, window, (input, between), depthwise);
    let (h, w) = (first.geometry.out_h, first.geometry.out_w);
    let few = between.div_ceil(5);
    let reduce = Layer::random(&mut random, (1, 1), (1, 1), (between, few), false);
    let excite = Layer::random(&mut random, (1, 1), (1, 1), (few, between), false);
    let project = Layer::random(&mut random, (h, w), (1, 1), (between, out), false);
    let adds = seed & 1 > 0;
    let start = expand.as_ref().map_or(&first, |expand| expand);
    let image: Vec<T> = random.values(start.geometry.input_len(), 1.0);
    let added: Vec<T> = random.values(h * w * out, 1.0);
    let added = adds.then_some(&added[..]);
    for isa in Isa::available() {
        let mut scratch = Scratch::new();
        let mut made = vec![T::default(); h * w * between];
        if let Some(expand) = &expand {
            let mut expanded = vec![T::default(); first.geometry.input_len()];
            let conv = expand.conv::<T>(isa);
            conv.run(&image, None, 0..conv.pixels(), &mut expanded, &mut scratch);
            first.depthwise::<T>(isa).run(&expanded, 0..h, &mut made);
        } else if depthwise {
            first.depthwise::<T>(isa).run(&image, 0..h, &mut made);
        } else {
            first.conv::<T>(isa).run(&image, None, 0..h * w, &mut made, &mut scratch);
        }
        if squeezed {
            let mut gates = [vec![T::default(); between], vec![T::default(); few]];
            let [means, reduced] = &mut gates;
            let pool = GlobalAveragePool::new(isa, h * w, between).unwrap();
            pool.run(&made, means, &mut scratch);
            reduce.linear::<T>(isa).run(means, 0..few, reduced);
            excite.linear::<T>(isa).run(reduced, 0..between, means);
            let unscaled = made.clone();
            Mul::new(isa).unwrap().run_channels(&unscaled, means, &mut made);
        }
        let mut expected = vec![T::default(); h * w * out];
        project.conv::<T>(isa).run(&made, added, 0..h * w, &mut expected, &mut scratch);
        for threads in 1..=3 {
            let workers = Workers::new(threads).unwrap();
            let mut scratches: Vec<Scratch> = (0..threads).map(|_| Scratch::new()).collect();
            let squeeze = squeezed
                .then(|| Squeeze::new(isa, h * w, reduce.linear(isa), excite.linear(isa)).unwrap());
            let front = match &expand {
                Some(expand) => {
                    First::Pair(Pair::new(expand.conv(isa), first.depthwise(isa)).unwrap())
                }
                None if depthwise => First::Depthwise(first.depthwise::<T>(isa)),
                None => First::Conv(first.conv(isa)),
            };
            let projection = Projection {
                geometry: project.geometry,
                weights: &project.weights,
                bias: &project.bias,
                activation: project.activation,
                adds,
            };
            let block = MbConv::new(isa, front, squeeze, projection).unwrap();
            let mut found = vec![T::from_f32(9.0); h * w * out];
            let mut between = vec![T::default(); block.between_len()];
            block.run(&workers, &image, added, &mut between, &mut found, &mut scratches);
            same(
                &found,
                &expected,
                &format!("{:?} {:?}", block.kernels().collect::<Vec<_>>(), first.geometry),
            );
        }
    }
}

#[test]
fn blocks_with_and_without_excitation() {
    let mut seed = 0;
    for size in [(1, 1), (5, 4), (7, 7), (14, 29)] {
        for window in [(3, 1), (3, 2), (5, 1)] {
            let fronts = [Front::Depthwise, Front::Conv, Front::Pair(1, 1), Front::Pair(3, 2)];
            for kind in fronts.into_iter().flat_map(|front| [(front, false), (front, true)]) {
                seed += 1;
                let channels = [[8, 96, 24], [5, 33, 7], [3, 320, 17]][seed as usize / 8 % 3];
                check::<f32>(seed, size, window, channels, kind);
                if seed % 3 == 0 {
                    check::<f16>(seed + 1, size, window, channels, kind);
                }
            }
        }
    }
}

#[test]
fn strips_that_hold_a_part_of_the_image() {
    // Many rows of many bytes, so that the strip is made anew and rows are kept.
    for (seed, window) in [(0, (3, 1)), (1, (3, 2)), (2, (5, 1)), (3, (5, 2)), (4, (1, 2))] {
        for front in [Front::Pair(1, 1), Front::Pair(3, 2)] {
            check::<f32>(900 + seed, (23, 40), window, [8, 208, 16], (front, seed % 2 == 0));
        }
    }
}

fn head<T: Element>(seed: u64, size: (usize, usize), channels: (usize, usize)) {
    let mut random = Random::new(seed);
    let layer = Layer::random(&mut random, size, (1, 1), channels, false);
    let (pixels, out_c) = (size.0 * size.1, channels.1);
    let image: Vec<T> = random.values(layer.geometry.input_len(), 1.0);
    for isa in Isa::available() {
        let mut scratch = Scratch::new();
        let mut made = vec![T::default(); pixels * out_c];
        layer.conv::<T>(isa).run(&image, None, 0..pixels, &mut made, &mut scratch);
        let mut expected = vec![T::default(); out_c];
        let pool = GlobalAveragePool::new(isa, pixels, out_c).unwrap();
        pool.run(&made, &mut expected, &mut scratch);
        for threads in 1..=3 {
            let workers = Workers::new(threads).unwrap();
            let mut scratches: Vec<Scratch> = (0..threads).map(|_| Scratch::new()).collect();
            let Layer { geometry, weights, bias, activation } = &layer;
            let both = ConvPool::new(isa, threads, *geometry, weights, bias, *activation).unwrap();
            let mut found = vec![T::from_f32(9.0); out_c];
            both.run(&workers, &image, &mut found, &mut scratches);
            same(&found, &expected, &format!("{:?} {geometry:?}", both.kernels()));
        }
    }
}

#[test]
fn heads_and_their_means() {
    let mut seed = 100;
    for size in [(1, 1), (7, 7), (3, 5), (16, 17)] {
        for channels in [(8, 1), (40, 64), (33, 100), (20, 192), (16, 640)] {
            seed += 1;
            head::<f32>(seed, size, channels);
            head::<f16>(seed, size, channels);
        }
    }
}
