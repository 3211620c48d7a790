//! The server as clients meet it: right answers, many at once, and what it refuses.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Server, photograph, repository};
use serde_json::Value;

/// Photographs, and what the model sees on them.
const PHOTOGRAPHS: [(&str, &str); 2] = [("coffee.png", "espresso"), ("rocket.jpg", "missile")];

fn form(field: &str, file: Option<&str>, content: &[u8]) -> Vec<u8> {
    let file = file.map_or_else(String::new, |file| format!("; filename=\"{file}\""));
    let head = format!("--b\r\nContent-Disposition: form-data; name=\"{field}\"{file}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n--b--\r\n"].concat()
}

#[test]
fn pictures_are_classified_as_bodies_and_as_forms() {
    let server = Server::serve(&[]);
    for (name, label) in PHOTOGRAPHS {
        let picture = photograph(name);
        let reply = server.post("/v1/classify?top=3", "", &picture);
        assert_eq!(reply.code, 200, "{}", reply.text());
        assert_eq!(reply.best(), label);
        let json = reply.json();
        assert_eq!(json["top"].as_array().unwrap().len(), 3);
        assert_eq!(json["model"], "efficientnet-lite0-int8");
        assert!(json["latency_ms"].as_f64().unwrap() > 0.0);
        let kind = "Content-Type: multipart/form-data; boundary=b\r\n";
        for body in [form("image", None, &picture), form("other", Some("x.png"), &picture)] {
            assert_eq!(server.post("/v1/classify", kind, &body).best(), label);
        }
        let without = server.post("/v1/classify", kind, &form("other", None, &picture));
        assert_eq!(without.code, 400, "{}", without.text());
        let chunk =
            [format!("{:x}\r\n", picture.len()).as_bytes(), &picture, b"\r\n0\r\n\r\n"].concat();
        let head = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(server.say(&[head.as_bytes(), &chunk].concat()).best(), label);
    }
}

