//! How a release comes in: two lengths, the signature, the file.

use std::io::Read;

use crate::error::UpdateError;
use crate::release::Kind;
use crate::signature::MAX_SIGNATURE_BYTES;

/// Bytes of the header: 8 digits for the signature's length, 12 for the file's.
pub const HEADER_BYTES: usize = 20;

/// The lengths of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the signature's file.
    pub signature: usize,
    /// Bytes of the release.
    pub payload: u64,
}

impl Header {
    /// As it is sent.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:08}{:012}", self.signature, self.payload)
    }

    /// Reads and checks it: nothing is allocated yet, and what is larger than anything allowed is refused.
    ///
    /// # Errors
    /// [`UpdateError::Stream`].
    pub fn read(from: &mut dyn Read, kind: Kind) -> Result<Self, UpdateError> {
        let refused = |why: String| UpdateError::Stream(why);
        let mut bytes = [0; HEADER_BYTES];
        from.read_exact(&mut bytes).map_err(|e| refused(format!("no header: {e}")))?;
        if !bytes.iter().all(u8::is_ascii_digit) {
            return Err(refused("its header is not 20 digits".into()));
        }
        let number = |digits: &[u8]| digits.iter().fold(0, |n, c| n * 10 + u64::from(c - b'0'));
        let (signature, payload) = (number(&bytes[..8]), number(&bytes[8..]));
        let most = MAX_SIGNATURE_BYTES as u64;
        if !(1..=most).contains(&signature) {
            return Err(refused(format!("a signature of {signature} bytes, not 1 to {most}")));
        }
        let most = kind.max_bytes();
        if !(1..=most).contains(&payload) {
            let what = kind.name();
            return Err(refused(format!("a file of {payload} bytes; {what}s have 1 to {most}")));
        }
        Ok(Self { signature: signature as usize, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_is_written_and_bounded() {
        let header = Header { signature: 312, payload: 5_000_000 };
        assert_eq!(header.text(), "00000312000005000000");
        let read = |text: &str| Header::read(&mut text.as_bytes(), Kind::Model);
        assert_eq!(read(&header.text()).unwrap(), header);
        for bad in [
            "",
            "0000031200000500000",
            "00000000000005000000",
            "00004097000005000000",
            "00000312000000000000",
            "00000312001073741825",
            "99999999999999999999",
            "0000031 000005000000",
            "+0000312000005000000",
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
