//! What the suites in `tests/` share: where things are, and generated input.

#![allow(clippy::print_stderr)]

use std::path::{Path, PathBuf};

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file among the golden results.
#[must_use]
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// The folder of photographs that `KINGLET_DATA` names (with `validation/` and `calibration/` in
/// it); says that the test is skipped when it is not set.
#[must_use]
pub fn data(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("KINGLET_DATA").map(PathBuf::from);
    if found.is_none() {
        eprintln!("{test}: skipped, because KINGLET_DATA does not name a folder of photographs");
    }
    found
}

/// A small, fast, reproducible source of numbers (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A source that gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.draw() >> 11) as usize % end }
    }

    /// A damaged copy: a few bytes overwritten, inserted, removed, repeated or cut off.
    #[must_use]
    pub fn mutant(&mut self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let length = self.below(16).min(bytes.len() - at);
            match self.below(8) {
                0..=2 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.draw() as u8;
                    }
                }
                3 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
                4 => drop(bytes.drain(at..at + length)),
                5 => {
                    let part: Vec<u8> = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, part);
                }
                6 => {
                    let fill = [0, 0x7f, 0x80, 0xff][self.below(4)];
                    bytes[at..at + length].fill(fill);
                }
                _ => bytes.truncate(bytes.len() - length),
            }
        }
        bytes
    }
}
