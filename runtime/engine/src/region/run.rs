//! Running a planned region.

use std::ops::Range;
use std::time::{Duration, Instant};

use half::f16;
use half::slice::HalfBitsSliceExt as _;
use kinglet_kernels::linear::GROUP;
use kinglet_kernels::{Bytes, Scratch, Workers};

use super::plan::{Element, Features, Kernel, Place, Plan, PlannedStep};

/// Buffers of one running region, kept between runs.
#[derive(Default)]
pub(crate) struct RunState {
    arena: Bytes,
    scratches: Vec<Scratch>,
    /// Time of each step of the last run, when asked for.
    pub(crate) times: Option<Vec<Duration>>,
}

impl RunState {
    /// With an arena that suits a plan: it grows for no other.
    pub(super) fn new(arena: Bytes) -> Self {
        Self { arena, ..Self::default() }
    }
}

impl Plan {
    /// Runs all steps. `given` are the bytes of the region's inputs, `outputs` its f32 outputs
    /// (what else leaves the region stays in the arena; see [`RunState::left`]).
    pub(super) fn run(
        &self,
        workers: &Workers,
        state: &mut RunState,
        given: &[&[u8]],
        outputs: &mut [Vec<f32>],
    ) {
        state.scratches.resize_with(workers.threads(), Scratch::default);
        let RunState { arena, scratches, times } = state;
        assert_eq!(arena.len(), self.arena_bytes, "the plan's arena");
        if let Some(times) = times {
            times.clear();
        }
        for step in &self.steps {
            let start = times.as_ref().map(|_| Instant::now());
            for image in 0..self.batch {
                step.run(image, workers, arena, scratches, given, outputs);
            }
            if let (Some(times), Some(start)) = (times.as_mut(), start) {
                times.push(start.elapsed());
            }
        }
        // Which thread gets which piece differs from run to run: all are ready for all of them now.
        if let Some((first, others)) = scratches.split_first_mut() {
            others.iter().for_each(|other| first.reserve_like(other));
            others.iter_mut().for_each(|other| other.reserve_like(first));
        }
    }
}

impl Plan {
    /// The features of the last run: what the last fully connected layer read, of the first image.
    /// Whether there are any.
    pub(super) fn features_into(&self, state: &RunState, features: &mut Vec<f32>) -> bool {
        features.clear();
        let Some(Features { range, element, quantization }) = &self.features else { return false };
        if state.scratches.is_empty() {
            return false;
        }
        let of_one = range.len() / self.batch;
        let bytes = &state.left(range)[..of_one];
        match (element, quantization) {
            (Element::U8, Some(q)) => features.extend(bytes.iter().map(|&code| q.dequantize(code))),
            (Element::F16, _) => {
                let halves: &[f16] = bytemuck::cast_slice::<u8, u16>(bytes).reinterpret_cast();
                features.extend(halves.iter().map(|half| half.to_f32()));
            }
            (Element::F32, _) => features.extend(bytemuck::cast_slice::<u8, f32>(bytes)),
            (Element::U8, None) => return false,
        }
        true
    }
}

impl RunState {
    /// Bytes that a run left in the arena.
    pub(super) fn left(&self, range: &Range<usize>) -> &[u8] {
        &self.arena[range.clone()]
    }
}

/// The part of a value that belongs to one image.
fn of_image(start: usize, bytes: usize, image: usize) -> Range<usize> {
    let start = start + image * bytes;
    start..start + bytes
}

/// Where a step's input is.
enum Source<'a> {
    Arena(Range<usize>),
    Outside(&'a [u8]),
}

impl<'a> Source<'a> {
    /// The bytes, where nothing of the arena is written.
    fn read<'b>(&self, arena: &'b [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Arena(range) => &arena[range.clone()],
            Self::Outside(bytes) => bytes,
        }
    }
}

