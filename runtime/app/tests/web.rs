//! The server inside `kinglet watch`: live pictures, decisions as events, figures.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Reply, Server, photograph, repository};
use serde_json::Value;

/// Waits for something.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads one event: its kind, its number and its data.
fn event(stream: &mut BufReader<TcpStream>) -> (String, Option<u64>, Value) {
    let (mut kind, mut number, mut data) = (String::new(), None, None);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "it ended");
        match line.trim_end().split_once(": ") {
            Some(("event", value)) => kind = value.to_owned(),
            Some(("id", value)) => number = value.parse().ok(),
            Some(("data", value)) => data = Some(serde_json::from_str(value).unwrap()),
            _ => {}
        }
        // Lines of chunks and comments are between events.
        if line == "\n"
            && let Some(data) = data.take()
        {
            return (kind, number, data);
        }
    }
}

/// A picture's size.
fn size(jpeg: &[u8]) -> (u32, u32) {
    let picture = image::load_from_memory(jpeg).unwrap();
    (picture.width(), picture.height())
}

#[test]
fn decisions_and_health_come_as_events() {
    let server = Server::watch(&["--camera", "test", "--fps", "50"]);
    let mut events = server.open("/v1/events");
    let (kind, _, health) = event(&mut events);
    assert_eq!(kind, "health");
    assert!(health["camera"]["frames"].is_u64() && health["problems"].is_object(), "{health}");
    let (mut decisions, mut numbers, mut pulses) = (Vec::new(), Vec::new(), 0);
    while decisions.len() < 20 || pulses == 0 {
        let (kind, number, data) = event(&mut events);
        assert!(matches!(kind.as_str(), "decision" | "health"), "{kind}");
        pulses += usize::from(kind == "health");
        if kind == "decision" {
            decisions.push(data);
        }
        numbers.push(number.unwrap());
    }
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(decisions.windows(2).all(|pair| pair[1]["frame"].as_u64() > pair[0]["frame"].as_u64()));
    assert_eq!(decisions[0]["top"].as_array().unwrap().len(), 3);
    // Who comes back goes on where it was; who was away for too long is told so.
    drop(events);
    let last = *numbers.last().unwrap();
    let back = |number: u64| {
        let mut stream = BufReader::new(server.connect());
        let head = format!(
            "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {number}\r\n\r\n"
        );
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        assert_eq!(event(&mut stream).0, "health");
        event(&mut stream)
    };
    assert_eq!(back(last).1, Some(last + 1));
    until("256 events", || back(u64::MAX).1.unwrap() > last + 300);
    let (kind, _, data) = back(last);
    assert_eq!(kind, "missed");
    assert!(data["missed"].as_u64().unwrap() > 30, "{data}");
}

#[test]
fn the_newest_frame_is_a_picture() {
    let server = Server::watch(&["--camera", "test", "--size", "320x240"]);
    let first = server.get("/v1/snapshot.jpg", "");
    assert_eq!((first.code, size(&first.body)), (200, (320, 240)));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    let number = |reply: &Reply| reply.header("kinglet-frame").unwrap().parse::<u64>().unwrap();
    let next = server.get(&format!("/v1/snapshot.jpg?after={}", number(&first)), "");
    assert!(number(&next) > number(&first));
    let moved = || server.get("/v1/snapshot.jpg", "").body != first.body;
    until("the square moves", moved);
    assert_eq!(server.get("/v1/snapshot.jpg?after=x", "").code, 400);
    // A camera that gives JPEG: its own bytes.
    let picture = photograph("rocket.jpg");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jpg"), &picture).unwrap();
    let server = Server::watch(&["--camera", folder.path().to_str().unwrap(), "--repeat"]);
    assert_eq!(server.get("/v1/snapshot.jpg", "").body, picture);
    // No camera, no picture: nothing hangs.
    let server = Server::watch(&["--camera", "http://127.0.0.1:9/none"]);
    let none = server.get("/v1/snapshot.jpg", "");
    assert_eq!(none.code, 503, "{}", none.text());
    assert!(none.header("retry-after").is_some());
    assert_eq!((server.get("/readyz", "").code, server.get("/healthz", "").code), (503, 200));
}

#[test]
fn the_stream_of_one_is_the_camera_of_another() {
    let first = Server::watch(&["--camera", "test", "--size", "320x240"]);
    let stream = format!("http://{}/v1/stream.mjpg?fps=20", first.address);
    let second = Server::watch(&["--camera", &stream]);
    let picture = second.get("/v1/snapshot.jpg", "");
    assert_eq!((picture.code, size(&picture.body)), (200, (320, 240)));
    until("decisions", || {
        second.get("/v1/state", "").json()["health"]["inferences"].as_u64() > Some(5)
    });
    let health = second.get("/v1/state", "").json()["health"].clone();
    assert_eq!(health["camera"]["lost"], 0, "{health}");
}

