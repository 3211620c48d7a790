//! A file on a board under its hash: sent once, whole or not at all.

use std::fs::File;
use std::path::Path;

use crate::ssh::{Answer, Host, Ssh, SshError};

/// Says what the board is and whether it has the file already. Arguments: folder, hash.
const PREPARE: &str = "mkdir -p \"$1/files\" \"$1/tree\" && cd \"$1\" && uname -m && \
    if [ \"$(sha256sum 2>/dev/null <\"files/$2\" | cut -c1-64)\" = \"$2\" ]; \
    then touch \"files/$2\"; echo have; else echo need; fi 2>/dev/null";

/// Takes the file from standard input, and forgets all but the twelve newest.
const TAKE: &str = "cd \"$1\" && t=\"files/.$2.$$\" && trap 'rm -f \"$t\"' EXIT && cat >\"$t\" && \
    if [ \"$(sha256sum <\"$t\" | cut -c1-64)\" != \"$2\" ]; then echo 'arrived damaged' >&2; exit 1; fi && \
    chmod 755 \"$t\" && mv \"$t\" \"files/$2\" && \
    ls -t files | tail -n +13 | while read -r old; do rm -f \"files/$old\"; done";

/// What [`prepare`] found.
pub(crate) struct There {
    /// What `uname -m` says.
    pub(crate) machine: String,
    /// Whether the file is there.
    pub(crate) has_it: bool,
}

/// Makes the folder on the board and looks for a file.
pub(crate) fn prepare(ssh: &Ssh, host: &Host, folder: &str, hash: &str) -> Result<There, SshError> {
    let answer = ssh.ask(host, &["sh", "-c", PREPARE, "sh", folder, hash], b"")?.stdout;
    let mut lines = answer.lines();
    let machine = lines.next().unwrap_or_default().to_owned();
    Ok(There { machine, has_it: lines.next() == Some("have") })
}

/// Sends a file; `sent` is told how many bytes have gone.
pub(crate) fn send(
    ssh: &Ssh,
    host: &Host,
    folder: &str,
    hash: &str,
    file: File,
    sent: impl FnMut(u64) + Send,
) -> Result<(), SshError> {
    let words = ["sh", "-c", TAKE, "sh", folder, hash];
    let Answer { code, stderr, .. } = ssh.talk(host, &words, file, sent, |_| {})?;
    well(host, "copying", code, stderr)
}

/// The path of a file there, from the folder that `ssh` begins in.
pub(crate) fn path(folder: &str, hash: &str) -> String {
    Path::new(folder).join("files").join(hash).display().to_string()
}

pub(crate) fn well(host: &Host, what: &str, code: i32, said: String) -> Result<(), SshError> {
    if code == 0 {
        return Ok(());
    }
    Err(SshError::Remote { host: host.to_string(), command: what.to_owned(), code, said })
}
