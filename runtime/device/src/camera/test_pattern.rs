//! A synthetic camera: eight colour bars, and a bright square that moves over them.

use std::time::{Duration, Instant};

use super::error::CameraError;
use super::frame::{Frame, Layout, Mode};
use super::source::Wanted;
use super::{Camera, Next};

/// Side of the square, pixels.
const SQUARE: u32 = 32;
/// Samples of luma, U and V of the bars (BT.601, limited range), from white to black.
const BARS: [[u8; 3]; 8] = [
    [235, 128, 128],
    [210, 16, 146],
    [170, 166, 16],
    [145, 54, 34],
    [106, 202, 222],
    [81, 90, 240],
    [41, 240, 110],
    [16, 128, 128],
];

/// Such a camera.
#[derive(Debug)]
pub(super) struct TestPattern {
    mode: Mode,
    interval: Duration,
    due: Instant,
    number: u32,
    /// The frame without the square.
    still: Vec<u8>,
}

impl TestPattern {
    /// 640 by 480 at 30 frames a second in YUYV, unless told otherwise. Sides are made even.
    pub(super) fn new(wanted: &Wanted) -> Self {
        let (width, height) = wanted.size.unwrap_or((640, 480));
        let (width, height) = (width.max(SQUARE) & !1, height.max(SQUARE) & !1);
        let layout = match wanted.layout {
            Some(Layout::File) | None => Layout::Yuyv,
            Some(layout) => layout,
        };
        let fps = wanted.fps.unwrap_or(30.0);
        let mut still = vec![0; layout.bytes(width, height).unwrap_or(0)];
        for y in 0..height {
            for x in 0..width {
                put(&mut still, layout, (width, height), (x, y), BARS[(x * 8 / width) as usize]);
            }
        }
        let mode = Mode { layout, width, height, fps: Some(fps), note: String::new() };
        let interval = Duration::from_secs_f64(1.0 / fps);
        Self { mode, interval, due: Instant::now(), number: 0, still }
    }
}

/// Writes a pixel. Chroma that pixels share has the value of the last one.
fn put(
    bytes: &mut [u8],
    layout: Layout,
    (width, height): (u32, u32),
    (x, y): (u32, u32),
    yuv: [u8; 3],
) {
    let (w, pixels) = (width as usize, (width * height) as usize);
    let (x, y) = (x as usize, y as usize);
    let at = y * w + x;
    let quarter = (y / 2) * (w / 2) + x / 2;
    match layout {
        Layout::Grey => bytes[at] = yuv[0],
        Layout::Yuyv => {
            bytes[at * 2] = yuv[0];
            let pair = at / 2 * 4;
            (bytes[pair + 1], bytes[pair + 3]) = (yuv[1], yuv[2]);
        }
        Layout::Nv12 => {
            bytes[at] = yuv[0];
            bytes[pixels + quarter * 2..][..2].copy_from_slice(&yuv[1..]);
        }
        Layout::I420 => {
            bytes[at] = yuv[0];
            (bytes[pixels + quarter], bytes[pixels + pixels / 4 + quarter]) = (yuv[1], yuv[2]);
        }
        Layout::Rgb => {
            let [y, u, v] = yuv.map(f32::from);
            let (y, u, v) = ((y - 16.0) * 1.164, u - 128.0, v - 128.0);
            let rgb = [y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u];
            bytes[at * 3..][..3].copy_from_slice(&rgb.map(|c| c.round().clamp(0.0, 255.0) as u8));
        }
        Layout::File => {}
    }
}

/// Sleeps until `due`, unless `deadline` comes first; says whether it was reached.
pub(super) fn sleep_until(due: Instant, deadline: Instant) -> bool {
    let until = due.min(deadline);
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    due <= deadline
}

impl Camera for TestPattern {
    fn next(&mut self, frame: &mut Frame, deadline: Instant) -> Result<Next, CameraError> {
        if !sleep_until(self.due, deadline) {
            return Ok(Next::Wait);
        }
        let Mode { layout, width, height, .. } = self.mode;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&self.still);
        let (left, top) =
            (self.number * 4 % (width - SQUARE + 1), self.number * 2 % (height - SQUARE + 1));
        for y in top..top + SQUARE {
            for x in left..left + SQUARE {
                put(&mut frame.bytes, layout, (width, height), (x, y), [235, 128, 128]);
            }
        }
        (frame.layout, frame.width, frame.height) = (layout, width, height);
        frame.captured = Instant::now();
        self.number = self.number.wrapping_add(1) % 100_000;
        // A frame that nobody waited for is lost, as in a camera.
        self.due = (self.due + self.interval).max(Instant::now());
        Ok(Next::Frame)
    }

    fn mode(&self) -> Option<Mode> {
        Some(self.mode.clone())
    }
}
