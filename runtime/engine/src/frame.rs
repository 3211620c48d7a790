//! A camera's frame, borrowed: pixels as they come from a sensor or a video decoder.
//!
//! [`FrameView::new`] checks all sizes, so that what holds a view need not. Not for pictures in
//! files: see [`crate::picture`]. [`crate::preprocess::Preprocessor::run_frame`] takes it from here.

use kinglet_kernels::yuv::Coefficients;

use crate::picture::{MAX_PIXELS, MAX_SIDE};

/// How a frame's samples lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// One plane of R G B.
    Rgb,
    /// One plane of luma alone, taken as it is: 0 is black and 255 is white.
    Grey,
    /// One plane of Y U Y V: two pixels side by side share their chroma (V4L2's YUYV, FFmpeg's
    /// yuyv422).
    Yuyv,
    /// A plane of Y, and one of U V for each two by two pixels.
    Nv12,
    /// A plane of Y, one of U and one of V for each two by two pixels (FFmpeg's yuv420p).
    I420,
}

/// One plane of a format: bytes a row for a number of pixels, and rows for a number of rows.
struct PlaneShape {
    /// Bytes for every `pixels` pixels.
    bytes: usize,
    pixels: usize,
    /// Rows of pixels for each row of the plane.
    rows: usize,
}

impl PixelFormat {
    fn shapes(self) -> &'static [PlaneShape] {
        const fn shape(bytes: usize, pixels: usize, rows: usize) -> PlaneShape {
            PlaneShape { bytes, pixels, rows }
        }
        match self {
            Self::Rgb => const { &[shape(3, 1, 1)] },
            Self::Grey => const { &[shape(1, 1, 1)] },
            Self::Yuyv => const { &[shape(4, 2, 1)] },
            Self::Nv12 => const { &[shape(1, 1, 1), shape(2, 2, 2)] },
            Self::I420 => const { &[shape(1, 1, 1), shape(1, 2, 2), shape(1, 2, 2)] },
        }
    }

    /// How many planes a frame has.
    pub fn planes(self) -> usize {
        self.shapes().len()
    }

    /// Bytes of a frame whose rows and planes follow each other without gaps; `None` when they
    /// are too many for this machine.
    pub fn packed_bytes(self, width: u32, height: u32) -> Option<usize> {
        let (width, height) = (width as usize, height as usize);
        self.shapes().iter().try_fold(0usize, |sum, shape| {
            let row = width.div_ceil(shape.pixels).checked_mul(shape.bytes)?;
            sum.checked_add(row.checked_mul(height.div_ceil(shape.rows))?)
        })
    }
}

/// What luma and chroma mean. Ignored for [`PixelFormat::Rgb`] and [`PixelFormat::Grey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum YuvMatrix {
    /// BT.601, luma 16..=235 and chroma 16..=240: what cameras and FFmpeg deliver unless they say
    /// otherwise.
    #[default]
    Bt601Limited,
    /// BT.601, all samples 0..=255: JPEG, and so the frames of an MJPEG camera.
    Bt601Full,
    /// BT.709, luma 16..=235 and chroma 16..=240: high-definition video.
    Bt709Limited,
    /// BT.709, all samples 0..=255.
    Bt709Full,
}

impl YuvMatrix {
    /// All of them, each at its own number.
    pub(crate) const ALL: [Self; 4] =
        [Self::Bt601Limited, Self::Bt601Full, Self::Bt709Limited, Self::Bt709Full];

    /// The conversion: from the shares of red and blue in luma, `R = Y + 2 (1 - red) V` and so on,
    /// with luma stretched by 255 / 219 and chroma by 255 / 224 when the range is limited.
    ///
    /// Source: ITU-R BT.601-7, sections 2.5.1 and 2.5.3; BT.709-6, items 3.2 to 3.5; full range as
    /// in JFIF (ITU-T T.871, section 7).
    pub(crate) fn coefficients(self) -> Coefficients {
        let (red, blue) = match self {
            Self::Bt601Limited | Self::Bt601Full => (0.299, 0.114),
            Self::Bt709Limited | Self::Bt709Full => (0.2126, 0.0722),
        };
        let (black, luma, chroma) = match self {
            Self::Bt601Limited | Self::Bt709Limited => (16, 255.0 / 219.0, 255.0 / 224.0),
            Self::Bt601Full | Self::Bt709Full => (0, 1.0, 1.0),
        };
        let green: f64 = 1.0 - red - blue;
        let fixed = |value: f64| (value * 65536.0).round() as i32;
        Coefficients {
            black,
            luma: fixed(luma),
            red: fixed(2.0 * (1.0 - red) * chroma),
            green_u: -fixed(2.0 * blue * (1.0 - blue) / green * chroma),
            green_v: -fixed(2.0 * red * (1.0 - red) / green * chroma),
            blue: fixed(2.0 * (1.0 - blue) * chroma),
        }
    }
}

