//! The system's `ssh`, called so that nothing of what we pass can become an option or a shell's word.
//!
//! Not for: keys, agents, jumps, ports of single hosts. They are what `~/.ssh/config` is for, and `ssh` reads it.
//! Start with [`Ssh::talk`].

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;

/// Most bytes of standard error that are kept.
const STDERR_BYTES: u64 = 64 << 10;
/// Most bytes of one line of standard output.
const LINE_BYTES: u64 = 1 << 20;
/// Most bytes of standard output that [`Ssh::ask`] keeps.
const ANSWER_BYTES: usize = 16 << 20;
/// Pieces in which standard input is sent.
const PIECE_BYTES: usize = 64 << 10;
/// What `ssh` exits with when it is ssh that failed, not the command.
const SSH_FAILED: i32 = 255;

/// Why something could not be done over SSH.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// A host's name that is not passed to `ssh`.
    #[error("host '{host}': {why}")]
    Host {
        /// What was given.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An argument that no command line can hold.
    #[error("an argument has a NUL byte: {0:?}")]
    Argument(String),
    /// `ssh` could not be started.
    #[error("cannot start {program}: {source}; it is in the package openssh-client")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no connection, or it broke.
    #[error("{host}: {said}{}", advice(said))]
    Connect {
        /// The host.
        host: String,
        /// What `ssh` said.
        said: String,
    },
    /// The command ran there and failed.
    #[error("{host}: '{command}' ended with code {code}{}", said_after(said))]
    Remote {
        /// The host.
        host: String,
        /// The command's first words.
        command: String,
        /// Its exit code; 128 and more for signals.
        code: i32,
        /// What it wrote to standard error.
        said: String,
    },
    /// Reading or writing failed here.
    #[error("{host}: {source}")]
    Pipe {
        /// The host.
        host: String,
        /// What the system said.
        source: std::io::Error,
    },
}

fn said_after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// What to do about what `ssh` said; empty where there is nothing to add.
fn advice(said: &str) -> &'static str {
    let about = |words: &[&str]| words.iter().any(|w| said.contains(w));
    if about(&["Permission denied"]) {
        "\nlet your key in first: ssh-copy-id HOST"
    } else if about(&["Host key verification failed", "no matching host key"]) {
        "\nconnect once by hand and compare its key: ssh HOST"
    } else if about(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        "\nif the board was set up anew, forget its old key: ssh-keygen -R HOST"
    } else if about(&["Could not resolve", "Name or service not known"]) {
        "\nis the name right? boards are often found as NAME.local"
    } else if about(&["timed out", "No route to host", "Connection refused", "unreachable"]) {
        "\nis the board on, in this network, and does it let SSH in?"
    } else {
        ""
    }
}

/// Where to connect to: `[user@]host`, an alias of `~/.ssh/config`, or `ssh://[user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host(String);

impl Host {
    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = SshError;

    fn from_str(text: &str) -> Result<Self, SshError> {
        let refuse = |why| Err(SshError::Host { host: text.to_owned(), why });
        let bare = text.strip_prefix("ssh://").unwrap_or(text);
        let name = bare.rsplit_once('@').map_or(bare, |(_, name)| name);
        if bare.starts_with('-') || name.starts_with('-') {
            return refuse("begins with '-', which ssh would take for an option");
        }
        if name.is_empty() || bare.starts_with('@') {
            return refuse("is not [user@]host");
        }
        let odd =
            |c: char| c.is_whitespace() || c.is_control() || "'\"\\`$;&|<>(){}*?!#".contains(c);
        if text.contains(odd) {
            return refuse("has a character that no host's name has");
        }
        if text.len() > 255 {
            return refuse("is longer than 255 characters");
        }
        Ok(Self(text.to_owned()))
    }
}

