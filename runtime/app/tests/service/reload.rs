//! What a reload changes, and what it leaves as it was.

use super::*;

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