#[test]
fn pictures_stream_at_the_rate_that_is_asked_for() {
    let server = Server::watch(&["--camera", "test", "--fps", "60", "--size", "320x240"]);
    let pictures = |path: &str, count: usize| {
        let mut stream = server.open(path);
        let (mut line, mut pictures) = (String::new(), Vec::new());
        let begun = Instant::now();
        while pictures.len() < count {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(length) = line.strip_prefix("Content-Length: ") {
                let mut rest = vec![0; length.trim().parse::<usize>().unwrap() + 64];
                // The chunk's own lines are between head and picture.
                let mut at = 0;
                while !rest[..at].ends_with(&[0xff, 0xd9]) {
                    stream.read_exact(&mut rest[at..=at]).unwrap();
                    at += 1;
                }
                let start = rest.windows(2).position(|two| two == [0xff, 0xd8]).unwrap();
                pictures.push(rest[start..at].to_vec());
            }
        }
        (begun.elapsed(), pictures)
    };
    let (took, slow) = pictures("/v1/stream.mjpg?fps=10", 6);
    assert!(took >= Duration::from_millis(450), "{took:?}");
    let different: BTreeSet<_> = slow.iter().collect();
    assert_eq!(different.len(), 6);
    assert!(slow.iter().all(|picture| size(picture) == (320, 240)));
    assert_eq!(server.get("/v1/stream.mjpg?fps=1000", "").code, 400);
    // Eight may look; the ninth is told to come back; a place that is left is free again.
    let mut streams: Vec<_> = (0..8).map(|_| server.open("/v1/stream.mjpg?fps=1")).collect();
    assert_eq!(server.get("/v1/stream.mjpg", "").code, 503);
    streams.pop();
    until("a place", || {
        let mut stream = server.connect();
        stream.write_all(b"GET /v1/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        start == *b"HTTP/1.1 200"
    });
}

/// Connections that the server has, with the one that asks.
fn connections(server: &Server) -> usize {
    let text = server.get("/metrics", "").text();
    let line = text.lines().find(|line| line.starts_with("kinglet_connections ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn who_takes_nothing_is_cut_and_holds_nobody_up() {
    let server =
        Server::watch(&["--camera", "test", "--fps", "60", "--size", "1280x720", "--max-fps", "5"]);
    let stuck: Vec<_> = (0..3).map(|_| server.open("/v1/stream.mjpg?fps=30")).collect();
    let begun = Instant::now();
    // Others get pictures meanwhile.
    for _ in 0..5 {
        assert_eq!(server.get("/v1/snapshot.jpg", "").code, 200);
    }
    until("they are cut", || connections(&server) == 1);
    assert!(begun.elapsed() > Duration::from_secs(5), "not too soon: {:?}", begun.elapsed());
    drop(stuck);
}

#[test]
fn who_takes_no_events_is_cut() {
    let server = Server::watch(&["--camera", "test", "--fps", "200", "--top", "400"]);
    let stuck = server.open("/v1/events");
    let mut quick = server.open("/v1/events");
    let cut = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !cut.load(Relaxed) {
                assert_ne!(event(&mut quick).0, "missed");
            }
        });
        // The other one, and this question.
        until("it is cut", || connections(&server) == 2);
        cut.store(true, Relaxed);
    });
    drop(stuck);
}

