//! The two passes of the resize, row by row.
//!
//! A sample is `clamp(floor((sum(weight * sample) + 2^21) / 2^22), 0, 255)` after each pass. To
//! let compilers use 16-bit multiply-add instructions (PMADDWD, SMLAL), which every target has, a
//! weight is split in two small parts that are summed apart and put together at the end; sums wrap,
//! which is exact, since the whole sum fits 32 bits.

use crate::picture::Picture;

use super::Plan;
use super::axis::{Axis, PRECISION_BITS, SPLIT_BITS};

/// Samples that the vertical pass works on at a time: they stay in registers.
const TILE: usize = 32;

/// The buffers of a resize.
#[derive(Debug, Default)]
pub(super) struct Resampler {
    /// The columns under the crop of one row: red, green and blue apart, each with room for the
    /// padding of the last window.
    planes: [Vec<i16>; 3],
    /// Horizontally resized rows, when that pass is the first.
    window: Window,
    /// The columns under the crop of one vertically resized row, when that pass is the first.
    column_row: Vec<u8>,
    /// One finished row of RGB.
    row: Vec<u8>,
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

impl Resampler {
    /// Resizes and hands each finished row (`width * 3` bytes of RGB) to `emit` with its number.
    pub(super) fn run(&mut self, picture: &Picture, plan: &Plan, emit: impl FnMut(usize, &[u8])) {
        let columns = (plan.horizontal.end - plan.horizontal.begin) as usize;
        for plane in &mut self.planes {
            plane.resize(columns + plan.horizontal.taps, 0);
        }
        self.row.resize(plan.horizontal.starts.len() * 3, 0);
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
        self.window.reset(self.row.len(), vertical);
        let stride = picture.width() as usize * 3;
        let crop = horizontal.begin as usize * 3..horizontal.end as usize * 3;
        let mut next = vertical.begin;
        for y in 0..vertical.starts.len() {
            let (start, count) = (vertical.starts[y], vertical.counts[y]);
            while next < start + count {
                let from = &picture.rgb()[next as usize * stride..][crop.clone()];
                split_planes(from, &mut self.planes);
                filter_row(&self.planes, horizontal, self.window.push(start));
                next += 1;
            }
            let rows = self.window.rows(start, count);
            filter_column(rows, self.row.len(), vertical.weights(y), &mut self.row);
            emit(y, &self.row);
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
        self.column_row.resize((horizontal.end - horizontal.begin) as usize * 3, 0);
        for y in 0..vertical.starts.len() {
            let first = vertical.starts[y] as usize * stride + horizontal.begin as usize * 3;
            let rows = &picture.rgb()[first..];
            filter_column(rows, stride, vertical.weights(y), &mut self.column_row);
            split_planes(&self.column_row, &mut self.planes);
            filter_row(&self.planes, horizontal, &mut self.row);
            emit(y, &self.row);
        }
    }
}

impl Window {
    fn reset(&mut self, stride: usize, vertical: &Axis) {
        // Twice what one output needs: then a row moves to the front about once in its life.
        self.capacity = vertical.taps * 2;
        self.stride = stride;
        self.base = vertical.begin;
        self.filled = 0;
        self.bytes.resize(self.capacity * stride, 0);
    }

    /// Room for the next row; rows before `keep` may be dropped.
    fn push(&mut self, keep: u32) -> &mut [u8] {
        if self.filled == self.capacity {
            let dropped = (keep - self.base) as usize;
            self.bytes.copy_within(dropped * self.stride..self.filled * self.stride, 0);
            self.base = keep;
            self.filled -= dropped;
        }
        self.filled += 1;
        &mut self.bytes[(self.filled - 1) * self.stride..self.filled * self.stride]
    }

