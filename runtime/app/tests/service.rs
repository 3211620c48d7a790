//! `kinglet watch` as a service: what it tells systemd, how it reloads, what it says where, and the
//! unit itself.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

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

#[test]
fn it_says_when_it_is_ready_feeds_the_watchdog_and_says_that_it_ends() {
    let mut command = kinglet();
    command.arg("watch").arg(shipped()).args(["--camera", "test"]).stdout(Stdio::null());
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(4));
    let (ready, fed) = manager.wait("READY=1");
    assert_eq!((ready.as_str(), fed), ("READY=1\n", 0), "nothing before");
    assert!(manager.wait("STATUS=").0.contains("STATUS=camera"));
    let (fed, hunger) = manager.fed(Duration::from_secs(6));
    assert!(fed >= 2 && hunger < Duration::from_secs(4), "{fed}, {hunger:?}");
    terminate(&mut child);
    manager.wait("STOPPING=1");
}

/// A camera that does not answer, and one that is not there, are no reason to be started again.
#[test]
fn a_camera_that_is_away_is_not_a_thread_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ffmpeg.sh");
    let script = "#!/bin/sh\ntrap '' TERM\nprintf 'YUV4MPEG2 W64 H64\\n'\nsleep 1000\n";
    std::fs::write(&program, script).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&program).status().unwrap().success());
    let file = folder.path().join("k.toml");
    for camera in [
        format!("source = \"rtsp://camera\"\nprogram = {program:?}\n"),
        "source = \"/dev/video99\"\n".to_owned(),
    ] {
        std::fs::write(&file, format!("model = {:?}\n[camera]\n{camera}", shipped())).unwrap();
        let mut command = kinglet();
        command.args(["watch", "--config"]).arg(&file).stdout(Stdio::null());
        let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
        manager.wait("READY=1");
        // Longer than a thread may make no progress.
        let (_, hunger) = manager.fed(Duration::from_secs(6));
        assert!(hunger < Duration::from_secs(3), "{hunger:?} {camera}");
        terminate(&mut child);
    }
}

#[test]
fn a_thread_that_hangs_is_named_and_the_watchdog_is_not_fed_until_it_goes_on() {
    let mut command = kinglet();
    command.arg("watch").arg(shipped());
    command.args(["--camera", "test", "--fps", "100", "--all", "--json", "--top", "100"]);
    // Nobody reads what it prints: the pipe is full soon.
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    manager.wait("READY=1");
    let (status, _) = manager.wait("hangs: lines: no progress");
    assert!(!status.contains("WATCHDOG"), "{status}");
    assert_eq!(manager.fed(Duration::from_secs(4)).0, 0);
    // Somebody reads again.
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    manager.wait("WATCHDOG=1");
    terminate(&mut child);
    reader.join().unwrap().unwrap();
    // And one that hangs for good does not keep it from ending.
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    manager.wait("hangs: lines: no progress");
    terminate(&mut child);
}

/// A broker that takes the connection and says nothing, and a client that listens to events.
#[test]
fn whoever_is_at_the_other_end_of_a_wire_holds_up_neither_watchdog_nor_end() {
    let broker = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.toml");
    let config = format!(
        "model = {:?}\n[camera]\nsource = 'test'\n[http]\nlisten = '127.0.0.1:0'\n\
         [mqtt]\nurl = 'mqtt://{}/kinglet'\nname = 'test'\n",
        shipped(),
        broker.local_addr().unwrap()
    );
    std::fs::write(&file, config).unwrap();
    let mut command = kinglet();
    command.args(["watch", "--config"]).arg(&file).stdout(Stdio::null());
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    let messages = lines(child.stderr.take().unwrap());
    let address = line_with(&messages, "listening on http://");
    let address = address.split_once("http://").unwrap().1;
    let mut client = std::net::TcpStream::connect(address.split(' ').next().unwrap()).unwrap();
    client.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _silent = broker.accept().unwrap();
    manager.wait("READY=1");
    assert!(manager.fed(Duration::from_secs(5)).1 < Duration::from_secs(3));
    terminate(&mut child);
}

