//! From picture to tensor: decoding, and crop, resize and quantization in one pass.
#![allow(missing_docs)]

use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use kinglet_engine::Picture;
use kinglet_engine::frame::{FrameView, PixelFormat, YuvMatrix};
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::preprocess::{InputKind, Preprocessor};

/// EfficientNet-Lite0's, but for the filter.
fn describe(filter: Filter) -> Preprocess {
    Preprocess {
        size: [224, 224],
        filter,
        crop: Crop::Center { fraction: 0.875 },
        mean: [127.0; 3],
        std: [128.0; 3],
        channels: Channels::Rgb,
    }
}

const KINDS: [(&str, InputKind); 2] = [
    ("u8", InputKind::U8Nhwc { scale: 1.0 / 128.0, zero_point: 127 }),
    ("f32", InputKind::F32Nchw),
];

fn samples(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 251) as u8).collect()
}

fn file(name: &str) -> PathBuf {
    // cargo runs benchmarks in the folder of their package; on a board the runner lays it out alike.
    PathBuf::from(name)
}

fn preprocess(c: &mut Criterion) {
    let mut group = c.benchmark_group("preprocess to 224x224");
    for (width, height) in [(299, 299), (640, 480)] {
        let rgb = samples((width * height * 3) as usize);
        let picture = Picture::from_rgb(width, height, rgb).expect("the length fits");
        for (name, filter) in [("bicubic", Filter::Bicubic), ("bilinear", Filter::Bilinear)] {
            let mut by = Preprocessor::new(&describe(filter), KINDS[0].1).expect("it is valid");
            let mut tensor = by.tensor();
            group.bench_function(format!("{width}x{height} {name}"), |b| {
                b.iter(|| by.run(&picture, &mut tensor));
            });
        }
    }
    group.finish();
}

fn rgb(c: &mut Criterion) {
    let mut group = c.benchmark_group("rgb_1080p_to_tensor");
    let picture = Picture::from_rgb(1920, 1080, samples(1920 * 1080 * 3)).expect("it fits");
    for (name, kind) in KINDS {
        let mut by = Preprocessor::new(&describe(Filter::Bicubic), kind).expect("it is valid");
        let mut tensor = by.tensor();
        group.bench_function(name, |b| b.iter(|| by.run(&picture, &mut tensor)));
    }
    group.finish();
}

fn jpeg(c: &mut Criterion) {
    let mut group = c.benchmark_group("jpeg_1080p_to_tensor");
    let bytes = std::fs::read(file("pictures/mosaic_1080p.jpg")).expect("it is in the repository");
    for (name, kind) in KINDS {
        let mut by = Preprocessor::new(&describe(Filter::Bicubic), kind).expect("it is valid");
        let mut tensor = by.tensor();
        group.bench_function(name, |b| b.iter(|| by.run_file(&bytes, &mut tensor)));
    }
    group.bench_function("decode alone", |b| b.iter(|| Picture::decode(&bytes)));
    group.finish();
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("yuyv_720p_to_tensor");
    let bytes = samples(1280 * 720 * 3);
    for format in [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::I420, PixelFormat::Grey] {
        let frame = FrameView::packed(format, 1280, 720, &bytes, YuvMatrix::Bt601Limited);
        let frame = frame.expect("it fits");
        for (name, kind) in KINDS {
            let mut by = Preprocessor::new(&describe(Filter::Bicubic), kind).expect("it is valid");
            let mut tensor = by.tensor();
            group.bench_function(format!("{format:?} {name}"), |b| {
                b.iter(|| by.run_frame(&frame, &mut tensor));
            });
        }
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for name in ["rocket.jpg", "chelsea.png"] {
        let bytes = std::fs::read(file("../tests/photographs").join(name));
        let bytes = bytes.expect("it is in the repository");
        group.bench_function(name, |b| b.iter(|| Picture::decode(&bytes)));
    }
    group.finish();
}

criterion_group!(benches, preprocess, rgb, jpeg, frames, decode);
criterion_main!(benches);
