//! What a program needs to run, read from its ELF headers: the processor, and whether shared libraries.

use std::path::{Path, PathBuf};

/// Why a file is not taken for a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no program, or a broken one.
    #[error("{}: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// A processor that programs are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit x86.
    X86_64,
    /// Another one, by its number in ELF.
    Other(u16),
}

impl Machine {
    /// The processor of a Rust target triple.
    #[must_use]
    pub fn of_triple(triple: &str) -> Option<Self> {
        let arch = triple.split('-').next()?;
        match arch {
            "aarch64" => Some(Self::Aarch64),
            "x86_64" => Some(Self::X86_64),
            _ if arch.starts_with("arm") => Some(Self::Arm),
            _ => None,
        }
    }

    /// The name that `uname -m` gives on it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Aarch64 => "aarch64".into(),
            Self::Arm => "arm".into(),
            Self::X86_64 => "x86_64".into(),
            Self::Other(number) => format!("ELF machine {number}"),
        }
    }
}

/// What a program needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// The processor.
    pub machine: Machine,
    /// The dynamic linker that it asks for; none in a static program.
    pub interpreter: Option<String>,
    /// Shared libraries that it names.
    pub needed: usize,
}

/// Program header of a segment with the dynamic linker's name.
const PT_INTERP: u32 = 3;
/// Program header of the dynamic section.
const PT_DYNAMIC: u32 = 2;
/// Entry of the dynamic section that names a library.
const DT_NEEDED: u64 = 1;

impl Elf {
    /// Whether it runs without any shared library.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.needed == 0
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ElfError`].
    pub fn read(path: &Path) -> Result<Self, ElfError> {
        let bytes = std::fs::read(path)
            .map_err(|source| ElfError::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes).map_err(|why| ElfError::Format { path: path.to_owned(), why })
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    ///
    /// Source: System V ABI, chapters 4 and 5; little-endian only, as all our boards are.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.get(..4) != Some(b"\x7fELF") {
            return Err("is no ELF program");
        }
        let wide = match bytes.get(4..6) {
            Some([2, 1]) => true,
            Some([1, 1]) => false,
            _ => return Err("is no little-endian ELF file"),
        };
        let view = View { bytes, wide };
        let machine = match view.number(18, 2)? {
            183 => Machine::Aarch64,
            40 => Machine::Arm,
            62 => Machine::X86_64,
            other => Machine::Other(other as u16),
        };
        let (at, size, count) = if wide { (32, 54, 56) } else { (28, 42, 44) };
        let start = view.number(at, view.word())?;
        let (size, count) = (view.number(size, 2)?, view.number(count, 2)?);
        let mut elf = Self { machine, interpreter: None, needed: 0 };
        for header in 0..count {
            let at = start.checked_add(header * size).ok_or("has a program header out of range")?;
            elf.segment(&view, at)?;
        }
        Ok(elf)
    }

    fn segment(&mut self, view: &View<'_>, header: u64) -> Result<(), &'static str> {
        let (offset, size) = if view.wide { (8, 32) } else { (4, 16) };
        let kind = view.number(header, 4)? as u32;
        if kind != PT_INTERP && kind != PT_DYNAMIC {
            return Ok(());
        }
        let at = header.checked_add(offset).ok_or("has a segment out of range")?;
        let offset = view.number(at, view.word())?;
        let size = view.number(header.saturating_add(size), view.word())?;
        let end = offset.checked_add(size).ok_or("has a segment out of range")?;
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let content =
            range.and_then(|(a, b)| view.bytes.get(a..b)).ok_or("has a segment out of range")?;
        if kind == PT_INTERP {
            let name = String::from_utf8_lossy(content);
            self.interpreter = Some(name.trim_end_matches('\0').to_owned());
            return Ok(());
        }
        let inner = View { bytes: content, wide: view.wide };
        for entry in 0..size / (2 * view.word()) {
            match inner.number(entry * 2 * view.word(), view.word())? {
                0 => break,
                DT_NEEDED => self.needed += 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Bytes with a size of words.
struct View<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl View<'_> {
    fn word(&self) -> u64 {
        if self.wide { 8 } else { 4 }
    }

    /// A little-endian number of `size` bytes, at most eight.
    fn number(&self, at: u64, size: u64) -> Result<u64, &'static str> {
        let end = at.checked_add(size).and_then(|end| usize::try_from(end).ok());
        let range = usize::try_from(at).ok().zip(end);
        let bytes = range.and_then(|(a, b)| self.bytes.get(a..b)).ok_or("ends too early")?;
        Ok(bytes.iter().rev().fold(0, |number, b| number << 8 | u64::from(*b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_is_read() {
        let elf = Elf::read(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Some(elf.machine), Machine::of_triple(std::env::consts::ARCH));
        assert!(!elf.is_static() && elf.needed > 0, "{elf:?}");
        assert!(elf.interpreter.unwrap().contains("ld"));
    }

    #[test]
    fn what_is_no_program_and_what_is_cut_is_refused() {
        assert!(Elf::parse(b"#!/bin/sh\n").is_err());
        assert!(Elf::parse(b"").is_err());
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        // The program headers lie in the first kilobyte: no cut of it may panic, and none is believed.
        for length in 0..400 {
            assert!(Elf::parse(&whole[..length]).is_err(), "{length}");
        }
        let mut hostile = whole[..4096].to_vec();
        for at in 16..600 {
            for value in [0, 0x7f, 0xff] {
                let kept = std::mem::replace(&mut hostile[at], value);
                let _ = Elf::parse(&hostile);
                hostile[at] = kept;
            }
        }
    }
}