    fn rows(&self, start: u32, count: u32) -> &[u8] {
        let first = (start - self.base) as usize;
        &self.bytes[first * self.stride..(first + count as usize) * self.stride]
    }
}

fn split_planes(rgb: &[u8], [red, green, blue]: &mut [Vec<i16>; 3]) {
    let pixels = rgb.as_chunks::<3>().0.iter();
    for (((pixel, r), g), b) in pixels.zip(red).zip(green).zip(blue) {
        *r = pixel[0].into();
        *g = pixel[1].into();
        *b = pixel[2].into();
    }
}

/// The horizontal pass of one row, with the loop over taps unrolled for the usual numbers of them.
fn filter_row(planes: &[Vec<i16>; 3], axis: &Axis, to: &mut [u8]) {
    match axis.taps {
        4 => filter_row_of::<4>(planes, axis, to),
        8 => filter_row_of::<8>(planes, axis, to),
        12 => filter_row_of::<12>(planes, axis, to),
        16 => filter_row_of::<16>(planes, axis, to),
        20 => filter_row_of::<20>(planes, axis, to),
        24 => filter_row_of::<24>(planes, axis, to),
        28 => filter_row_of::<28>(planes, axis, to),
        32 => filter_row_of::<32>(planes, axis, to),
        taps => filter_row_any(planes, axis, taps, to),
    }
}

fn filter_row_of<const TAPS: usize>(planes: &[Vec<i16>; 3], axis: &Axis, to: &mut [u8]) {
    let low = axis.low.as_chunks::<TAPS>().0;
    let high = axis.high.as_chunks::<TAPS>().0;
    let pixels = to.as_chunks_mut::<3>().0;
    for (((pixel, &start), low), high) in pixels.iter_mut().zip(&axis.starts).zip(low).zip(high) {
        let first = (start - axis.begin) as usize;
        for (sample, plane) in pixel.iter_mut().zip(planes) {
            let window: &[i16; TAPS] = plane[first..].first_chunk().expect("planes are padded");
            *sample = finish(dot(window, low), dot(window, high));
        }
    }
}

fn filter_row_any(planes: &[Vec<i16>; 3], axis: &Axis, taps: usize, to: &mut [u8]) {
    let pixels = to.as_chunks_mut::<3>().0;
    for (i, (pixel, &start)) in pixels.iter_mut().zip(&axis.starts).enumerate() {
        let first = (start - axis.begin) as usize;
        let (low, high) = (&axis.low[i * taps..][..taps], &axis.high[i * taps..][..taps]);
        for (sample, plane) in pixel.iter_mut().zip(planes) {
            let window = &plane[first..first + taps];
            *sample = finish(dot(window, low), dot(window, high));
        }
    }
}

#[inline(always)]
fn dot(samples: &[i16], weights: &[i16]) -> i32 {
    samples
        .iter()
        .zip(weights)
        .fold(0, |sum: i32, (s, w)| sum.wrapping_add(i32::from(*s) * i32::from(*w)))
}

/// Puts the two partial sums together and rounds.
#[inline(always)]
fn finish(low: i32, high: i32) -> u8 {
    let sum = (high << SPLIT_BITS).wrapping_add(low).wrapping_add(1 << (PRECISION_BITS - 1));
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The vertical pass of one row: for each weight, `rows` holds a row of the length of `to`, one
/// every `stride` bytes.
fn filter_column(rows: &[u8], stride: usize, (low, high): (&[i16], &[i16]), to: &mut [u8]) {
    let (tiles, rest) = to.as_chunks_mut::<TILE>();
    let mut at = 0;
    for tile in tiles {
        filter_tile(&rows[at..], stride, low, high, tile);
        at += TILE;
    }
    for (x, sample) in rest.iter_mut().enumerate() {
        let (mut sum_low, mut sum_high) = (0i32, 0i32);
        for ((s, l), h) in rows[at + x..].iter().step_by(stride).zip(low).zip(high) {
            sum_low = sum_low.wrapping_add(i32::from(*s) * i32::from(*l));
            sum_high = sum_high.wrapping_add(i32::from(*s) * i32::from(*h));
        }
        *sample = finish(sum_low, sum_high);
    }
}

fn filter_tile(rows: &[u8], stride: usize, low: &[i16], high: &[i16], to: &mut [u8; TILE]) {
    let (mut sum_low, mut sum_high) = ([0i32; TILE], [0i32; TILE]);
    for ((row, l), h) in rows.chunks(stride).zip(low).zip(high) {
        let samples: &[u8; TILE] = row.first_chunk().expect("a row has room for the tile");
        for i in 0..TILE {
            let sample = i32::from(i16::from(samples[i]));
            sum_low[i] = sum_low[i].wrapping_add(sample * i32::from(*l));
            sum_high[i] = sum_high[i].wrapping_add(sample * i32::from(*h));
        }
    }
    for i in 0..TILE {
        to[i] = finish(sum_low[i], sum_high[i]);
    }
}