#[test]
fn what_cannot_be_answered_is_refused_in_words() {
    let server = Server::serve(&[]);
    let picture = photograph("coffee.png");
    let cases = [
        (server.classify(b"no picture"), 422),
        (server.classify(b""), 422),
        (server.classify(&picture[..picture.len() / 2]), 422),
        (server.post("/v1/classify?model=birds", "", &picture), 404),
        (server.post("/v1/classify?top=many", "", &picture), 400),
        (
            server.post(
                "/v1/classify",
                "Content-Type: multipart/form-data; boundary=b\r\n",
                b"--b\r\n",
            ),
            400,
        ),
    ];
    for (reply, code) in cases {
        assert_eq!(reply.code, code, "{}", reply.text());
        assert!(!reply.json()["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(server.get("/v1/classify", "").code, 405);
    assert_eq!(server.get("/nothing", "").code, 404);
    assert_eq!(server.say(b"\x16\x03\x01\x02\x00\x01\x00").code, 400);
    assert_eq!(server.classify(&picture).best(), "espresso");
}

#[test]
fn health_figures_and_description() {
    let server = Server::serve(&["--also", "second=models/efficientnet-lite0-int8.onnx"]);
    assert_eq!(server.get("/healthz", "").code, 200);
    assert_eq!(server.get("/readyz", "").code, 200);
    let names = server.get("/v1/models", "").json();
    assert_eq!(names["models"], serde_json::json!(["efficientnet-lite0-int8", "second"]));
    let reply = server.post("/v1/classify?model=second", "", &photograph("coffee.png"));
    assert_eq!(
        (reply.best().as_str(), &reply.json()["model"]),
        ("espresso", &Value::from("second"))
    );
    let text = server.get("/metrics", "").text();
    for line in [
        "kinglet_inference_seconds_count{model=\"second\"} 1",
        "kinglet_http_requests_total{path=\"/v1/classify\",code=\"200\"} 1",
        "kinglet_connections 1",
        "kinglet_queue_length{model=\"second\"} 0",
        "kinglet_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(
        text.lines()
            .skip_while(|l| !l.starts_with('#'))
            .all(|l| l.starts_with('#') || l.starts_with("kinglet_"))
    );
    let description = server.get("/openapi.json", "").json();
    let paths: Vec<_> = description["paths"].as_object().unwrap().keys().collect();
    let expected =
        ["/healthz", "/metrics", "/openapi.json", "/readyz", "/v1/classify", "/v1/models"];
    assert_eq!(paths, expected);
}

#[test]
fn a_token_is_asked_for_everywhere_but_health() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token-of-some-length\n").unwrap();
    let server = Server::serve(&["--token-file", file.to_str().unwrap()]);
    let picture = photograph("coffee.png");
    let without = server.classify(&picture);
    assert_eq!(without.code, 401, "{}", without.text());
    assert!(without.head.to_lowercase().contains("www-authenticate: bearer"));
    assert_eq!(server.get("/metrics", "").code, 401);
    assert_eq!(
        server.get("/metrics", "Authorization: Bearer a-token-of-some-lengtH\r\n").code,
        401
    );
    let token = "Authorization: Bearer a-token-of-some-length\r\n";
    assert_eq!(server.post("/v1/classify", token, &picture).best(), "espresso");
    assert_eq!(server.get("/metrics", token).code, 200);
    assert_eq!(server.get("/healthz", "").code, 200);
}

#[test]
fn other_sites_and_other_names_are_refused() {
    let server = Server::serve(&[]);
    let asked = |host: &str| {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        server.say(head.as_bytes())
    };
    assert_eq!(asked("127.0.0.1:8080").code, 200);
    let rebound = asked("evil.example");
    assert_eq!(rebound.code, 421, "{}", rebound.text());
    assert!(rebound.json()["error"].as_str().unwrap().contains("evil.example"));
    let picture = photograph("coffee.png");
    let foreign = server.post("/v1/classify", "Origin: http://evil.example\r\n", &picture);
    assert_eq!(foreign.code, 403, "{}", foreign.text());
    assert_eq!(server.post("/v1/classify", "Sec-Fetch-Site: cross-site\r\n", &picture).code, 403);
    let own = server.post("/v1/classify", "Origin: http://localhost\r\n", &picture);
    assert_eq!(own.best(), "espresso");
    assert_eq!(own.header("cross-origin-resource-policy"), Some("same-origin"));
}

#[test]
fn other_machines_need_a_token() {
    let output = Command::new(env!("CARGO_BIN_EXE_kinglet"))
        .args(["serve", "--listen", "0.0.0.0:0"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--token-file"));
}

#[test]
fn bodies_that_are_too_large_cost_no_memory() {
    let server = Server::serve(&[]);
    let small = photograph("coffee.png");
    assert_eq!(server.classify(&small).code, 200);
    server.forget_peak();
    let before = server.memory("VmRSS");
    // Announced: refused before a byte is read.
    let head =
        |rest: &str| format!("POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n\r\n");
    let huge = head("Content-Length: 4000000000");
    assert_eq!(server.say(huge.as_bytes()).code, 413);
    assert_eq!(server.say(&[huge.as_bytes(), &vec![0; 3 << 20]].concat()).code, 413);
    // Not announced: refused when it has grown too large.
    let chunk = [b"100000\r\n".as_slice(), &vec![7; 1 << 20], b"\r\n"].concat();
    let chunked = [head("Transfer-Encoding: chunked").as_bytes(), &chunk.repeat(12)].concat();
    assert_eq!(server.say(&chunked).code, 413);
    // Both, which smugglers send.
    let both = head("Content-Length: 5\r\nTransfer-Encoding: chunked");
    let reply = server.say(&[both.as_bytes(), b"0\r\n\r\n"].concat());
    assert!(matches!(reply.code, 400 | 422), "{}", reply.text());
    let more = server.memory("VmHWM").saturating_sub(before);
    assert!(more <= (1 << 20), "{more} bytes more");
    assert_eq!(server.classify(&small).code, 200);
}

#[test]
fn many_clients_get_right_answers_or_are_told_to_come_back() {
    let server = Server::serve(&["--queue", "4"]);
    let pictures = PHOTOGRAPHS.map(|(name, label)| (photograph(name), label));
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|client| {
                let (server, (picture, label)) = (&server, &pictures[client % 2]);
                scope.spawn(move || {
                    let mut counts = [0; 2];
                    for _ in 0..3 {
                        let reply = server.classify(picture);
                        match reply.code {
                            200 => assert_eq!(reply.best(), *label),
                            503 => assert!(reply.head.to_lowercase().contains("retry-after: ")),
                            _ => panic!("{}", reply.text()),
                        }
                        counts[usize::from(reply.code == 503)] += 1;
                    }
                    counts
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .fold([0; 2], |all, counts| [all[0] + counts[0], all[1] + counts[1]])
    });
    assert_eq!(counts[0] + counts[1], 192);
    assert!(counts[0] > 4 && counts[1] > 0, "{counts:?}");
}

#[test]
fn clients_that_never_finish_do_not_keep_others_waiting() {
    let server = Server::serve(&[]);
    let picture = photograph("coffee.png");
    let typical = |server: &Server| {
        let mut times: Vec<Duration> = (0..9)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(server.classify(&picture).code, 200);
                start.elapsed()
            })
            .collect();
        times.sort();
        times[4]
    };
    let alone = typical(&server);
    let slow: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = server.connect();
            stream
                .write_all(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Le")
                .unwrap();
            stream
        })
        .collect();
    // Nor those that announce much and send little.
    let _large: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = server.connect();
            let head =
                "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\nabc";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let beside = typical(&server);
    assert!(beside < alone * 3 + Duration::from_millis(50), "{alone:?} alone, {beside:?} beside");
    // In the end they are cut off.
    let start = Instant::now();
    let mut last = slow.into_iter().next_back().unwrap();
    let _ = last.read_to_end(&mut Vec::new());
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn mutated_requests_do_no_harm() {
    let server = Server::serve(&[]);
    let picture = photograph("coffee.png");
    let small = &picture[..4096.min(picture.len())];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..600 {
        let mut body = if round % 20 == 0 { picture.clone() } else { small.to_vec() };
        for _ in 0..=random(8) {
            let at = random(body.len());
            body[at] = random(256) as u8;
        }
        body.truncate(1 + random(body.len()));
        let code = server.classify(&body).code;
        assert!(matches!(code, 200 | 422), "round {round}: {code}");
    }
    assert_eq!(server.get("/readyz", "").code, 200);
    assert_eq!(server.classify(&picture).best(), "espresso");
}

#[test]
fn it_stops_when_asked() {
    let mut server = Server::serve(&[]);
    let silent = server.connect();
    let took = server.end();
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(silent);
}
