//! Images as they are downloaded: plain, `.gz`, `.xz` or `.zst`, read as a stream.
//!
//! What a file is, its first bytes say, not its name. Checksums of the formats are checked, a file that ends too
//! early is an error, and what a decoder takes is bounded. Not for writing archives.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest, Sha256};

/// The most that a decoder may take for its window, bytes.
const WINDOW: u64 = 128 << 20;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive is damaged, or ends too early.
    #[error("{} is damaged or incomplete after {at} bytes of the image: {source}; download it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How much of the image could be read before, bytes.
        at: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// A format that is not read.
    #[error("{} is a {format} file; unpack it first, or use .img, .img.xz, .img.zst or .img.gz", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: &'static str,
    },
}

/// How an image is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

/// What was read of the file so far.
#[derive(Default)]
struct Meter {
    bytes: u64,
    sha: Sha256,
}

struct Metered(File, Rc<RefCell<Meter>>);

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(buffer)?;
        let mut meter = self.1.borrow_mut();
        meter.bytes += got as u64;
        meter.sha.update(&buffer[..got]);
        Ok(got)
    }
}

/// The bytes of an image, whatever it is packed in.
pub struct Unpacker {
    path: PathBuf,
    packing: Packing,
    file_bytes: u64,
    stated: Option<u64>,
    meter: Rc<RefCell<Meter>>,
    inner: Inner,
    given: u64,
}

enum Inner {
    Plain(BufReader<Metered>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Metered>>>),
    Xz(Box<lzma_rust2::XzReader<BufReader<Metered>>>),
    Zstd(Box<Zstd>),
}

/// One frame after the other, each with its checksum.
struct Zstd {
    frame: Option<StreamingDecoder<BufReader<Metered>, ruzstd::decoding::FrameDecoder>>,
}

impl Unpacker {
    /// Opens an image and looks at its first bytes.
    ///
    /// # Errors
    /// [`UnpackError`] where it cannot be read, or is of a format that is not read.
    pub fn open(path: &Path) -> Result<Self, UnpackError> {
        let failed = |source| UnpackError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let mut magic = [0; 6];
        let mut known = 0;
        while known < magic.len() {
            match file.read(&mut magic[known..]).map_err(failed)? {
                0 => break,
                got => known += got,
            }
        }
        let packing = match magic {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Packing::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            [b'P', b'K', 3, 4, ..] => {
                return Err(UnpackError::Format { path: path.to_owned(), format: "zip" });
            }
            [b'B', b'Z', b'h', ..] => {
                return Err(UnpackError::Format { path: path.to_owned(), format: "bzip2" });
            }
            _ => Packing::Plain,
        };
        let stated = match packing {
            Packing::Plain => Some(about.len()),
            _ => stated_size(&mut file, packing, about.len()).map_err(failed)?,
        };
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let meter = Rc::new(RefCell::new(Meter::default()));
        let reader = BufReader::with_capacity(256 << 10, Metered(file, Rc::clone(&meter)));
        let damaged = |source| UnpackError::Damaged { path: path.to_owned(), at: 0, source };
        let inner = match packing {
            Packing::Plain => Inner::Plain(reader),
            Packing::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Packing::Xz => Inner::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(
                reader,
                true,
                (WINDOW >> 10) as u32,
            ))),
            Packing::Zstd => {
                Inner::Zstd(Box::new(Zstd { frame: Some(frame(reader).map_err(damaged)?) }))
            }
        };
        Ok(Self {
            path: path.to_owned(),
            packing,
            file_bytes: about.len(),
            stated,
            meter,
            inner,
            given: 0,
        })
    }

    /// How it is packed.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Length of the file, bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes of the file that were read so far, for a progress bar.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.meter.borrow().bytes
    }

    /// What the file says that the image is long, bytes. Only a statement.
    #[must_use]
    pub fn stated_size(&self) -> Option<u64> {
        self.stated
    }

    /// Fills the buffer as far as there is something; less only at the end.
    ///
    /// # Errors
    /// [`UnpackError::Damaged`] where the archive is.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let at = self.given + filled as u64;
                    return Err(UnpackError::Damaged { path: self.path.clone(), at, source });
                }
            }
        }
        self.given += filled as u64;
        Ok(filled)
    }

    /// After the last byte: the SHA-256 of the file as it lies there.
    ///
    /// # Errors
    /// [`UnpackError::Damaged`] where something follows that is no part of the archive.
    pub fn finish(mut self) -> Result<[u8; 32], UnpackError> {
        let mut rest = [0; 4096];
        let more = self.fill(&mut rest)?;
        let read = self.consumed();
        if more > 0 || read != self.file_bytes {
            let source = io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{read} of the file's {} bytes were read", self.file_bytes),
            );
            return Err(UnpackError::Damaged { path: self.path, at: self.given, source });
        }
        Ok(self.meter.borrow().sha.clone().finalize().into())
    }
}

