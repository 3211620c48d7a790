//! Camera frames: their planes are resized as they are, and only the small result is converted to
//! RGB.
//!
//! Conversion is linear, so it may as well come last. Chroma's weights are those of luma added up
//! over the pixels that share a sample; the result is, but for rounding, that of converting the
//! whole frame (each pixel with the chroma that it shares) and resizing then. Two things differ:
//! samples are rounded once a pass before the conversion instead of after it, and colours outside
//! 0..=255 are clamped at the end instead of pixel by pixel (which shows where a frame has colours
//! that RGB cannot hold next to others). The vertical pass is always the first: it works on the
//! rows of the frame as they lie, whatever the format.

use kinglet_kernels::resample::{Layout, ROWS, Turned};
use kinglet_kernels::yuv::YuvToRgb;

use super::Plan;
use super::axis::Axis;
use super::resample::{Resampler, Samples};
use crate::frame::{FrameView, PixelFormat, Plane};

/// Horizontally resized rows of luma and chroma, turned.
#[derive(Debug, Default)]
pub(super) struct Channels([Vec<Turned>; 3]);

/// One plane's way through the passes.
struct Part<'a> {
    plane: Plane<'a>,
    vertical: &'a Axis,
    /// First byte and number of bytes of a row that are under the crop.
    bytes: (usize, usize),
    /// For each channel in it: which one, where it lies, how it is resized.
    channels: &'a [(usize, Layout, &'a Axis)],
}

impl Resampler {
    /// Resizes a frame and hands each finished row of RGB to `emit` with its number.
    pub(super) fn run_frame(
        &mut self,
        frame: &FrameView<'_>,
        plan: &Plan,
        channels: &mut Channels,
        color: &YuvToRgb,
        emit: impl FnMut(usize, &[u8]),
    ) {
        let Plan { horizontal, half_horizontal: half, vertical, half_vertical, .. } = plan;
        let whole =
            |axis: &Axis, bytes: usize| (axis.begin as usize * bytes, axis.length() * bytes);
        let single = Layout { first: 0, step: 1, channels: 1 };
        match (frame.format(), frame.planes()) {
            (PixelFormat::Grey, &[plane]) => {
                let bytes = whole(horizontal, 1);
                let luma = [(0, single, horizontal)];
                let parts = [Part { plane, vertical, bytes, channels: &luma }];
                self.run_parts(&parts, plan, channels, None, emit);
            }
            (PixelFormat::Yuyv, &[plane]) => {
                // Luma may begin in the middle of two pixels that share their chroma.
                let first = (horizontal.begin % 2 * 2) as usize;
                let layout = |first, step| Layout { first, step, channels: 1 };
                let all = [
                    (0, layout(first, 2), horizontal),
                    (1, layout(1, 4), half),
                    (2, layout(3, 4), half),
                ];
                let parts = [Part { plane, vertical, bytes: whole(half, 4), channels: &all }];
                self.run_parts(&parts, plan, channels, Some(color), emit);
            }
            (PixelFormat::Nv12, &[luma, chroma]) => {
                let pair = |first| Layout { first, step: 2, channels: 1 };
                let (y, uv) = ([(0, single, horizontal)], [(1, pair(0), half), (2, pair(1), half)]);
                let bytes = (whole(horizontal, 1), whole(half, 2));
                let parts = [
                    Part { plane: luma, vertical, bytes: bytes.0, channels: &y },
                    Part { plane: chroma, vertical: half_vertical, bytes: bytes.1, channels: &uv },
                ];
                self.run_parts(&parts, plan, channels, Some(color), emit);
            }
            (PixelFormat::I420, &[luma, u, v]) => {
                let [one, two, three] =
                    [(0, horizontal), (1, half), (2, half)].map(|(i, axis)| [(i, single, axis)]);
                let (large, small) = (whole(horizontal, 1), whole(half, 1));
                let parts = [
                    Part { plane: luma, vertical, bytes: large, channels: &one },
                    Part { plane: u, vertical: half_vertical, bytes: small, channels: &two },
                    Part { plane: v, vertical: half_vertical, bytes: small, channels: &three },
                ];
                self.run_parts(&parts, plan, channels, Some(color), emit);
            }
            (_, planes) => {
                // RGB, in the order of passes that pictures have.
                let Plane { bytes: rgb, stride } = planes[0];
                self.run(Samples { rgb, stride, left: 0, top: 0 }, plan, emit);
            }
        }
    }

    /// Without a conversion, luma is all three colours.
    fn run_parts(
        &mut self,
        parts: &[Part<'_>],
        plan: &Plan,
        channels: &mut Channels,
        color: Option<&YuvToRgb>,
        mut emit: impl FnMut(usize, &[u8]),
    ) {
        let (width, height) = (plan.horizontal.starts.len(), plan.vertical.starts.len());
        channels.0.iter_mut().for_each(|channel| channel.resize(width, [0; ROWS]));
        self.turned.resize(width * 3, [0; ROWS]);
        self.finished.resize(width * 3 * ROWS, 0);
        for y in (0..height).step_by(ROWS) {
            let rows = (height - y).min(ROWS);
            for part in parts {
                self.vertical_part(part, y, rows);
                for &(index, layout, axis) in part.channels {
                    let to = &mut channels.0[index];
                    self.passes.horizontal(&self.block, layout, &axis.taps(), to);
                }
            }
            let [luma, u, v] = &channels.0;
            match color {
                Some(color) => color.turned(luma, u, v, &mut self.turned),
                None => {
                    for (to, from) in self.turned.as_chunks_mut::<3>().0.iter_mut().zip(luma) {
                        *to = [*from; 3];
                    }
                }
            }
            let finished = &mut self.finished[..rows * width * 3];
            self.passes.turn_back(&self.turned, finished);
            for (i, row) in finished.chunks_exact(width * 3).enumerate() {
                emit(y + i, row);
            }
        }
    }

    /// The rows `y..y + rows` of a plane, vertically resized and turned, in the block.
    fn vertical_part(&mut self, part: &Part<'_>, y: usize, rows: usize) {
        let (first, length) = part.bytes;
        let stride = part.plane.stride;
        self.strip.resize(length * ROWS, 0);
        self.block.resize(length, [0; ROWS]);
        for (i, to) in self.strip.chunks_exact_mut(length).take(rows).enumerate() {
            let start = part.vertical.starts[y + i] as usize;
            let from = &part.plane.bytes[start * stride + first..];
            self.passes.vertical(from, stride, part.vertical.weights(y + i), to);
        }
        self.passes.turn(&self.strip, length, rows, &mut self.block);
    }
}
