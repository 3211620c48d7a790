//! Runs the decoders behind limits and turns what they give into upright 8-bit RGB.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::error::ImageError;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, Limits, RgbImage};

use kinglet_kernels::Isa;

use super::error::{Format, PictureError};
use super::header::Header;
use super::jpeg::{self, Other, Part};
use super::{MAX_DECODED_BYTES, MAX_SIDE, Picture};

/// What the PNG decoder may allocate besides the picture: rows, profile and text chunks.
const MAX_ANCILLARY_BYTES: u64 = 16 << 20;

/// Decodes a file whose structure [`super::header::check`] has accepted.
///
/// The decoders are meant to return errors, yet png 0.18.1 panics on a palette of wrong length
/// (refused before it gets here), and there may be more of the kind. A device that watches a folder
/// must outlive such a file, so a panic becomes an error. That works only where panics unwind; a
/// build with `panic = "abort"` ends on one.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Picture, PictureError> {
    let format = header.format;
    // Nothing that the closure touches is used after a panic, hence AssertUnwindSafe.
    let result = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Jpeg => {
            if let Ok(picture) = decode_baseline(bytes, header) {
                return picture.map_err(Failure::Ours);
            }
            let mut decoder = JpegDecoder::new(Cursor::new(bytes))?;
            decoder.set_limits(limits())?;
            run(decoder)
        }
        Format::Png => run(PngDecoder::with_limits(Cursor::new(bytes), limits())?),
    }));
    match result {
        Ok(result) => result.map_err(|e| translate(e, format)),
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied());
            let why = text.unwrap_or("it panicked").to_owned();
            Err(PictureError::DecoderPanicked { format, why })
        }
    }
}

/// The whole picture by our own decoder, if it is one for it.
fn decode_baseline(bytes: &[u8], header: &Header) -> Result<Result<Picture, PictureError>, Other> {
    let isa = Isa::select().unwrap_or(Isa::Scalar);
    let mut decoder = jpeg::JpegDecoder::new(isa).map_err(|_| Other)?;
    let orientation = decoder.start(bytes, header)?;
    let (width, height) = (header.width, header.height);
    let mut rgb = Vec::new();
    decoder.decode(bytes, Part { left: 0, top: 0, width, height }, &mut rgb)?;
    Ok(upright(width, height, rgb, orientation))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ANCILLARY_BYTES);
    limits
}

/// What can go wrong inside the decoder.
enum Failure {
    Decoder(ImageError),
    Ours(PictureError),
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Decoder(error)
    }
}

fn run(mut decoder: impl ImageDecoder) -> Result<Picture, Failure> {
    // Damaged EXIF data is no reason to refuse a picture that can be shown.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = decoder.dimensions();
    super::check_size(width, height).map_err(Failure::Ours)?;
    let (total, color) = (decoder.total_bytes(), decoder.color_type());
    if total > MAX_DECODED_BYTES {
        let error = super::too_large("decoded size in bytes", total, MAX_DECODED_BYTES);
        return Err(Failure::Ours(error));
    }
    let mut samples = vec![0; total as usize];
    decoder.read_image(&mut samples)?;
    upright(width, height, to_rgb(samples, color), orientation).map_err(Failure::Ours)
}

/// Any colour type to RGB: alpha dropped, grey repeated, the high byte of 16 bits.
fn to_rgb(samples: Vec<u8>, color: ColorType) -> Vec<u8> {
    match color {
        ColorType::Rgb8 => samples,
        ColorType::L8 => repeat(samples.into_iter()),
        ColorType::La8 => repeat(samples.into_iter().step_by(2)),
        ColorType::Rgba8 => {
            samples.as_chunks::<4>().0.iter().flat_map(|p| [p[0], p[1], p[2]]).collect()
        }
        ColorType::L16 => repeat(high_bytes(&samples)),
        ColorType::La16 => repeat(high_bytes(&samples).step_by(2)),
        ColorType::Rgb16 => high_bytes(&samples).collect(),
        // The decoders here give no other type than the last: 16-bit RGBA.
        _ => {
            let (pixels, _) = samples.as_chunks::<8>();
            pixels.iter().flat_map(|p| [0, 2, 4].map(|i| high(&[p[i], p[i + 1]]))).collect()
        }
    }
}

fn repeat(grey: impl Iterator<Item = u8>) -> Vec<u8> {
    grey.flat_map(|v| [v; 3]).collect()
}

/// The high bytes of 16-bit samples in this machine's byte order.
fn high_bytes(samples: &[u8]) -> impl Iterator<Item = u8> {
    samples.as_chunks::<2>().0.iter().map(high)
}

fn high(pair: &[u8; 2]) -> u8 {
    (u16::from_ne_bytes(*pair) >> 8) as u8
}

fn upright(
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    orientation: Orientation,
) -> Result<Picture, PictureError> {
    if orientation == Orientation::NoTransforms {
        return Picture::from_rgb(width, height, rgb);
    }
    let actual = rgb.len();
    let Some(image) = RgbImage::from_raw(width, height, rgb) else {
        return Err(PictureError::Samples { width, height, actual });
    };
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    let (width, height) = image.dimensions();
    Picture::from_rgb(width, height, image.into_raw())
}

fn translate(failure: Failure, format: Format) -> PictureError {
    let error = match failure {
        Failure::Ours(error) => return error,
        Failure::Decoder(error) => error,
    };
    let why = error.to_string();
    match error {
        ImageError::Unsupported(_) => PictureError::Unsupported { format, why },
        ImageError::Limits(_) => PictureError::Corrupt {
            format,
            why: format!("its metadata needs over {MAX_ANCILLARY_BYTES} bytes of memory"),
        },
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated { format, why }
        }
        _ => PictureError::Corrupt { format, why },
    }
}
