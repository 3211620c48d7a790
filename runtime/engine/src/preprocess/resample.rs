//! The order of the two passes of a resize, and what lies between them: see
//! [`kinglet_kernels::resample`] for the passes themselves.

use kinglet_kernels::resample::{Layout, ROWS, Resample, Taps, Turned};

use super::Plan;
use super::axis::Axis;

/// How pixels of RGB lie in a row.
const RGB: Layout = Layout { first: 0, step: 3, channels: 3 };

/// A part of a picture in RGB that holds what its plan needs.
#[derive(Clone, Copy)]
pub(super) struct Samples<'a> {
    pub(super) rgb: &'a [u8],
    /// From one row to the next, bytes.
    pub(super) stride: usize,
    /// Where in the picture the first sample lies, pixels.
    pub(super) left: u32,
    pub(super) top: u32,
}

impl<'a> Samples<'a> {
    /// What begins with row `y` of the picture and the plan's first column.
    fn from(&self, y: u32, plan: &Plan) -> &'a [u8] {
        let column = (plan.horizontal.begin - self.left) as usize;
        &self.rgb[(y - self.top) as usize * self.stride + column * 3..]
    }
}

/// The buffers of a resize.
#[derive(Debug)]
pub(super) struct Resampler {
    pub(super) passes: Resample,
    /// The columns under the crop of [`ROWS`] rows, turned.
    pub(super) block: Vec<Turned>,
    /// [`ROWS`] horizontally resized rows, turned.
    pub(super) turned: Vec<Turned>,
    /// Horizontally resized rows, when that pass is the first.
    window: Window,
    /// [`ROWS`] vertically resized rows, the columns under the crop, when that pass is the first.
    pub(super) strip: Vec<u8>,
    /// Finished rows of RGB, up to [`ROWS`].
    pub(super) finished: Vec<u8>,
}

impl Resampler {
    pub(super) fn new(passes: Resample) -> Self {
        let (block, turned, strip, finished) = Default::default();
        Self { passes, block, turned, window: Window::default(), strip, finished }
    }

    /// Resizes and hands each finished row (`width * 3` bytes of RGB) to `emit` with its number.
    pub(super) fn run(&mut self, from: Samples<'_>, plan: &Plan, emit: impl FnMut(usize, &[u8])) {
        self.block.resize(plan.horizontal.length() * 3, [0; ROWS]);
        let width = plan.horizontal.starts.len() * 3;
        self.turned.resize(width, [0; ROWS]);
        self.finished.resize(width * ROWS, 0);
        if plan.vertical_first {
            self.vertical_first(from, plan, emit);
        } else {
            self.horizontal_first(from, plan, emit);
        }
    }

    fn horizontal_first(
        &mut self,
        from: Samples<'_>,
        plan: &Plan,
        mut emit: impl FnMut(usize, &[u8]),
    ) {
        let Plan { horizontal, vertical, .. } = plan;
        let width = horizontal.starts.len() * 3;
        let row = &mut self.finished[..width];
        self.window.reset(width, vertical);
        let mut next = vertical.begin;
        for y in 0..vertical.starts.len() {
            let (start, count) = (vertical.starts[y], vertical.counts[y]);
            while next < start + count {
                let rows = (vertical.end - next).min(ROWS as u32) as usize;
                self.passes.turn(from.from(next, plan), from.stride, rows, &mut self.block);
                self.passes.horizontal(&self.block, RGB, &horizontal.taps(), &mut self.turned);
                self.passes.turn_back(&self.turned, self.window.push(rows, start));
                next += rows as u32;
            }
            self.passes.vertical(self.window.from(start), width, vertical.weights(y), row);
            emit(y, row);
        }
    }

    fn vertical_first(
        &mut self,
        from: Samples<'_>,
        plan: &Plan,
        mut emit: impl FnMut(usize, &[u8]),
    ) {
        let Plan { horizontal, vertical, .. } = plan;
        let columns = self.block.len();
        let width = horizontal.starts.len() * 3;
        self.strip.resize(columns * ROWS, 0);
        for y in (0..vertical.starts.len()).step_by(ROWS) {
            let rows = (vertical.starts.len() - y).min(ROWS);
            for (i, to) in self.strip.chunks_exact_mut(columns).take(rows).enumerate() {
                let samples = from.from(vertical.starts[y + i], plan);
                self.passes.vertical(samples, from.stride, vertical.weights(y + i), to);
            }
            self.passes.turn(&self.strip, columns, rows, &mut self.block);
            self.passes.horizontal(&self.block, RGB, &horizontal.taps(), &mut self.turned);
            let finished = &mut self.finished[..rows * width];
            self.passes.turn_back(&self.turned, finished);
            for (i, row) in finished.chunks_exact(width).enumerate() {
                emit(y + i, row);
            }
        }
    }
}

impl Axis {
    /// For the passes, whose blocks begin with the first position that is read.
    pub(super) fn taps(&self) -> Taps<'_> {
        Taps {
            starts: &self.offsets,
            counts: &self.counts,
            weights: &self.weights,
            taps: self.taps,
        }
    }
}

/// A run of horizontally resized rows, each of `stride` bytes, in one piece: the live ones move to
/// the front when the end is reached.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    stride: usize,
    /// Picture row of the first row in `bytes`.
    base: u32,
    /// Rows in `bytes`.
    filled: usize,
    /// Room for rows.
    capacity: usize,
}

impl Window {
    fn reset(&mut self, stride: usize, vertical: &Axis) {
        // Twice what one output needs: then a row moves to the front about once in its life.
        self.capacity = (vertical.taps + ROWS) * 2;
        self.stride = stride;
        self.base = vertical.begin;
        self.filled = 0;
        self.bytes.resize(self.capacity * stride, 0);
    }

    /// Room for the next rows; those before picture row `keep` may be dropped.
    fn push(&mut self, rows: usize, keep: u32) -> &mut [u8] {
        if self.filled + rows > self.capacity {
            let dropped = (keep - self.base) as usize;
            self.bytes.copy_within(dropped * self.stride..self.filled * self.stride, 0);
            self.base = keep;
            self.filled -= dropped;
        }
        self.filled += rows;
        &mut self.bytes[(self.filled - rows) * self.stride..self.filled * self.stride]
    }

    /// What begins with a picture row.
    fn from(&self, start: u32) -> &[u8] {
        &self.bytes[(start - self.base) as usize * self.stride..]
    }
}
