//! What can be told from a file's structure, before a decoder sees it: its format, its size in
//! pixels, and whether it is complete.
//!
//! The JPEG decoder fills what a cut file lacks with grey and reports success, so completeness is
//! judged here, by walking the segments (JPEG) or chunks (PNG) to the end marker. What is known to
//! make a decoder panic is refused here too. Source: ITU-T T.81 annex B; PNG specification, third
//! edition, sections 5 and 11.2.

use super::error::{Format, PictureError};

const PNG_SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];

/// What the structure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) format: Format,
    /// As stored, before the EXIF orientation is applied; not zero.
    pub(crate) width: u32,
    /// As stored; not zero.
    pub(crate) height: u32,
    /// Scans of a JPEG, at least 1; of a PNG, 0.
    pub(crate) scans: u32,
}

/// Tells the format, finds the size, and refuses an incomplete file. Allocates nothing.
pub(super) fn check(bytes: &[u8]) -> Result<Header, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return jpeg(bytes);
    }
    if bytes.starts_with(&PNG_SIGNATURE) {
        return png(bytes);
    }
    // A beginning of at least two bytes tells the formats apart.
    if bytes.len() >= 2 && PNG_SIGNATURE.starts_with(bytes) {
        return Err(cut(Format::Png, "it ends within the signature".to_owned()));
    }
    if bytes == [0xff, 0xd8] {
        return Err(cut(Format::Jpeg, "it ends after the first marker".to_owned()));
    }
    Err(PictureError::NotAPicture { looks: looks(bytes) })
}

fn cut(format: Format, why: String) -> PictureError {
    PictureError::Truncated { format, why }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn sized(format: Format, width: u32, height: u32) -> Result<Header, PictureError> {
    if width == 0 || height == 0 {
        let why = format!("its size is {width} x {height}");
        return Err(PictureError::Corrupt { format, why });
    }
    super::check_size(width, height)?;
    Ok(Header { format, width, height, scans: 0 })
}

/// Walks the segments from SOI to EOI. What follows EOI (a second picture, a camera maker's data)
/// is ignored.
fn jpeg(bytes: &[u8]) -> Result<Header, PictureError> {
    let missing = |why: &str| cut(Format::Jpeg, format!("{why} (it has {} bytes)", bytes.len()));
    let mut header = None;
    let mut scans = 0;
    let mut at = 2;
    loop {
        at = next_marker(bytes, at).ok_or_else(|| missing("the end marker is missing"))?;
        let marker = bytes[at - 1];
        match marker {
            0xd9 => break,
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = be16(bytes, at).ok_or_else(|| missing("it ends within a segment"))?;
        let end = at + usize::from(length.max(2));
        if end > bytes.len() {
            return Err(missing("it ends within a segment"));
        }
        match marker {
            // Start of frame: length, precision, height, width.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) && header.is_none() => {
                if let (Some(height), Some(width)) = (be16(bytes, at + 3), be16(bytes, at + 5)) {
                    header = Some(sized(Format::Jpeg, width.into(), height.into())?);
                }
            }
            0xda => scans += 1,
            _ => {}
        }
        at = end;
    }
    match header {
        Some(header) if scans > 0 => Ok(Header { scans, ..header }),
        _ => Err(PictureError::Corrupt {
            format: Format::Jpeg,
            why: "it ends before any picture data".to_owned(),
        }),
    }
}

/// The offset just past the next marker's code at or after `at`. Entropy-coded data (in which
/// FF is followed by 00), stray bytes between segments and fill bytes are passed over.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xff)? + 1;
        match bytes.get(at)? {
            0x00 => at += 1,
            0xff => {}
            _ => return Some(at + 1),
        }
    }
}