/// Holds the main thread, and no other, as if the model did not come back.
const HOLD: &str = "import ctypes, os, sys, time
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long] * 4
pid = int(sys.argv[1])
seize, interrupt = 0x4206, 0x4207
if libc.ptrace(seize, pid, 0, 0) or libc.ptrace(interrupt, pid, 0, 0): sys.exit(1)
os.waitpid(pid, 0x40000000)
print('held', flush=True)
sys.stdin.read()
";

#[test]
fn a_model_that_does_not_come_back_starves_the_watchdog_and_does_not_outlive_a_signal() {
    let mut command = kinglet();
    command.arg("watch").arg(shipped()).args(["--camera", "test"]).stdout(Stdio::null());
    let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3));
    let messages = lines(child.stderr.take().unwrap());
    manager.wait("READY=1");
    let mut hold = Command::new("python3");
    hold.args(["-c", HOLD, &child.id().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let held = hold.spawn().ok().and_then(|mut hold| {
        let line = lines(hold.stdout.take().unwrap()).recv_timeout(LONG);
        line.is_ok_and(|line| line == "held").then_some(hold)
    });
    let Some(mut hold) = held else {
        println!("skipped: no python3, or it may not hold a thread here");
        child.kill().unwrap();
        return;
    };
    let (status, _) = manager.wait("hangs: loop: no progress");
    assert!(!status.contains("WATCHDOG"), "{status}");
    assert_eq!(manager.fed(Duration::from_secs(2)).0, 0);
    signal(&child, "TERM");
    let begun = Instant::now();
    manager.wait("STOPPING=1");
    // Dead, and not yet buried: whoever holds a thread is told first.
    let stat = format!("/proc/{}/stat", child.id());
    wait_for("the end", || std::fs::read_to_string(&stat).unwrap().contains(") Z ").then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(hold.stdin.take());
    hold.wait().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    line_with(&messages, "something hangs and is left behind: loop");
}

#[test]
fn a_full_disk_is_a_problem_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=64k disk \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "sh", "-c", script]).arg(&disk);
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|s| s.success()) {
        println!("skipped: a small file system cannot be mounted here");
        return;
    }
    let config = format!(
        "model = {:?}\n[camera]\nsource = 'test'\nfps = 100\n[decide]\ntop = 50\n\
         [log]\nfolder = {disk:?}\nall = true\n\
         [snapshots]\nfolder = {:?}\nclass = 'unknown'\nevery_ms = 1\nfree_mib = 0\n",
        shipped(),
        disk.join("pictures")
    );
    let file = folder.path().join("k.toml");
    std::fs::write(&file, config).unwrap();
    unshare.arg(env!("CARGO_BIN_EXE_kinglet")).args(["watch", "--unknown-below", "1"]);
    unshare.args(["--json", "--all", "--config"]).arg(&file);
    unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (manager, mut child) = Manager::start(&mut unshare, Duration::from_secs(3));
    let decisions = lines(child.stdout.take().unwrap());
    manager.wait("READY=1");
    let (status, _) = manager.wait("log: ");
    assert!(status.contains("No space left on device"), "{status}");
    let _ = decisions.try_iter().count();
    for _ in 0..50 {
        decisions.recv_timeout(LONG).unwrap();
    }
    assert!(manager.fed(Duration::from_secs(4)).1 < Duration::from_secs(3));
    terminate(&mut child);
}

#[test]
fn lines_for_the_journal_have_priorities_and_no_time() {
    for (journal, errors) in
        [(true, "<4>pin /dev/gpiochip99:4: "), (false, "WARN pin /dev/gpiochip99:4: ")]
    {
        let file = tempfile::NamedTempFile::new().unwrap();
        let facts = file.as_file().metadata().unwrap();
        // Another inode: standard error was turned elsewhere.
        let inode = facts.ino() + u64::from(!journal);
        let mut command = kinglet();
        command.arg("watch").arg(shipped()).args(["--camera", "test", "--seconds", "1"]);
        command.args(["--led", "gpiochip99:4=unknown"]).stderr(file.reopen().unwrap());
        command.env("JOURNAL_STREAM", format!("{}:{inode}", facts.dev()));
        assert!(command.status().unwrap().success());
        let said = std::fs::read_to_string(file.path()).unwrap();
        assert!(said.lines().any(|line| line.contains(errors)), "{said}");
        assert!(said.lines().all(|line| line.starts_with('<') == journal), "{said}");
        assert!(!journal || said.lines().any(|line| line.starts_with("<6>model /")), "{said}");
    }
}

