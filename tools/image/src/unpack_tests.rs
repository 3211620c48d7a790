use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Bytes that pack, but not to nothing.
fn sample(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 27) as u8 & 0x3f).collect()
}

/// Packs with the system's program; none where it is missing.
fn pack(program: &str, arguments: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        println!("skipped: no {program}");
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    let owned = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&owned));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    Some(output.stdout)
}

fn packed(bytes: &[u8]) -> Vec<(Packing, Vec<u8>)> {
    let mut all = vec![(Packing::Plain, bytes.to_vec())];
    let programs: [(Packing, &str, &[&str]); 4] = [
        (Packing::Gzip, "gzip", &["-c"]),
        (Packing::Xz, "xz", &["-c", "-0"]),
        (Packing::Xz, "xz", &["-c", "-0", "-T2", "--block-size=200000"]),
        (Packing::Zstd, "zstd", &["-c", "-q"]),
    ];
    for (packing, program, arguments) in programs {
        all.extend(pack(program, arguments, bytes).map(|b| (packing, b)));
    }
    all
}

fn read(bytes: &[u8]) -> Result<(Vec<u8>, [u8; 32]), UnpackError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut unpacker = Unpacker::open(file.path())?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 100_000]);
    loop {
        let got = unpacker.fill(&mut buffer)?;
        all.extend_from_slice(&buffer[..got]);
        if got < buffer.len() {
            return Ok((all, unpacker.finish()?));
        }
    }
}

#[test]
fn every_packing_gives_the_bytes_and_the_files_hash() {
    let bytes = sample(1_000_003);
    for (packing, file) in packed(&bytes) {
        let (got, sha) = read(&file).unwrap();
        assert!(got == bytes, "{packing:?}");
        assert_eq!(sha, <[u8; 32]>::from(Sha256::digest(&file)), "{packing:?}");
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), &file).unwrap();
        let opened = Unpacker::open(path.path()).unwrap();
        assert_eq!(opened.packing(), packing);
        // gzip states none, and zstd knows none when it reads a pipe.
        if matches!(packing, Packing::Plain | Packing::Xz) {
            assert_eq!(opened.stated_size(), Some(1_000_003), "{packing:?}");
        }
    }
}

#[test]
fn several_streams_in_one_file_are_one_image() {
    let (a, b) = (sample(300_000), sample(70_000));
    for ((packing, mut first), (_, second)) in packed(&a).into_iter().zip(packed(&b)) {
        first.extend(second);
        let (got, _) = read(&first).unwrap();
        assert!(got == [a.clone(), b.clone()].concat(), "{packing:?}");
    }
}

#[test]
fn what_is_cut_or_changed_is_damaged() {
    let bytes = sample(400_000);
    for (packing, file) in packed(&bytes) {
        if packing == Packing::Plain {
            continue;
        }
        for cut in [1, 4, 9, file.len() / 3, file.len() / 2, file.len() - 20] {
            let error = read(&file[..file.len() - cut]).unwrap_err();
            assert!(matches!(error, UnpackError::Damaged { .. }), "{packing:?} {cut}: {error}");
        }
        for at in [file.len() / 4, file.len() / 2, file.len() - 6, file.len() * 3 / 4] {
            let mut changed = file.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed).is_err(), "{packing:?}: byte {at} is another");
        }
        let longer = [file.clone(), b"and more".to_vec()].concat();
        assert!(read(&longer).is_err(), "{packing:?}: something follows");
    }
}

#[test]
fn other_archives_are_named() {
    for (bytes, name) in [(&b"PK\x03\x04abcdef"[..], "zip"), (b"BZh91AY&SY", "bzip2")] {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn random_beginnings_never_panic() {
    let mut state = 7u64;
    for round in 0..300 {
        let mut bytes: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        let magic: &[u8] = match round % 3 {
            0 => &[0x1f, 0x8b, 8, 0],
            1 => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            _ => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        bytes[..magic.len()].copy_from_slice(magic);
        assert!(read(&bytes).is_err());
    }
}
