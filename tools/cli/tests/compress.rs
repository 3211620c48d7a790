//! `compress` and `evaluate` as a user runs them: a random model, generated pictures.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// Runs and checks the exit code; returns standard output and standard error.
fn expect(folder: &Path, code: i32, arguments: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kinglet-tools"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}{stderr}");
    (stdout, stderr)
}

/// Six pictures in the class folders `0`, `1` and `2`.
fn write_pictures(folder: &Path) {
    for at in 0..6_u32 {
        let class = folder.join((at % 3).to_string());
        std::fs::create_dir_all(&class).unwrap();
        let pixel = |x: u32, y: u32| {
            let v = (x * (at + 2) * 3 + y * (7 - at) * 2) % 256;
            image::Rgb([v as u8, (255 - v) as u8, ((x ^ y) * 4 % 256) as u8])
        };
        let picture = image::RgbImage::from_fn(70, 60, pixel);
        picture.save(class.join(format!("{at}.png"))).unwrap();
    }
}

#[test]
fn a_model_is_compressed_both_ways_and_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(&at.join("pictures"));
    let random = "import --arch efficientnet-lite0 --init random --classes 3 --resolution 64";
    let mut arguments: Vec<&str> = random.split(' ').collect();
    arguments.extend(["-o", "m.onnx"]);
    expect(at, 0, &arguments);

    let int8 = ["compress", "m.onnx", "--int8", "--calibration", "pictures", "-o", "int8.onnx"];
    let (stdout, _) = expect(at, 0, &[&int8[..], &["--cures", "none", "--report"]].concat());
    for part in ["stem.relu6.out", "SQNR", "classifier", "int8.onnx: "] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    assert!(!stdout.contains(" 7: "), "{stdout}");
    assert!(stdout.contains("next: kinglet-tools evaluate int8.onnx"), "{stdout}");
    let mut seven = int8;
    seven[6] = "int8-7.onnx";
    let narrow = ["--cures", "none", "--pointwise-bits", "7", "--report"];
    let (stdout, _) = expect(at, 0, &[&seven[..], &narrow].concat());
    let line = |name: &str| stdout.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(line("blocks.0.depthwise.relu6.out").ends_with(" 7: read by pointwise convolutions"));
    assert!(line("stem.relu6.out").ends_with(" 8: read by a depthwise convolution"), "{stdout}");
    assert!(line("input").ends_with(" 8: the model's input"), "{stdout}");
    expect(at, 0, &["evaluate", "int8-7.onnx", "pictures"]);
    expect(at, 2, &[&seven[..], &["--pointwise-bits", "6"]].concat());
    expect(at, 0, &["compress", "m.onnx", "--f16", "-o", "f16.onnx"]);
    let size = |name: &str| std::fs::metadata(at.join(name)).unwrap().len() as f64;
    assert!(size("int8.onnx") < 0.32 * size("m.onnx"));
    assert!(size("f16.onnx") < 0.52 * size("m.onnx"));

    for model in ["m.onnx", "int8.onnx", "f16.onnx"] {
        let (stdout, _) = expect(at, 0, &["evaluate", model, "pictures", "--json"]);
        assert_eq!(stdout.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((json["n"].as_u64(), json["skipped"].as_u64()), (Some(6), Some(0)));
        assert_eq!(json["top5"], 1.0, "of three classes");
        assert!(json["top1"].is_number() && json["images_per_s"].is_number());
    }
    let (stdout, _) = expect(at, 0, &["evaluate", "int8.onnx", "pictures", "--threads", "1"]);
    assert!(stdout.starts_with("top-1 "), "{stdout}");

    let mut again = int8;
    (again[1], again[6]) = ("int8.onnx", "again.onnx");
    let (_, stderr) = expect(at, 3, &again);
    assert!(stderr.contains("quantized already"), "{stderr}");
    assert!(!at.join("again.onnx").exists());

    std::fs::write(at.join("pictures/0/broken.jpg"), b"no picture").unwrap();
    let (_, stderr) = expect(at, 1, &["evaluate", "int8.onnx", "pictures"]);
    assert!(stderr.contains("1 of 7") && stderr.contains("5 %"), "{stderr}");
    let (_, stderr) = expect(at, 1, &int8);
    assert!(stderr.contains("1 of 7") && stderr.contains("5 %"), "{stderr}");
}