/// Walks the chunks from IHDR to IEND. What follows IEND is ignored.
fn png(bytes: &[u8]) -> Result<Header, PictureError> {
    let missing = |why: &str| cut(Format::Png, format!("{why} (it has {} bytes)", bytes.len()));
    let mut header = None;
    let mut at = PNG_SIGNATURE.len();
    loop {
        let (Some(length), Some(kind)) = (be32(bytes, at), bytes.get(at + 4..at + 8)) else {
            return Err(missing("the IEND chunk is missing"));
        };
        // The size is judged as soon as it is known, whatever follows.
        if header.is_none() && kind == b"IHDR" {
            let (Some(width), Some(height)) = (be32(bytes, at + 8), be32(bytes, at + 12)) else {
                return Err(missing("it ends within the IHDR chunk"));
            };
            header = Some(sized(Format::Png, width, height)?);
        }
        let Some(header) = header else {
            let why = "its first chunk is not IHDR".to_owned();
            return Err(PictureError::Corrupt { format: Format::Png, why });
        };
        // Length, kind and checksum surround the data.
        let end = u64::from(length) + at as u64 + 12;
        if end > bytes.len() as u64 {
            return Err(missing("it ends within a chunk"));
        }
        // The decoder (png 0.18.1) takes a palette of any length and panics on most wrong ones.
        if kind == b"PLTE" && !(length.is_multiple_of(3) && (3..=768).contains(&length)) {
            let why = format!("its palette has {length} bytes, not 3 for each of 1 to 256 colours");
            return Err(PictureError::Corrupt { format: Format::Png, why });
        }
        if kind == b"IEND" {
            return Ok(header);
        }
        at = end as usize;
    }
}

/// What bytes that are neither JPEG nor PNG look like, as the end of "it ...".
fn looks(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 10] = [
        (b"GIF8", "is a GIF"),
        (b"BM", "looks like a BMP"),
        (b"II*\0", "looks like a TIFF"),
        (b"MM\0*", "looks like a TIFF"),
        (b"%PDF", "is a PDF"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"\x1f\x8b", "is gzip data"),
        (b"<svg", "is an SVG drawing"),
        (b"<!DOCTYPE", "is an HTML page"),
        (b"<html", "is an HTML page"),
    ];
    if let Some((_, name)) = known.iter().find(|(start, _)| bytes.starts_with(start)) {
        return (*name).to_owned();
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return "is a WebP".to_owned();
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        let brand = bytes.get(8..12).unwrap_or_default().escape_ascii();
        return format!("is an ISO media file of brand '{brand}' (HEIC, AVIF or a video)");
    }
    let start = &bytes[..bytes.len().min(16)];
    let text = |b: &u8| matches!(b, b' '..=b'~' | b'\t' | b'\r' | b'\n' | 0x80..);
    if std::str::from_utf8(&bytes[..bytes.len().min(4)]).is_ok() && start.iter().all(text) {
        return format!("is text, starting with \"{}\"", String::from_utf8_lossy(start).trim_end());
    }
    if start.iter().all(|b| *b == 0) {
        return "starts with zeros".to_owned();
    }
    let hex: Vec<String> = start.iter().map(|b| format!("{b:02x}")).collect();
    format!("starts with the bytes {}", hex.join(" "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_named() {
        let message = |bytes: &[u8]| check(bytes).unwrap_err().to_string();
        assert_eq!(message(b"GIF89a.."), "neither JPEG nor PNG: it is a GIF");
        assert_eq!(message(b"RIFF\0\0\0\0WEBPVP8 "), "neither JPEG nor PNG: it is a WebP");
        assert!(message(b"\0\0\0\x18ftypheic").contains("brand 'heic'"));
        assert_eq!(
            message(b"hello, world\n"),
            "neither JPEG nor PNG: it is text, starting with \"hello, world\""
        );
        assert_eq!(message(&[0; 40]), "neither JPEG nor PNG: it starts with zeros");
        assert_eq!(
            message(&[1, 2, 254]),
            "neither JPEG nor PNG: it starts with the bytes 01 02 fe"
        );
    }

    #[test]
    fn fill_bytes_and_stray_bytes_between_segments_are_passed_over() {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xff, 0xff, 0xc0, 0, 11, 8, 0, 5, 0, 7, 1, 1, 17, 0];
        bytes.extend([9, 9, 0xff, 0xda, 0, 2, 1, 0xff, 0x00, 0xff, 0xd3, 5, 0xff, 0xd9, 1]);
        let expected = Header { format: Format::Jpeg, width: 7, height: 5, scans: 1 };
        assert_eq!(check(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_thumbnails_end_marker_is_not_the_pictures() {
        let bytes = [0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xd9, 0xff, 0xc0];
        assert!(matches!(check(&bytes), Err(PictureError::Truncated { .. })));
    }
}
