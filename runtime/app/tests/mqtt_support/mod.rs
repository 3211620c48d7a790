//! A real broker, a listener, and `kinglet watch` beside them.

#[path = "../../../../tests/support/port.rs"]
mod port;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use port::free_port;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

/// Longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// mosquitto, ended when it is dropped.
pub struct Broker {
    pub port: u16,
    program: PathBuf,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Broker {
    /// A broker for everybody; `None`, and said so, where mosquitto is missing.
    pub fn start() -> Option<Self> {
        let mut broker = Self::prepare()?;
        broker.configure(&format!("listener {} 127.0.0.1\nallow_anonymous true\n", broker.port));
        broker.run();
        Some(broker)
    }

    /// One that is not configured and does not run.
    pub fn prepare() -> Option<Self> {
        let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let Some(program) = places.iter().map(PathBuf::from).find(|p| p.exists()) else {
            println!("skipped: mosquitto is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        Some(Self { port: free_port(), program, folder, child: None })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configure(&self, text: &str) {
        let text = format!("persistence false\nuser root\nlog_type none\n{text}");
        std::fs::write(self.path("mosquitto.conf"), text).unwrap();
    }

    pub fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.path("mosquitto.conf"));
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the broker listens", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "mosquitto does not start: {ended:?}");
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Somebody who listens to everything under `eyes`.
    pub fn ear(&self) -> Ear {
        Ear::new(self.port, None)
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}/eyes", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What was heard: topic, payload, and whether the broker had kept it.
#[derive(Debug, Clone)]
pub struct Heard {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
}

impl Heard {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// Somebody who listens.
pub struct Ear {
    _client: Client,
    connection: Connection,
}

impl Ear {
    pub fn new(port: u16, user: Option<(&str, &str)>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ear{}-{number}", std::process::id());
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        if let Some((user, password)) = user {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < LONG, "no subscription");
            match connection.recv_timeout(LONG).unwrap() {
                Ok(Event::Incoming(Packet::SubAck(_))) => break,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Self { _client: client, connection }
    }

    /// The next message of a topic that ends so.
    pub fn next(&mut self, end: &str) -> Heard {
        let begun = Instant::now();
        loop {
            let left = LONG.checked_sub(begun.elapsed());
            let left = left.unwrap_or_else(|| panic!("nothing was heard of {end}"));
            match self.within(left) {
                Some(heard) if heard.topic.ends_with(end) => return heard,
                _ => {}
            }
        }
    }

    /// The next message of any topic, if there is one in time.
    pub fn within(&mut self, time: Duration) -> Option<Heard> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            if let Event::Incoming(Packet::Publish(message)) =
                self.connection.recv_timeout(left).ok()?.ok()?
            {
                return Some(Heard {
                    topic: message.topic.clone(),
                    payload: message.payload.to_vec(),
                    retained: message.retain,
                });
            }
        }
    }

    /// What the broker has kept, by topic: until nothing of that comes for a while.
    pub fn kept(&mut self) -> HashMap<String, Heard> {
        let mut kept = HashMap::new();
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(400) {
            if let Some(heard) = self.within(Duration::from_millis(100))
                && heard.retained
            {
                last = Instant::now();
                kept.insert(heard.topic.clone(), heard);
            }
        }
        kept
    }
}

/// `kinglet watch`, ended when it is dropped.
pub struct Watch {
    pub child: Child,
    /// Lines of standard output, and of standard error.
    pub lines: Arc<Mutex<Vec<String>>>,
    pub said: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    /// The photographs again and again, each of another class, 25 a second.
    pub fn photographs(config: &str, arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/photographs");
        let config = format!(
            "[camera]\nsource = {folder:?}\nrepeat = true\n\n[rate]\nmax_fps = 25\n\n{config}"
        );
        Self::start(&config, arguments)
    }

    pub fn start(config: &str, arguments: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, config).unwrap();
        let (_, path) = file.keep().unwrap();
        let model =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
        command.arg("watch").arg(model).args(["--json", "--all", "--config"]).arg(&path);
        command.args(arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = gather(child.stdout.take().unwrap());
        let said = gather(child.stderr.take().unwrap());
        until("it has read its configuration", || {
            !lines.lock().unwrap().is_empty()
                || said.lock().unwrap().iter().any(|l| l.contains("model") || l.contains("error"))
        });
        std::fs::remove_file(path).unwrap();
        Self { child, lines, said }
    }

    pub fn said(&self, what: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.contains(what))
    }

    pub fn await_said(&self, what: &str) {
        let begun = Instant::now();
        while !self.said(what) {
            assert!(begun.elapsed() < LONG, "never said '{what}': {:#?}", self.said.lock());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn looked(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// Threads, and open descriptors.
    pub fn resources(&self) -> (usize, usize) {
        let count = |what: &str| {
            std::fs::read_dir(format!("/proc/{}/{what}", self.child.id())).unwrap().count()
        };
        (count("task"), count("fd"))
    }

    /// Asks it to end; says how long that took.
    pub fn end(mut self) -> Duration {
        let begun = Instant::now();
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines as they come.
fn gather(from: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let into = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap().push(line);
        }
    });
    lines
}