/// The shipped model with other letters in one label: the same scores under another name.
fn renamed(label: &str, to: &Path) -> String {
    let other = label.to_uppercase();
    assert_ne!(label, other);
    let mut bytes = std::fs::read(shipped()).unwrap();
    let name = format!("\n{label}\n");
    let at = bytes.windows(name.len()).position(|part| part == name.as_bytes()).unwrap() + 1;
    bytes[at..at + label.len()].copy_from_slice(other.as_bytes());
    // Put there at once, as an update should.
    let partial = to.with_extension("part");
    std::fs::write(&partial, bytes).unwrap();
    std::fs::rename(partial, to).unwrap();
    other
}

/// A service under test: its configuration, its lines and messages.
struct Service {
    folder: TempDir,
    child: Child,
    manager: Manager,
    decisions: Receiver<String>,
    messages: Receiver<String>,
}

impl Service {
    /// With the shipped model as `m.onnx`, and a test pattern. Every frame is looked at and printed.
    fn start(fps: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(shipped(), folder.path().join("m.onnx")).unwrap();
        write(&folder, fps, "");
        let mut command = kinglet();
        command.args(["watch", "--config", "k.toml", "--json", "--all"]);
        command.current_dir(folder.path());
        let (manager, mut child) = Manager::start(&mut command, Duration::from_secs(3600));
        let decisions = lines(child.stdout.take().unwrap());
        let messages = lines(child.stderr.take().unwrap());
        manager.wait("READY=1");
        Self { folder, child, manager, decisions, messages }
    }

    fn decision(&self) -> Value {
        serde_json::from_str(&self.decisions.recv_timeout(LONG).unwrap()).unwrap()
    }

    /// Reloads; gives what is said of it in the log and to systemd.
    fn reload(&self) -> (String, String) {
        signal(&self.child, "HUP");
        let (words, _) = self.manager.wait("RELOADING=1");
        let time = words.split_once("MONOTONIC_USEC=").unwrap().1.trim();
        assert!(time.parse::<u64>().unwrap() > 0);
        let (words, _) = self.manager.wait("READY=1");
        (line_with(&self.messages, "reloaded"), words)
    }

    /// Ends it; gives all numbers of frames that were printed.
    fn end(mut self) -> Vec<u64> {
        terminate(&mut self.child);
        let rest = self.decisions.iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        rest.map(|decision| decision["frame"].as_u64().unwrap()).collect()
    }
}

fn write(folder: &TempDir, fps: u32, more: &str) {
    let text = format!(
        "model = 'm.onnx'\nthreads = 2\n[camera]\nsource = 'test'\nfps = {fps}\nevery_frame = true\n\
         [decide]\nwindow = 1\nenter = 0.0\n{more}"
    );
    std::fs::write(folder.path().join("k.toml"), text).unwrap();
}

/// Threads by name, and how nice they are.
fn priorities(child: &Child) -> Vec<(String, i32)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().flatten();
    let facts = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        Some((name.to_owned(), rest.split_whitespace().nth(16)?.parse().ok()?))
    };
    tasks.filter_map(facts).collect()
}

#[test]
fn another_model_takes_over_between_two_frames() {
    let service = Service::start(60);
    let first = service.decision();
    let label = first["decision"].as_str().unwrap().to_owned();
    let other = renamed(&label, &service.folder.path().join("m.onnx"));
    assert!(service.reload().0.ends_with("reloaded: model changed"));
    let mut number = first["frame"].as_u64().unwrap();
    let (mut seen_old, mut fallen) = (false, 0);
    loop {
        let decision = service.decision();
        if decision["frame"] == 0 {
            // What was decided falls: the model has no class of that name any more.
            assert!(decision["changed"] == true && decision["decision"].is_null());
            fallen += 1;
            continue;
        }
        number += 1;
        assert_eq!(decision["frame"], number, "a frame is missing");
        let same_class = decision["index"] == first["index"];
        seen_old |= decision["decision"] == *label;
        if same_class && decision["decision"] == *other {
            break;
        }
    }
    assert!(seen_old && fallen <= 1);
    // It was loaded by a thread that leaves others their time, but does not work like that itself.
    let [main, helper] = wait_for("the end of the old model's thread", || {
        let all = priorities(&service.child);
        let of = |name| all.iter().filter(move |(n, _)| n == name).map(|(_, nice)| *nice);
        let one = of("kinglet-1").count() == 1 && of("old model").count() == 0;
        one.then(|| ["kinglet", "kinglet-1"].map(|name| of(name).next().unwrap()))
    });
    assert_eq!(helper, main);
    let rest = service.end();
    let expected: Vec<_> = (number + 1..).take(rest.len()).collect();
    assert_eq!(rest, expected);
}

