//! Cameras that the kernel shows as `/dev/video…`: USB cameras, mostly.
//!
//! Frames come in buffers that the driver shares; each is copied once, without the gaps at the ends
//! of its rows, and the buffer goes back at once. Not for the sensors of CSI cameras, which give
//! raw colour-filter values here: those come through [`super::Source::Rpicam`].

mod negotiate;
mod offers;
mod sys;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use super::bytes::wait;
use super::error::CameraError;
use super::frame::{Color, Frame, Layout, MAX_BYTES, MAX_SIDE, Mode};
use super::huffman::complete;
use super::source::Wanted;
use super::{Camera, Next};
use negotiate::choose;
pub use offers::{Device, devices};
use offers::{MOST, four, layout_of, nothing_usable, offered, offers};

/// Buffers that are asked for.
const BUFFERS: u32 = 4;
/// A camera that streams.
#[derive(Debug)]
pub(super) struct V4l2 {
    // Before `device`, so that the memory is given back before the device is closed.
    buffers: Vec<sys::Mapping>,
    device: File,
    name: String,
    mode: Mode,
    color: Color,
    stride: usize,
}

impl V4l2 {
    /// Opens a camera in the mode that is nearest to what is wanted, and starts it.
    pub(super) fn open(path: &Path, wanted: &Wanted) -> Result<Self, CameraError> {
        let name = path.display().to_string();
        let cannot = |doing: &str| CameraError::system(format!("{name}: {doing}"));
        let device = open(path)?;
        let offers = offers(&device, path)?;
        let Some((layout, (width, height))) = choose(&offers, wanted) else {
            return Err(CameraError::Source { text: name, why: nothing_usable(&device) });
        };
        let pixel_format = offered(&device, layout);
        let asked = sys::PixFormat { width, height, pixel_format, ..Default::default() };
        let set = sys::set_format(&device, asked).map_err(cannot("setting the format"))?;
        let layout = layout_of(set.pixel_format).ok_or_else(|| CameraError::Source {
            text: name.clone(),
            why: format!("the driver insists on {}", four(set.pixel_format)),
        })?;
        let (width, height) = (set.width, set.height);
        let even = !matches!(layout, Layout::Yuyv) || width % 2 == 0;
        let both = !matches!(layout, Layout::Nv12 | Layout::I420) || (width | height) % 2 == 0;
        let side = |s: u32| (1..=MAX_SIDE).contains(&s);
        if !(even && both && side(width) && side(height)) {
            let why = format!("the driver insists on {width}x{height}");
            return Err(CameraError::Source { text: name, why });
        }
        let row = layout.bytes(width, 2).map_or(0, |two| match layout {
            Layout::Nv12 | Layout::I420 => width as usize,
            _ => two / 2,
        });
        let stride = (set.bytes_per_line as usize).max(row);
        let fps = wanted.fps.or(Some(30.0)).and_then(|fps| set_fps(&device, fps));
        let note = note(wanted, layout, (width, height), fps);
        let mode = Mode { layout, width, height, fps, note };
        // What cameras send that say nothing: BT.601, and all of 0..=255 in JPEG.
        let color = Color { bt709: set.ycbcr_enc == 2, full_range: set.quantization == 1 };
        let count = sys::request_buffers(&device, BUFFERS).map_err(cannot("asking for buffers"))?;
        let buffers: Result<Vec<_>, _> =
            (0..count.min(MOST)).map(|index| sys::Mapping::new(&device, index)).collect();
        let buffers = buffers.map_err(cannot("mapping buffers"))?;
        let camera = Self { buffers, device, name: name.clone(), mode, color, stride };
        for index in 0..camera.buffers.len() as u32 {
            sys::queue(&camera.device, index).map_err(cannot("queueing a buffer"))?;
        }
        sys::stream(&camera.device, true).map_err(cannot("starting"))?;
        Ok(camera)
    }
}

impl Drop for V4l2 {
    fn drop(&mut self) {
        // An unplugged camera refuses; closing it is enough then.
        let _ = sys::stream(&self.device, false);
    }
}

impl Camera for V4l2 {
    fn next(&mut self, frame: &mut Frame, deadline: Instant) -> Result<Next, CameraError> {
        loop {
            if !wait(self.device.as_fd(), None, deadline)?.0 {
                return Ok(Next::Wait);
            }
            let buffer = match sys::dequeue(&self.device) {
                Ok(buffer) => buffer,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(Next::Wait),
                Err(e) => return Err(CameraError::system(self.name.clone())(e)),
            };
            let Mode { layout, width, height, .. } = self.mode;
            let mut whole = false;
            if let Some(mapping) = self.buffers.get(buffer.index as usize) {
                let bytes = mapping.bytes();
                let bytes = &bytes[..bytes.len().min(buffer.bytes_used as usize)];
                frame.bytes.clear();
                whole = buffer.flags & sys::BUFFER_ERROR == 0
                    && copy(bytes, layout, (width, height), self.stride, &mut frame.bytes);
            }
            let requeued = sys::queue(&self.device, buffer.index);
            requeued.map_err(CameraError::system(self.name.clone()))?;
            if whole {
                if layout == Layout::File {
                    complete(&mut frame.bytes);
                }
                (frame.layout, frame.width, frame.height) = (layout, width, height);
                (frame.color, frame.captured) = (self.color, Instant::now());
                return Ok(Next::Frame);
            }
            // A damaged frame is none; where there is nothing else, the camera has stalled.
            if Instant::now() >= deadline {
                return Ok(Next::Wait);
            }
        }
    }