/// One word for a remote shell: what comes out of it is exactly what goes in.
///
/// `ssh` joins its arguments with spaces and gives them to the login shell of the other side. Quotes as sh,
/// bash, zsh, dash, busybox and fish understand them.
///
/// # Errors
/// [`SshError::Argument`] for a NUL byte.
pub fn quote(word: &str) -> Result<String, SshError> {
    if word.contains('\0') {
        return Err(SshError::Argument(word.to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Ok(word.to_owned());
    }
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('\'');
    for c in word.chars() {
        match c {
            // Inside single quotes fish takes a backslash for an escape, and nobody a quote.
            '\'' | '\\' => quoted.extend(['\'', '\\', c, '\'']),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    Ok(quoted)
}

/// How `ssh` is called.
#[derive(Debug, Clone)]
pub struct Ssh {
    program: OsString,
    config: Option<PathBuf>,
    connect_timeout_s: u32,
    apart: bool,
}

/// What a command on the other side gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Standard output; empty where the lines went to a callback.
    pub stdout: String,
    /// Standard error, its beginning, without white space around it.
    pub stderr: String,
    /// Exit code of the command; 128 and more for signals.
    pub code: i32,
}

impl Default for Ssh {
    fn default() -> Self {
        Self { program: "ssh".into(), config: None, connect_timeout_s: 15, apart: false }
    }
}

impl Ssh {
    /// With another configuration file than the user's own.
    #[must_use]
    pub fn with_config(self, config: Option<PathBuf>) -> Self {
        Self { config, ..self }
    }

    /// Where Ctrl-C at the terminal does not reach it: for callers that end in their own time.
    #[must_use]
    pub fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    /// The command that runs `words` on a host, each of them exactly as it is given.
    ///
    /// It never asks anything (`BatchMode`), gives up on a host that does not answer, and notices a connection
    /// that is dead within a minute.
    ///
    /// # Errors
    /// [`SshError::Argument`].
    pub fn command(&self, host: &Host, words: &[&str]) -> Result<Command, SshError> {
        let mut command = Command::new(&self.program);
        if self.apart {
            command.process_group(0);
        }
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        let timeout = format!("ConnectTimeout={}", self.connect_timeout_s);
        let options =
            ["BatchMode=yes", &timeout, "ServerAliveInterval=15", "ServerAliveCountMax=4"];
        for option in options.into_iter().chain(["ClearAllForwardings=yes", "LogLevel=ERROR"]) {
            command.args(["-o", option]);
        }
        let words: Vec<String> = words.iter().map(|w| quote(w)).collect::<Result<_, _>>()?;
        command.args(["-T", "--", host.as_str()]).arg(words.join(" "));
        Ok(command)
    }

    /// Runs a command there: sends it `input`, and gives each line that it writes to `line` at once. `sent` is
    /// told how many bytes have gone so far. A command that fails is no error: see [`Answer::code`].
    ///
    /// # Errors
    /// [`SshError`] but [`SshError::Remote`].
    pub fn talk(
        &self,
        host: &Host,
        words: &[&str],
        input: impl Read + Send,
        sent: impl FnMut(u64) + Send,
        mut line: impl FnMut(&str),
    ) -> Result<Answer, SshError> {
        let pipe = |source| SshError::Pipe { host: host.to_string(), source };
        let mut command = self.command(host, words)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| SshError::Start {
            program: self.program.to_string_lossy().into_owned(),
            source,
        })?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (fed, heard, said) = std::thread::scope(|scope| {
            let feeder = scope.spawn(move || stdin.map_or(Ok(()), |to| feed(input, to, sent)));
            let listener = scope.spawn(move || stderr.map_or_else(String::new, beginning));
            let heard = stdout.map_or(Ok(()), |from| lines(from, &mut line));
            let fed = feeder.join().unwrap_or(Ok(()));
            (fed, heard, listener.join().unwrap_or_default())
        });
        let status = child.wait().map_err(pipe)?;
        let code = exit_code(status);
        if code == SSH_FAILED {
            let said = if said.is_empty() { "the connection failed".to_owned() } else { said };
            return Err(SshError::Connect { host: host.to_string(), said });
        }
        // A command that ends without reading all says why itself.
        if code == 0 {
            fed.map_err(pipe)?;
        }
        heard.map_err(pipe)?;
        Ok(Answer { stdout: String::new(), stderr: said, code })
    }

    /// Runs a command there and gives all that it wrote, if it ended well.
    ///
    /// # Errors
    /// [`SshError`]; [`SshError::Remote`] where the command failed.
    pub fn ask(&self, host: &Host, words: &[&str], input: &[u8]) -> Result<Answer, SshError> {
        let mut answer = self.try_ask(host, words, input)?;
        if answer.code == 0 {
            return Ok(answer);
        }
        let command = words.iter().take(3).copied().collect::<Vec<_>>().join(" ");
        let said = std::mem::take(&mut answer.stderr);
        Err(SshError::Remote { host: host.to_string(), command, code: answer.code, said })
    }

    /// The same; a command that fails is no error.
    ///
    /// # Errors
    /// [`SshError`] but [`SshError::Remote`].
    pub fn try_ask(&self, host: &Host, words: &[&str], input: &[u8]) -> Result<Answer, SshError> {
        let mut stdout = String::new();
        let keep = |line: &str| {
            if stdout.len() + line.len() < ANSWER_BYTES {
                stdout.push_str(line);
                stdout.push('\n');
            }
        };
        let answer = self.talk(host, words, input, |_| {}, keep)?;
        Ok(Answer { stdout, ..answer })
    }
}

/// The exit code, or 128 and the signal's number.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1)
}

fn feed(
    mut input: impl Read,
    mut to: impl std::io::Write,
    mut sent: impl FnMut(u64),
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut total = 0;
    loop {
        let n = input.read(&mut piece)?;
        if n == 0 {
            return to.flush();
        }
        to.write_all(&piece[..n])?;
        total += n as u64;
        sent(total);
    }
}

/// The beginning of a stream, which is read to its end.
fn beginning(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = (&mut from).take(STDERR_BYTES).read_to_end(&mut bytes);
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Each line, without its end; one that is too long comes in pieces.
fn lines(from: impl Read, line: &mut impl FnMut(&str)) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if (&mut from).take(LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_ssh_or_a_shell_would_misread_are_refused() {
        for good in ["pi", "pi@porch.local", "ssh://pi@10.0.0.7:2222", "pi@fe80::1%eth0"] {
            assert_eq!(good.parse::<Host>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-oProxyCommand=id",
            "pi@-oProxyCommand=id",
            "@host",
            "pi@",
            "ssh://",
            "a b",
            "a\nb",
            "$(id)",
            "a;b",
            "a'b",
            "ssh://-l",
            "a`id`",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
        assert!("h".repeat(256).parse::<Host>().is_err());
    }

    #[test]
    fn every_word_comes_out_of_a_shell_as_it_went_in() {
        let words = [
            "",
            "plain",
            "two words",
            "it's",
            "\\",
            "a\\'b",
            "$HOME `id` \"x\"",
            "*",
            "~",
            "=ls",
            "line\nline",
            "-n",
            "ü€",
            "'; touch /tmp/x; '",
            "a&&b|c>d",
            "!!",
            "\t",
            "%s",
            "#no comment",
        ];
        let quoted: Vec<String> = words.iter().map(|w| quote(w).unwrap()).collect();
        for shell in ["sh", "bash", "dash"] {
            let script = format!("printf '%s\\0' {}", quoted.join(" "));
            let Ok(output) = Command::new(shell).args(["-c", &script]).output() else { continue };
            let said = String::from_utf8(output.stdout).unwrap();
            let back: Vec<&str> = said.split_terminator('\0').collect();
            assert_eq!(back, words, "{shell}");
        }
        assert!(quote("a\0b").is_err());
    }

    #[test]
    fn ssh_that_is_missing_is_named() {
        let ssh = Ssh { program: "/no/such/ssh".into(), ..Ssh::default() };
        let error = ssh.ask(&"pi".parse().unwrap(), &["true"], b"").unwrap_err().to_string();
        assert!(error.contains("/no/such/ssh") && error.contains("openssh-client"), "{error}");
    }
}