#[test]
fn a_bad_configuration_or_model_changes_nothing_and_is_said() {
    let service = Service::start(30);
    let (config, model) =
        (service.folder.path().join("k.toml"), service.folder.path().join("m.onnx"));
    let good = std::fs::read_to_string(&config).unwrap();
    for (bad, expected) in [
        (good.replace("fps", "fsp"), "unknown field `fsp`"),
        (good.replace("window = 1", "window = 0"), "window 0: 1 to 1000 pictures"),
        (good.replace("'test'", "'tset'"), "camera 'tset': no such file"),
        (good.clone() + "[[output]]\npin = 1\nclass = 'tabby ca'\n", "there is 'tabby'"),
        (good.replace("m.onnx", "n.onnx"), "n.onnx"),
    ] {
        std::fs::write(&config, bad).unwrap();
        let (said, status) = service.reload();
        assert!(said.contains("not reloaded, all goes on as it was") && said.contains(expected));
        assert!(status.contains("STATUS=configuration: ") && status.contains(expected), "{status}");
    }
    std::fs::write(&config, &good).unwrap();
    std::fs::write(&model, vec![7; 100_000]).unwrap();
    assert!(service.reload().0.contains("m.onnx refused"));
    // All well again, and nothing was left out meanwhile.
    std::fs::copy(shipped(), &model).unwrap();
    assert!(service.reload().0.ends_with("reloaded: model changed"));
    assert!(service.reload().0.ends_with("reloaded: nothing has changed"));
    let number = |_| service.decision()["frame"].as_u64().unwrap();
    let mut frames: Vec<_> = (0..20).map(number).collect();
    frames.extend(service.end());
    let expected: Vec<_> = (frames[0]..).take(frames.len()).collect();
    assert_eq!(frames, expected);
}

#[test]
fn what_is_not_changed_runs_on() {
    let service = Service::start(30);
    let number = |decision: &Value| decision["frame"].as_u64().unwrap();
    let first = service.decision();
    let entries = |name: &str| {
        let files = std::fs::read_dir(service.folder.path().join(name)).into_iter().flatten();
        files.flatten().count()
    };
    write(&service.folder, 30, "[log]\nfolder = 'one'\nall = true\n");
    assert!(service.reload().0.ends_with("reloaded: log changed"));
    wait_for("a file", || (entries("one") == 1).then_some(()));
    // Another limit for decisions, and the log is the same file still.
    write(&service.folder, 30, "leave = 0.0\n[log]\nfolder = 'one'\nall = true\n");
    assert!(service.reload().0.ends_with("reloaded: decide changed"));
    write(&service.folder, 30, "leave = 0.0\n[log]\nfolder = 'two'\nall = true\n");
    assert!(service.reload().0.ends_with("reloaded: log changed"));
    wait_for("a file", || (entries("two") == 1).then_some(()));
    assert_eq!(entries("one"), 1);
    // Another camera: frames are numbered on.
    write(&service.folder, 50, "leave = 0.0\n[log]\nfolder = 'two'\nall = true\n");
    assert!(service.reload().0.ends_with("reloaded: camera changed"));
    let before = wait_for("the newest", || service.decisions.try_iter().last());
    let before: Value = serde_json::from_str(&before).unwrap();
    assert!(number(&service.decision()) > number(&before));
    assert!(number(&before) > number(&first));
    assert_eq!(entries("two"), 1);
    service.end();
}

