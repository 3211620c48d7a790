//! A reader as protobuf's input: tensors go from the file into their own vectors, and the file as a
//! whole is never in memory.

use std::io::Read;

use prost::Message;
use prost::bytes::Buf;

use crate::error::ModelError;
use crate::onnx;

/// Bytes read at once: they stay in the second-level cache until they are copied on.
const WINDOW_BYTES: usize = 64 << 10;

/// Decodes a model of `len` bytes.
///
/// # Errors
/// [`ModelError::NotOnnx`] when the bytes are no model; the outer error is the reader's.
pub(super) fn decode(
    reader: &mut dyn Read,
    len: u64,
) -> std::io::Result<Result<onnx::ModelProto, ModelError>> {
    if len == 0 {
        return Ok(Err(ModelError::NotOnnx { why: "the file is empty".into() }));
    }
    let mut stream = Stream::new(reader, len);
    let decoded = onnx::ModelProto::decode(&mut stream);
    match stream.error {
        Some(error) => Err(error),
        None => {
            Ok(decoded
                .map_err(|e| ModelError::NotOnnx { why: format!("{e}; is the file complete?") }))
        }
    }
}

/// A reader of known length.
///
/// [`Buf`] cannot fail: after an error this gives zeros, and whoever decodes asks for `error`.
struct Stream<'r> {
    reader: &'r mut dyn Read,
    window: Vec<u8>,
    /// The part of the window not yet taken starts here; it is empty only at the end.
    at: usize,
    /// Bytes behind the window.
    left: u64,
    error: Option<std::io::Error>,
}

impl<'r> Stream<'r> {
    fn new(reader: &'r mut dyn Read, len: u64) -> Self {
        let mut stream = Self { reader, window: Vec::new(), at: 0, left: len, error: None };
        stream.refill();
        stream
    }

    fn refill(&mut self) {
        let len = self.left.min(WINDOW_BYTES as u64) as usize;
        self.window.resize(len, 0);
        if self.error.is_none() {
            self.error = self.reader.read_exact(&mut self.window).err();
        }
        self.at = 0;
        self.left -= len as u64;
    }
}

impl Buf for Stream<'_> {
    fn remaining(&self) -> usize {
        (self.window.len() - self.at)
            .saturating_add(usize::try_from(self.left).unwrap_or(usize::MAX))
    }

    fn chunk(&self) -> &[u8] {
        &self.window[self.at..]
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining(), "advanced past the end");
        loop {
            let step = count.min(self.window.len() - self.at);
            self.at += step;
            count -= step;
            if self.at == self.window.len() && self.left > 0 {
                self.refill();
            }
            if count == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{GraphProto, ModelProto, TensorProto};

    /// A reader that gives a few bytes at a time, and at the end perhaps an error.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = into.len().min(self.1);
            (&mut self.0).read(&mut into[..count])
        }
    }

    fn model() -> ModelProto {
        let tensor = |name: &str, bytes: usize| TensorProto {
            name: name.into(),
            raw_data: (0..bytes).map(|i| (i * 7 + bytes) as u8).collect(),
            ..Default::default()
        };
        let sizes = [0, 1, WINDOW_BYTES - 1, WINDOW_BYTES, 3 * WINDOW_BYTES + 5];
        let initializer = sizes.iter().map(|&s| tensor(&format!("t{s}"), s)).collect();
        let graph = GraphProto { initializer, ..Default::default() };
        ModelProto { producer_name: "me".into(), graph: Some(graph), ..Default::default() }
    }

    #[test]
    fn a_stream_gives_what_the_whole_file_gives() {
        let bytes = model().encode_to_vec();
        for step in [1000, usize::MAX] {
            let found = decode(&mut Slow(&bytes, step), bytes.len() as u64);
            assert!(found.unwrap().unwrap() == model());
        }
    }

    #[test]
    fn cut_bytes_are_no_model_and_a_short_reader_is_an_error_of_the_reader() {
        let bytes = model().encode_to_vec();
        for cut in [1, 100, WINDOW_BYTES, bytes.len() - 1] {
            let found = decode(&mut &bytes[..cut], cut as u64).unwrap();
            assert!(matches!(found, Err(ModelError::NotOnnx { .. })), "cut at {cut}");
            let short = decode(&mut &bytes[..cut], bytes.len() as u64).unwrap_err();
            assert_eq!(short.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }
}