#[test]
fn what_is_lost_is_told_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(&at.join("pictures"));
    let random = "import --arch efficientnet-b0 --init random --classes 3 --resolution 32";
    let mut arguments: Vec<&str> = random.split(' ').collect();
    arguments.extend(["-o", "m.onnx"]);
    expect(at, 0, &arguments);
    let int8 = ["compress", "m.onnx", "--int8", "--calibration", "pictures", "-o", "int8.onnx"];
    let with = |more: &[&'static str]| [&int8[..], more].concat();
    let report = with(&["--cures", "none", "--sensitivity", "--report", "page.html"]);
    let (stdout, _) = expect(at, 0, &report);
    for part in ["int8, ranges by mse: cosine", "alone, error", "blocks.3.depthwise", "page.html"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let page = std::fs::read_to_string(at.join("page.html")).unwrap();
    assert!(page.contains("blocks.3.depthwise") && page.contains("prefers-color-scheme"));
    assert!(page.contains("What was tried") && !page.contains("<script"));
    // Labelled pictures judge: no point may be lost, and layers in float see to that.
    let labelled = with(&["--labelled", "pictures", "--target-drop", "0", "--cures", "float"]);
    let (stdout, _) = expect(at, 0, &labelled);
    assert!(stdout.contains("top-1 ") && stdout.contains("(float "), "{stdout}");
    for bad in [["--target-drop", "-1"], ["--max-latency", "0"], ["--cures", "pray"]] {
        expect(at, 2, &with(&[bad[0], bad[1]]));
    }
    expect(at, 1, &with(&["--cures", "auto,float"]));
    std::fs::create_dir(at.join("plain")).unwrap();
    for n in 0..3 {
        let grey = image::RgbImage::from_pixel(40, 40, image::Rgb([90; 3]));
        grey.save(at.join(format!("plain/{n}.png"))).unwrap();
    }
    let mut plain = int8;
    plain[4] = "plain";
    let (_, stderr) = expect(at, 1, &plain);
    assert!(stderr.contains("one colour"), "{stderr}");
    std::fs::create_dir(at.join("empty")).unwrap();
    plain[4] = "empty";
    let (_, stderr) = expect(at, 1, &plain);
    assert!(stderr.contains("no pictures"), "{stderr}");
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("empty")).unwrap();
    std::fs::write(at.join("m.onnx"), b"no model").unwrap();
    expect(at, 2, &["compress", "m.onnx", "-o", "o.onnx"]);
    expect(at, 2, &["compress", "m.onnx", "--int8", "-o", "o.onnx"]);
    expect(at, 2, &["compress", "m.onnx", "--int8", "--f16", "--calibration", "x", "-o", "o.onnx"]);
    expect(at, 2, &["compress", "m.onnx", "--f16", "--pointwise-bits", "7", "-o", "o.onnx"]);
    expect(at, 2, &["evaluate", "m.onnx"]);
    expect(at, 3, &["evaluate", "m.onnx", "empty"]);
    expect(at, 3, &["compress", "m.onnx", "--f16", "-o", "o.onnx"]);
    expect(at, 1, &["evaluate", "absent.onnx", "empty"]);
}

/// The program is killed again and again; the same command goes on, and ends in the bytes of a run that was
/// left alone.
#[test]
fn compress_goes_on_after_kills() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(&at.join("pictures"));
    let random =
        "import --arch efficientnet-lite0 --init random --classes 3 --resolution 64 -o m.onnx";
    expect(at, 0, &random.split(' ').collect::<Vec<_>>());
    let arguments = |output: &'static str| {
        let command = "compress m.onnx --int8 --calibration pictures --sensitivity \
                       --cures equalize,bias,tune,float -o";
        command.split_whitespace().chain([output]).collect::<Vec<_>>()
    };
    let (alone, _) = expect(at, 0, &arguments("alone.onnx"));
    let progress = at.join("out.onnx.progress");
    let size = || std::fs::metadata(&progress).map_or(0, |m| m.len());
    let (mut kills, mut ended) = (0, false);
    while kills < 6 && !ended {
        let before = size();
        let mut child = Command::new(env!("CARGO_BIN_EXE_kinglet-tools"))
            .args(arguments("out.onnx"))
            .current_dir(at)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // It gets something done each time.
        while size() <= before + 2_000 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(ended || !at.join("out.onnx").exists(), "an output before the end");
    }
    assert!(kills > 2, "it ended after {kills} kills");
    if !ended {
        let mut other = arguments("out.onnx");
        other.extend(["--seed", "1"]);
        let (_, stderr) = expect(at, 1, &other);
        assert!(stderr.contains("out.onnx.progress: it is of a run with another"), "{stderr}");
        assert!(stderr.contains("--restart begins anew"), "{stderr}");
        let (resumed, _) = expect(at, 0, &arguments("out.onnx"));
        assert!(resumed.starts_with("going on where a run was stopped, with "), "{resumed}");
        let steps = |text: &str| text.matches(": cosine ").count();
        assert_eq!(steps(&resumed), steps(&alone));
    }
    assert!(!progress.exists());
    let bytes = |name: &str| std::fs::read(at.join(name)).unwrap();
    assert!(bytes("out.onnx") == bytes("alone.onnx"));
}
