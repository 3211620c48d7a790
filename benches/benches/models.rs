//! Whole models: latency by model, precision and threads, with multiply-accumulates a second and
//! their share of the cores' peak; time from file to first result.
//!
//! The int8 model is in the repository. Float models are taken from the folder that
//! `KINGLET_MODELS` names (`kinglet-tools fetch`, `kinglet-tools compress --f16`), if it is set.
#![allow(missing_docs)]

mod roofed;

use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kinglet_engine::{Isa, Options, Session};
use roofed::Roofed;

/// The models there are, by name.
fn models() -> Vec<(String, PathBuf)> {
    // cargo runs benchmarks in the folder of their package; on a board the runner lays it out alike.
    let repository = Path::new("..");
    let folders =
        [Some(repository.join("models")), std::env::var_os("KINGLET_MODELS").map(Into::into)];
    let mut found: Vec<(String, PathBuf)> = folders
        .into_iter()
        .flatten()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            (path.extension()? == "onnx").then_some((name, path))
        })
        .collect();
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

fn session(path: &Path, isa: Isa, threads: usize) -> Session {
    let options = Options { isa: Some(isa), threads, self_test: false, ..Options::default() };
    Session::load(path, &options).expect("the model loads")
}

fn latency(c: &mut Criterion<Roofed>) {
    let mut group = c.benchmark_group("latency");
    group.sample_size(20);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, path) in models() {
        for threads in [1, 2, 4].into_iter().filter(|t| *t <= cores) {
            let mut session = session(&path, Isa::best(), threads);
            let input = session.sample_input();
            let id = BenchmarkId::new(&name, format!("{threads} threads"));
            let layers = session.report().layers;
            let macs = layers.iter().map(|layer| (layer.kernel.as_str(), layer.macs));
            group.throughput(roofed::macs(macs, threads));
            group.bench_function(id, |b| b.iter(|| session.run(&input)));
        }
    }
    group.finish();
}

fn load(c: &mut Criterion<Roofed>) {
    let mut group = c.benchmark_group("load to first result");
    group.sample_size(10);
    for (name, path) in models() {
        group.bench_function(&name, |b| {
            b.iter(|| {
                let mut session = session(&path, Isa::best(), 1);
                let input = session.sample_input();
                session.run(&input)
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(Roofed);
    targets = latency, load
}
criterion_main!(benches);