/// Rows of bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plane<'a> {
    /// The bytes, from the first row's first.
    pub bytes: &'a [u8],
    /// From one row to the next, bytes.
    pub stride: usize,
}

/// A camera's frame, borrowed, its sizes checked.
#[derive(Clone, Copy)]
pub struct FrameView<'a> {
    format: PixelFormat,
    width: u32,
    height: u32,
    matrix: YuvMatrix,
    planes: [Plane<'a>; 3],
}

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A side is zero, or larger than pictures may be.
    #[error(
        "a frame of {width} x {height} pixels; each side is 1 to {MAX_SIDE}, with at most \
         {MAX_PIXELS} pixels"
    )]
    Size {
        /// Stated width, pixels.
        width: u32,
        /// Stated height, pixels.
        height: u32,
    },
    /// A side is odd and the format's pixels share their chroma by twos.
    #[error(
        "a {format:?} frame of {width} x {height} pixels: pixels that share chroma come in twos"
    )]
    Odd {
        /// The format.
        format: PixelFormat,
        /// Stated width, pixels.
        width: u32,
        /// Stated height, pixels.
        height: u32,
    },
    /// The format has another number of planes.
    #[error("a {format:?} frame has {expected} plane(s), not {actual}")]
    Planes {
        /// The format.
        format: PixelFormat,
        /// How many it has.
        expected: usize,
        /// How many were given.
        actual: usize,
    },
    /// Rows overlap.
    #[error("plane {plane}: a row has {expected} bytes, over the stride of {actual}")]
    Stride {
        /// Which plane.
        plane: usize,
        /// Bytes of a row.
        expected: usize,
        /// The stride given.
        actual: usize,
    },
    /// The buffer ends before the frame does.
    #[error("plane {plane}: the frame needs {expected} bytes, the buffer has {actual}")]
    Short {
        /// Which plane.
        plane: usize,
        /// Bytes that are needed.
        expected: usize,
        /// Bytes that are there.
        actual: usize,
    },
}

