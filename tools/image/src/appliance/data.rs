//! The data partition: ext4 by `mkfs.ext4 -d`, the same bytes for the same files.
//!
//! mkfs takes owners and times from the files that it is given; `debugfs` sets them to root and to a fixed time afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::CardError;
use crate::tree::{Node, Tree};

/// 1 January 2024, noon, UTC.
const TIME: &str = "1704110400";

/// Makes a file system of so many bytes in a new file.
///
/// # Errors
/// [`CardError::Program`] where mkfs.ext4 or debugfs is missing or fails.
pub(super) fn make(tree: &Tree, path: &Path, bytes: u64, uuid: &str) -> Result<(), CardError> {
    let folder = tempfile::tempdir().map_err(CardError::file("a temporary folder"))?;
    let mut script = String::new();
    let mut fix = |path: &str| {
        for field in ["uid", "gid", "atime_extra", "ctime_extra", "mtime_extra", "crtime_extra"] {
            script += &format!("sif \"/{path}\" {field} 0\n");
        }
        for field in ["atime", "ctime", "mtime", "crtime"] {
            script += &format!("sif \"/{path}\" {field} @{TIME}\n");
        }
    };
    fix("");
    for (name, node) in tree.entries() {
        let place = folder.path().join(name);
        let failed = CardError::file(place.clone());
        let mode = match node {
            Node::Dir(mode) => fs::create_dir(&place).map(|()| Some(*mode)),
            Node::File(mode, data) => fs::write(&place, data).map(|()| Some(*mode)),
            Node::Link(target) => std::os::unix::fs::symlink(target, &place).map(|()| None),
        }
        .map_err(failed)?;
        if let Some(mode) = mode {
            let permissions = fs::Permissions::from_mode(u32::from(mode));
            fs::set_permissions(&place, permissions).map_err(CardError::file(place))?;
        }
        fix(name);
    }
    let size = format!("{}k", bytes / 1024);
    let extended =
        format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0");
    let (from, to) = (folder.path().display().to_string(), path.display().to_string());
    let arguments = [
        "-F",
        "-q",
        "-b",
        "4096",
        "-I",
        "256",
        "-m",
        "1",
        "-L",
        "kinglet-data",
        "-U",
        uuid,
        "-E",
        &extended,
        "-O",
        "^orphan_file,^metadata_csum_seed",
        "-d",
        &from,
        &to,
        &size,
    ];
    // Older versions do not know the first of the two features, nor that it is off.
    let first = run("mkfs.ext4", &arguments)?;
    if !first.status.success() {
        let arguments =
            arguments.map(|a| if a.starts_with("^orphan") { "^metadata_csum_seed" } else { a });
        checked("mkfs.ext4", &run("mkfs.ext4", &arguments)?)?;
    }
    let commands = folder.path().join("debugfs");
    fs::write(&commands, script).map_err(CardError::file(&commands))?;
    let output = run("debugfs", &["-w", "-f", &commands.display().to_string(), &to])?;
    checked("debugfs", &output)
}

fn run(program: &'static str, arguments: &[&str]) -> Result<Output, CardError> {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new(program)
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("E2FSPROGS_FAKE_TIME", TIME)
        .env("SOURCE_DATE_EPOCH", TIME)
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| CardError::Program {
            program,
            what: format!("{e}; it makes the data partition: on Debian, apt install e2fsprogs"),
        })
}

fn checked(program: &'static str, output: &Output) -> Result<(), CardError> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CardError::Program { program, what: said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes_owned_by_root() {
        let mut tree = Tree::default();
        tree.file("etc/kinglet/kinglet.toml", 0o644, *b"model = 'x'\n");
        tree.file("etc/kinglet/token", 0o600, vec![7; 5000]);
        tree.dir("var/lib/kinglet", 0o755);
        let folder = tempfile::tempdir().unwrap();
        let uuid = "6b696e67-6c65-4000-8000-000000000001";
        let at = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            match make(&tree, &at(name), 16 << 20, uuid) {
                Ok(()) => {}
                Err(CardError::Program { what, .. }) if what.contains("apt install") => {
                    return println!("skipped: {what}");
                }
                Err(error) => panic!("{error}"),
            }
            // Another second, other times of the files that are copied in.
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        assert!(fs::read(at("a")).unwrap() == fs::read(at("b")).unwrap());
        let checked = run("e2fsck", &["-f", "-n", &at("a").display().to_string()]).unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        let path = at("a").display().to_string();
        let said = run("debugfs", &["-R", "stat /etc/kinglet/token", &path]).unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("Mode:  0600") && said.contains("User:     0"), "{said}");
    }
}
