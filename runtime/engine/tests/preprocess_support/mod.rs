//! What the preprocessing suites share: the golden files, and the picture that they were made from.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;

use kinglet_engine::picture::Picture;

/// A file or folder of the golden results.
pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/preprocess")).join(name)
}

/// The words of each line of a golden table.
pub(crate) fn table(name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(golden(name)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The picture `noise` of make.py.
pub(crate) fn noise(width: u32, height: u32) -> Picture {
    let sample = |x: u32, y: u32, c: u32| {
        if x * 2 < width {
            let hash =
                x.wrapping_mul(73856093) ^ y.wrapping_mul(19349663) ^ c.wrapping_mul(83492791);
            ((hash ^ (hash >> 13)).wrapping_mul(1274126177) >> 24) as u8
        } else if (x / 3 + y / 2 + c).is_multiple_of(2) {
            255
        } else {
            0
        }
    };
    let rgb = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| sample(x, y, c))))
        .collect();
    Picture::from_rgb(width, height, rgb).unwrap()
}

/// CRC-32 as in PNG and zlib.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// A PNG of 8-bit grey whose header states any size and whose only other chunks are given.
pub(crate) fn png(width: u32, height: u32, chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in std::iter::once((b"IHDR", &header[..])).chain(chunks.iter().copied()) {
        let body = [&kind[..], data].concat();
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(&body);
        out.extend(crc32(&body).to_be_bytes());
    }
    out
}

/// A small generator of random numbers (xorshift64*), so that a failure can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number in 0..limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit as u64) as usize
    }
}
