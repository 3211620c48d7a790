//! Files that are written whole or not at all.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Copies a file with these permissions over whatever is there: temporary file, sync, rename, sync of the folder.
///
/// # Errors
/// What the system says; what was there is then as it was.
pub fn copy_whole(from: &Path, to: &Path, mode: u32) -> std::io::Result<()> {
    let mut from = File::open(from)?;
    put(to, mode, |file| {
        let mut piece = vec![0; 256 << 10];
        loop {
            match from.read(&mut piece)? {
                0 => return Ok(()),
                n => file.write_all(&piece[..n])?,
            }
        }
    })
}

/// Writes a file the same way.
///
/// # Errors
/// What the system says; what was there is then as it was.
pub fn write_whole(to: &Path, content: &[u8]) -> std::io::Result<()> {
    put(to, 0o644, |file| file.write_all(content))
}

fn put(
    to: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(to).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_content_and_permissions_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, vec![5; 300_000]).unwrap();
        write_whole(&to, b"before").unwrap();
        copy_whole(&from, &to, 0o755).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), vec![5; 300_000]);
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(copy_whole(&folder.path().join("none"), &to, 0o644).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