    fn mode(&self) -> Option<Mode> {
        Some(self.mode.clone())
    }
}

/// Copies a frame without the gaps behind its rows; says whether it was there whole.
fn copy(
    from: &[u8],
    layout: Layout,
    (width, height): (u32, u32),
    stride: usize,
    to: &mut Vec<u8>,
) -> bool {
    let Some(length) = layout.bytes(width, height) else {
        let whole = !from.is_empty() && from.len() <= MAX_BYTES;
        to.extend_from_slice(if whole { from } else { &[] });
        return whole;
    };
    let (width, height) = (width as usize, height as usize);
    // Stride, bytes of a row, rows, of each plane.
    let half = (stride / 2, width / 2, height / 2);
    let planes: &[(usize, usize, usize)] = match layout {
        Layout::I420 => &[(stride, width, height), half, half],
        Layout::Nv12 => &[(stride, width, height), (stride, width, height / 2)],
        _ => &[(stride, length / height, height)],
    };
    let mut rest = from;
    for &(stride, row, rows) in planes {
        for index in 0..rows {
            let Some(bytes) = rest.get(..row) else { return false };
            to.extend_from_slice(bytes);
            // The last row may end before its stride does.
            rest = match rest.get(stride..) {
                Some(rest) => rest,
                None if index + 1 == rows => &[],
                None => return false,
            };
        }
    }
    to.len() == length
}

fn open(path: &Path) -> Result<File, CameraError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).write(true).custom_flags(flags).open(path);
    file.map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::PermissionDenied => format!(
                "{}: you may not use it; `sudo usermod -aG video $USER`, then log in again",
                path.display()
            ),
            _ => format!("opening {}", path.display()),
        };
        CameraError::system(what)(error)
    })
}

/// Asks for a rate; many cameras take only some.
fn set_fps(device: &File, fps: f64) -> Option<f64> {
    let [numerator, denominator] =
        sys::set_interval(device, [1000, (fps * 1000.0).round() as u32]).ok()?;
    (numerator > 0 && denominator > 0).then(|| f64::from(denominator) / f64::from(numerator))
}

/// In what the mode differs from what was asked for.
fn note(wanted: &Wanted, layout: Layout, size: (u32, u32), fps: Option<f64>) -> String {
    let mut asked = Vec::new();
    if let Some((width, height)) = wanted.size.filter(|wanted| *wanted != size) {
        asked.push(format!("{width}x{height}"));
    }
    if let Some(wanted) = wanted.layout.filter(|wanted| *wanted != layout) {
        asked.push(wanted.to_string());
    }
    if let (Some(wanted), Some(fps)) = (wanted.fps, fps)
        && (wanted / fps - 1.0).abs() > 0.01
    {
        asked.push(format!("{wanted} frames/s"));
    }
    if asked.is_empty() { String::new() } else { format!("instead of {}", asked.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_behind_rows_are_left_out() {
        // 4 by 2 pixels, luma rows of 6 bytes, chroma rows of 3.
        let from = [1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 0, 0, 21, 22, 0, 31, 32, 0];
        let mut to = Vec::new();
        assert!(copy(&from, Layout::I420, (4, 2), 6, &mut to));
        assert_eq!(to, [1, 2, 3, 4, 5, 6, 7, 8, 21, 22, 31, 32]);
        to.clear();
        assert!(copy(&from[..17], Layout::I420, (4, 2), 6, &mut to), "no gap behind the last row");
        to.clear();
        assert!(!copy(&from[..16], Layout::I420, (4, 2), 6, &mut to));
        to.clear();
        assert!(copy(&from[..10], Layout::Grey, (4, 2), 6, &mut to));
        assert_eq!(to, [1, 2, 3, 4, 5, 6, 7, 8]);
        to.clear();
        assert!(!copy(&from[..9], Layout::Grey, (4, 2), 6, &mut to));
        assert!(!copy(&[], Layout::File, (4, 2), 6, &mut to));
    }

    #[test]
    fn what_is_no_camera_says_so() {
        let open = |path: &str| V4l2::open(Path::new(path), &Wanted::default()).unwrap_err();
        assert!(open("/dev/null").to_string().contains("no V4L2 device"));
        assert!(open("/dev/video99").to_string().contains("/dev/video99"));
    }
}
