//! What comes from users, checked before it goes onto a card.

use std::fs;
use std::path::Path;

use crate::CardError;

/// The shortest program or model that is taken for one, bytes.
pub(crate) const LEAST_FILE: usize = 1000;

/// A whole file that is not endless.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CardError> {
    let about = fs::metadata(path).map_err(CardError::file(path))?;
    if about.len() > 512 << 20 {
        return Err(CardError::value(path.display().to_string(), "it has more than 512 MiB"));
    }
    fs::read(path).map_err(CardError::file(path))
}

/// A program for aarch64 that needs no libraries.
pub(crate) fn check_program(path: &Path, bytes: &[u8]) -> Result<(), CardError> {
    let wrong = |what: &str| Err(CardError::value(path.display().to_string(), what));
    if bytes.len() < LEAST_FILE || &bytes[..4] != b"\x7fELF" {
        return wrong("it is no program");
    }
    // e_machine of AArch64, 64 bits, little-endian.
    if bytes[4..6] != [2, 1] || bytes[18..20] != [0xb7, 0] {
        return wrong("it is no program for aarch64; `kinglet-tools build` makes one");
    }
    let number = |at: usize, length: usize| {
        bytes
            .get(at..at + length)
            .map_or(0, |b| b.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b)))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    for i in 0..count {
        let at = usize::try_from(table.saturating_add(i * size)).unwrap_or(usize::MAX);
        // PT_INTERP: it wants a dynamic loader.
        if at < bytes.len() && number(at, 4) == 3 {
            return wrong(
                "it needs shared libraries; `kinglet-tools build` makes one that does not",
            );
        }
    }
    Ok(())
}

/// A host's name as RFC 1123 has it.
pub(crate) fn hostname(name: &str) -> Result<(), CardError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if (1..=63).contains(&name.len())
        && name.chars().all(good)
        && !name.starts_with('-')
        && !name.ends_with('-')
    {
        return Ok(());
    }
    Err(CardError::value("host name", "1 to 63 letters, digits and -, not - at the ends"))
}

/// A public key as OpenSSH writes it, in one line.
pub(crate) fn ssh_key(key: &str) -> Result<(), CardError> {
    let mut words = key.split(' ');
    let kinds = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    let kind = words.next().unwrap_or("");
    let body = words.next().unwrap_or("");
    let plain = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    if kinds.contains(&kind)
        && body.len() >= 60
        && body.chars().all(plain)
        && key.len() < 8000
        && !key.chars().any(char::is_control)
    {
        return Ok(());
    }
    Err(CardError::value("SSH key", "a public key in one line, as in ~/.ssh/id_ed25519.pub"))
}

/// A configuration that is TOML, and not endless.
pub(crate) fn configuration(path: &Path) -> Result<String, CardError> {
    let about = fs::metadata(path).map_err(CardError::file(path))?;
    if about.len() > 1 << 20 {
        return Err(CardError::value(path.display().to_string(), "it has more than 1 MiB"));
    }
    let text = fs::read_to_string(path).map_err(CardError::file(path))?;
    toml::from_str::<toml::Table>(&text)
        .map_err(|e| CardError::value(path.display().to_string(), e.to_string()))?;
    Ok(text)
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
