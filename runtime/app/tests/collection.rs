//! Frames that are saved as pictures of a class, from the camera to a model of one's own.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Cursor, Read as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Reply, Server, photograph, repository};
use serde_json::{Value, json};

fn save(server: &Server, query: &str) -> Reply {
    server.post(&format!("/v1/collect?{query}"), "", b"")
}

fn contents(server: &Server) -> Value {
    server.get("/v1/collection", "").json()["classes"].clone()
}

/// What a reply in chunks says.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return all;
        }
        all.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
}

#[test]
fn frames_are_saved_counted_downloaded_and_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collection");
    let server = Server::watch(&[
        "--camera",
        "test",
        "--size",
        "320x240",
        "--collect",
        path.to_str().unwrap(),
    ]);
    assert_eq!(contents(&server), json!([]));
    // The frame that was seen.
    let seen = server.get("/v1/snapshot.jpg", "");
    let frame = seen.header("kinglet-frame").unwrap();
    let saved = save(&server, &format!("class=tiger%20cat&frame={frame}"));
    assert_eq!(saved.code, 201, "{}", saved.text());
    let file = saved.json()["file"].as_str().unwrap().to_owned();
    assert_eq!(std::fs::read(path.join("tiger cat").join(&file)).unwrap(), seen.body);
    // The newest, twice: one frame saved twice within a millisecond would be one file.
    assert_eq!(save(&server, "class=B%C3%A4r").code, 201);
    let newest = || server.get("/v1/snapshot.jpg", "").header("kinglet-frame").map(str::to_owned);
    let before = newest();
    let begun = Instant::now();
    while newest() == before {
        assert!(begun.elapsed() < Duration::from_secs(60), "no other frame came");
    }
    assert_eq!(save(&server, "class=B%C3%A4r").code, 201);
    let classes = contents(&server);
    assert_eq!((&classes[0]["name"], &classes[0]["pictures"]), (&json!("Bär"), &json!(2)));
    assert_eq!(classes[1]["last"], json!(file));
    for (query, code) in [
        ("class=../x", 400),
        ("class=%2e%2e%2fx", 400),
        ("class=", 400),
        ("", 400),
        ("class=a%00b", 400),
        ("class=%ff", 400),
        ("class=a&frame=x", 400),
        ("class=a&frame=999999", 409),
    ] {
        let reply = save(&server, query);
        assert_eq!(reply.code, code, "{query}: {}", reply.text());
        assert!(!reply.json()["error"].as_str().unwrap().is_empty());
    }
    let foreign = "Origin: http://evil.example\r\n";
    assert_eq!(server.post("/v1/collect?class=a", foreign, b"").code, 403);
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2, "nothing else was made");
    // As one file.
    let reply = server.get("/v1/collection.zip", "");
    assert_eq!(reply.header("content-type"), Some("application/zip"));
    let mut archive = zip::ZipArchive::new(Cursor::new(unchunked(&reply.body))).unwrap();
    assert_eq!(archive.len(), 3);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let (name, mut bytes) = (entry.name().unwrap().into_owned(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, std::fs::read(path.join(name)).unwrap());
    }
    // And away.
    let delete = |path: &str| server.ask("DELETE", &format!("/v1/collection/{path}"), "", b"");
    let left = delete(&format!("tiger%20cat/{file}"));
    assert_eq!(left.code, 200, "{}", left.text());
    assert_eq!(left.json()["classes"].as_array().unwrap().len(), 1);
    assert!(!path.join("tiger cat").exists());
    assert_eq!(delete(&format!("tiger%20cat/{file}")).code, 404);
    for path in ["x/y", "x/..%2f..%2fetc", "..%2f/2026-11-24T18-00-00.000Z_000123.jpg"] {
        assert_eq!(delete(path).code, 400, "{path}");
    }
}

#[test]
fn a_large_collection_is_downloaded_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("class");
    std::fs::create_dir(&class).unwrap();
    let megabyte: Vec<u8> = (0..1 << 20).map(|n: u32| ((n * 7919) >> 8) as u8).collect();
    for n in 0..40 {
        std::fs::write(class.join(format!("{n}.jpg")), &megabyte).unwrap();
    }
    let server = Server::watch(&["--camera", "test", "--collect", folder.path().to_str().unwrap()]);
    let stuck = server.open("/v1/collection.zip");
    server.forget_peak();
    let before = server.memory("VmRSS");
    let all = unchunked(&server.get("/v1/collection.zip", "").body);
    assert_eq!(zip::ZipArchive::new(Cursor::new(all)).unwrap().len(), 40);
    let more = server.memory("VmHWM").saturating_sub(before);
    assert!(more < 8 << 20, "{more} bytes more");
    drop(stuck);
}

#[test]
fn what_is_collected_trains_a_model() {
    let tools = Path::new(env!("CARGO_BIN_EXE_kinglet")).with_file_name("kinglet-tools");
    if !tools.exists() {
        println!("skipped: {} is not built", tools.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("pictures")).unwrap();
    std::fs::write(path("pictures") + "/coffee.png", photograph("coffee.png")).unwrap();
    for (camera, class) in [("test".to_owned(), "test%20pattern"), (path("pictures"), "coffee")] {
        let server = Server::watch(&[
            "--camera",
            &camera,
            "--repeat",
            "--max-fps",
            "20",
            "--collect",
            &path("collection"),
        ]);
        for _ in 0..8 {
            let reply = save(&server, &format!("class={class}"));
            assert_eq!(reply.code, 201, "{}", reply.text());
        }
    }
    let model = repository().join("models/efficientnet-lite0-int8.onnx");
    let mut retrain = Command::new(tools);
    retrain.arg("retrain").arg(model).args([path("collection"), "-o".into(), path("own.onnx")]);
    let output = retrain.args(["--augment", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test pattern") && said.contains("coffee"), "{said}");
    let mut classify = Command::new(env!("CARGO_BIN_EXE_kinglet"));
    classify.args(["classify", "--model", &path("own.onnx"), "--json"]);
    let output = classify.arg(path("pictures") + "/coffee.png").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let best: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(best["top"][0]["label"], "coffee", "{said}");
}
