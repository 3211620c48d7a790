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
        let info = std::fs::metadata(path).map_err(read)?;
        if !info.is_file() {
            return Err(read(std::io::Error::other("not a regular file")));
        }
        if info.len() > MAX_FILE_BYTES {
            return Err(ModelError::Limit {
                what: "size of the model file in bytes".into(),
                actual: info.len(),
                limit: MAX_FILE_BYTES,
            });
        }
        let bytes = std::fs::read(path).map_err(read)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut file = Self::decode(&bytes, Some(folder))?;
        file.path = Some(path.to_owned());
        Ok(file)
    }

    /// Checks a model held in memory. External data is refused: there is no folder to find it in.
    ///
    /// # Errors
    /// [`ModelError`] saying what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        Self::decode(bytes, None)
    }

    /// Checks a model built in memory.
    ///
    /// # Errors
    /// [`ModelError`] saying what is wrong with it.
    pub fn from_proto(mut proto: onnx::ModelProto) -> Result<Self, ModelError> {
        external::read_in(&mut proto, None)?;
        check::check(&proto)?;
        Ok(Self { proto, path: None, bytes: 0 })
    }

    fn decode(bytes: &[u8], folder: Option<&Path>) -> Result<Self, ModelError> {
        if bytes.is_empty() {
            return Err(ModelError::NotOnnx { why: "the file is empty".into() });
        }
        let mut proto = onnx::ModelProto::decode(bytes)
            .map_err(|e| ModelError::NotOnnx { why: format!("{e}; is the file complete?") })?;
        external::read_in(&mut proto, folder)?;
        check::check(&proto)?;
        Ok(Self { proto, path: None, bytes: bytes.len() as u64 })
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
