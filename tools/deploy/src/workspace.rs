//! Finding the workspace that a command runs in.

use std::path::{Path, PathBuf};

/// The folder of the nearest `Cargo.toml` above that is a workspace, or else of the nearest at all.
#[must_use]
pub fn root(from: &Path) -> Option<PathBuf> {
    let with_manifest = || from.ancestors().filter(|a| a.join("Cargo.toml").is_file());
    let is_workspace = |folder: &&Path| {
        std::fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|text| text.lines().any(|l| l.trim_start().starts_with("[workspace")))
    };
    with_manifest().find(is_workspace).or_else(|| with_manifest().next()).map(Path::to_owned)
}

/// The target folder that a built file lies in: the nearest above it that cargo made.
#[must_use]
pub fn target_folder(built: &Path) -> Option<PathBuf> {
    built.ancestors().find(|a| a.join(".rustc_info.json").is_file()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_comes_before_the_package() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = root(&package.join("src")).unwrap();
        assert_eq!(found, package.ancestors().nth(2).unwrap());
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(root(folder.path()), None);
        std::fs::write(folder.path().join("Cargo.toml"), "[package]\n").unwrap();
        assert_eq!(root(folder.path()).unwrap(), folder.path());
        assert!(target_folder(&std::env::current_exe().unwrap()).is_some());
        assert_eq!(target_folder(folder.path()), None);
    }
}
