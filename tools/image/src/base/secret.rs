//! What is not written in the clear: the user's password as sha512-crypt, the Wi-Fi's passphrase as its PSK.

use sha_crypt::{PasswordHasher, ShaCrypt};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::CardError;

/// The PSK of a network, 64 hexadecimal digits, from a passphrase of 8 to 63 characters; 64 digits are one already.
/// Source: IEEE 802.11-2020, J.4.1: PBKDF2 with HMAC-SHA1, 4096 rounds, 256 bits.
///
/// # Errors
/// Neither of both.
pub(crate) fn psk(ssid: &str, passphrase: &str) -> Result<String, CardError> {
    if passphrase.len() == 64 && passphrase.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(passphrase.to_ascii_lowercase());
    }
    if !(8..=63).contains(&passphrase.len()) || !passphrase.bytes().all(|b| (32..127).contains(&b))
    {
        return Err(CardError::value(
            "Wi-Fi passphrase",
            "8 to 63 printable ASCII characters, or 64 hexadecimal digits",
        ));
    }
    let mut key = Vec::new();
    for block in [1u32, 2] {
        let mut round = hmac(passphrase.as_bytes(), &[ssid.as_bytes(), &block.to_be_bytes()]);
        let mut sum = round;
        for _ in 1..4096 {
            round = hmac(passphrase.as_bytes(), &[&round]);
            sum.iter_mut().zip(round).for_each(|(s, r)| *s ^= r);
        }
        key.extend(sum);
    }
    Ok(crate::hex(&key[..32]))
}

/// HMAC-SHA1 for keys that fit a block. Source: RFC 2104.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let mut inner = Sha1::new_with_prefix(pad(0x36));
    parts.iter().for_each(|part| inner.update(part));
    Sha1::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

/// A password as `/etc/shadow` has it. The salt comes from what is no secret, so that the same options give the same
/// image: it makes each user's and host's hash its own, as a random one does, but not that of two images of one host.
///
/// # Errors
/// No password, or one too long or with control characters.
pub(crate) fn crypt(password: &str, user: &str, host: &str) -> Result<String, CardError> {
    if !(1..=128).contains(&password.len()) || password.chars().any(char::is_control) {
        return Err(CardError::value("password", "1 to 128 bytes without control characters"));
    }
    let salt = <Sha256 as sha2::Digest>::digest(format!("kinglet salt\0{user}\0{host}"));
    let hashed = ShaCrypt::SHA512.hash_password_with_salt(password.as_bytes(), &salt[..12]);
    Ok(hashed.map_err(|e| CardError::value("password", e.to_string()))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: IEEE 802.11-2020, J.4.2.
    #[test]
    fn the_standards_own_keys_come_out() {
        assert_eq!(
            psk("IEEE", "password").unwrap(),
            "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
        );
        assert_eq!(
            psk("ThisIsASSID", "ThisIsAPassword").unwrap(),
            "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"
        );
        assert_eq!(psk("x", &"AB".repeat(32)).unwrap(), "ab".repeat(32));
        for bad in ["", "short", "with\nnewline", "ümlaut-password", &"x".repeat(64)] {
            assert!(psk("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_program_hashes_the_password_alike() {
        let ours = crypt("pass'word\"$x", "pi", "kinglet").unwrap();
        assert_eq!(ours, crypt("pass'word\"$x", "pi", "kinglet").unwrap());
        assert_ne!(ours, crypt("pass'word\"$x", "pi", "porch").unwrap());
        let salt = ours.split('$').nth_back(1).unwrap();
        assert_eq!(salt.len(), 16);
        let output = std::process::Command::new("openssl")
            .args(["passwd", "-6", "-salt", &format!("rounds=5000${salt}"), "pass'word\"$x"])
            .output();
        match output {
            Ok(output) => {
                let theirs = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                assert_eq!(ours.rsplit('$').next(), theirs.rsplit('$').next(), "{ours} {theirs}");
            }
            Err(_) => println!("skipped: no openssl"),
        }
    }
}
