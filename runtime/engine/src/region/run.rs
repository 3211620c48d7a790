//! Running a planned region.

use std::ops::Range;
use std::time::{Duration, Instant};

use kinglet_kernels::{Scratch, Workers};

use super::plan::{Kernel, Place, Plan, PlannedStep};

/// Outputs smaller than this are not worth waking other threads for, bytes.
const MIN_PARALLEL: usize = 8 << 10;
/// Pieces a thread: with more than one, a thread that came late or lost its core holds up less.
const PIECES: usize = 2;

/// Divides `units` of work, `unit_len` outputs each, among the threads.
fn split(
    workers: &Workers,
    units: usize,
    output: &mut [u8],
    scratches: &mut [Scratch],
    work: impl Fn(Range<usize>, &mut [u8], &mut Scratch) + Sync,
) {
    if workers.threads() == 1 || output.len() < MIN_PARALLEL || units < 2 {
        return work(0..units, output, &mut scratches[0]);
    }
    let unit_len = output.len() / units;
    let share = units.div_ceil(workers.threads() * PIECES);
    workers.split(output, share * unit_len, scratches, |piece, part, scratch| {
        let start = piece * share;
        work(start..start + part.len() / unit_len, part, scratch);
    });
}

/// Buffers of one running region, kept between runs.
#[derive(Default)]
pub(crate) struct RunState {
    arena: Vec<u8>,
    scratches: Vec<Scratch>,
    /// Time of each step of the last run, when asked for.
    pub(crate) times: Option<Vec<Duration>>,
}

