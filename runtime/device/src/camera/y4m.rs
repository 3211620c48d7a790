//! YUV4MPEG2: frames of a pipe that say what they are. ffmpeg writes it, and a size or format can
//! not be mistaken.
//!
//! Source: the manual page yuv4mpeg(5) of mjpegtools; the colour tags are those of FFmpeg.

use std::time::Instant;

use super::Next;
use super::bytes::{Bytes, Got};
use super::error::CameraError;
use super::frame::{Color, Frame, Layout, MAX_BYTES, MAX_SIDE, Mode};

/// A longer line is garbage, bytes.
const LONGEST_LINE: usize = 1000;
/// What a frame begins with.
const FRAME: &[u8] = b"FRAME\n";

/// Reads such a stream.
#[derive(Debug, Default)]
pub(super) struct Y4m {
    header: Option<Header>,
    /// The line that is being read.
    line: Vec<u8>,
    /// The frame that is being read, and how much of it there is; `None` between frames.
    body: Vec<u8>,
    filled: Option<usize>,
    /// Frames read.
    frames: u64,
}

/// What the first line says.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    layout: Layout,
    width: u32,
    height: u32,
    color: Color,
    /// Frames a second.
    fps: Option<f64>,
    bytes: usize,
}

impl Y4m {
    /// A stream of which these first bytes have been read.
    pub(super) fn begun(bytes: &[u8]) -> Self {
        Self { line: bytes.to_vec(), ..Self::default() }
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.header.map(|Header { layout, width, height, fps, .. }| Mode {
            layout,
            width,
            height,
            fps,
            note: String::new(),
        })
    }

    /// When the last frame was taken by the stream's own clock, seconds after the first.
    pub(super) fn seconds(&self) -> Option<f64> {
        Some(self.frames.checked_sub(1)? as f64 / self.header?.fps?)
    }

    pub(super) fn next(
        &mut self,
        from: &mut Bytes,
        frame: &mut Frame,
        deadline: Instant,
    ) -> Result<Next, CameraError> {
        loop {
            let read = match (self.header, self.filled) {
                (None, _) => {
                    // Byte by byte, so that nothing of the first frame is taken.
                    self.read_line(from, 1, deadline)?
                }
                (Some(_), None) => self.read_line(from, FRAME.len(), deadline)?,
                (Some(header), Some(filled)) => {
                    if self.body.len() != header.bytes {
                        self.body.resize(header.bytes, 0);
                    }
                    let got = from.read(&mut self.body[filled..], deadline)?;
                    if let Got::Bytes(n) = got {
                        self.filled = Some(filled + n);
                        if filled + n == header.bytes {
                            self.filled = None;
                            self.frames += 1;
                            std::mem::swap(&mut frame.bytes, &mut self.body);
                            let Header { layout, width, height, color, .. } = header;
                            (frame.layout, frame.color) = (layout, color);
                            (frame.width, frame.height) = (width, height);
                            return Ok(Next::Frame);
                        }
                    }
                    got
                }
            };
            match read {
                Got::Bytes(_) => {}
                Got::Wait => return Ok(Next::Wait),
                Got::End => return Ok(Next::End),
            }
        }
    }

    /// Reads a piece of a line that is at least `least` bytes long, and understands it when it is
    /// whole.
    fn read_line(
        &mut self,
        from: &mut Bytes,
        least: usize,
        deadline: Instant,
    ) -> Result<Got, CameraError> {
        let mut piece = [0; FRAME.len()];
        let want = least.saturating_sub(self.line.len()).max(1);
        let got = from.read(&mut piece[..want], deadline)?;
        if let Got::Bytes(n) = got {
            self.line.extend_from_slice(&piece[..n]);
        }
        let garbage = |why: String| CameraError::Garbage { what: from.name().to_owned(), why };
        if self.line.last() == Some(&b'\n') {
            let line = std::mem::take(&mut self.line);
            if self.header.is_none() {
                self.header = Some(Header::parse(&line).map_err(garbage)?);
            } else if line.starts_with(b"FRAME") {
                self.filled = Some(0);
                // Its memory is used again.
                self.line = line;
                self.line.clear();
            } else {
                return Err(garbage("a frame does not begin where it should".into()));
            }
        } else if self.line.len() > LONGEST_LINE
            || (self.header.is_some() && !FRAME.starts_with(&self.line[..self.line.len().min(5)]))
        {
            return Err(garbage("no frame where one should begin".into()));
        }
        Ok(got)
    }
}

impl Header {
    fn parse(line: &[u8]) -> Result<Self, String> {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("YUV4MPEG2") {
            return Err("it does not begin with YUV4MPEG2".into());
        }
        let (mut width, mut height, mut fps) = (0u32, 0u32, None);
        let (mut layout, mut full_range) = (Layout::I420, false);
        for word in words {
            let (tag, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            match (tag, value) {
                ("W", side) => width = side.parse().unwrap_or(0),
                ("H", side) => height = side.parse().unwrap_or(0),
                ("F", ratio) => {
                    let parts = ratio.split_once(':');
                    let number = |text: &str| text.parse::<f64>().ok().filter(|v| *v > 0.0);
                    fps = parts.and_then(|(a, b)| Some(number(a)? / number(b)?));
                }
                ("C", "mono") => layout = Layout::Grey,
                ("C", "420" | "420jpeg" | "420mpeg2" | "420paldv") => layout = Layout::I420,
                ("C", other) => {
                    return Err(format!("its pixels are {other}; make them yuv420p or gray"));
                }
                ("X", "COLORRANGE=FULL") => full_range = true,
                _ => {}
            }
        }
        let bytes = layout.bytes(width, height).unwrap_or(0);
        let side = |s: u32| (1..=MAX_SIDE).contains(&s);
        if !side(width) || !side(height) || bytes > MAX_BYTES {
            return Err(format!("frames of {width} x {height} pixels"));
        }
        if layout == Layout::I420 && (width % 2 == 1 || height % 2 == 1) {
            return Err(format!("frames of {width} x {height} pixels; make the sides even"));
        }
        // The header does not say it; players assume it from the size.
        let color = Color { bt709: height >= 720, full_range };
        Ok(Self { layout, width, height, color, fps, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_as_ffmpeg_writes_them() {
        let line =
            b"YUV4MPEG2 W768 H432 F12:1 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED\n";
        let header = Header::parse(line).unwrap();
        assert_eq!((header.width, header.height, header.fps), (768, 432, Some(12.0)));
        assert_eq!((header.layout, header.bytes), (Layout::I420, 768 * 432 * 3 / 2));
        assert_eq!(header.color, Color { bt709: false, full_range: false });
        let header =
            Header::parse(b"YUV4MPEG2 W3 H1 F30000:1001 Cmono XCOLORRANGE=FULL\n").unwrap();
        assert_eq!((header.layout, header.bytes), (Layout::Grey, 3));
        assert!(header.color.full_range);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "YUV4MPEG W2 H2",
            "YUV4MPEG2 W2",
            "YUV4MPEG2 W0 H2",
            "YUV4MPEG2 W3 H2",
            "YUV4MPEG2 W99999 H2",
            "YUV4MPEG2 W-2 H2",
            "YUV4MPEG2 W8192 H8192",
            "YUV4MPEG2 W2 H2 C444",
        ] {
            assert!(Header::parse(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(Header::parse(b"YUV4MPEG2 W2 H2 F0:0").unwrap().fps, None);
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::parse(&[b"YUV4MPEG2 ", &line[..]].concat());
        }
    }
}
