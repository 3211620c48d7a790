//! Prints as JSON how long pictures take to become tensors, milliseconds: least and median.
//!
//! `cargo run --release --example picture_times -- PICTURE.jpg [RUNS]`; benches/peers/pictures.py
//! runs it beside other libraries. Preprocessing is EfficientNet-Lite0's.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use kinglet_engine::Picture;
use kinglet_engine::frame::{FrameView, PixelFormat, YuvMatrix};
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::preprocess::{InputKind, Preprocessor};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, runs) = match arguments.as_slice() {
        [path] => (path, 30),
        [path, runs] => (path, runs.parse::<usize>()?.max(1)),
        _ => return Err("usage: picture_times PICTURE.jpg [RUNS]".into()),
    };
    let description = Preprocess {
        size: [224, 224],
        filter: Filter::Bicubic,
        crop: Crop::Center { fraction: 0.875 },
        mean: [127.0; 3],
        std: [128.0; 3],
        channels: Channels::Rgb,
    };
    let bytes = std::fs::read(path)?;
    let picture = Picture::decode(&bytes)?;
    let camera: Vec<u8> = (0..1280 * 720 * 2).map(|i| (i * 7 % 251) as u8).collect();
    let frame = FrameView::packed(PixelFormat::Yuyv, 1280, 720, &camera, YuvMatrix::Bt601Limited)?;
    let mut floats = Preprocessor::new(&description, InputKind::F32Nchw)?;
    let codes = InputKind::U8Nhwc { scale: 1.0 / 128.0, zero_point: 127 };
    let mut codes = Preprocessor::new(&description, codes)?;
    let (mut f32s, mut u8s) = (floats.tensor(), codes.tensor());
    let mut results = serde_json::Map::new();
    let mut time = |name: &str, work: &mut dyn FnMut() -> Result<(), Box<dyn Error>>| {
        let mut times = Vec::with_capacity(runs);
        work()?;
        for _ in 0..runs {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let row = serde_json::json!({ "min": times[0], "median": times[runs / 2] });
        results.insert(name.to_owned(), row);
        Ok::<(), Box<dyn Error>>(())
    };
    time("jpeg to f32 tensor", &mut || Ok(floats.run_file(&bytes, &mut f32s)?))?;
    time("jpeg to u8 codes", &mut || Ok(codes.run_file(&bytes, &mut u8s)?))?;
    time("jpeg to rgb", &mut || {
        std::hint::black_box(Picture::decode(&bytes)?);
        Ok(())
    })?;
    time("rgb to f32 tensor", &mut || {
        floats.run(&picture, &mut f32s);
        Ok(())
    })?;
    time("rgb to u8 codes", &mut || {
        codes.run(&picture, &mut u8s);
        Ok(())
    })?;
    time("yuyv 1280x720 to f32 tensor", &mut || {
        floats.run_frame(&frame, &mut f32s);
        Ok(())
    })?;
    time("yuyv 1280x720 to u8 codes", &mut || {
        codes.run_frame(&frame, &mut u8s);
        Ok(())
    })?;
    println!("{}", serde_json::Value::Object(results));
    Ok(())
}
