//! The two passes of the resize.
//!
//! A sample is `clamp(floor((sum(weight * sample) + 2^21) / 2^22), 0, 255)` after each pass; the sum
//! fits an i32, since the weights of an output sum to 2^22 and overshoot by less than a half.
//!
//! The horizontal pass works on [`ROWS`] rows at a time, which are turned on their side first: the
//! samples of a pixel in all of those rows lie next to each other, so that one weight multiplies a
//! run of [`LANES`] of them. Plain loops over such runs are what compilers turn into vector code.

use crate::picture::Picture;

use super::Plan;
use super::axis::{Axis, PRECISION_BITS};

/// Rows in a block of the horizontal pass.
const ROWS: usize = 8;
/// Samples of one pixel in a block: for each channel, one a row.
const LANES: usize = 3 * ROWS;
/// Samples that the vertical pass works on at a time: their sums stay in registers.
const TILE: usize = 32;
/// A half in the sums' fixed point.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The buffers of a resize.
#[derive(Debug, Default)]
pub(super) struct Resampler {
    /// The columns under the crop of [`ROWS`] rows.
    block: Vec<[i32; LANES]>,
    /// Horizontally resized rows, when that pass is the first.
    window: Window,
    /// [`ROWS`] vertically resized rows, the columns under the crop, when that pass is the first.
    strip: Vec<u8>,
    /// Finished rows of RGB, up to [`ROWS`].
    finished: Vec<u8>,
}

impl Resampler {
    /// Resizes and hands each finished row (`width * 3` bytes of RGB) to `emit` with its number.
    pub(super) fn run(&mut self, picture: &Picture, plan: &Plan, emit: impl FnMut(usize, &[u8])) {
        let columns = (plan.horizontal.end - plan.horizontal.begin) as usize;
        self.block.resize(columns, [0; LANES]);
        self.finished.resize(plan.horizontal.starts.len() * 3 * ROWS, 0);
        if plan.vertical_first {
            self.vertical_first(picture, plan, emit);
        } else {
            self.horizontal_first(picture, plan, emit);
        }
    }

    fn horizontal_first(
        &mut self,
        picture: &Picture,
        plan: &Plan,
        mut emit: impl FnMut(usize, &[u8]),
    ) {
        let Plan { horizontal, vertical, .. } = plan;
        let width = horizontal.starts.len() * 3;
        let row = &mut self.finished[..width];
        self.window.reset(width, vertical);
        let stride = picture.width() as usize * 3;
        let left = horizontal.begin as usize * 3;
        let mut next = vertical.begin;
        for y in 0..vertical.starts.len() {
            let (start, count) = (vertical.starts[y], vertical.counts[y]);
            while next < start + count {
                let rows = (vertical.end - next).min(ROWS as u32) as usize;
                let from = &picture.rgb()[next as usize * stride + left..];
                turn(from, stride, rows, &mut self.block);
                filter_block(&self.block, horizontal, self.window.push(rows, start));
                next += rows as u32;
            }
            filter_column(self.window.from(start), width, vertical.weights(y), row);
            emit(y, row);
        }
    }

    fn vertical_first(
        &mut self,
        picture: &Picture,
        plan: &Plan,
        mut emit: impl FnMut(usize, &[u8]),
    ) {
        let Plan { horizontal, vertical, .. } = plan;
        let stride = picture.width() as usize * 3;
        let left = horizontal.begin as usize * 3;
        let columns = self.block.len() * 3;
        let width = horizontal.starts.len() * 3;
        self.strip.resize(columns * ROWS, 0);
        for y in (0..vertical.starts.len()).step_by(ROWS) {
            let rows = (vertical.starts.len() - y).min(ROWS);
            for (i, to) in self.strip.chunks_exact_mut(columns).take(rows).enumerate() {
                let from = &picture.rgb()[vertical.starts[y + i] as usize * stride + left..];
                filter_column(from, stride, vertical.weights(y + i), to);
            }
            turn(&self.strip, columns, rows, &mut self.block);
            let finished = &mut self.finished[..rows * width];
            filter_block(&self.block, horizontal, finished);
            for (i, row) in finished.chunks_exact(width).enumerate() {
                emit(y + i, row);
            }
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

/// Turns `rows` rows of RGB, one every `stride` bytes, on their side.
fn turn(from: &[u8], stride: usize, rows: usize, block: &mut [[i32; LANES]]) {
    let length = block.len() * 3;
    // A block that is not full repeats its last row; what becomes of it is dropped.
    let row = |row: usize| {
        let at = row.min(rows - 1) * stride;
        from[at..at + length].as_chunks::<3>().0
    };
    // Four at a time: as many as there are registers for.
    for first in (0..ROWS).step_by(4) {
        let four = row(first).iter().zip(row(first + 1)).zip(row(first + 2)).zip(row(first + 3));
        for (lanes, (((a, b), c), d)) in block.iter_mut().zip(four) {
            for channel in 0..3 {
                let samples = [a[channel], b[channel], c[channel], d[channel]].map(i32::from);
                lanes[channel * ROWS + first..][..4].copy_from_slice(&samples);
            }
        }
    }
}

/// The horizontal pass of a block. `to` has room for as many rows as are wanted.
fn filter_block(block: &[[i32; LANES]], axis: &Axis, to: &mut [u8]) {
    let stride = axis.starts.len() * 3;
    for (x, &start) in axis.starts.iter().enumerate() {
        let samples = filter_lanes(&block[(start - axis.begin) as usize..], axis.weights(x));
        for (row, to) in to.chunks_exact_mut(stride).enumerate() {
            let pixel = [samples[row], samples[ROWS + row], samples[2 * ROWS + row]];
            to[x * 3..x * 3 + 3].copy_from_slice(&pixel);
        }
    }
}

/// One output pixel in all rows of a block. Kept apart from the scattered stores of its caller,
/// which would otherwise spoil the vector code (half as fast again, measured).
#[inline(never)]
fn filter_lanes(block: &[[i32; LANES]], weights: &[i32]) -> [u8; LANES] {
    let mut sums = [HALF; LANES];
    for (lanes, &weight) in block.iter().zip(weights) {
        for (sum, &sample) in sums.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(sample.wrapping_mul(weight));
        }
    }
    sums.map(finish)
}

/// The vertical pass of one row: for each weight, `rows` holds a row of the length of `to`, one
/// every `stride` bytes.
fn filter_column(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    let (tiles, rest) = to.as_chunks_mut::<TILE>();
    for (i, tile) in tiles.iter_mut().enumerate() {
        filter_tile(&rows[i * TILE..], stride, weights, tile);
    }
    let at = tiles.len() * TILE;
    for (x, sample) in rest.iter_mut().enumerate() {
        let column = rows[at + x..].iter().step_by(stride);
        let sum = column.zip(weights).map(|(s, w)| i32::from(*s) * w).sum::<i32>();
        *sample = finish(sum + HALF);
    }
}

fn filter_tile(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8; TILE]) {
    let mut sums = [HALF; TILE];
    for (row, &weight) in rows.chunks(stride).zip(weights) {
        let samples: &[u8; TILE] = row.first_chunk().expect("a row has room for the tile");
        for (sum, &sample) in sums.iter_mut().zip(samples) {
            *sum = sum.wrapping_add(i32::from(sample).wrapping_mul(weight));
        }
    }
    *to = sums.map(finish);
}

/// A sum with its half added, as a sample.
#[inline(always)]
fn finish(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
