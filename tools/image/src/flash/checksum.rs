//! The SHA-256 that a download ought to have: given by the user, or in a file beside the image.

use std::fs;
use std::path::{Path, PathBuf};

/// A checksum that is no checksum.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// Not 64 hexadecimal digits.
    #[error("'{0}' is no SHA-256: that has 64 hexadecimal digits")]
    Digits(String),
    /// The list cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The list.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a checksum is compared with, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The 32 bytes.
    pub sha256: [u8; 32],
    /// `--sha256`, or the list's path.
    pub from: String,
}

/// 64 hexadecimal digits as bytes.
///
/// # Errors
/// [`ChecksumError::Digits`].
pub fn parse(text: &str) -> Result<[u8; 32], ChecksumError> {
    let wrong = || ChecksumError::Digits(text.chars().take(80).collect());
    let digits = text.trim().as_bytes();
    if digits.len() != 64 {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        if pair.starts_with('+') {
            return Err(wrong());
        }
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// Looks beside the image: `IMAGE.sha256`, `SHA256SUMS`, `sha256sums.txt`, as `sha256sum` writes them.
///
/// # Errors
/// A list is there, but cannot be read, or its line for the image has no checksum.
pub fn beside(image: &Path) -> Result<Option<Expected>, ChecksumError> {
    let Some(name) = image.file_name().and_then(|n| n.to_str()) else { return Ok(None) };
    let folder = image.parent().unwrap_or(Path::new(""));
    let own = format!("{name}.sha256");
    for list in [own.as_str(), "SHA256SUMS", "sha256sums.txt"] {
        let path = folder.join(list);
        match fs::metadata(&path) {
            Ok(about) if about.is_file() && about.len() < 4 << 20 => {}
            _ => continue,
        }
        let text = fs::read_to_string(&path)
            .map_err(|source| ChecksumError::Read { path: path.clone(), source })?;
        for line in text.lines() {
            let (sum, file) = line.trim().split_once([' ', '\t']).unwrap_or((line.trim(), ""));
            let file = file.trim_start().trim_start_matches('*').trim_start_matches("./");
            if file == name || (file.is_empty() && list == own && !sum.is_empty()) {
                let from = path.display().to_string();
                return Ok(Some(Expected { sha256: parse(sum)?, from }));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_beside_the_image_are_found_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("card.img.xz");
        assert_eq!(beside(&image).unwrap(), None);
        let list = folder.path().join("SHA256SUMS");
        let sum = "ab".repeat(32);
        for line in [
            format!("{sum}  card.img.xz"),
            format!("{sum} *card.img.xz"),
            format!("{sum}  ./card.img.xz"),
        ] {
            fs::write(&list, format!("{}  other.img\n{line}\n", "00".repeat(32))).unwrap();
            assert_eq!(beside(&image).unwrap().unwrap().sha256, [0xab; 32]);
        }
        fs::write(&list, format!("{}  other.img\n", "00".repeat(32))).unwrap();
        assert_eq!(beside(&image).unwrap(), None);
        fs::write(folder.path().join("card.img.xz.sha256"), format!("{sum}\n")).unwrap();
        assert_eq!(beside(&image).unwrap().unwrap().sha256, [0xab; 32]);
        fs::write(folder.path().join("card.img.xz.sha256"), "what card.img.xz\n").unwrap();
        assert!(beside(&image).is_err());
    }

    #[test]
    fn only_64_digits_are_a_checksum() {
        assert!(parse(&"0F".repeat(32)).is_ok());
        for wrong in
            ["", "12", &"0g".repeat(32), &"+1".repeat(32), &"é".repeat(32), &"00".repeat(33)]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
