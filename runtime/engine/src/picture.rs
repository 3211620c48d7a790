//! From a file to RGB: JPEG and PNG pictures, told apart by their content, decoded upright.
//!
//! Not for camera frames (they arrive as pixels: [`Picture::from_rgb`]), and nothing is resized
//! here: see [`crate::preprocess`]. Start at [`Picture::read`].
//!
//! What a decoded picture is (Pillow's `ImageOps.exif_transpose(image).convert("RGB")` is the
//! judge):
//! - the orientation in the EXIF data is applied, so width and height are those of the upright
//!   picture;
//! - alpha and transparent colours are dropped: a transparent pixel shows the colour stored under
//!   its alpha, as Pillow does; nothing is composited;
//! - grey becomes three equal samples, a palette is looked up, CMYK and YCCK are taken as inverted
//!   (Adobe's convention, the only one in use) and become `(255 - C) * (255 - K) / 255` and so on;
//! - of 16-bit samples the high byte is kept: floor(v / 256), as Pillow does for RGB. (For 16-bit
//!   grey Pillow clips at 255, which turns nearly every such picture white; that is not followed);
//! - colour profiles and gamma are ignored;
//! - baseline JPEGs of grey or YCbCr equal Pillow's bit for bit; others are off by the rounding of
//!   another decoder.
//!
//! Limits, checked from the header before anything is allocated for pixels: [`MAX_FILE_BYTES`],
//! [`MAX_SIDE`], [`MAX_PIXELS`], [`MAX_DECODED_BYTES`].

mod decode;
mod error;
mod header;
pub(crate) mod jpeg;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use error::{Format, PictureError};
use header::Header;

/// The largest file that is read: 64 MiB.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The largest width and height, pixels.
pub const MAX_SIDE: u32 = 32768;
/// The largest width times height: 64 megapixels (64 * 2^20).
pub const MAX_PIXELS: u64 = 64 << 20;
/// The most memory for one picture's decoded samples: 256 MiB, 64 megapixels of RGBA. A picture
/// with 16 bits a sample reaches it sooner.
pub const MAX_DECODED_BYTES: u64 = 256 << 20;

/// A picture: 8-bit RGB samples, row by row from the top left, without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// Reads and decodes a JPEG or PNG file. The file's name does not matter.
    ///
    /// # Errors
    /// [`PictureError::Read`], [`PictureError::Directory`], or [`PictureError::File`] around what
    /// [`Picture::decode`] says. [`PictureError::cause`] looks through that wrapping.
    pub fn read(path: &Path) -> Result<Self, PictureError> {
        let bytes = read_bounded(path)?;
        Self::decode(&bytes)
            .map_err(|source| PictureError::File { path: path.to_owned(), source: source.into() })
    }

    /// Decodes the bytes of a JPEG or PNG file. A file that ends early is refused even if a part
    /// of the picture could be shown: a classifier would judge the grey that fills the rest.
    ///
    /// # Errors
    /// [`PictureError::Empty`], [`PictureError::NotAPicture`], [`PictureError::Truncated`],
    /// [`PictureError::TooLarge`], [`PictureError::Unsupported`], [`PictureError::Corrupt`] or
    /// [`PictureError::DecoderPanicked`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        decode::decode(bytes, &check(bytes)?)
    }

    /// A picture from samples: `rgb` holds `height * width * 3` bytes, row by row.
    ///
    /// # Errors
    /// [`PictureError::Samples`] when the length does not fit or a side is zero;
    /// [`PictureError::TooLarge`] above [`MAX_SIDE`] or [`MAX_PIXELS`].
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, PictureError> {
        check_size(width, height)?;
        let expected = u64::from(width) * u64::from(height) * 3;
        if expected == 0 || rgb.len() as u64 != expected {
            return Err(PictureError::Samples { width, height, actual: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// Width, pixels, 1..=[`MAX_SIDE`].
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height, pixels, 1..=[`MAX_SIDE`].
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The samples: `height * width * 3` bytes, row by row, red first.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The samples, to be written over in place (a camera's next frame of the same size).
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// Gives the samples back, so that their memory can be used again.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

/// The bytes of a file, refused above [`MAX_FILE_BYTES`] even if the file has no stated size.
fn read_bounded(path: &Path) -> Result<Vec<u8>, PictureError> {
    let cannot = |source| PictureError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(cannot)?;
    let facts = file.metadata().map_err(cannot)?;
    if facts.is_dir() {
        return Err(PictureError::Directory { path: path.to_owned() });
    }
    let refuse = |actual| PictureError::File {
        path: path.to_owned(),
        source: too_large("file size in bytes", actual, MAX_FILE_BYTES).into(),
    };
    if facts.len() > MAX_FILE_BYTES {
        return Err(refuse(facts.len()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES { Err(refuse(bytes.len() as u64)) } else { Ok(bytes) }
}

/// What a file's structure says; refuses what is no picture, incomplete or too large.
pub(crate) fn check(bytes: &[u8]) -> Result<Header, PictureError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large("file size in bytes", bytes.len() as u64, MAX_FILE_BYTES));
    }
    let header = header::check(bytes)?;
    check_size(header.width, header.height)?;
    Ok(header)
}

fn check_size(width: u32, height: u32) -> Result<(), PictureError> {
    let side = width.max(height);
    if side > MAX_SIDE {
        let what = format!("picture side in pixels ({width} x {height})");
        return Err(PictureError::TooLarge { what, actual: side.into(), limit: MAX_SIDE.into() });
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        let what = format!("number of pixels ({width} x {height})");
        return Err(PictureError::TooLarge { what, actual: pixels, limit: MAX_PIXELS });
    }
    Ok(())
}

fn too_large(what: &str, actual: u64, limit: u64) -> PictureError {
    PictureError::TooLarge { what: what.to_owned(), actual, limit }
}
