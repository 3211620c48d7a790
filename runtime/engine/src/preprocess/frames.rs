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

use kinglet_kernels::resample::{Packing, ROW_STEP, ROWS, Turned, Weights};
use kinglet_kernels::yuv::YuvToRgb;

use super::Plan;
use super::resample::{Resampler, Samples};
use crate::frame::{FrameView, PixelFormat, Plane};

/// Horizontally resized rows of luma and chroma, turned.
#[derive(Debug, Default)]
pub(super) struct Channels([Vec<Turned>; 3]);

/// One plane's way through the passes.
struct Part<'a> {
    plane: Plane<'a>,
    /// First row under the crop, and how the rows are resized.
    vertical: (u32, &'a Weights),
    /// First byte and number of bytes of a row that are under the crop.
    bytes: (usize, usize),
    packing: Packing,
    /// How its channels are resized, as [`Packing`] says.
    axes: &'a [&'a Weights],
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
        let Plan { half_horizontal: half, luma, chroma, .. } = plan;
        let vertical = (plan.vertical.begin, &plan.rows);
        let half_vertical = (plan.half_vertical.begin, &plan.half_rows);
        // All begin with two pixels that share their chroma.
        let bytes = |of_two: usize| (half.begin as usize * of_two, half.length() * of_two);
        let (begin, length) = bytes(2);
        // An odd row ends before them.
        let luma_bytes = (begin, length.min(frame.width() as usize - begin));
        match (frame.format(), frame.planes()) {
            (PixelFormat::Grey, &[plane]) => {
                let (packing, axes) = (Packing::Planar, &[luma][..]);
                let parts = [Part { plane, vertical, bytes: luma_bytes, packing, axes }];
                self.run_parts(&parts, plan, channels, None, emit);
            }
            (PixelFormat::Yuyv, &[plane]) => {
                let (packing, axes) = (Packing::Yuyv, &[luma, chroma][..]);
                let parts = [Part { plane, vertical, bytes: bytes(4), packing, axes }];
                self.run_parts(&parts, plan, channels, Some(color), emit);
            }
            (PixelFormat::Nv12, &[y, uv]) => {
                let (one, pair) = ([luma], [chroma]);
                let (packing, axes) = (Packing::Planar, &one[..]);
                let y = Part { plane: y, vertical, bytes: luma_bytes, packing, axes };
                let (packing, vertical, axes) = (Packing::Pairs, half_vertical, &pair[..]);
                let uv = Part { plane: uv, vertical, bytes: bytes(2), packing, axes };
                self.run_parts(&[y, uv], plan, channels, Some(color), emit);
            }
            (PixelFormat::I420, &[y, u, v]) => {
                let (packing, luma, chroma) = (Packing::Planar, [luma], [chroma]);
                let y = Part { plane: y, vertical, bytes: luma_bytes, packing, axes: &luma };
                let [u, v] = [u, v].map(|plane| {
                    let vertical = half_vertical;
                    Part { plane, vertical, bytes: bytes(1), packing, axes: &chroma }
                });
                self.run_parts(&[y, u, v], plan, channels, Some(color), emit);
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
            let mut next = channels.0.iter_mut();
            for part in parts {
                let stride = self.vertical_part(part, y, rows);
                let mut to: [&mut [Turned]; 3] = Default::default();
                let count = part.packing.channels();
                to.iter_mut().zip(next.by_ref().take(count)).for_each(|(t, c)| *t = c);
                let (strip, to) = (&self.strip[..rows * stride], &mut to[..count]);
                let Part { packing, axes, .. } = *part;
                self.passes.channels(strip, stride, packing, axes, &mut self.block, to);
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

    /// The rows `y..y + rows` of a plane, vertically resized, in the strip; says how far apart they lie.
    fn vertical_part(&mut self, part: &Part<'_>, y: usize, rows: usize) -> usize {
        let (first, wanted) = part.bytes;
        let Plane { bytes, stride } = part.plane;
        let (top, weights) = part.vertical;
        let own = wanted.next_multiple_of(ROW_STEP);
        self.strip.resize(own * ROWS, 0);
        let from = (&bytes[top as usize * stride + first..], stride);
        self.passes.vertical_rows(from, weights, y..y + rows, (&mut self.strip, own), wanted);
        own
    }
}