impl<'a> FrameView<'a> {
    /// A frame in planes, each with its own stride.
    ///
    /// # Errors
    /// [`FrameError`]: what does not fit.
    pub fn new(
        format: PixelFormat,
        width: u32,
        height: u32,
        planes: &[Plane<'a>],
        matrix: YuvMatrix,
    ) -> Result<Self, FrameError> {
        check_size(format, width, height)?;
        let shapes = format.shapes();
        if planes.len() != shapes.len() {
            let (expected, actual) = (shapes.len(), planes.len());
            return Err(FrameError::Planes { format, expected, actual });
        }
        let mut view = Self { format, width, height, matrix, planes: [Plane::default(); 3] };
        for (index, (plane, shape)) in planes.iter().zip(shapes).enumerate() {
            let row = width as usize / shape.pixels * shape.bytes;
            if plane.stride < row {
                let (expected, actual) = (row, plane.stride);
                return Err(FrameError::Stride { plane: index, expected, actual });
            }
            // The last row may end before its stride does.
            let rows = height as usize / shape.rows;
            let needed = plane.stride.checked_mul(rows - 1).and_then(|n| n.checked_add(row));
            let expected = needed.unwrap_or(usize::MAX);
            if plane.bytes.len() < expected {
                let actual = plane.bytes.len();
                return Err(FrameError::Short { plane: index, expected, actual });
            }
            view.planes[index] = *plane;
        }
        Ok(view)
    }

    /// A frame whose rows and planes follow each other without gaps.
    ///
    /// # Errors
    /// [`FrameError`]: what does not fit.
    pub fn packed(
        format: PixelFormat,
        width: u32,
        height: u32,
        bytes: &'a [u8],
        matrix: YuvMatrix,
    ) -> Result<Self, FrameError> {
        check_size(format, width, height)?;
        let mut planes = [Plane::default(); 3];
        let mut rest = bytes;
        for (plane, shape) in planes.iter_mut().zip(format.shapes()) {
            let stride = width as usize / shape.pixels * shape.bytes;
            let length = stride * (height as usize / shape.rows);
            // Too short a rest is found by `new`.
            let (own, next) = rest.split_at(length.min(rest.len()));
            *plane = Plane { bytes: own, stride };
            rest = next;
        }
        Self::new(format, width, height, &planes[..format.planes()], matrix)
    }

    /// A part of the frame, from the pixel `left`, `top` on, without a copy. Where pixels share
    /// chroma, the part begins at the pixels that share it and is a whole number of them wide and
    /// high: it may be one pixel larger each way.
    ///
    /// # Errors
    /// [`FrameError::Size`] when the part has no pixels or is not within the frame.
    pub fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Result<Self, FrameError> {
        let within = |start: u32, length: u32, side: u32| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if !within(left, width, self.width) || !within(top, height, self.height) {
            return Err(FrameError::Size { width, height });
        }
        let shapes = self.format.shapes();
        let step = |of: fn(&PlaneShape) -> usize| shapes.iter().map(of).max().unwrap_or(1) as u32;
        let align = |start: u32, length: u32, step: u32| {
            let first = start / step * step;
            (first, (start + length).next_multiple_of(step) - first)
        };
        let (left, width) = align(left, width, step(|s| s.pixels));
        let (top, height) = align(top, height, step(|s| s.rows));
        let mut part = Self { width, height, ..*self };
        for (plane, shape) in part.planes.iter_mut().zip(shapes) {
            let row = top as usize / shape.rows;
            let skip = row * plane.stride + left as usize / shape.pixels * shape.bytes;
            plane.bytes = &plane.bytes[skip..];
        }
        Ok(part)
    }

    /// How its samples lie.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width, pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height, pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// What its luma and chroma mean.
    pub fn matrix(&self) -> YuvMatrix {
        self.matrix
    }

    /// Its planes, as many as the format has.
    pub fn planes(&self) -> &[Plane<'a>] {
        &self.planes[..self.format.planes()]
    }
}

impl std::fmt::Debug for FrameView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameView({:?}, {} x {})", self.format, self.width, self.height)
    }
}

