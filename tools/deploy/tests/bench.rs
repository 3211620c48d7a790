//! Measuring over a real sshd, where the device's program is a small script.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use common::Sshd;
use kinglet_deploy::Board;
use kinglet_deploy::bench::{self, Place, Plan};

#[test]
fn models_are_sent_measured_judged_and_compared() {
    let Some(sshd) = Sshd::start("models_are_sent_measured_judged_and_compared") else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kinglet");
    std::fs::write(&program, include_str!("common/bench.sh")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let float = folder.path().join("efficientnet_b0-float.onnx");
    std::fs::write(&float, "float").unwrap();
    let (ssh, host) = (sshd.ssh(), sshd.host());
    let mut plan = Plan {
        program: program.display().to_string(),
        folder: folder.path().join("board").display().to_string(),
        models: vec![Place::Default, Place::Here(float)],
        threads: vec![1, 3, 4],
        runs: 7,
        rest: Duration::ZERO,
        drop_caches: false,
    };
    let mut heard = Vec::new();
    let report = bench::measure(&ssh, &host, &plan, |text| heard.push(text.to_owned())).unwrap();
    assert_eq!(heard.iter().filter(|h| h.starts_with("sending")).count(), 1, "{heard:?}");
    let names: Vec<_> = report.models.iter().map(|m| (&*m.name, &*m.precision)).collect();
    assert_eq!(names, [("default-int8", "int8"), ("efficientnet_b0-float", "f32")]);
    assert_eq!(report.invalid(), (2, 6));
    let run = &report.models[1].runs[1];
    assert_eq!((run.threads, run.runs), (3, 7));
    assert_eq!(run.invalid, ["under-voltage", "throttled"]);

    let boards = Board::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../targets"));
    let boards = boards.unwrap();
    let board = bench::recognise(&boards, &report.board).unwrap();
    assert_eq!(board.name, "pi4");
    let text = bench::table(&report, Some(board));
    assert!(text.contains("! 2 of 6 do not count"), "{text}");
    assert!(text.contains("74.0 ms (ncnn benchmark results); efficientnet_b0-float (f32) here: 10.50 ms, 0.14 times"), "{text}");
    assert!(text.contains("61.0 °C, 1800 MHz, 0x0 -> 61.0 °C, 1800 MHz, 0x50005"), "{text}");

    // A second time nothing is sent; a model that is not there and a program that is not there say so.
    plan.threads = vec![1];
    let mut heard = Vec::new();
    bench::measure(&ssh, &host, &plan, |text| heard.push(text.to_owned())).unwrap();
    assert!(!heard.iter().any(|h| h.starts_with("sending")), "{heard:?}");
    plan.models = vec![Place::There("/no/such/model.onnx".into())];
    let error = bench::measure(&ssh, &host, &plan, |_| {}).unwrap_err().to_string();
    assert!(error.contains("no such file"), "{error}");
    plan.program = "/no/such/kinglet".into();
    let error = bench::measure(&ssh, &host, &plan, |_| {}).unwrap_err().to_string();
    assert!(error.contains("--program"), "{error}");
    plan.program = "true".into();
    let error = bench::measure(&ssh, &host, &plan, |_| {}).unwrap_err().to_string();
    assert!(error.contains("not understood"), "{error}");
}
