//! `kinglet watch` as a program: what it prints, keeps and returns, and how it ends.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// `kinglet watch` with the model of this repository.
fn watch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx");
    command.arg("watch").arg(model).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn photographs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/photographs")
}

fn run(arguments: &[&str]) -> Output {
    watch(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks it to end; says how long that took.
fn terminate(child: &mut Child) -> Duration {
    let begun = Instant::now();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    begun.elapsed()
}

#[test]
fn pictures_are_told_one_by_one() {
    let output = run(&["--camera", photographs().to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json(&output.stdout);
    let decisions: Vec<_> = lines.iter().map(|l| l["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["tiger cat", "espresso", "missile"]);
    assert!(lines[0]["file"].as_str().unwrap().ends_with("chelsea.png"));
    assert_eq!(lines[0]["top"].as_array().unwrap().len(), 3);
}

#[test]
fn a_picture_that_is_none_is_told_and_the_others_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(photographs().join("coffee.png"), folder.path().join("b.png")).unwrap();
    std::fs::write(folder.path().join("a.jpg"), "no picture").unwrap();
    let output = run(&["--camera", folder.path().to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a.jpg: neither JPEG nor PNG"));
    assert_eq!(json(&output.stdout)[0]["decision"], "espresso");
}

#[test]
fn every_format_of_the_same_picture_is_the_same_class() {
    let mut best = Vec::new();
    for format in ["yuyv", "nv12", "yuv420", "rgb"] {
        let output = run(&[
            "--camera",
            "test",
            "--format",
            format,
            "--fps",
            "100",
            "--seconds",
            "0.4",
            "--json",
            "--all",
            "--window",
            "1",
            "--enter",
            "0",
            "--top",
            "1",
        ]);
        assert!(output.status.success());
        let lines = json(&output.stdout);
        assert!(lines.len() > 3, "{format}: {}", text(&output.stderr));
        best.push(lines[0]["index"].clone());
    }
    assert!(best.iter().all(|b| *b == best[0]), "{best:?}");
}

#[test]
fn regions_outputs_log_and_snapshots_come_from_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = format!(
        "[camera]\nsource = \"test\"\nfps = 50\n\n\
         [decide]\nenter = 0.0\nleave = 0.0\nwindow = 1\n\n\
         [[region]]\nname = \"left\"\nleft = 0.0\ntop = 0.0\nwidth = 0.5\nheight = 1.0\n\n\
         [[region]]\nname = \"right\"\nleft = 0.5\ntop = 0.0\nwidth = 0.5\nheight = 1.0\n\n\
         [[output]]\npin = \"gpiochip99:4\"\nclass = \"unknown\"\nregion = \"left\"\n\n\
         [log]\nfolder = {:?}\nall = true\n\n\
         [snapshots]\nfolder = {:?}\nclass = \"unknown\"\nevery_ms = 100\nfree_mib = 1\n",
        path("log"),
        path("pictures")
    );
    std::fs::write(path("kinglet.toml"), config).unwrap();
    let file = path("kinglet.toml");
    let output = run(&[
        "--config",
        file.to_str().unwrap(),
        "--seconds",
        "1",
        "--unknown-below",
        "1.0",
        "--json",
    ]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("pin /dev/gpiochip99:4") && said.contains("WARN"), "{said}");
    let lines = json(&output.stdout);
    let regions: Vec<_> = lines.iter().map(|l| l["region"].as_str().unwrap()).collect();
    assert_eq!(&regions[..2], ["left", "right"]);
    assert!(lines.iter().all(|l| l["decision"] == "unknown"), "{lines:?}");
    let log = std::fs::read_dir(path("log")).unwrap().next().unwrap().unwrap().path();
    assert!(json(&std::fs::read(log).unwrap()).len() > 20);
    let pictures: Vec<_> = std::fs::read_dir(path("pictures")).unwrap().flatten().collect();
    assert!((4..=24).contains(&pictures.len()), "{}", pictures.len());
    let seen = run(&["--camera", pictures[0].path().to_str().unwrap()]);
    assert!(seen.status.success());
}

#[test]
fn a_wrong_configuration_is_exit_code_2_and_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.toml");
    for (config, expected) in [
        ("[camera]\nsource = 'test'\nsizes = 3\n", "k.toml line 3: unknown field `sizes`"),
        (
            "[camera]\nsource = 'test'\n[[output]]\npin = 1\nclass = 'tabby ca'\n",
            "k.toml line 3: the model has no class 'tabby ca'; there is 'tabby'",
        ),
        (
            "[camera]\nsource = 'test'\n[decide]\nenter = 0.2\nleave = 0.3\n",
            "leave (0.3) is above enter (0.2)",
        ),
        ("[camera]\nsource = 'tset'\n", "camera 'tset': no such file"),
        ("", "no camera"),
    ] {
        std::fs::write(&file, config).unwrap();
        let output = run(&["--config", file.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    // The example is whole: only its model and camera are not there.
    let example = run(&["--example"]);
    std::fs::write(&file, &example.stdout).unwrap();
    let output = run(&["--config", file.to_str().unwrap(), "--camera", "test", "--seconds", "0"]);
    assert!(text(&output.stderr).contains("no class 'ants'"), "{}", text(&output.stderr));
}

#[test]
fn a_reader_that_is_slow_or_gone_stalls_nothing() {
    let many = ["--camera", "test", "--fps", "200", "--all", "--json", "--top", "50"];
    // Nobody reads: the pipe is full after 64 KiB.
    let mut child = watch(&many).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(2000));
    let took = terminate(&mut child);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    let looked: u64 = said
        .split(" looked at")
        .next()
        .and_then(|s| s.rsplit(' ').next())
        .and_then(|n| n.parse().ok())
        .unwrap();
    assert!(looked > 100, "{said}");
    // The reader has gone: it ends, and that is no error.
    let mut child = watch(&many).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    drop(lines);
    let begun = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn it_ends_within_two_seconds_whatever_the_camera_does() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ffmpeg.sh");
    let script = "#!/bin/sh\ntrap '' TERM\nprintf 'YUV4MPEG2 W64 H64\\n'\nsleep 1000.375\n";
    std::fs::write(&program, script).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&program).status().unwrap().success());
    let file = folder.path().join("k.toml");
    let config = format!("[camera]\nsource = \"rtsp://camera\"\nprogram = {program:?}\n");
    std::fs::write(&file, config).unwrap();
    let mut child = watch(&["--config", file.to_str().unwrap()]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    let took = terminate(&mut child);
    assert!(took < Duration::from_secs(2), "{took:?}");
    std::thread::sleep(Duration::from_millis(50));
    let left = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read_to_string(entry.path().join("cmdline"));
        line.is_ok_and(|line| line.contains("1000.375"))
    });
    assert!(!left, "a process is left");
}

/// Many USB cameras leave the Huffman tables out of their pictures.
#[test]
fn pictures_without_tables_are_read_from_standard_input() {
    let picture = image::open(photographs().join("coffee.png")).unwrap().to_rgb8();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 90)
        .encode_image(&picture)
        .unwrap();
    let mut at = 2;
    while jpeg[at + 1] != 0xda {
        let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] == 0xc4 {
            jpeg.drain(at..at + length);
        } else {
            at += length;
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, jpeg.repeat(3)).unwrap();
    let mut command = watch(&["--camera", "-", "--every-frame", "--all", "--json"]);
    let output = command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json(&output.stdout);
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["decision"] == "espresso"), "{lines:?}");
}

#[test]
fn a_guard_outlives_a_crash_and_then_ends() {
    let guards = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter(|entry| {
            let line = std::fs::read_to_string(entry.path().join("cmdline"));
            line.is_ok_and(|line| line.contains("guard-pins\0/dev/gpiochip98:7=0"))
        })
        .count()
    };
    let led = ["--camera", "test", "--led", "gpiochip98:7=unknown"];
    let mut child = watch(&led).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(guards(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(guards(), 1, "it tries to reach the pin");
    std::thread::sleep(Duration::from_millis(3000));
    assert_eq!(guards(), 0);
    // And where all is well it has nothing to do.
    let mut child = watch(&led).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(terminate(&mut child) < Duration::from_secs(2));
    assert_eq!(guards(), 0);
}

#[test]
fn the_same_video_gives_the_same_decisions() {
    let Some(data) = std::env::var_os("KINGLET_DATA") else {
        println!("skipped: KINGLET_DATA is not set");
        return;
    };
    let video = Path::new(&data).join("video/bottle-detection.mp4");
    let arguments = [
        "--camera",
        video.to_str().unwrap(),
        "--every-frame",
        "--json",
        "--enter",
        "0.3",
        "--leave",
        "0.2",
        "--hold",
        "500",
    ];
    let decisions = || -> Vec<(Value, Value)> {
        let output = run(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        json(&output.stdout).iter().map(|l| (l["frame"].clone(), l["index"].clone())).collect()
    };
    let first = decisions();
    assert!(first.len() > 3, "{first:?}");
    assert_eq!(first, decisions());
}
