//! A model as an image: one layer with `model.onnx` and, if it is signed, `model.onnx.minisig`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::image::{Image, Part};
use crate::tarball::{self, Entry};
use crate::{OciError, program, read};

/// What such an image is, in its manifest.
pub(crate) const ARTIFACT: &str = "application/vnd.kinglet.model.v1";
/// Name of the model in the layer.
pub(crate) const NAME: &str = "model.onnx";
/// Name of its signature.
pub(crate) const SIGNATURE: &str = "model.onnx.minisig";
/// Largest signature file, bytes.
pub(crate) const SIGNATURE_SIZE: u64 = 4096;

/// Makes the image of a model. `MODEL.minisig`, if it is beside it, goes along.
///
/// # Errors
/// [`OciError`] naming the file that cannot be read or used.
pub fn image(path: &Path) -> Result<Image, OciError> {
    let wrong = |why: String| OciError::Input { path: path.to_owned(), why };
    let model = read(path, program::MODEL)?;
    let beside = signature_of(path);
    let signature = if beside.exists() { Some(read(&beside, SIGNATURE_SIZE)?) } else { None };
    let mut entries = vec![Entry { path: NAME, mode: 0o644, bytes: &model }];
    if let Some(bytes) = &signature {
        entries.push(Entry { path: SIGNATURE, mode: 0o644, bytes });
    }
    let layer = tarball::pack(&entries).map_err(|e| wrong(e.to_string()))?;
    let title = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Image::new(vec![Part {
        platform: None,
        config: json!({}),
        layers: vec![layer],
        artifact_type: Some(ARTIFACT),
        annotations: BTreeMap::from([("org.opencontainers.image.title".to_owned(), title)]),
    }]))
}

/// Where a file's signature is: `FILE.minisig`.
pub fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}
