//! Files that a benchmark or test reads, taken to the board beside it: those that it lacks or has otherwise.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Remote, RunError, file_error};
use crate::ssh::SshError;
use crate::{hash, programs};

/// Names the files of a list that differ. Argument: folder; the list, as `sha256sum` writes it, is standard input.
const COMPARE: &str = "cd \"$1/tree\" && sha256sum -c - 2>/dev/null; true";
/// Unpacks standard input.
const UNPACK: &str = "tar -xf - -C \"$1/tree\"";

/// Takes what `remote` is to carry to the board.
pub(super) fn bring(remote: &Remote<'_>, root: &Path) -> Result<(), RunError> {
    let mut files = Vec::new();
    for path in remote.carry {
        list(root, path, &mut files)?;
    }
    if files.is_empty() {
        return Ok(());
    }
    let mut sums = String::new();
    for file in &files {
        let path = root.join(file);
        sums += &format!("{}  {file}\n", hash::of_file(&path).map_err(file_error(&path))?);
    }
    let words = ["sh", "-c", COMPARE, "sh", remote.folder];
    let answer = remote.ssh.ask(remote.host, &words, sums.as_bytes())?.stdout;
    let good: Vec<&str> = answer.lines().filter_map(|l| l.strip_suffix(": OK")).collect();
    files.retain(|f| !good.contains(&f.as_str()));
    if files.is_empty() { Ok(()) } else { send(remote, root, &files) }
}

fn send(remote: &Remote<'_>, root: &Path, files: &[String]) -> Result<(), RunError> {
    let tar =
        programs::find("tar").ok_or(RunError::Missing { program: "tar".into(), package: "tar" })?;
    let mut list = tempfile::NamedTempFile::new().map_err(file_error(root))?;
    list.write_all(files.join("\n").as_bytes()).map_err(file_error(list.path()))?;
    let mut pack = Command::new(&tar);
    pack.args(["-c", "-f", "-", "-C"]).arg(root).arg("-T").arg(list.path());
    let mut pack = pack.stdout(Stdio::piped()).spawn().map_err(file_error(&tar))?;
    let words = ["sh", "-c", UNPACK, "sh", remote.folder];
    let mut unpack = remote.ssh.command(remote.host, &words)?;
    if let Some(stdout) = pack.stdout.take() {
        unpack.stdin(stdout);
    }
    let start = |source| SshError::Start { program: "ssh".into(), source };
    let unpacked = unpack.output().map_err(start)?;
    let packed = pack.wait().map_err(file_error(&tar))?;
    let said = String::from_utf8_lossy(&unpacked.stderr).trim().to_owned();
    remote.well("unpacking files", crate::ssh::exit_code(unpacked.status), said)?;
    if !packed.success() {
        let said = "could not pack the files to carry".to_owned();
        return Err(RunError::Program { program: "tar".into(), said });
    }
    Ok(())
}

/// Adds the plain files below a path of the workspace.
fn list(root: &Path, path: &Path, files: &mut Vec<String>) -> Result<(), RunError> {
    let refuse = |why| RunError::Name { path: path.to_owned(), why };
    if path.components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
        return Err(refuse("is not a path below the workspace's root"));
    }
    let full = root.join(path);
    let facts = std::fs::symlink_metadata(&full).map_err(file_error(&full))?;
    if facts.is_file() {
        let name = path.to_str().ok_or_else(|| refuse("is no text"))?;
        if name.starts_with('-') || name.contains(['\n', '\r', '\\']) {
            return Err(refuse("has a name that lists cannot hold"));
        }
        files.push(name.to_owned());
    } else if facts.is_dir() {
        let mut inside: Vec<PathBuf> = std::fs::read_dir(&full)
            .and_then(|entries| entries.map(|e| Ok(path.join(e?.file_name()))).collect())
            .map_err(file_error(&full))?;
        inside.sort();
        for path in inside {
            list(root, &path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_listed_whole_and_nothing_outside() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        for name in ["a/b/2", "a/1", "other"] {
            std::fs::write(root.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join("a/link")).unwrap();
        let mut files = Vec::new();
        list(root.path(), Path::new("a"), &mut files).unwrap();
        assert_eq!(files, ["a/1", "a/b/2"]);
        for bad in ["../x", "/etc/hosts", "missing"] {
            assert!(list(root.path(), Path::new(bad), &mut files).is_err(), "{bad}");
        }
    }
}