impl PlannedStep {
    fn run(
        &self,
        image: usize,
        workers: &Workers,
        arena: &mut [u8],
        scratches: &mut [Scratch],
        given: &[&[u8]],
        outputs: &mut [Vec<f32>],
    ) {
        let source = |i: usize| match self.inputs.get(i) {
            Some(Place::Arena(range)) => {
                Source::Arena(of_image(range.start, self.input_bytes[i], image))
            }
            Some(Place::Input(at)) => {
                Source::Outside(&given[*at][of_image(0, self.input_bytes[i], image)])
            }
            Some(Place::Output(_)) => unreachable!("what leaves the region is not read inside"),
            None => Source::Outside(&[]),
        };
        let (a, b) = (source(0), source(1));
        let mut unread = Vec::new();
        let (a, b, between, out) = match &self.output {
            Place::Arena(range) => {
                let output = of_image(range.start, self.output_bytes, image);
                slices(arena, a, b, self.between.clone(), output)
            }
            Place::Output(at) => {
                let out = match outputs.get_mut(*at) {
                    Some(out) => {
                        let all = bytemuck::cast_slice_mut::<f32, u8>(out);
                        &mut all[of_image(0, self.output_bytes, image)]
                    }
                    None => {
                        unread.resize(self.output_bytes / size_of::<f32>(), 0.0_f32);
                        bytemuck::cast_slice_mut(&mut unread)
                    }
                };
                (a.read(arena), b.read(arena), &mut [][..], out)
            }
            Place::Input(_) => unreachable!("a step writes no input"),
        };
        self.run_kernel(workers, scratches, [a, b], between, out);
    }

    fn run_kernel(
        &self,
        workers: &Workers,
        scratches: &mut [Scratch],
        [a, b]: [&[u8]; 2],
        between: &mut [u8],
        out: &mut [u8],
    ) {
        match &self.kernel {
            Kernel::Conv(k) => {
                let out_c = k.geometry().out_c;
                workers.share(k.pixels(), out, scratches, move |range, part, scratch| {
                    let added = k.adds().then(|| &b[range.start * out_c..range.end * out_c]);
                    k.run_adding(a, added, range, part, scratch);
                });
            }
            Kernel::MbConv(k) => {
                let added = k.adds().then_some(b);
                k.run(workers, a, added, between, out, scratches);
            }
            Kernel::SqueezeExcite(k) => {
                k.gates(a, between, &mut scratches[0]);
                let (gates, pixels) = (&*between, k.image().pixels);
                workers.share(pixels, out, scratches, move |range, part, _| {
                    let count = range.len();
                    k.multiply(a, gates, range, count, part);
                });
            }
            Kernel::ConvPool(k) => k.run(workers, a, out, scratches),
            Kernel::Depthwise(k) => {
                workers.share(k.rows(), out, scratches, move |range, part, scratch| {
                    k.run(a, range, part, scratch);
                });
            }
            Kernel::Linear(k) => {
                let bytes = k.weight_bytes();
                workers.share_weights(GROUP, bytes, out, scratches, move |range, part, scratch| {
                    k.run_u8(a, range, part, scratch);
                });
            }
            Kernel::LinearF32(k) => {
                let (bytes, out) = (k.weight_bytes(), bytemuck::cast_slice_mut::<u8, f32>(out));
                workers.share_weights(GROUP, bytes, out, scratches, move |range, part, scratch| {
                    k.run_f32(a, range, part, scratch);
                });
            }
            Kernel::Add(k) => k.run(a, b, out),
            Kernel::Mul(k) => k.run(a, b, out),
            Kernel::MulChannels(k) => k.run_channels(a, b, out),
            Kernel::Pool(k) => k.run(a, out, &mut scratches[0]),
            Kernel::Lookup(k) => k.run(a, out),
            Kernel::Quantize(k) => k.run(bytemuck::cast_slice(a), out),
            Kernel::Dequantize(k) => k.run(a, bytemuck::cast_slice_mut(out)),
            Kernel::F32(k) => k.run(workers, scratches, [a, b], between, out),
            Kernel::F16(k) => k.run(workers, scratches, [a, b], between, out),
        }
    }
}

/// The input slices, and those that are written, which lie in the arena.
fn slices<'a>(
    arena: &'a mut [u8],
    a: Source<'a>,
    b: Source<'a>,
    between: Range<usize>,
    output: Range<usize>,
) -> (&'a [u8], &'a [u8], &'a mut [u8], &'a mut [u8]) {
    // What lies outside takes no bytes of the arena, and one input may be read twice.
    let same = matches!((&a, &b), (Source::Arena(a), Source::Arena(b)) if a == b);
    let range = |source: &Source<'_>| match source {
        Source::Arena(range) => range.clone(),
        Source::Outside(_) => 0..0,
    };
    let ranges = [range(&a), if same { 0..0 } else { range(&b) }, between, output];
    let disjoint = "values alive together do not share bytes";
    let [first, second, between, out] = arena.get_disjoint_mut(ranges).expect(disjoint);
    let (first, second): (&[u8], &[u8]) = (first, second);
    let pick = |source, inside| match source {
        Source::Arena(_) => inside,
        Source::Outside(bytes) => bytes,
    };
    (pick(a, first), pick(b, if same { first } else { second }), between, out)
}
