//! Debian packages: an `ar` archive with a tar archive in it, read without `dpkg`.
//!
//! Names and lengths are checked; nothing is written to the disk from here.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::CardError;

/// The longest file of a package that is taken, bytes.
const LONGEST: u64 = 256 << 20;
/// All files of a package together, bytes.
const MOST: u64 = 2 << 30;

/// One entry of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file's bytes.
    File(Vec<u8>),
    /// A symbolic or hard link to what it names.
    Link(String),
}

/// Reads a package; of each file `wanted` says whether its bytes are, by its path without a dot or slash at the beginning.
///
/// # Errors
/// [`CardError::Package`] where the file is no package, or a damaged one.
pub fn read(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<(String, Entry)>, CardError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(CardError::file(path))?;
    entries(BufReader::new(file), wanted).map_err(|e| CardError::Package {
        name,
        what: format!("{e}; the file is damaged: download it again"),
    })
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn entries(
    mut reader: impl Read,
    wanted: &dyn Fn(&str) -> bool,
) -> io::Result<Vec<(String, Entry)>> {
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(invalid("it is no Debian package"));
    }
    loop {
        let mut header = [0; 60];
        reader.read_exact(&mut header)?;
        let text = |from: usize, to: usize| {
            std::str::from_utf8(&header[from..to]).unwrap_or("").trim().to_owned()
        };
        let (name, length) = (text(0, 16), text(48, 58).parse::<u64>());
        let length = length.map_err(|_| invalid("a member without a length"))?;
        let mut member = reader.by_ref().take(length);
        match name.trim_end_matches('/') {
            "data.tar" => return tar(&mut member, wanted),
            "data.tar.gz" => return tar(&mut flate2::read::GzDecoder::new(member), wanted),
            "data.tar.xz" => {
                let decoder = lzma_rust2::XzReader::new_mem_limit(member, true, 128 << 10);
                return tar(&mut BufReader::new(decoder), wanted);
            }
            "data.tar.zst" => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(member)
                    .map_err(|e| invalid(e.to_string()))?;
                return tar(&mut BufReader::new(decoder), wanted);
            }
            _ => {
                io::copy(&mut member, &mut io::sink())?;
                if length % 2 == 1 {
                    reader.read_exact(&mut [0])?;
                }
            }
        }
    }
}

/// POSIX ustar with GNU's long names. Source: tar(5).
fn tar(reader: &mut dyn Read, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<(String, Entry)>> {
    let mut found = Vec::new();
    let (mut long_name, mut long_link) = (None, None);
    let mut total = 0u64;
    loop {
        let mut header = [0; 512];
        reader.read_exact(&mut header)?;
        if header == [0; 512] {
            return Ok(found);
        }
        let length = octal(&header[124..136]).ok_or_else(|| invalid("a length is no number"))?;
        let kind = header[156];
        total = total.saturating_add(length);
        if length > LONGEST || total > MOST {
            return Err(invalid(format!("a file of {length} bytes")));
        }
        let padded = length.next_multiple_of(512);
        let mut body = reader.take(padded);
        if kind == b'L' || kind == b'K' {
            if length > 4096 {
                return Err(invalid("a name of more than 4096 bytes"));
            }
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes)?;
            let text = text(&bytes);
            if kind == b'L' {
                long_name = Some(text)
            } else {
                long_link = Some(text)
            }
            continue;
        }
        let prefix = text(&header[345..500]);
        let short = text(&header[..100]);
        let whole = if prefix.is_empty() || header[257..262] != *b"ustar" || header[262] == b' ' {
            short
        } else {
            format!("{prefix}/{short}")
        };
        let name = long_name.take().unwrap_or(whole);
        let link = long_link.take().unwrap_or_else(|| text(&header[157..257]));
        let name = name.trim_start_matches("./").trim_start_matches('/').to_owned();
        if name.split('/').any(|part| part == "..") {
            return Err(invalid(format!("a name with .. in it: {name}")));
        }
        match kind {
            0 | b'0' if wanted(&name) => {
                let mut bytes = Vec::new();
                body.by_ref().take(length).read_to_end(&mut bytes)?;
                if bytes.len() as u64 != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                found.push((name, Entry::File(bytes)));
            }
            b'1' | b'2' if wanted(&name) => found.push((name, Entry::Link(link))),
            _ => {}
        }
        io::copy(&mut body, &mut io::sink())?;
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = text(field);
    u64::from_str_radix(text.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// A package made by dpkg-deb itself.
    fn package(compression: &str) -> Option<(tempfile::TempDir, std::path::PathBuf)> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let long = "lib/modules/".to_owned() + &"a-long-folder/".repeat(12);
        fs::create_dir_all(root.join("DEBIAN")).unwrap();
        fs::create_dir_all(root.join(&long)).unwrap();
        fs::write(root.join(&long).join("x.ko"), vec![5; 70_001]).unwrap();
        fs::write(root.join("lib/small"), "hello").unwrap();
        std::os::unix::fs::symlink("small", root.join("lib/link")).unwrap();
        let control =
            "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.x>\nDescription: x\n";
        fs::write(root.join("DEBIAN/control"), control).unwrap();
        let path = folder.path().join("x.deb");
        let result = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Z", compression, "-b"])
            .args([&root, &path])
            .output();
        match result {
            Ok(output) if output.status.success() => Some((folder, path)),
            _ => {
                println!("skipped: no dpkg-deb");
                None
            }
        }
    }

    #[test]
    fn packages_of_every_compression_are_read() {
        for compression in ["none", "gzip", "xz", "zstd"] {
            let Some((_folder, path)) = package(compression) else { return };
            let all = read(&path, &|_| true).unwrap();
            let find = |end: &str| &all.iter().find(|(n, _)| n.ends_with(end)).unwrap().1;
            assert_eq!(*find("x.ko"), Entry::File(vec![5; 70_001]));
            assert_eq!(*find("lib/small"), Entry::File(b"hello".to_vec()));
            assert_eq!(*find("lib/link"), Entry::Link("small".into()));
            assert_eq!(read(&path, &|n| n == "lib/small").unwrap().len(), 1);
        }
    }

    #[test]
    fn damaged_packages_are_errors() {
        let Some((folder, path)) = package("none") else { return };
        let whole = fs::read(&path).unwrap();
        let other = folder.path().join("damaged.deb");
        for cut in [0, 7, 30, 68, 200, whole.len() / 2, whole.len() - 20_000] {
            fs::write(&other, &whole[..cut]).unwrap();
            assert!(read(&other, &|_| true).is_err(), "{cut}");
        }
        let mut state = 5u64;
        for _ in 0..500 {
            let mut bytes = whole.clone();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % 4096;
            bytes[at] = (state >> 25) as u8;
            fs::write(&other, &bytes).unwrap();
            let _ = read(&other, &|_| true);
        }
    }
}