#[test]
fn figures_are_what_promtool_wants() {
    let server =
        Server::watch(&["--camera", "test", "--fps", "50", "--enter", "0", "--window", "1"]);
    until("a decision", || server.get("/metrics", "").text().contains("kinglet_decisions_total{"));
    let text = String::from_utf8(server.get("/metrics", "").body).unwrap();
    for name in [
        "kinglet_frames_total ",
        "kinglet_frames_dropped_total ",
        "kinglet_camera_lost_total 0",
        "kinglet_camera_up 1",
        "kinglet_inferences_total ",
        "kinglet_inference_seconds_count{model=\"efficientnet-lite0-int8\"} ",
        "kinglet_latency_seconds_bucket{le=\"0.06\"} ",
        "kinglet_problems 0",
        "kinglet_temperature_celsius ",
        "kinglet_resident_memory_bytes ",
        "kinglet_uptime_seconds ",
    ] {
        assert!(text.contains(&format!("\n{name}")), "{name} in\n{text}");
    }
    assert!(text.lines().all(|l| l.starts_with("# ") || l.starts_with("kinglet_")), "{text}");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.stdout(Stdio::piped()).spawn() else {
        println!("skipped: promtool is not installed");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn all_that_is_answered_is_described_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::watch(&["--camera", "test", "--collect", folder.path().to_str().unwrap()]);
    let own = server.get("/openapi.json", "").json();
    let file = repository().join("runtime/app/src/http/openapi.json");
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let paths = own["paths"].as_object().unwrap();
    assert_eq!(paths, all["paths"].as_object().unwrap(), "every path of the file is answered");
    for (path, methods) in paths {
        let methods = methods.as_object().unwrap_or_else(|| panic!("{path} is not described"));
        assert!(!methods.is_empty(), "{path}");
        for method in ["get", "post", "delete", "put", "patch"] {
            if methods.contains_key(method) {
                let summary = methods[method]["summary"].as_str().unwrap();
                assert!(!summary.is_empty());
                continue;
            }
            let code = server.ask(&method.to_uppercase(), path, "", b"").code;
            assert_eq!(code, 405, "{method} {path}");
        }
    }
}

#[test]
fn pictures_of_clients_are_classified_beside_the_camera() {
    let server = Server::watch(&["--camera", "test", "--max-fps", "20"]);
    let before = server.memory("VmRSS");
    let reply = server.classify(&photograph("coffee.png"));
    assert_eq!((reply.code, reply.best().as_str()), (200, "espresso"), "{}", reply.text());
    println!("{} KiB more", (server.memory("VmRSS").saturating_sub(before)) >> 10);
    assert_eq!(
        server.get("/v1/models", "").json()["models"],
        serde_json::json!(["efficientnet-lite0-int8"])
    );
    assert_eq!(server.classify(b"nothing").code, 422);
}

#[test]
fn a_token_guards_all_that_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token-of-some-length\n").unwrap();
    let server = Server::watch(&["--camera", "test", "--token-file", file.to_str().unwrap()]);
    let description = server.get("/openapi.json", "").json();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, facts) in methods.as_object().unwrap() {
            let open = facts["security"] == serde_json::json!([{}]);
            let code = server.ask(&method.to_uppercase(), path, "", b"").code;
            assert_eq!(code == 401, !open, "{method} {path}: {code}");
        }
    }
    let token = "Authorization: Bearer a-token-of-some-length\r\n";
    assert_eq!(server.get("/v1/snapshot.jpg", token).code, 200);
}

#[test]
fn another_configuration_is_shown_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |more: &str| {
        let text = format!("[camera]\nsource = \"test\"\n\n[http]\n{more}");
        std::fs::write(path("k.toml"), text).unwrap();
    };
    write("");
    let server = Server::watch(&["--config", &path("k.toml")]);
    let reload = || {
        let mut kill = Command::new("kill");
        assert!(kill.args(["-HUP", &server.child.id().to_string()]).status().unwrap().success());
    };
    let mut events = server.open("/v1/events");
    assert_eq!(server.get("/v1/state", "").json()["regions"], serde_json::json!([]));
    write("[[region]]\nname = 'door'\nleft = 0.0\ntop = 0.0\nwidth = 0.5\nheight = 1.0\n");
    reload();
    until("the region", || {
        server.get("/v1/state", "").json()["regions"][0]["name"] == serde_json::json!("door")
    });
    // Whoever listens goes on.
    let mut region = Value::Null;
    until("an event of the region", || {
        let (kind, _, data) = event(&mut events);
        assert_ne!(kind, "missed");
        region = data["region"].clone();
        kind == "decision" && region == "door"
    });
    // A token that cannot be read: all goes on, and is said.
    write(&format!("token_file = {:?}\n", path("token")));
    reload();
    until("the problem", || {
        server.get("/v1/state", "").json()["health"]["problems"]["http"].is_string()
    });
    // With one that can be, the server is another, and who listened to the old one hears its end.
    std::fs::write(path("token"), "a-token-of-some-length\n").unwrap();
    write(&format!("token_file = {:?}\nclients = 50\n", path("token")));
    reload();
    until("the events end", || events.read_line(&mut String::new()).map_or(true, |n| n == 0));
}

#[test]
fn it_ends_at_once_whoever_listens() {
    let mut server = Server::watch(&["--camera", "test"]);
    let mut events = server.open("/v1/events");
    let mut stream = server.open("/v1/stream.mjpg");
    stream.read_exact(&mut [0; 1000]).unwrap();
    event(&mut events);
    let took = server.end();
    assert!(took < Duration::from_secs(2), "{took:?}");
    // The events ended as they should: with the last chunk.
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[test]
fn an_address_or_files_that_are_no_use_are_errors() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
        command.args(["watch", "--camera", "test", "--seconds", "0"]).args(arguments);
        let output = command.current_dir(repository()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, code, word) in [
        (vec!["--listen", "0.0.0.0:0"], 1, "--token-file"),
        (vec!["--listen", &address], 1, "cannot listen on"),
        (vec!["--token-file", "token"], 2, "need --listen"),
        (vec!["--listen", "127.0.0.1:0", "--token-file", "/none"], 1, "cannot read the token"),
        (vec!["--listen", "127.0.0.1:0", "--tls-cert", "x"], 2, "--tls-key"),
    ] {
        let (status, said) = run(&arguments);
        assert_eq!(status, Some(code), "{said}");
        assert!(said.contains(word), "{said}");
    }
}
