//! A frame as a small JPEG file, for a topic.

use anyhow::Context as _;
use image::codecs::jpeg::JpegEncoder;
use kinglet_device::camera::{Frame, Layout};
use kinglet_engine::Picture;
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::preprocess::{InputKind, InputTensor, Preprocessor};

use super::super::eyes::view;

/// The longer side at first, pixels.
const SIDE: u32 = 640;
/// The shortest that it becomes so that the file is small enough.
const LEAST: u32 = 40;
const QUALITY: u8 = 80;

/// The frame as a JPEG file of at most `most` bytes. A camera's own JPEG is handed on as it is if
/// it is small enough; a picture that came from a file never, for who knows what else is in it.
///
/// # Errors
/// The frame is damaged, or even its smallest picture is too large.
pub(super) fn jpeg(frame: &Frame, most: usize) -> anyhow::Result<Vec<u8>> {
    let file = frame.layout == Layout::File;
    let camera = file && frame.name.is_empty() && frame.bytes.starts_with(&[0xff, 0xd8]);
    if camera && frame.bytes.len() <= most {
        return Ok(frame.bytes.clone());
    }
    let picture = file.then(|| Picture::decode(&frame.bytes)).transpose()?;
    let (width, height) = match &picture {
        Some(picture) => (picture.width(), picture.height()),
        None => (frame.width, frame.height),
    };
    let mut side = SIDE;
    while side >= LEAST {
        let (width, height) = within(width, height, side);
        let mut preprocessor = resize(width, height)?;
        let mut tensor = preprocessor.tensor();
        match &picture {
            Some(picture) => preprocessor.run(picture, &mut tensor),
            None => preprocessor.run_frame(&view(frame)?, &mut tensor),
        }
        let InputTensor::U8(rgb) = tensor else { anyhow::bail!("no picture") };
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
        encoder.encode(&rgb, width, height, image::ExtendedColorType::Rgb8)?;
        if bytes.len() <= most {
            return Ok(bytes);
        }
        side = side * 2 / 3;
    }
    anyhow::bail!("even a small picture is larger than snapshot_kib")
}

/// The largest size of the same shape with no side above `side`; never larger than it is.
fn within(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longer = width.max(height).max(1);
    let side = side.min(longer);
    let scaled = |length: u32| {
        let length = u64::from(length) * u64::from(side) / u64::from(longer);
        (length as u32).max(1)
    };
    (scaled(width), scaled(height))
}

fn resize(width: u32, height: u32) -> anyhow::Result<Preprocessor> {
    let (mean, std) = ([0.0; 3], [1.0; 3]);
    let (filter, crop, channels) = (Filter::Bilinear, Crop::Stretch, Channels::Rgb);
    let as_it_is = Preprocess { size: [height, width], filter, crop, mean, std, channels };
    Preprocessor::new(&as_it_is, InputKind::U8Nhwc { scale: 1.0, zero_point: 0 })
        .context("a picture for the broker")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise, which JPEG cannot make small.
    fn noise(width: u32, height: u32) -> Frame {
        let mut seed = 1_u32;
        let bytes = (0..width * height * 3).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        });
        Frame { layout: Layout::Rgb, width, height, bytes: bytes.collect(), ..Frame::default() }
    }

    #[test]
    fn pictures_keep_their_shape_and_their_limit() {
        assert_eq!(within(1280, 720, 640), (640, 360));
        assert_eq!(within(100, 50, 640), (100, 50));
        assert_eq!(within(8000, 1, 640), (640, 1));
        let frame = noise(1280, 720);
        let large = jpeg(&frame, 1 << 20).unwrap();
        let small = jpeg(&frame, 20 << 10).unwrap();
        let size = |bytes: &[u8]| {
            let picture = Picture::decode(bytes).unwrap();
            (picture.width(), picture.height())
        };
        assert_eq!(size(&large), (640, 360));
        assert!(small.len() <= 20 << 10 && size(&small).0 < 640);
        assert!(jpeg(&frame, 100).is_err());
    }

    #[test]
    fn a_cameras_jpeg_is_handed_on_and_a_file_is_made_anew() {
        let bytes = jpeg(&noise(64, 48), 1 << 20).unwrap();
        let mut frame = Frame { layout: Layout::File, bytes: bytes.clone(), ..Frame::default() };
        assert_eq!(jpeg(&frame, 1 << 20).unwrap(), bytes);
        frame.name = "holiday.jpg".into();
        // A comment, as a place would stand in EXIF.
        let comment = [0xff, 0xfe, 0, 8, b's', b'e', b'c', b'r', b'e', b't'];
        frame.bytes.splice(2..2, comment);
        let anew = jpeg(&frame, 1 << 20).unwrap();
        assert!(!anew.windows(6).any(|w| w == b"secret"));
        frame.bytes = b"\xff\xd8 no picture".to_vec();
        assert!(jpeg(&frame, 1 << 20).is_err());
    }
}
