//! External data: tensors whose bytes lie in another file of the model's folder.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::MAX_FILE_BYTES;
use crate::error::ModelError;
use crate::onnx::{self, tensor_proto::DataLocation};

/// Reads all external data into the tensors themselves.
pub(super) fn read_in(
    model: &mut onnx::ModelProto,
    folder: Option<&Path>,
) -> Result<(), ModelError> {
    let mut total = 0_u64;
    let Some(graph) = model.graph.as_mut() else { return Ok(()) };
    for tensor in &mut graph.initializer {
        read_tensor(tensor, folder, &mut total)?;
    }
    for node in &mut graph.node {
        for tensor in node.attribute.iter_mut().filter_map(|a| a.t.as_mut()) {
            read_tensor(tensor, folder, &mut total)?;
        }
    }
    Ok(())
}

fn read_tensor(
    tensor: &mut onnx::TensorProto,
    folder: Option<&Path>,
    total: &mut u64,
) -> Result<(), ModelError> {
    if tensor.data_location != Some(DataLocation::External as i32) {
        return Ok(());
    }
    let name = tensor.name.clone();
    let bad = |why: String| ModelError::Tensor { tensor: name.clone(), why };
    let Some(folder) = folder else {
        return Err(bad("external data cannot be read for a model without a folder".into()));
    };
    let find = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| &e.value);
    let number = |key: &str| -> Result<Option<u64>, ModelError> {
        find(key)
            .map(|v| v.parse().map_err(|_| bad(format!("external data {key} '{v}' is no number"))))
            .transpose()
    };
    let location = find("location").ok_or_else(|| bad("external data has no location".into()))?;
    let relative = Path::new(location);
    if relative.components().any(|c| !matches!(c, Component::Normal(_))) || location.is_empty() {
        return Err(bad(format!("external data '{location}' is outside the model's folder")));
    }
    // No part of the way may be a link: a link could lead out of the folder.
    let mut path = folder.to_owned();
    for part in relative.components() {
        path.push(part);
        let info = std::fs::symlink_metadata(&path)
            .map_err(|e| bad(format!("external data {}: {e}", path.display())))?;
        if info.file_type().is_symlink() {
            return Err(bad(format!("external data {} is a link", path.display())));
        }
    }
    let read = |e: std::io::Error| bad(format!("external data {}: {e}", path.display()));
    if !std::fs::metadata(&path).map_err(read)?.is_file() {
        return Err(bad(format!("external data {} is not a regular file", path.display())));
    }
    let mut file = std::fs::File::open(&path).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let offset = number("offset")?.unwrap_or(0);
    let length = match number("length")? {
        Some(length) => length,
        None => size.saturating_sub(offset),
    };
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(bad(format!(
            "external data {offset}+{length} is past the end of {} ({size} bytes)",
            path.display()
        )));
    }
    *total = total.saturating_add(length);
    if *total > MAX_FILE_BYTES {
        return Err(ModelError::Limit {
            what: "external data in bytes".into(),
            actual: *total,
            limit: MAX_FILE_BYTES,
        });
    }
    let mut data = vec![0; length as usize];
    file.seek(SeekFrom::Start(offset)).map_err(read)?;
    file.read_exact(&mut data).map_err(read)?;
    tensor.raw_data = data;
    tensor.external_data.clear();
    tensor.data_location = None;
    Ok(())
}
