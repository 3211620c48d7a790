//! JPEG files that follow each other in a stream, with or without other bytes between them (the
//! headers of a multipart answer): each from its first marker to its last.

use std::time::Instant;

use super::Next;
use super::bytes::{Bytes, Got};
use super::error::CameraError;
use super::frame::{Frame, Layout, MAX_BYTES};
use super::huffman::complete;

/// So many bytes without the beginning of a picture are garbage.
const MOST_BETWEEN: usize = 1 << 20;
/// Bytes that are asked for at once.
const CHUNK: usize = 64 << 10;

/// Finds pictures in a stream.
#[derive(Debug, Default)]
pub(super) struct Jpegs {
    /// What has come and has not been given out: `bytes[..filled]`.
    bytes: Vec<u8>,
    filled: usize,
    scan: Scan,
    between: usize,
}

impl Jpegs {
    /// A stream of which these first bytes have been read.
    pub(super) fn begun(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), filled: bytes.len(), ..Self::default() }
    }

    pub(super) fn next(
        &mut self,
        from: &mut Bytes,
        frame: &mut Frame,
        deadline: Instant,
    ) -> Result<Next, CameraError> {
        loop {
            if let Some(length) = self.find(from.name())? {
                frame.bytes.clear();
                frame.bytes.extend_from_slice(&self.bytes[..length]);
                complete(&mut frame.bytes);
                (frame.layout, frame.width, frame.height) = (Layout::File, 0, 0);
                self.discard(length);
                return Ok(Next::Frame);
            }
            if self.bytes.len() < self.filled + CHUNK {
                self.bytes.resize(self.filled + CHUNK, 0);
            }
            match from.read(&mut self.bytes[self.filled..], deadline)? {
                Got::Bytes(n) => self.filled += n,
                Got::Wait => return Ok(Next::Wait),
                Got::End => return Ok(Next::End),
            }
        }
    }

    /// The length of the picture that `bytes` begins with, if it is there whole; what comes before
    /// a picture is discarded.
    fn find(&mut self, name: &str) -> Result<Option<usize>, CameraError> {
        loop {
            if !self.scan.begun() {
                let filled = &self.bytes[..self.filled];
                let begin = filled.windows(3).position(|w| w == [0xff, 0xd8, 0xff]);
                let skip = begin.unwrap_or(self.filled.saturating_sub(2));
                self.between += skip;
                self.discard(skip);
                if begin.is_none() {
                    return if self.between > MOST_BETWEEN {
                        Err(garbage(name, "no JPEG picture in a mebibyte"))
                    } else {
                        Ok(None)
                    };
                }
                self.between = 0;
                self.scan = Scan { at: 2, in_data: false };
            }
            match self.scan.advance(&self.bytes[..self.filled]) {
                Step::Whole(length) => return Ok(Some(length)),
                Step::More if self.filled > MAX_BYTES => {
                    return Err(garbage(name, "a JPEG picture without an end"));
                }
                Step::More => return Ok(None),
                Step::Broken => {
                    self.discard(2);
                }
            }
        }
    }

    fn discard(&mut self, count: usize) {
        self.bytes.copy_within(count..self.filled, 0);
        self.filled -= count;
        self.scan = Scan::default();
    }
}

fn garbage(what: &str, why: &str) -> CameraError {
    CameraError::Garbage { what: what.to_owned(), why: why.to_owned() }
}

/// How far a picture has been followed.
#[derive(Debug, Default, Clone, Copy)]
struct Scan {
    /// The next byte to be looked at; 0: no picture has begun.
    at: usize,
    /// Whether it stands in entropy-coded data.
    in_data: bool,
}

enum Step {
    Whole(usize),
    More,
    Broken,
}

impl Scan {
    fn begun(self) -> bool {
        self.at > 0
    }

    /// Follows markers by their lengths (a thumbnail in one has an end of its own), and data to the
    /// next marker.
    fn advance(&mut self, bytes: &[u8]) -> Step {
        loop {
            if self.in_data {
                match bytes.get(self.at..).unwrap_or_default().windows(2).position(is_marker) {
                    Some(skip) => (self.at, self.in_data) = (self.at + skip, false),
                    None => {
                        self.at = self.at.max(bytes.len().saturating_sub(1));
                        return Step::More;
                    }
                }
            }
            match bytes.get(self.at..) {
                Some(&[0xff, 0xd9, ..]) => return Step::Whole(self.at + 2),
                Some(&[0xff, 0xff, ..]) => self.at += 1,
                Some(&[0xff, marker @ 0xc0..=0xfe, high, low, ..]) => {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if length < 2 || matches!(marker, 0xd0..=0xd8) {
                        return Step::Broken;
                    }
                    self.at += 2 + length;
                    self.in_data = marker == 0xda;
                    if self.at > bytes.len() {
                        // Looked at again when there is more; nothing is lost by that.
                        return Step::More;
                    }
                }
                Some(&[] | &[0xff] | &[0xff, 0xc0..=0xfe] | &[0xff, 0xc0..=0xfe, _]) | None => {
                    return Step::More;
                }
                Some(_) => return Step::Broken,
            }
        }
    }
}

/// A marker that ends entropy-coded data: not a stuffed zero, not a restart, not a filling byte.
fn is_marker(pair: &[u8]) -> bool {
    pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture with a thumbnail, restart markers and stuffed bytes in it.
    fn jpeg(tag: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, tag, 1, 0xff, 0xd9];
        bytes.extend([0xff, 0xff, 0xdb, 0, 3, tag]);
        bytes.extend([0xff, 0xda, 0, 4, 1, 2, tag, 0xff, 0, 0xff, 0xd3, 9, 0xff, 0xff, 0xd9]);
        bytes
    }

    /// What is found when the bytes come in pieces.
    fn found(stream: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
        let mut jpegs = Jpegs::default();
        let mut found = Vec::new();
        let mut rest = stream;
        let mut sizes = pieces.iter().cycle();
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
            rest = later;
            jpegs.bytes.truncate(jpegs.filled);
            jpegs.bytes.extend_from_slice(now);
            jpegs.filled += now.len();
            while let Some(length) = jpegs.find("test").unwrap() {
                found.push(jpegs.bytes[..length].to_vec());
                jpegs.discard(length);
            }
        }
        found
    }

    proptest! {
        #[test]
        fn pictures_are_found_whole_whatever_the_pieces(
            pieces in prop::collection::vec(1usize..40, 1..9),
            between in prop::collection::vec(0u8..0xff, 0..30),
        ) {
            let pictures: Vec<_> = (1..6).map(jpeg).collect();
            let mut stream = between.clone();
            for picture in &pictures {
                stream.extend(picture);
                stream.extend(&between);
            }
            prop_assert_eq!(found(&stream, &pieces), pictures);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut stream = vec![0xff, 0xd8, 0xff];
            stream.extend(bytes);
            found(&stream, &[7]);
        }
    }

    #[test]
    fn a_mebibyte_of_something_else_is_garbage() {
        let mut jpegs = Jpegs { bytes: vec![b'x'; 2 << 20], filled: 2 << 20, ..Jpegs::default() };
        assert!(matches!(jpegs.find("it"), Err(CameraError::Garbage { .. })));
    }
}
