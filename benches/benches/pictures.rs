//! From picture to tensor: decoding, and crop, resize and quantization in one pass.
#![allow(missing_docs)]

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use kinglet_engine::Picture;
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::preprocess::{InputKind, Preprocessor};

fn preprocess(c: &mut Criterion) {
    let mut group = c.benchmark_group("preprocess to 224x224");
    for (width, height) in [(299, 299), (640, 480), (1920, 1080)] {
        let rgb = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
        let picture = Picture::from_rgb(width, height, rgb).expect("the length fits");
        for (name, filter) in [("bicubic", Filter::Bicubic), ("bilinear", Filter::Bilinear)] {
            let description = Preprocess {
                size: [224, 224],
                filter,
                crop: Crop::Center { fraction: 0.875 },
                mean: [127.0; 3],
                std: [128.0; 3],
                channels: Channels::Rgb,
            };
            let kind = InputKind::U8Nhwc { scale: 1.0 / 128.0, zero_point: 127 };
            let mut preprocessor = Preprocessor::new(&description, kind).expect("it is valid");
            let mut tensor = preprocessor.tensor();
            group.bench_function(format!("{width}x{height} {name}"), |b| {
                b.iter(|| preprocessor.run(&picture, &mut tensor));
            });
        }
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photographs");
    for name in ["rocket.jpg", "chelsea.png"] {
        let bytes = std::fs::read(folder.join(name)).expect("it is in the repository");
        group.bench_function(name, |b| b.iter(|| Picture::decode(&bytes)));
    }
    group.finish();
}

criterion_group!(benches, preprocess, decode);
criterion_main!(benches);
