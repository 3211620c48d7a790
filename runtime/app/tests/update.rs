//! Releases from a pipe to a decision: a real `kinglet watch` on a store.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use minisign::KeyPair;
use serde_json::Value;
use tempfile::TempDir;

/// What is waited for at most, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(90);

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx")
}

/// The shipped model as other bytes: protobuf takes the last of a field that comes twice (the producer's
/// version, here).
fn model(version: u8) -> Vec<u8> {
    [std::fs::read(shipped()).unwrap(), vec![0x1a, 1, b'0' + version]].concat()
}

fn position(bytes: &[u8], of: &[u8]) -> usize {
    bytes.windows(of.len()).position(|part| part == of).unwrap()
}

/// One whose weights are not those that its self-test was made with.
fn broken(version: u8) -> Vec<u8> {
    let mut bytes = model(version);
    let middle = bytes.len() / 2;
    bytes[middle..middle + 400_000].iter_mut().for_each(|byte| *byte ^= 0x55);
    bytes
}

/// One that computes right and has other names for its classes.
fn disagreeing(version: u8) -> Vec<u8> {
    let mut bytes = model(version);
    let start = position(&bytes, b"tench");
    let end = position(&bytes, b"toilet tissue");
    assert!(end > start && end - start < 100_000);
    bytes[start..end].make_ascii_uppercase();
    bytes
}

/// A device: a key, a store, a configuration.
struct Device {
    folder: TempDir,
    pair: KeyPair,
}

impl Device {
    fn new(update: &str) -> Self {
        let device = Self {
            folder: tempfile::tempdir().unwrap(),
            pair: KeyPair::generate_unencrypted_keypair().unwrap(),
        };
        let key = device.pair.pk.to_box().unwrap().into_string();
        std::fs::write(device.path("key.pub"), key).unwrap();
        device.configure(update);
        device
    }

