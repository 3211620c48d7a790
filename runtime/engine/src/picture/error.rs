//! Why a picture was refused.

use std::path::PathBuf;

/// A picture format that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JPEG: baseline or progressive, grey, YCbCr, RGB, CMYK or YCCK.
    Jpeg,
    /// PNG, every colour type and depth.
    Png,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
        })
    }
}

/// Why a picture was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file is missing or could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is a directory.
    #[error("{} is a directory, not a picture", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A file was read but is not a usable picture.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: Box<PictureError>,
    },
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The bytes are neither JPEG nor PNG.
    #[error("neither JPEG nor PNG: it {looks}")]
    NotAPicture {
        /// What the first bytes look like, as the end of a sentence.
        looks: String,
    },
    /// The file ends before the picture does.
    #[error("truncated {format}: {why}")]
    Truncated {
        /// The picture's format.
        format: Format,
        /// What was missing, and where.
        why: String,
    },
    /// A limit that protects memory and time was exceeded.
    #[error("{what} is {actual}, over the limit of {limit}")]
    TooLarge {
        /// What was measured.
        what: String,
        /// Its value.
        actual: u64,
        /// The largest that is accepted.
        limit: u64,
    },
    /// The picture uses a part of its format that the decoder does not know.
    #[error("unsupported {format}: {why}")]
    Unsupported {
        /// The picture's format.
        format: Format,
        /// What is not supported.
        why: String,
    },
    /// The bytes break the rules of their format.
    #[error("corrupt {format}: {why}")]
    Corrupt {
        /// The picture's format.
        format: Format,
        /// What is wrong.
        why: String,
    },
    /// The decoder panicked: a defect in it that these bytes bring out.
    #[error("the {format} decoder failed on this picture: {why}")]
    DecoderPanicked {
        /// The picture's format.
        format: Format,
        /// The panic's message.
        why: String,
    },
    /// The number of samples does not fit the picture's size.
    #[error("a picture of {width} x {height} cannot have {actual} bytes of RGB")]
    Samples {
        /// Stated width, pixels.
        width: u32,
        /// Stated height, pixels.
        height: u32,
        /// Number of bytes given.
        actual: usize,
    },
}

impl PictureError {
    /// The error itself, without the [`PictureError::File`] that names its file.
    pub fn cause(&self) -> &Self {
        match self {
            Self::File { source, .. } => source.cause(),
            other => other,
        }
    }
}
