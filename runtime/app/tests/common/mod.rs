//! A program that speaks HTTP, as clients meet it.

#![allow(clippy::unwrap_used, dead_code)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn photograph(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("tests/photographs").join(name)).unwrap()
}

/// A running server.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// `kinglet serve` with more arguments.
    pub(crate) fn serve(arguments: &[&str]) -> Self {
        let mut child = kinglet("serve", arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { address: address(&line).unwrap(), child }
    }

    /// `kinglet watch` with more arguments.
    pub(crate) fn watch(arguments: &[&str]) -> Self {
        let mut command = kinglet("watch", arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("{said}")).unwrap();
            if let Some(address) = address(&line) {
                break address;
            }
            said.push_str(&line);
        };
        // Nobody reads on, but the pipe shall not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, child }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes on a connection of their own, and reads what comes until it is closed.
    pub(crate) fn say(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // The server may close before it has read all.
        let _ = stream.write_all(bytes);
        let _ = stream.flush();
        Reply::read(stream)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = match method {
            "GET" => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}{headers}\r\n"
        );
        self.say(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> Reply {
        self.ask("GET", path, headers, b"")
    }

    pub(crate) fn post(&self, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.ask("POST", path, headers, body)
    }

    pub(crate) fn classify(&self, body: &[u8]) -> Reply {
        self.post("/v1/classify", "", body)
    }

    /// Asks for something without end; gives the connection after the head.
    pub(crate) fn open(&self, path: &str) -> BufReader<TcpStream> {
        let mut stream = BufReader::new(self.connect());
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        stream
    }

    /// A line of the process's status, in bytes.
    pub(crate) fn memory(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// Forgets the most memory that was taken so far.
    pub(crate) fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Asks it to end, and waits.
    pub(crate) fn end(&mut self) -> Duration {
        let start = std::time::Instant::now();
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(asked.success());
        assert!(self.child.wait().unwrap().success());
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kinglet(subcommand: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
    command.args([subcommand, "--listen", "127.0.0.1:0"]).args(arguments);
    command.current_dir(repository()).env_remove("KINGLET_MODEL").stdin(Stdio::null());
    command
}

/// The address in a line that says it.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split("://").nth(1)?.split_whitespace().next()?.parse().ok()
}

pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn read(mut stream: impl std::io::Read) -> Self {
        let mut all = Vec::new();
        // A connection that is reset after the answer has been sent is as good as closed.
        let _ = stream.read_to_end(&mut all);
        let end =
            all.windows(4).position(|four| four == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { code, head, body: all[end..].to_vec() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.head, String::from_utf8_lossy(&self.body))
    }

    pub(crate) fn best(&self) -> String {
        self.json()["top"][0]["label"].as_str().unwrap().to_owned()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}
