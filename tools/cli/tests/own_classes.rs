//! A person's own classes, from pictures to a model that is measured and explained.
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

/// Ten pictures of a colour.
fn class(dir: &Path, color: [u8; 3]) {
    std::fs::create_dir_all(dir).unwrap();
    for at in 0..10_u8 {
        let picture = image::RgbImage::from_fn(72, 64, |x, y| {
            let wave = ((x * u32::from(at + 2) + y * 3) % 40) as u8;
            image::Rgb(color.map(|c| c.saturating_add(wave)))
        });
        picture.save(dir.join(format!("{at}.png"))).unwrap();
    }
}

fn random_model(at: &Path) {
    let text =
        "import --arch efficientnet-lite0 --init random --classes 5 --resolution 64 -o m.onnx";
    expect(at, 0, &text.split(' ').collect::<Vec<_>>());
}

#[test]
fn one_command_goes_from_pictures_to_a_model_and_others_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    random_model(at);
    class(&at.join("my <fruit>/lemon"), [180, 170, 20]);
    class(&at.join("my <fruit>/plum"), [60, 10, 90]);
    let retrain = ["retrain", "m.onnx", "my <fruit>", "-o", "fruit.onnx"];
    let (stdout, _) = expect(at, 0, &retrain);
    for part in
        ["lemon", "plum", "held out", "95 %", "unknown", "kinglet classify --model fruit.onnx"]
    {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let (stdout, _) = expect(at, 0, &["inspect", "fruit.onnx"]);
    assert!(stdout.contains("labels      2") && stdout.contains("retrain (2 classes"), "{stdout}");
    assert!(stdout.contains("unknown     best score under 0."), "{stdout}");
    expect(at, 0, &[&retrain[..4], &["hidden.onnx", "--hidden", "8", "--seed", "4"]].concat());

    let evaluate = ["evaluate", "fruit.onnx", "my <fruit>", "--against", "hidden.onnx"];
    let (stdout, _) = expect(at, 0, &[&evaluate[..], &["--report", "r.html"]].concat());
    assert!(stdout.contains("McNemar") && stdout.contains("r.html: "), "{stdout}");
    let page = std::fs::read_to_string(at.join("r.html")).unwrap();
    for part in ["Against hidden.onnx", "Confusions", "lemon", "my &lt;fruit&gt;", "<svg", "(ECE)"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<fruit>") && !page.contains("<script"), "escaped");
    let (stdout, _) = expect(at, 0, &[&evaluate[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(json["top1"].as_f64().unwrap() > 0.9, "{stdout}");
    assert!(json["top1_95"][0].as_f64() < json["top1"].as_f64(), "{stdout}");
    assert!(json["against"]["agreement"].is_number(), "{stdout}");
    let (_, stderr) =
        expect(at, 1, &["evaluate", "fruit.onnx", "my <fruit>", "--against", "m.onnx"]);
    assert!(stderr.contains("other classes"), "{stderr}");

    let explain = ["explain", "fruit.onnx", "my <fruit>/plum/1.png", "-o", "heat.png"];
    for method in ["cam", "occlusion"] {
        let (stdout, _) = expect(at, 0, &[&explain[..], &["--method", method]].concat());
        assert!(stdout.starts_with("plum [1]"), "{stdout}");
        assert!(image::open(at.join("heat.png")).unwrap().width() >= 72);
    }
    let (stdout, _) = expect(at, 0, &[&explain[..], &["--class", "Lemon"]].concat());
    assert!(stdout.starts_with("lemon [0]"), "{stdout}");
    let (_, stderr) = expect(at, 1, &[&explain[..], &["--class", "lem"]].concat());
    assert!(stderr.contains("did you mean lemon"), "{stderr}");
    expect(at, 1, &[&explain[..], &["--class", "7"]].concat());

    let robustness = ["robustness", "fruit.onnx", "my <fruit>", "--limit", "3"];
    let (stdout, _) =
        expect(at, 0, &[&robustness[..], &["--attack", "--report", "rob.html"]].concat());
    assert!(stdout.contains("as they are") && stdout.contains("PGD"), "{stdout}");
    assert!(
        std::fs::read_to_string(at.join("rob.html")).unwrap().contains("What the strengths mean")
    );
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    random_model(at);
    let retrain = |code, model: &str| {
        let (_, stderr) = expect(at, code, &["retrain", model, "dir", "-o", "new.onnx"]);
        assert!(!at.join("new.onnx").exists());
        stderr
    };
    assert!(retrain(1, "m.onnx").contains("cannot read dir"));
    std::fs::create_dir(at.join("dir")).unwrap();
    assert!(retrain(1, "m.onnx").contains("one folder of pictures for each class"));
    class(&at.join("dir/a"), [200, 0, 0]);
    assert!(retrain(1, "m.onnx").contains("one class only ('a')"));
    std::fs::create_dir(at.join("dir/b")).unwrap();
    assert!(retrain(1, "m.onnx").contains("class 'b' has 0 readable pictures"));
    class(&at.join("dir/b"), [0, 0, 200]);
    std::fs::write(at.join("dir/b/bad.jpg"), b"no picture").unwrap();
    std::fs::write(at.join("dir/a/bad.jpg"), b"no picture").unwrap();
    assert!(retrain(1, "m.onnx").contains("2 of 22 pictures cannot be read"));
    assert!(retrain(1, "absent.onnx").contains("absent.onnx"));
    expect(at, 0, &["compress", "m.onnx", "--f16", "-o", "half.onnx"]);
    assert!(retrain(3, "half.onnx").contains("16-bit"));
    expect(at, 2, &["retrain", "m.onnx", "dir"]);
    expect(at, 2, &["retrain", "m.onnx", "dir", "-o", "x.onnx", "--held-out", "2"]);
    let report = ["robustness", "half.onnx", "dir", "--attack", "--limit", "1"];
    expect(at, 1, &report);
}
