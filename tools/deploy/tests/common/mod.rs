//! A real sshd for one test: keys, port and configuration of its own; it ends with the test.

#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code)]

#[path = "../../../../tests/support/port.rs"]
mod port;

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kinglet_deploy::programs;
use kinglet_deploy::ssh::{Host, Ssh};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A running sshd, whose "board" is this machine.
pub(crate) struct Sshd {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Sshd {
    /// Starts one; `None`, with a reason printed, where that cannot be done here.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let skip = |why: &str| {
            eprintln!("{test}: skipped, because {why}");
            None
        };
        let (Some(sshd), Some(keygen), Some(_)) =
            (programs::find("sshd"), programs::find("ssh-keygen"), programs::find("ssh"))
        else {
            return skip("openssh-server or openssh-client is not installed");
        };
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap().trim().to_owned();
        // Run as root, sshd wants this folder; for others it does not matter.
        if user == "root" && std::fs::create_dir_all("/run/sshd").is_err() {
            return skip("/run/sshd cannot be made");
        }
        let folder = tempfile::tempdir().unwrap();
        for key in ["host", "user"] {
            let made = Command::new(&keygen)
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status();
            assert!(made.unwrap().success());
        }
        std::fs::copy(folder.path().join("user.pub"), folder.path().join("authorized_keys"))
            .unwrap();
        // A free port may be taken by somebody else before sshd has it: try again then.
        for _ in 0..5 {
            let port = port::free_port();
            if let Some(child) = serve(&sshd, folder.path(), port) {
                let sshd = Self { child, folder, port };
                sshd.configure(&user);
                return Some(sshd);
            }
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("sshd does not start: {log}");
    }

    /// Writes a client's configuration in which every name `board…` is this sshd.
    fn configure(&self, user: &str) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let public = std::fs::read_to_string(at("host.pub")).unwrap();
        std::fs::write(at("known_hosts"), format!("board {public}")).unwrap();
        let mut text = String::new();
        writeln!(text, "Host board*").unwrap();
        writeln!(text, "  HostName 127.0.0.1\n  Port {}\n  User {user}", self.port).unwrap();
        writeln!(
            text,
            "  HostKeyAlias board\n  KexAlgorithms curve25519-sha256\n  UserKnownHostsFile {}",
            at("known_hosts")
        )
        .unwrap();
        writeln!(text, "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes").unwrap();
        writeln!(text, "  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none", at("user"))
            .unwrap();
        // With another key.
        std::fs::write(at("config"), &text).unwrap();
        let stranger = text.replace(&at("user"), &at("host"));
        std::fs::write(at("stranger"), stranger).unwrap();
    }

    pub(crate) fn ssh(&self) -> Ssh {
        Ssh::default().with_config(Some(self.config()))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub(crate) fn host(&self) -> Host {
        "board".parse().unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(sshd: &Path, folder: &Path, port: u16) -> Option<Child> {
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\n\
         PermitRootLogin prohibit-password\nMaxStartups 200\nMaxSessions 200\n\
         LogLevel ERROR\nPermitUserEnvironment no\n",
        at("host"),
        at("authorized_keys"),
    );
    std::fs::write(at("sshd_config"), text).unwrap();
    let log = std::fs::File::create(at("log")).unwrap();
    let mut child = Command::new(sshd)
        .args(["-D", "-e", "-f", &at("sshd_config")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