impl Read for Unpacker {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill(buffer).map_err(io::Error::other)
    }
}

impl Inner {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Xz(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

fn frame(
    reader: BufReader<Metered>,
) -> io::Result<StreamingDecoder<BufReader<Metered>, ruzstd::decoding::FrameDecoder>> {
    StreamingDecoder::new_with_max_window_size(reader, WINDOW).map_err(invalid)
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = self.frame.as_mut() else { return Ok(0) };
            let got = decoder.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            let stated = decoder.decoder.get_checksum_from_data();
            if stated.is_some() && stated != decoder.decoder.get_calculated_checksum() {
                return Err(invalid("the checksum is another"));
            }
            let Some(decoder) = self.frame.take() else { return Ok(0) };
            let mut reader = decoder.into_inner();
            if reader.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.frame = Some(frame(reader)?);
        }
    }
}

/// What the archive says of the image's length, where that costs a look at its end or beginning.
fn stated_size(file: &mut File, packing: Packing, length: u64) -> io::Result<Option<u64>> {
    match packing {
        Packing::Plain => Ok(Some(length)),
        Packing::Xz => xz_size(file, length),
        // It states it modulo 4 GiB, and at its end, where a file that was cut has something else.
        Packing::Gzip => Ok(None),
        Packing::Zstd => {
            file.seek(SeekFrom::Start(0))?;
            let mut head = [0; 18];
            let got = file.read(&mut head)?;
            Ok(zstd_size(&head[..got]))
        }
    }
}

/// RFC 8878, 3.1.1.1: the frame's content size. Source: <https://www.rfc-editor.org/rfc/rfc8878>.
fn zstd_size(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4)?;
    let single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let at = 5 + usize::from(!single) + dictionary;
    let width = match descriptor >> 6 {
        0 if single => 1,
        0 => return None,
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let mut value = [0; 8];
    value[..width].copy_from_slice(head.get(at..at + width)?);
    Some(u64::from_le_bytes(value) + if width == 2 { 256 } else { 0 })
}

/// The sum over the index of the last stream. Source: the .xz file format 1.2.1, sections 2.1.2 and 4.
fn xz_size(file: &mut File, length: u64) -> io::Result<Option<u64>> {
    if length < 32 {
        return Ok(None);
    }
    let mut footer = [0; 12];
    file.seek(SeekFrom::Start(length - 12))?;
    file.read_exact(&mut footer)?;
    let backward =
        (u64::from(u32::from_le_bytes([footer[4], footer[5], footer[6], footer[7]])) + 1) * 4;
    if &footer[10..] != b"YZ" || backward > (16 << 20) || backward + 24 > length {
        return Ok(None);
    }
    let mut index = vec![0; backward as usize];
    file.seek(SeekFrom::Start(length - 12 - backward))?;
    file.read_exact(&mut index)?;
    let mut at = 1;
    let mut number = || {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = *index.get(at)?;
            at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    let mut sum = || {
        let records = number()?;
        let mut total = 0u64;
        for _ in 0..records {
            number()?;
            total = total.checked_add(number()?)?;
        }
        Some(total)
    };
    Ok(sum())
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
