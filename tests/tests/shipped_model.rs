//! The model in the repository: right on photographs, and the same bits on every machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use kinglet_engine::{Isa, Options, Picture, Session};
use kinglet_tests::{golden, repository};
use serde_json::{Value, json};

const PHOTOGRAPHS: [(&str, &str); 3] =
    [("chelsea.png", "cat"), ("coffee.png", "espresso"), ("rocket.jpg", "missile")];

fn photograph(name: &str) -> Picture {
    Picture::read(&repository().join("tests/photographs").join(name)).unwrap()
}

fn session(isa: Isa, threads: usize) -> Session {
    let path = repository().join("models/efficientnet-lite0-int8.onnx");
    let options = Options { isa: Some(isa), threads, require_int8: true, ..Options::default() };
    Session::load(&path, &options).unwrap()
}

/// The bits of all outputs, summed up in one number (FNV-1a).
fn digest(outputs: &[f32]) -> String {
    let hash = outputs
        .iter()
        .flat_map(|v| v.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}

/// `tests/golden/int8.json` holds what an x86-64 machine computed; `KINGLET_BLESS=1` rewrites it.
#[test]
fn every_instruction_set_gives_the_golden_bits() {
    let path = golden("int8.json");
    let mut found = serde_json::Map::new();
    let best = [2, 3, 4].map(|threads| (Isa::best(), threads));
    for (isa, threads) in Isa::available().into_iter().map(|isa| (isa, 1)).chain(best) {
        // Pictures are decoded anew for each: decoding must not differ either.
        let mut session = session(isa, threads);
        for (name, _) in PHOTOGRAPHS {
            let outputs = session.outputs(&photograph(name)).unwrap();
            let best = session.scores(&outputs).top(1)[0].index;
            let result = json!({ "best": best, "outputs": digest(&outputs) });
            let first = found.entry(name).or_insert_with(|| result.clone());
            assert_eq!(*first, result, "{name}: {}, {threads} threads", isa.name());
        }
    }
    let found = Value::Object(found);
    if std::env::var_os("KINGLET_BLESS").is_some() {
        std::fs::write(&path, format!("{found:#}\n")).unwrap();
    }
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn photographs_are_recognised_in_int8_alone() {
    let mut session = session(Isa::best(), 1);
    let report = session.report();
    assert!(report.layers.iter().all(|l| l.data_type == "int8"), "{report:?}");
    assert_eq!(report.macs(), (385_187_552, 385_187_552));
    for (name, expected) in PHOTOGRAPHS {
        let scores = session.classify(&photograph(name)).unwrap();
        let best = scores.top(1)[0];
        let label = session.label(best.index).unwrap();
        assert!(label.to_lowercase().contains(expected), "{name}: {label}");
    }
}

#[test]
fn the_self_test_finds_a_changed_weight() {
    let path = repository().join("models/efficientnet-lite0-int8.onnx");
    let mut file = kinglet_engine::OnnxFile::read(&path).unwrap();
    assert!(file.metadata().unwrap().golden.is_some_and(|g| g.samples.len() >= 3));
    let weights = file
        .graph_mut()
        .initializer
        .iter_mut()
        .filter(|t| t.dims.len() == 4)
        .max_by_key(|t| t.raw_data.len())
        .unwrap();
    weights.raw_data.iter_mut().step_by(3).for_each(|b| *b = b.wrapping_neg());
    let error = Session::new(file, &Options::default()).unwrap_err();
    assert!(matches!(error, kinglet_engine::ModelError::SelfTest { .. }), "{error}");
}
