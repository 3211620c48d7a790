//! A release as it lies on this machine: a file and, beside it, its signature.

use std::fs::File;
use std::path::{Path, PathBuf};

use kinglet_update::{Header, Kind, MAX_SIGNATURE_BYTES, Release as Said};

use super::PushError;
use crate::hash;

/// A release, with what its signature says of it. The signature is the board's to verify.
#[derive(Debug, Clone)]
pub struct Release {
    /// The file.
    pub path: PathBuf,
    /// What it replaces.
    pub kind: Kind,
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Hash of the file, in hexadecimal.
    pub sha256: String,
    signature: Vec<u8>,
}

impl Release {
    /// Reads what is said of a file in `FILE.minisig`.
    ///
    /// # Errors
    /// [`PushError::Read`] and [`PushError::Release`], with the command that signs.
    pub fn read(path: &Path) -> Result<Self, PushError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            |source| PushError::Read { path, source }
        };
        let mut name = path.as_os_str().to_owned();
        name.push(".minisig");
        let signed = PathBuf::from(name);
        let refuse = |why: &str| PushError::Release { path: signed.clone(), why: why.to_owned() };
        let bytes = std::fs::metadata(path).map_err(read(path))?.len();
        let length = std::fs::metadata(&signed).map(|m| m.len()).map_err(|error| {
            let sign =
                format!("{error}; sign the file first: kinglet-tools sign {}", path.display());
            if error.kind() == std::io::ErrorKind::NotFound {
                refuse(&sign)
            } else {
                read(&signed)(error)
            }
        })?;
        if length == 0 || length > MAX_SIGNATURE_BYTES as u64 {
            return Err(refuse("is no minisign signature"));
        }
        let signature = std::fs::read(&signed).map_err(read(&signed))?;
        let text = String::from_utf8_lossy(&signature);
        let comment = text.lines().nth(2).and_then(|l| l.strip_prefix("trusted comment: "));
        let comment = comment.ok_or_else(|| refuse("is no minisign signature"))?;
        let Said { kind, number, name } = Said::parse(comment.trim_end())
            .map_err(|error| refuse(&format!("{error}; sign the file with kinglet-tools sign")))?;
        if bytes == 0 || bytes > kind.max_bytes() {
            let (path, most) = (path.to_owned(), kind.max_bytes());
            let why = format!("has {bytes} bytes; a {} has 1 to {most}", kind.name());
            return Err(PushError::Release { path, why });
        }
        let sha256 = hash::of_file(path).map_err(read(path))?;
        Ok(Self { path: path.to_owned(), kind, number, name, bytes, sha256, signature })
    }

    /// What goes before the file: both lengths, and the signature.
    pub(super) fn header(&self) -> Vec<u8> {
        let header = Header { signature: self.signature.len(), payload: self.bytes };
        let mut bytes = header.text().into_bytes();
        bytes.extend(&self.signature);
        bytes
    }

    pub(super) fn open(&self) -> Result<File, PushError> {
        File::open(&self.path).map_err(|source| PushError::Read { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_a_file_and_a_signature_that_speaks_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let signature = folder.path().join("m.onnx.minisig");
        let said = || Release::read(&path).unwrap_err().to_string();
        assert!(said().contains("m.onnx"));
        std::fs::write(&path, "model").unwrap();
        assert!(said().contains("kinglet-tools sign"), "{}", said());
        std::fs::write(&signature, "x").unwrap();
        assert!(said().contains("no minisign signature"), "{}", said());
        std::fs::write(&signature, "untrusted comment: a\nRU\ntrusted comment: file:m\nxx\n")
            .unwrap();
        assert!(said().contains("trusted comment"), "{}", said());
        let text = "untrusted comment: a\nRU\ntrusted comment: kinglet kind=model release=12 name=m.onnx\nxx\n";
        std::fs::write(&signature, text).unwrap();
        let release = Release::read(&path).unwrap();
        assert_eq!((release.kind, release.number, release.bytes), (Kind::Model, 12, 5));
        let header = String::from_utf8(release.header()).unwrap();
        assert_eq!(header, format!("{:08}000000000005{text}", text.len()));
        std::fs::write(&signature, vec![b'x'; 5000]).unwrap();
        assert!(said().contains("no minisign signature"), "{}", said());
    }
}