#[test]
fn a_shadow_is_compared_and_never_acts() {
    let folder = tempfile::tempdir().unwrap();
    let shadow = folder.path().join("other.onnx");
    let run = |shadow: &Path, seconds: &str| {
        let mut command = kinglet();
        command.arg("watch").arg(shipped()).args(["--camera", "test", "--fps", "20"]);
        command.args(["--window", "1", "--enter", "0", "--json", "--all", "--seconds", seconds]);
        let output = command.arg("--shadow").arg(shadow).output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines, said)
    };
    let numbers = |said: &str| -> Vec<f64> {
        let line = said.lines().find(|line| line.contains("shadow other.onnx: ")).unwrap();
        let line = line.split_once("shadow other.onnx: ").unwrap().1;
        let numbers = line.split([' ', '%', ',', ';']).filter_map(|word| word.parse().ok());
        numbers.collect()
    };
    std::fs::copy(shipped(), &shadow).unwrap();
    let (lines, said) = run(&shadow, "4");
    let same = numbers(&said);
    assert!(same[0] >= 3.0 && same[2..4] == [100.0, 100.0], "{said}");
    // One that calls everything that was seen something else.
    let seen: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line["decision"].as_str().unwrap().to_owned()).collect();
    let mut bytes = std::fs::read(shipped()).unwrap();
    for label in &seen {
        let name = format!("\n{label}\n");
        let at = bytes.windows(name.len()).position(|part| part == name.as_bytes()).unwrap() + 1;
        bytes[at..at + label.len()].make_ascii_uppercase();
    }
    std::fs::write(&shadow, bytes).unwrap();
    let (lines, said) = run(&shadow, "4");
    let other = numbers(&said);
    assert!(other[0] >= 3.0 && other[2..4] == [0.0, 0.0], "{said}");
    let known = |line: &Value| seen.contains(line["decision"].as_str().unwrap());
    assert!(lines.iter().all(known), "the first model alone decides");
    // One that cannot be loaded is a problem, and no more.
    std::fs::write(&shadow, "no model").unwrap();
    let (lines, said) = run(&shadow, "1");
    assert!(
        lines.len() > 2 && said.contains("shadow: model") && said.contains("refused"),
        "{said}"
    );
}

/// What the unit does after the end, whatever the end was.
#[test]
fn pins_that_were_in_use_are_known_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("pins");
    let mut command = kinglet();
    command.arg("watch").arg(shipped()).args(["--camera", "test", "--active-low"]);
    command.args(["--led", "gpiochip97:4=unknown"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.env("RUNTIME_DIRECTORY", folder.path()).spawn().unwrap();
    wait_for("the record", || std::fs::read_to_string(&record).ok().filter(|r| !r.is_empty()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&record).unwrap(), "/dev/gpiochip97:4=1\n");
    // The configuration may have become useless meanwhile.
    let config = folder.path().join("k.toml");
    std::fs::write(&config, "not a configuration").unwrap();
    let mut release = kinglet();
    release.args(["watch", "--release-pins", "--config"]).arg(&config);
    let output = release.env("RUNTIME_DIRECTORY", folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/dev/gpiochip97"), "there is no such chip here: {said}");
    // Without a record it is the configuration that says which.
    std::fs::write(&config, "[[output]]\npin = 'gpiochip96:1'\nclass = 'x'\n").unwrap();
    let output = release.env_remove("RUNTIME_DIRECTORY").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/dev/gpiochip96"), "{said}");
}

#[test]
fn the_unit_is_well_formed_and_leaves_little_open() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        println!("skipped: systemd-analyze is not installed");
        return;
    };
    println!("{}", String::from_utf8_lossy(&version.stdout));
    let output = kinglet().args(["watch", "--print-unit"]).output().unwrap();
    assert!(output.status.success());
    let unit = String::from_utf8(output.stdout).unwrap();
    // The program that is meant exists here under another name.
    let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let program = program.split(' ').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kinglet.service");
    std::fs::write(&file, unit.replace(program, env!("CARGO_BIN_EXE_kinglet"))).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
    let judged = security.arg(&file).output().unwrap();
    let mut table = String::from_utf8_lossy(&judged.stdout).into_owned();
    table += &String::from_utf8_lossy(&judged.stderr);
    println!("{table}");
    assert!(judged.status.success(), "exposure above 2.0:\n{table}");
}