/// A tensor given from outside.
pub(super) enum Given<'a> {
    Codes(&'a [u8]),
    F32(&'a [f32]),
}

impl Plan {
    /// Runs all steps. `given` are the region's inputs, `f32_outputs` its f32 outputs (those that
    /// are codes stay in the arena; see [`RunState::codes`]).
    pub(super) fn run(
        &self,
        workers: &Workers,
        state: &mut RunState,
        given: &[Given<'_>],
        f32_outputs: &mut [Vec<f32>],
    ) {
        state.arena.resize(self.arena_bytes, 0);
        state.scratches.resize_with(workers.threads(), Scratch::default);
        let RunState { arena, scratches, times } = state;
        if let Some(times) = times {
            times.clear();
        }
        for step in &self.steps {
            let start = times.as_ref().map(|_| Instant::now());
            for image in 0..self.batch {
                step.run(image, workers, arena, scratches, given, f32_outputs);
            }
            if let (Some(times), Some(start)) = (times.as_mut(), start) {
                times.push(start.elapsed());
            }
        }
    }
}

impl RunState {
    /// Codes that a run left in the arena.
    pub(super) fn codes(&self, range: &Range<usize>) -> &[u8] {
        &self.arena[range.clone()]
    }
}

/// The part of a value that belongs to one image.
fn of_image(range: &Range<usize>, len: usize, image: usize) -> Range<usize> {
    let start = range.start + image * len;
    start..start + len
}

impl PlannedStep {
    fn run(
        &self,
        image: usize,
        workers: &Workers,
        arena: &mut [u8],
        scratches: &mut [Scratch],
        given: &[Given<'_>],
        f32_outputs: &mut [Vec<f32>],
    ) {
        if let Place::Output(at) = self.output {
            let mut unused = Vec::new();
            let len = self.output_len;
            let out = match f32_outputs.get_mut(at) {
                Some(out) => &mut out[image * len..(image + 1) * len],
                // Nothing reads it.
                None => {
                    unused.resize(len, 0.0);
                    &mut unused[..]
                }
            };
            let input = match &self.inputs[0] {
                Place::Arena(range) => &arena[of_image(range, self.input_lens[0], image)],
                other => self.given_codes(0, other, given, image),
            };
            match &self.kernel {
                Kernel::Dequantize(k) => k.run(input, out),
                Kernel::Linear(k) => k.run_f32(input, out, &mut scratches[0]),
                _ => unreachable!("only these give f32"),
            }
            return;
        }
        let Place::Arena(output) = &self.output else { unreachable!("outputs were handled") };
        let output = of_image(output, self.output_len, image);
        if let Kernel::Quantize(k) = &self.kernel {
            let Place::Input(at) = self.inputs[0] else { unreachable!("f32 comes from outside") };
            let Given::F32(all) = given[at] else { unreachable!("typed by the plan") };
            let len = self.input_lens[0];
            k.run(&all[image * len..(image + 1) * len], &mut arena[output]);
            return;
        }
        let (a, b, out) = self.slices(image, arena, output, given);
        self.run_codes(workers, scratches, a, b, out);
    }

    fn run_codes(
        &self,
        workers: &Workers,
        scratches: &mut [Scratch],
        a: &[u8],
        b: &[u8],
        out: &mut [u8],
    ) {
        match &self.kernel {
            Kernel::Conv(k) => {
                let out_c = k.geometry().out_c;
                split(workers, k.pixels(), out, scratches, |range, part, scratch| {
                    let added = k.adds().then(|| &b[range.start * out_c..range.end * out_c]);
                    k.run_adding(a, added, range, part, scratch);
                });
            }
            Kernel::ExpandDepthwise(k) => {
                workers.split_uneven(out, k.unit_ends(), scratches, |unit, part, scratch| {
                    k.run(a, unit, part, scratch);
                });
            }
            Kernel::Depthwise(k) => {
                split(workers, k.rows(), out, scratches, |range, part, scratch| {
                    k.run(a, range, part, scratch);
                });
            }
            Kernel::Linear(k) => k.run_u8(a, out, &mut scratches[0]),
            Kernel::Add(k) => k.run(a, b, out),
            Kernel::Mul(k) => k.run(a, b, out),
            Kernel::MulChannels(k) => k.run_channels(a, b, out),
            Kernel::Pool(k) => k.run(a, out, &mut scratches[0]),
            Kernel::Lookup(k) => k.run(a, out),
            Kernel::Quantize(_) | Kernel::Dequantize(_) => unreachable!("handled by the caller"),
        }
    }

    fn given_codes<'a>(
        &self,
        which: usize,
        place: &Place,
        given: &[Given<'a>],
        image: usize,
    ) -> &'a [u8] {
        let Place::Input(at) = place else { unreachable!("f32 results are not read inside") };
        let Given::Codes(all) = given[*at] else { unreachable!("typed by the plan") };
        let len = self.input_lens[which];
        &all[image * len..(image + 1) * len]
    }

    /// The input slices (the second is empty for steps with one) and the output slice.
    fn slices<'a>(
        &self,
        image: usize,
        arena: &'a mut [u8],
        output: Range<usize>,
        given: &[Given<'a>],
    ) -> (&'a [u8], &'a [u8], &'a mut [u8]) {
        let disjoint = "values alive together do not share bytes";
        let range = |i: usize| match self.inputs.get(i) {
            Some(Place::Arena(range)) => Some(of_image(range, self.input_lens[i], image)),
            _ => None,
        };
        let outside = |i: usize| match self.inputs.get(i) {
            None => &[][..],
            Some(place) => self.given_codes(i, place, given, image),
        };
        match (range(0), range(1)) {
            (Some(a), Some(b)) if a == b => {
                let [a, out] = arena.get_disjoint_mut([a, output]).expect(disjoint);
                (&*a, &*a, out)
            }
            (Some(a), Some(b)) => {
                let [a, b, out] = arena.get_disjoint_mut([a, b, output]).expect(disjoint);
                (&*a, &*b, out)
            }
            (Some(a), None) => {
                let [a, out] = arena.get_disjoint_mut([a, output]).expect(disjoint);
                (&*a, outside(1), out)
            }
            (None, Some(b)) => {
                let [b, out] = arena.get_disjoint_mut([b, output]).expect(disjoint);
                (outside(0), &*b, out)
            }
            (None, None) => (outside(0), outside(1), &mut arena[output]),
        }
    }
}
