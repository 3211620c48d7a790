//! `kinglet watch` as a service: what it tells systemd, how it reloads, what it says where, and the
//! unit itself.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod reload;
mod shadow;
mod systemd;
mod unit;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// What is waited for at most, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(60);

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx")
}

fn kinglet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits until it is so.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LONG, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// Asks it to end; it does so in two seconds, and well.
fn terminate(child: &mut Child) {
    signal(child, "TERM");
    let begun = Instant::now();
    let status = wait_for("the end", || child.try_wait().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(status.success(), "{status}");
}

/// A program's lines as they come.
fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The first line with a word in it.
fn line_with(lines: &Receiver<String>, word: &str) -> String {
    let mut before = String::new();
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        if let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
            if line.contains(word) {
                return line;
            }
            before += &(line + "\n");
        }
    }
    panic!("no '{word}' in:\n{before}");
}

/// The service manager's end of the protocol.
struct Manager {
    socket: UnixDatagram,
    _folder: TempDir,
}

impl Manager {
    /// Starts a service whose watchdog wants to be fed so often.
    fn start(command: &mut Command, watchdog: Duration) -> (Self, Child) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        command.env("NOTIFY_SOCKET", path);
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        let child = command.spawn().unwrap();
        (Self { socket, _folder: folder }, child)
    }

    /// What comes within that time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut words = [0; 4096];
        let length = self.socket.recv(&mut words).ok()?;
        Some(String::from_utf8(words[..length].to_vec()).unwrap())
    }

    /// The first message with a word in it, and how many fed the watchdog before.
    fn wait(&self, word: &str) -> (String, usize) {
        let (begun, mut fed) = (Instant::now(), 0);
        while begun.elapsed() < LONG {
            let Some(words) = self.hear(Duration::from_millis(200)) else { continue };
            if words.contains(word) {
                return (words, fed);
            }
            fed += usize::from(words.contains("WATCHDOG=1"));
        }
        panic!("it never said {word}");
    }

    /// How often the watchdog is fed in that time, and the longest time in which it is not.
    fn fed(&self, within: Duration) -> (usize, Duration) {
        let end = Instant::now() + within;
        let (mut fed, mut last, mut hunger) = (0, Instant::now(), Duration::ZERO);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            hunger = hunger.max(last.elapsed());
            if left.is_zero() {
                return (fed, hunger);
            }
            let words = self.hear(left.max(Duration::from_millis(1))).unwrap_or_default();
            println!("{left:?} before the end: {words:?}");
            if words.contains("WATCHDOG=1") {
                (fed, last) = (fed + 1, Instant::now());
            }
        }
    }
}
