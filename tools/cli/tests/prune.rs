//! `prune` and `fit` as a user runs them: a random model, generated pictures.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// Runs and checks the exit code; returns standard output and standard error.
fn expect(folder: &Path, code: i32, line: &str) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kinglet-tools"))
        .args(line.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line}\n{stdout}{stderr}");
    (stdout, stderr)
}

fn write_pictures(folder: &Path, n: u32) {
    std::fs::create_dir_all(folder).unwrap();
    for at in 0..n {
        let pixel = |x: u32, y: u32| {
            let v = (x * (at + 2) * 3 + y * (7 + at) * 2) % 256;
            image::Rgb([v as u8, (255 - v) as u8, ((x ^ y) * 4 % 256) as u8])
        };
        image::RgbImage::from_fn(70, 60, pixel).save(folder.join(format!("{at}.png"))).unwrap();
    }
}

#[test]
fn a_model_is_pruned_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(&at.join("pictures"), 12);
    std::fs::create_dir(at.join("empty")).unwrap();
    let random = "import --arch efficientnet-lite0 --init random --classes 3 --resolution 64";
    expect(at, 0, &format!("{random} -o m.onnx"));

    let prune = "prune m.onnx --calibration pictures -o p.onnx";
    let (stdout, _) = expect(at, 0, &format!("{prune} --budget 0.7 --no-reconstruction"));
    for part in [
        "blocks.1 ",
        " MACs, 69.",
        "1 pictures held out",
        "p.onnx: ",
        "next: ",
        "distill --teacher m.onnx",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    // What it says to do next works.
    let next = stdout.lines().find_map(|l| l.strip_prefix("next: kinglet-tools ")).unwrap();
    expect(at, 0, next);
    let (json, _) = expect(at, 0, "inspect p-int8.onnx --json");
    assert!(json.contains("prune (kinglet-tools"), "{json}");

    expect(at, 2, &format!("{prune} --budget 0"));
    expect(at, 2, &format!("{prune} --budget 1.5"));
    expect(at, 2, prune);
    expect(at, 2, &format!("{prune} --budget 0.5 --max-latency 3"));
    let (_, stderr) = expect(at, 1, &format!("{prune} --budget 0.01 --criterion norm"));
    assert!(stderr.contains("cannot be reached") && stderr.contains("it is 0."), "{stderr}");
    let (_, stderr) = expect(at, 1, &format!("{prune} --max-latency 1000000"));
    assert!(stderr.contains("keeps to the budget already"), "{stderr}");
    let (_, stderr) = expect(at, 1, "prune m.onnx --budget 0.7 --calibration empty -o q.onnx");
    assert!(stderr.contains("holds no pictures"), "{stderr}");
    let int8 = "prune p-int8.onnx --budget 0.7 --calibration pictures -o q.onnx";
    let (_, stderr) = expect(at, 3, int8);
    assert!(stderr.contains("quantized already"), "{stderr}");
    assert!(!at.join("q.onnx").exists());
}

#[test]
fn a_network_is_chosen_for_a_board() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let targets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../targets");
    let fit = format!("fit --targets {targets} --target");
    let (slow, _) = expect(at, 0, &format!("{fit} pi-zero2w --max-latency 40 --svg fit.svg"));
    assert!(slow.contains("chosen: ") && slow.contains("Estimated, not measured"), "{slow}");
    assert!(std::fs::read_to_string(at.join("fit.svg")).unwrap().starts_with("<svg"));
    let top1 = |text: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with("chosen: ")).unwrap();
        line.rsplit_once("top-1 ").unwrap().1.trim_end_matches(" %").parse().unwrap()
    };
    let (fast, _) = expect(at, 0, &format!("{fit} pi5 --max-latency 40"));
    assert!(top1(&fast) > top1(&slow), "{slow}{fast}");
    let (one, _) = expect(at, 0, &format!("{fit} pi5 --max-latency 40 --threads 1 --published"));
    assert!(top1(&one) < top1(&fast) && !one.contains("%~"), "{one}");

    let (_, stderr) = expect(at, 1, &format!("{fit} pi3 --max-latency 20 --min-top1 85"));
    assert!(stderr.contains("85 % takes"), "{stderr}");
    let (_, stderr) = expect(at, 1, &format!("{fit} pi3 --max-latency 0.01"));
    assert!(stderr.contains("the fastest"), "{stderr}");
    let (_, stderr) = expect(at, 1, &format!("{fit} toaster --max-latency 5"));
    assert!(stderr.contains("pi-zero2w"), "{stderr}");
    let (_, stderr) = expect(at, 1, &format!("{fit} pi4 --check"));
    assert!(stderr.contains("--target host"), "{stderr}");
    expect(at, 2, &format!("{fit} pi4 --max-latency -1"));
    expect(at, 2, &format!("{fit} pi4"));
}

#[test]
fn narrower_networks_can_be_built() {
    let folder = tempfile::tempdir().unwrap();
    let random = "import --arch efficientnet-b0 --init random --classes 3 --resolution 64";
    let (stdout, _) =
        expect(folder.path(), 0, &format!("{random} --width 0.5 --depth 0.5 -o small.onnx"));
    assert!(stdout.contains("width 0.5, depth 0.5"), "{stdout}");
    let (json, _) = expect(folder.path(), 0, "inspect small.onnx --json");
    let macs: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(macs["macs"].as_u64().unwrap() < 12_000_000, "{}", macs["macs"]);
    expect(folder.path(), 2, &format!("{random} --width 9 -o small.onnx"));
}
