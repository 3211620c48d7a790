//! One picture of a camera.

use std::fmt;
use std::time::Instant;

/// How the bytes of a frame are to be understood. Rows and planes follow each other without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// R G B.
    Rgb,
    /// Luma alone.
    Grey,
    /// Y U Y V: two pixels share their chroma.
    Yuyv,
    /// A plane of Y, then one of U V for each two by two pixels.
    Nv12,
    /// A plane of Y, one of U, one of V, for each two by two pixels.
    I420,
    /// The bytes of a JPEG or PNG file.
    File,
}

impl Layout {
    /// Bytes of a frame; `None` for files, or when they are too many. Sides that share chroma are
    /// even.
    #[must_use]
    pub fn bytes(self, width: u32, height: u32) -> Option<usize> {
        let pixels = (width as usize).checked_mul(height as usize)?;
        match self {
            Self::Rgb => pixels.checked_mul(3),
            Self::Grey => Some(pixels),
            Self::Yuyv => pixels.checked_mul(2),
            Self::Nv12 | Self::I420 => pixels.checked_add(pixels / 2),
            Self::File => None,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb => "RGB",
            Self::Grey => "grey",
            Self::Yuyv => "YUYV",
            Self::Nv12 => "NV12",
            Self::I420 => "YUV420",
            Self::File => "JPEG",
        })
    }
}

/// What luma and chroma mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Color {
    /// BT.709 (high definition) instead of BT.601.
    pub bt709: bool,
    /// All samples are 0..=255, instead of luma 16..=235 and chroma 16..=240.
    pub full_range: bool,
}

/// The largest side of a frame, pixels.
pub(super) const MAX_SIDE: u32 = 8192;
/// The most bytes of one frame, of pixels or of a file.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// One picture, as the camera made it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// How the bytes are to be understood.
    pub layout: Layout,
    /// Width, pixels; 0 where it stands in the file alone.
    pub width: u32,
    /// Height, pixels; 0 where it stands in the file alone.
    pub height: u32,
    /// What luma and chroma mean.
    pub color: Color,
    /// When it was taken, on the monotonic clock; for recordings that are taken frame by frame, the
    /// time at which it would have been taken.
    pub captured: Instant,
    /// Its number since the feed began, from 1 on; frames that nobody took count too.
    pub number: u64,
    /// The file that it came from, for pictures; else empty.
    pub name: String,
    /// The samples, or the file.
    pub bytes: Vec<u8>,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            layout: Layout::Rgb,
            width: 0,
            height: 0,
            color: Color::default(),
            captured: Instant::now(),
            number: 0,
            name: String::new(),
            bytes: Vec::new(),
        }
    }
}

/// What a camera delivers.
#[derive(Debug, Clone, PartialEq)]
pub struct Mode {
    /// How its frames lie in memory.
    pub layout: Layout,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Frames a second, where it is known.
    pub fps: Option<f64>,
    /// In what it differs from what was asked for; else empty.
    pub note: String,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} {}", self.width, self.height, self.layout)?;
        if let Some(fps) = self.fps {
            write!(f, ", {fps:.3} frames/s")?;
        }
        if !self.note.is_empty() {
            write!(f, " ({})", self.note)?;
        }
        Ok(())
    }
}
