//! What of a program's ELF header an image must know: the processor it is for, and that it stands alone.

use crate::image::Platform;

/// Program header types.
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
/// Tag of a needed shared library.
const DT_NEEDED: u64 = 1;

/// The platform of a program that needs nothing else, or what is wrong with it.
pub(crate) fn platform(program: &[u8]) -> Result<Platform, String> {
    if program.get(..4) != Some(b"\x7fELF") {
        return Err("no ELF program".into());
    }
    let (wide, little) = (program.get(4) == Some(&2), program.get(5) == Some(&1));
    if !little {
        return Err("a program for a big-endian processor".into());
    }
    let machine = number(program, 18, 2).ok_or("cut off in its header")?;
    let platform = match (machine, wide) {
        (62, true) => Platform::Amd64,
        (183, true) => Platform::Arm64,
        (40, false) => Platform::ArmV7,
        _ => {
            return Err(format!(
                "a program for ELF machine {machine}; amd64, arm64 or arm is needed"
            ));
        }
    };
    if stands_alone(program, wide).ok_or("cut off in its program headers")? {
        Ok(platform)
    } else {
        Err("needs shared libraries, and the image has none; \
             build it with `kinglet-tools build`, or with -C target-feature=+crt-static"
            .into())
    }
}

/// No interpreter and no needed library. `None` where the headers point outside the file.
fn stands_alone(program: &[u8], wide: bool) -> Option<bool> {
    let word = if wide { 8 } else { 4 };
    let (at, size, count) = if wide { (32, 54, 56) } else { (28, 42, 44) };
    let table = usize::try_from(number(program, at, word)?).ok()?;
    let size = usize::try_from(number(program, size, 2)?).ok()?;
    for index in 0..usize::try_from(number(program, count, 2)?).ok()? {
        let header = program.get(table.checked_add(index * size)?..)?.get(..size)?;
        match u32::try_from(number(header, 0, 4)?).ok()? {
            PT_INTERP => return Some(false),
            PT_DYNAMIC => {
                let (offset, length) = if wide { (8, 32) } else { (4, 16) };
                let start = usize::try_from(number(header, offset, word)?).ok()?;
                let length = usize::try_from(number(header, length, word)?).ok()?;
                let entries = program.get(start..start.checked_add(length)?)?;
                if entries.chunks_exact(2 * word).any(|e| number(e, 0, word) == Some(DT_NEEDED)) {
                    return Some(false);
                }
            }
            _ => {}
        }
    }
    Some(true)
}

/// A little-endian number of `bytes` bytes.
fn number(data: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(bytes)?)?;
    Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_amd64_and_needs_libraries() {
        if !cfg!(all(
            target_arch = "x86_64",
            target_os = "linux",
            not(target_feature = "crt-static")
        )) {
            return;
        }
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(platform(&program).unwrap_err().contains("shared libraries"));
    }

    #[test]
    fn hostile_headers_are_no_program() {
        assert!(platform(b"#!/bin/sh").is_err());
        let mut header = vec![0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18] = 183;
        assert_eq!(platform(&header), Ok(Platform::Arm64));
        header[32..40].fill(0xff);
        header[54] = 56;
        header[56] = 1;
        assert!(platform(&header).unwrap_err().contains("cut off"));
        for length in 0..64 {
            let _ = platform(&header[..length]);
        }
    }
}
