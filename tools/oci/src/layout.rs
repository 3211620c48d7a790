//! An image as a folder: OCI's image layout, which skopeo, podman, containerd and k3s read.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::OciError;
use crate::image::Image;

/// Writes `image` to a new folder, under the name `tag`. The folder is there whole or not at all.
///
/// # Errors
/// [`OciError::Input`] where something is at `folder` already, [`OciError::File`] where it cannot be written.
pub fn write(image: &Image, folder: &Path, tag: &str) -> Result<(), OciError> {
    if folder.exists() {
        let why = "there already; give a new folder".to_owned();
        return Err(OciError::Input { path: folder.to_owned(), why });
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let work = tempfile::Builder::new()
        .prefix(".kinglet-oci-")
        .tempdir_in(parent)
        .map_err(OciError::write(folder))?;
    let blobs = work.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(OciError::write(folder))?;
    for blob in image.blobs.iter().chain(&image.manifests).chain([&image.top]) {
        put(&blobs.join(blob.digest.trim_start_matches("sha256:")), &blob.bytes)?;
    }
    let mut top = image.top.descriptor();
    top["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    put(&work.path().join("index.json"), index.to_string().as_bytes())?;
    put(&work.path().join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    set_mode(work.path()).map_err(OciError::write(folder))?;
    fs::rename(work.path(), folder).map_err(OciError::write(folder))?;
    // It is no longer where it was made.
    let _ = work.keep();
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), OciError> {
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(OciError::write(path))
}

/// A temporary folder is its maker's alone; this one is for others.
fn set_mode(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}
