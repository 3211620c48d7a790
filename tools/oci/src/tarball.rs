//! Layers: tar archives, compressed, the same bytes from the same files.

use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use sha2::{Digest, Sha256};

/// A file of a layer.
pub(crate) struct Entry<'a> {
    /// Path without a leading slash; folders above it are made.
    pub(crate) path: &'a str,
    /// Permissions.
    pub(crate) mode: u32,
    pub(crate) bytes: &'a [u8],
}

/// A layer: what is stored, and the digest of what it unpacks to.
pub(crate) struct Layer {
    pub(crate) gzip: Vec<u8>,
    pub(crate) unpacked_digest: String,
}

/// Packs files that belong to root and were changed in 1970.
pub(crate) fn pack(entries: &[Entry]) -> io::Result<Layer> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut made = std::collections::BTreeSet::new();
    for entry in entries {
        let folders = entry.path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at);
        for at in folders {
            if made.insert(&entry.path[..at]) {
                let mut header = header(0o755, 0, tar::EntryType::Directory);
                archive.append_data(&mut header, format!("{}/", &entry.path[..at]), io::empty())?;
            }
        }
        let mut header = header(entry.mode, entry.bytes.len() as u64, tar::EntryType::Regular);
        archive.append_data(&mut header, entry.path, entry.bytes)?;
    }
    let unpacked = archive.into_inner()?;
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(9));
    gzip.write_all(&unpacked)?;
    Ok(Layer { gzip: gzip.finish()?, unpacked_digest: digest(&unpacked) })
}

fn header(mode: u32, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The files of `names` that a layer holds at its top, each of at most the given number of bytes. Other
/// entries are passed over; nothing is ever written under a name that an archive chose.
pub(crate) fn unpack<'n>(
    gzip: &[u8],
    names: &[(&'n str, u64)],
) -> io::Result<Vec<(&'n str, Vec<u8>)>> {
    // A bound on what a small file may unpack to.
    let most: u64 = names.iter().map(|(_, most)| most + 4096).sum::<u64>() + (1 << 20);
    let mut archive = tar::Archive::new(GzDecoder::new(gzip).take(most));
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path_bytes();
        let path = path.strip_prefix(b"./".as_slice()).unwrap_or(&path).to_vec();
        let Some((name, most)) = names.iter().find(|(name, _)| name.as_bytes() == path) else {
            continue;
        };
        let wrong =
            |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {why}"));
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(wrong("no ordinary file"));
        }
        if found.iter().any(|(other, _)| other == name) {
            return Err(wrong("there twice"));
        }
        let size = entry.size();
        if size > *most {
            return Err(wrong("too large"));
        }
        let mut bytes = Vec::new();
        entry.take(*most).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(wrong("cut off"));
        }
        found.push((name, bytes));
    }
    Ok(found)
}

/// `sha256:…` of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_is_the_same_twice() {
        let pack = || {
            pack(&[
                Entry { path: "model.onnx", mode: 0o644, bytes: b"weights" },
                Entry { path: "usr/lib/other", mode: 0o644, bytes: b"x" },
            ])
            .unwrap()
        };
        let layer = pack();
        assert_eq!(layer.gzip, pack().gzip);
        let files = unpack(&layer.gzip, &[("model.onnx", 7), ("model.onnx.minisig", 9)]).unwrap();
        assert_eq!(files, [("model.onnx", b"weights".to_vec())]);
        let error = unpack(&layer.gzip, &[("model.onnx", 6)]).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn hostile_archives_give_errors() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut link = header(0o777, 0, tar::EntryType::Symlink);
        archive.append_link(&mut link, "model.onnx", "/etc/shadow").unwrap();
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
        gzip.write_all(&archive.into_inner().unwrap()).unwrap();
        let gzip = gzip.finish().unwrap();
        let error = unpack(&gzip, &[("model.onnx", 100)]).unwrap_err().to_string();
        assert!(error.contains("no ordinary file"), "{error}");
        for cut in 0..gzip.len() {
            let _ = unpack(&gzip[..cut], &[("model.onnx", 100)]);
        }
        // 1 GiB of zeros, packed: it ends after what could be meant.
        let mut bomb = GzBuilder::new().write(Vec::new(), Compression::fast());
        for _ in 0..64 {
            bomb.write_all(&vec![b'a'; 1 << 20]).unwrap();
        }
        assert!(unpack(&bomb.finish().unwrap(), &[("model.onnx", 100)]).is_err());
    }
}
