//! Which files a list of files and folders stands for.

use std::path::{Path, PathBuf};

/// Extensions that are taken from folders.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Files as given, folders as the pictures in them (not in their subfolders), sorted by name.
/// A folder that cannot be read stands for itself, so that the error is reported in its place.
pub(crate) fn list(given: &[PathBuf]) -> Vec<PathBuf> {
    given
        .iter()
        .flat_map(|path| if path.is_dir() { folder(path) } else { vec![path.clone()] })
        .collect()
}

fn folder(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| {
            let extension = p.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
            extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) && p.is_file()
        })
        .collect();
    found.sort();
    // An empty folder is an error, reported in its place.
    if found.is_empty() { vec![path.to_owned()] } else { found }
}