fn check_size(format: PixelFormat, width: u32, height: u32) -> Result<(), FrameError> {
    let side = |side: u32| (1..=MAX_SIDE).contains(&side);
    if !side(width) || !side(height) || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(FrameError::Size { width, height });
    }
    let even = |s: &PlaneShape| {
        (width as usize).is_multiple_of(s.pixels) && (height as usize).is_multiple_of(s.rows)
    };
    if format.shapes().iter().all(even) {
        Ok(())
    } else {
        Err(FrameError::Odd { format, width, height })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The usual figures of the standards, to four places.
    #[test]
    fn matrices_are_the_standards() {
        let real = |matrix: YuvMatrix| {
            let c = matrix.coefficients();
            [c.luma, c.red, c.green_u, c.green_v, c.blue].map(|i| f64::from(i) / 65536.0)
        };
        for (matrix, expected) in [
            (YuvMatrix::Bt601Limited, [1.16438, 1.59603, -0.39176, -0.81297, 2.01723]),
            (YuvMatrix::Bt601Full, [1.0, 1.402, -0.34414, -0.71414, 1.772]),
            (YuvMatrix::Bt709Limited, [1.16438, 1.79274, -0.21325, -0.53291, 2.11240]),
            (YuvMatrix::Bt709Full, [1.0, 1.5748, -0.18732, -0.46812, 1.8556]),
        ] {
            for (a, e) in real(matrix).iter().zip(expected) {
                assert!((a - e).abs() < 2e-5, "{matrix:?}: {a} is not {e}");
            }
        }
        for (i, matrix) in YuvMatrix::ALL.into_iter().enumerate() {
            assert_eq!(matrix as usize, i);
        }
    }

    #[test]
    fn sizes_are_checked() {
        let bytes = [0; 64];
        let packed = |format, width, height, length: usize| {
            let matrix = YuvMatrix::default();
            FrameView::packed(format, width, height, &bytes[..length], matrix).map(|_| ())
        };
        use PixelFormat::{Grey, I420, Nv12, Rgb, Yuyv};
        for (format, length) in [(Rgb, 48), (Grey, 16), (Yuyv, 32), (Nv12, 24), (I420, 24)] {
            assert_eq!(format.packed_bytes(4, 4), Some(length));
            assert_eq!(packed(format, 4, 4, length), Ok(()), "{format:?}");
            let short = packed(format, 4, 4, length - 1);
            assert!(matches!(short, Err(FrameError::Short { .. })), "{format:?}: {short:?}");
            for (width, height) in [(0, 4), (4, 0), (u32::MAX, u32::MAX), (MAX_SIDE + 2, 2)] {
                let error = packed(format, width, height, 64);
                assert!(matches!(error, Err(FrameError::Size { .. })), "{format:?}: {error:?}");
            }
        }
        for (format, width, height) in [(Yuyv, 3, 4), (Nv12, 3, 4), (Nv12, 4, 3), (I420, 4, 1)] {
            let error = packed(format, width, height, 64);
            assert!(matches!(error, Err(FrameError::Odd { .. })), "{format:?}: {error:?}");
        }
        assert_eq!(packed(Yuyv, 2, 3, 12), Ok(()));
    }

    #[test]
    fn a_part_has_the_pixels_that_it_names() {
        let bytes: Vec<u8> = (0..96).collect();
        let matrix = YuvMatrix::default();
        for format in [PixelFormat::Rgb, PixelFormat::Grey, PixelFormat::Yuyv, PixelFormat::I420] {
            let frame = FrameView::packed(format, 8, 4, &bytes, matrix).unwrap();
            let part = frame.crop(3, 1, 2, 2).unwrap();
            let (left, top, size) = match format {
                PixelFormat::Rgb | PixelFormat::Grey => (3, 1, (2, 2)),
                PixelFormat::Yuyv => (2, 1, (4, 2)),
                _ => (2, 0, (4, 4)),
            };
            assert_eq!((part.width(), part.height()), size, "{format:?}");
            for (plane, whole) in part.planes().iter().zip(frame.planes()) {
                assert_eq!(plane.stride, whole.stride);
            }
            let bytes_a_pixel = [3, 1, 2, 1][match format {
                PixelFormat::Rgb => 0,
                PixelFormat::Grey => 1,
                PixelFormat::Yuyv => 2,
                _ => 3,
            }];
            assert_eq!(part.planes()[0].bytes[0], ((top * 8 + left) * bytes_a_pixel) as u8);
            // What a crop gives is a frame as any other.
            let again = FrameView::new(format, size.0, size.1, part.planes(), matrix);
            assert!(again.is_ok(), "{format:?}: {again:?}");
        }
        let frame = FrameView::packed(PixelFormat::I420, 8, 4, &bytes, matrix).unwrap();
        assert_eq!(frame.crop(2, 2, 2, 2).unwrap().planes()[2].bytes[0], 32 + 8 + 5);
        for (left, top, width, height) in
            [(0, 0, 9, 1), (8, 0, 1, 1), (0, 0, 0, 1), (u32::MAX, 0, 2, 2)]
        {
            assert!(frame.crop(left, top, width, height).is_err());
        }
    }

    #[test]
    fn planes_and_strides_are_checked() {
        let bytes = [0; 64];
        let plane = |length: usize, stride| Plane { bytes: &bytes[..length], stride };
        let view = |planes: &[Plane<'_>]| {
            FrameView::new(PixelFormat::Nv12, 4, 4, planes, YuvMatrix::default()).map(|_| ())
        };
        assert_eq!(view(&[plane(34, 10), plane(12, 8)]), Ok(()));
        let (expected, actual) = (2, 1);
        let error = FrameError::Planes { format: PixelFormat::Nv12, expected, actual };
        assert_eq!(view(&[plane(64, 4)]), Err(error));
        let error = FrameError::Stride { plane: 0, expected: 4, actual: 3 };
        assert_eq!(view(&[plane(64, 3), plane(64, 4)]), Err(error));
        let error = FrameError::Short { plane: 1, expected: 12, actual: 11 };
        assert_eq!(view(&[plane(34, 10), plane(11, 8)]), Err(error));
        let error = FrameError::Short { plane: 0, expected: usize::MAX, actual: 64 };
        assert_eq!(view(&[plane(64, usize::MAX), plane(64, 4)]), Err(error));
    }
}
