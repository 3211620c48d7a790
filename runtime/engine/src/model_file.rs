//! A model file: read, checked, rewritten, saved. Not planned: that is the session's part.
//!
//! Everything in the file is hostile until checked: sizes before allocation, products of
//! dimensions in checked arithmetic, external data only from inside the model's folder.

use std::path::{Path, PathBuf};

use prost::Message;

use crate::error::ModelError;
use crate::metadata::Metadata;
use crate::onnx;

pub(crate) mod check;
mod external;
mod stream;

/// Largest model file that is read, bytes. EfficientNetV2-L in f32 is 475 MB.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// A checked model.
///
/// Invariant: every initializer's data is inside the file's own protobuf (external data has been
/// read in), and its length agrees with its type and dimensions; every name a node or an output
/// refers to is defined before it is used.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    /// The model as protobuf.
    pub proto: onnx::ModelProto,
    /// Where it was read from, if it was.
    pub path: Option<PathBuf>,
    /// Size of the file (without external data), bytes; 0 for a model built in memory.
    pub bytes: u64,
}

impl OnnxFile {
    /// Reads and checks a model file.
    ///
    /// # Errors
    /// [`ModelError`] saying what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let read = |source| ModelError::Read { path: path.to_owned(), source };
        // Before it is opened: opening a pipe waits for a writer.
        if !std::fs::metadata(path).map_err(read)?.is_file() {
            return Err(read(std::io::Error::other("not a regular file")));
        }
        let mut opened = std::fs::File::open(path).map_err(read)?;
        let info = opened.metadata().map_err(read)?;
        if info.len() > MAX_FILE_BYTES {
            return Err(ModelError::Limit {
                what: "size of the model file in bytes".into(),
                actual: info.len(),
                limit: MAX_FILE_BYTES,
            });
        }
        let decoded = stream::decode(&mut opened, info.len()).map_err(read)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self::checked(decoded?, Some(folder), Some(path), info.len())
    }

    /// Checks a model held in memory. External data is refused: there is no folder to find it in.
    ///
    /// # Errors
    /// [`ModelError`] saying what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let len = bytes.len() as u64;
        let decoded = stream::decode(&mut &*bytes, len);
        let decoded = decoded.map_err(|e| ModelError::NotOnnx { why: e.to_string() })?;
        Self::checked(decoded?, None, None, len)
    }

    /// Checks a model built in memory.
    ///
    /// # Errors
    /// [`ModelError`] saying what is wrong with it.
    pub fn from_proto(proto: onnx::ModelProto) -> Result<Self, ModelError> {
        Self::checked(proto, None, None, 0)
    }

    fn checked(
        mut proto: onnx::ModelProto,
        folder: Option<&Path>,
        path: Option<&Path>,
        bytes: u64,
    ) -> Result<Self, ModelError> {
        external::read_in(&mut proto, folder)?;
        check::check(&proto)?;
        Ok(Self { proto, path: path.map(Path::to_owned), bytes })
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &onnx::GraphProto {
        self.proto.graph.as_ref().expect("checked: a model has a graph")
    }

    /// The graph, to change. Whoever changes it keeps it consistent.
    pub fn graph_mut(&mut self) -> &mut onnx::GraphProto {
        self.proto.graph.as_mut().expect("checked: a model has a graph")
    }

    /// The model's metadata.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] when a part cannot be understood.
    pub fn metadata(&self) -> Result<Metadata, ModelError> {
        Metadata::read(&self.proto)
    }

    /// The model as the bytes of an ONNX file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }
}