    fn configure(&self, update: &str) {
        let [store, key] = ["store", "key.pub"].map(|name| self.path(name));
        let text = format!(
            "model = {:?}\nthreads = 1\n[camera]\nsource = \"test\"\n[rate]\nmax_fps = 30\n[update]\n\
             store = {store:?}\npublic_key = {key:?}\n{update}\n",
            shipped()
        );
        std::fs::write(self.path("kinglet.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, kind: &str, release: u64, bytes: &[u8]) -> Vec<u8> {
        let comment = format!("kinglet kind={kind} release={release} name=test");
        let made = minisign::sign(None, &self.pair.sk, bytes, Some(&comment), None).unwrap();
        made.into_string().into_bytes()
    }

    /// `kinglet update install`.
    fn install(&self, kind: &str, release: u64, bytes: &[u8], more: &[&str]) -> Output {
        let signature = self.sign(kind, release, bytes);
        let mut command = self.update("install");
        command.args(["--kind", kind, "--public-key"]).arg(self.path("key.pub"));
        command.arg("--model").arg(shipped()).args(more);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let header = format!("{:08}{:012}", signature.len(), bytes.len());
        let mut to = child.stdin.take().unwrap();
        for part in [header.as_bytes(), &signature, bytes] {
            // It may refuse before it has read all.
            let _ = to.write_all(part);
        }
        drop(to);
        child.wait_with_output().unwrap()
    }

    fn update(&self, what: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
        command.args(["update", what, "--store"]).arg(self.path("store"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn put(&self, release: u64, bytes: &[u8]) {
        let done = self.install("model", release, bytes, &["--max-slowdown", "20"]);
        assert!(done.status.success(), "{}", said(&done));
    }

    fn status(&self, kind: &str) -> Value {
        let output = self.update("status").arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()[kind].clone()
    }

    /// Waits until the last thing that was done is this.
    fn wait(&self, kind: &str, outcome: &str, release: u64) -> Value {
        let mut status = Value::Null;
        wait_for(&format!("{outcome} {release}"), || {
            status = self.status(kind);
            let last = &status["last"];
            (last["outcome"] == outcome && last["release"] == release).then_some(())
        });
        status
    }

    /// A service manager for what [`Device::watch`] starts: what it is told.
    fn manager(&self) -> Receiver<String> {
        let socket = UnixDatagram::bind(self.path("notify")).unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut words = [0; 4096];
            while let Ok(length) = socket.recv(&mut words) {
                if told.send(String::from_utf8_lossy(&words[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        hears
    }

    fn watch(&self) -> Watch {
        let said = self.path("said");
        let file = std::fs::File::options().create(true).append(true).open(&said).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
        command.args(["watch", "--config"]).arg(self.path("kinglet.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        if self.path("notify").exists() {
            command.env("NOTIFY_SOCKET", self.path("notify"));
        }
        let from = std::fs::read_to_string(&said).unwrap().len();
        Watch { child: command.spawn().unwrap(), said, from }
    }
}

/// A `kinglet watch` that runs.
struct Watch {
    child: Child,
    said: PathBuf,
    from: usize,
}

impl Watch {
    /// Waits until it says so, after what was waited for last.
    fn wait(&mut self, words: &str) {
        let (path, from) = (self.said.clone(), self.from);
        self.from = wait_for(words, || {
            let text = std::fs::read_to_string(&path).unwrap();
            text[from..].find(words).map(|at| from + at + words.len())
        });
    }

    fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(&self.said).unwrap_or_default());
        }
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat()
}

fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LONG, "'{what}' did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_good_model_is_confirmed_without_a_restart_and_one_that_sees_otherwise_is_not() {
    let device = Device::new("trial = 1\nmax_slowdown = 50.0");
    // The model that the device came with: there is no store yet.
    let mut watch = device.watch();
    watch.wait(" model ");
    device.put(1, &model(1));
    watch.wait("release 1 is on trial");
    let confirmed = device.wait("model", "confirmed", 1);
    assert_eq!((&confirmed["slot"], &confirmed["state"]), (&"a".into(), &"good".into()));
    watch.wait("reloaded");

    device.put(2, &model(2));
    watch.wait("release 2 is on trial");
    assert_eq!(device.wait("model", "confirmed", 2)["slot"], "b");
    watch.wait("reloaded");

    device.put(3, &disagreeing(3));
    let back = device.wait("model", "rolled back", 3);
    assert_eq!((&back["release"], &back["state"]), (&2.into(), &"good".into()));
    assert!(back["last"]["why"].as_str().unwrap().contains("agrees"), "{back}");
    watch.wait("reloaded");
    assert!(watch.running());

    let by_hand = device.update("rollback").args(["--kind", "model"]).output().unwrap();
    assert!(by_hand.status.success(), "{}", said(&by_hand));
    watch.wait("reloaded");
    assert_eq!(device.status("model")["state"], "factory", "slot a was overwritten by release 3");
    assert!(watch.running());
}

#[test]
fn what_fails_its_self_test_or_is_slow_or_wrongly_signed_is_never_used() {
    let device = Device::new("trial = 1");
    device.put(5, &model(5));
    let before = device.status("model");
    let refuse = |done: Output, word: &str| {
        assert_eq!(done.status.code(), Some(3), "{}", said(&done));
        assert!(said(&done).contains(word), "{}", said(&done));
        assert_eq!(String::from_utf8_lossy(&done.stderr).lines().count(), 1, "{}", said(&done));
        assert_eq!(device.status("model"), before);
    };
    refuse(device.install("model", 6, &broken(6), &[]), "self-test");
    refuse(device.install("model", 6, &model(6), &["--max-slowdown", "0.01"]), "--max-slowdown");
    refuse(device.install("model", 6, b"no model at all", &[]), "self-test");
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    std::fs::write(device.path("key.pub"), other.pk.to_box().unwrap().into_string()).unwrap();
    refuse(device.install("model", 6, &model(6), &[]), "another key");
}

#[test]
fn a_slow_model_is_rolled_back_in_its_trial() {
    let device = Device::new("trial = 1\nmax_slowdown = 0.001");
    let done = device.install("model", 1, &model(1), &[]);
    assert!(done.status.success(), "{}", said(&done));
    let mut watch = device.watch();
    let back = device.wait("model", "rolled back", 1);
    assert!(back["last"]["why"].as_str().unwrap().contains("ms a frame"), "{back}");
    watch.wait("reloaded");
    assert!(watch.running());
}

#[test]
fn a_model_that_does_not_live_through_its_trial_is_tried_three_times() {
    let device = Device::new("trial = 0\nmin_agreement = 0.0\nmax_slowdown = 50.0");
    device.put(1, &model(1));
    let watch = device.watch();
    device.wait("model", "confirmed", 1);
    watch.kill();
    device.configure("trial = 600");
    device.put(2, &model(2));
    for tries in 1..=3 {
        let mut watch = device.watch();
        watch.wait(&format!("release 2 is on trial, try {tries}"));
        watch.kill();
    }
    let mut watch = device.watch();
    watch.wait("model/a/model.onnx");
    let status = device.status("model");
    assert_eq!((&status["release"], &status["state"]), (&1.into(), &"good".into()));
    assert_eq!(status["last"]["outcome"], "rolled back");
    assert!(watch.running());
    // While it runs it is told of the next one.
    device.configure("trial = 1\nmax_slowdown = 50.0");
    device.put(3, &model(3));
    device.wait("model", "confirmed", 3);
}

#[test]
fn a_program_takes_over_and_one_that_does_not_run_is_given_up() {
    let device = Device::new("trial = 1\nmax_slowdown = 50.0");
    let app = |release, bytes: &[u8]| device.install("app", release, bytes, &[]);
    for nonsense in ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho another 1.0\n", "no program"] {
        let done = app(1, nonsense.as_bytes());
        assert_eq!(done.status.code(), Some(3), "{nonsense}: {}", said(&done));
    }
    let manager = device.manager();
    let mut watch = device.watch();
    watch.wait("efficientnet-lite0-int8.onnx");
    let program = std::fs::read(env!("CARGO_BIN_EXE_kinglet")).unwrap();
    let done = app(1, &program);
    assert!(done.status.success(), "{}", said(&done));
    watch.wait("program 1 of the store takes over");
    assert_eq!(device.wait("app", "confirmed", 1)["slot"], "a");
    assert!(watch.running(), "the process is the same");
    // A service that says it stops is killed for not stopping.
    let told: Vec<String> = manager.try_iter().collect();
    assert!(told.iter().filter(|words| words.contains("READY=1")).count() >= 2, "{told:?}");
    assert!(!told.iter().any(|words| words.contains("STOPPING")), "{told:?}");

    // It tests itself well, and dies when it takes over. Whoever started the service starts it again.
    let script = "#!/bin/sh\ncase $1 in --version) echo kinglet 9;; verify) ;; *) exit 7;; esac\n";
    let done = app(2, script.as_bytes());
    assert!(done.status.success(), "{}", said(&done));
    for tries in 1..=3 {
        watch.wait("program 2 of the store takes over");
        wait_for("its end", || (!watch.running()).then_some(()));
        assert_eq!(device.status("app")["tries"], tries);
        watch = device.watch();
    }
    watch.wait("program 1 of the store takes over");
    let status = device.status("app");
    assert_eq!((&status["release"], &status["last"]["release"]), (&1.into(), &2.into()));
}

#[test]
fn a_model_without_the_right_signature_is_not_parsed() {
    let device = Device::new("");
    let (file, signature) = (device.path("m.onnx"), device.path("m.onnx.minisig"));
    let mut bytes = model(1);
    std::fs::write(&file, &bytes).unwrap();
    let picture = shipped().parent().unwrap().join("../tests/photographs/chelsea.png");
    let key = device.path("key.pub");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
        command.args(arguments).arg("--model").arg(&file).arg("--public-key").arg(&key);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let picture = picture.to_str().unwrap();
    let all = || {
        let watch = ["watch", "--camera", "test", "--seconds", "1"];
        let serve = ["serve", "--listen", "127.0.0.1:0"];
        [run(&["classify", picture]), run(&watch), run(&serve)]
    };
    let refused = |word: &str| {
        for done in all() {
            assert_eq!(done.status.code(), Some(3), "{}", said(&done));
            assert!(said(&done).contains(word), "{}", said(&done));
        }
    };
    refused("signature");
    std::fs::write(&signature, device.sign("app", 1, &bytes)).unwrap();
    refused("as a program");
    std::fs::write(&signature, device.sign("model", 1, &bytes)).unwrap();
    let done = run(&["classify", picture]);
    assert!(done.status.success() && said(&done).contains("cat"), "{}", said(&done));
    // One byte of a weight: whoever parses it first would not notice.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    refused("not of this file");
    std::fs::write(&file, b"").unwrap();
    refused("not of this file");
    std::fs::write(&key, "no key").unwrap();
    let done = run(&["classify", picture]);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("public key"), "{}", said(&done));
}
