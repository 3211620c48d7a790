//! Programs of this machine: is one there, and where?

use std::path::{Path, PathBuf};

/// The first program of that name on the path; also in the folders for the system's own.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_shell_is_found_and_nonsense_is_not() {
        assert!(super::find("sh").is_some());
        assert_eq!(super::find("no-such-program-at-all"), None);
    }
}
