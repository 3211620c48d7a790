//! Preprocessing gives what Pillow gives, bit for bit, and normalises as its documentation says.
#![allow(clippy::unwrap_used)]

mod preprocess_support;

use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::preprocess::{InputKind, InputTensor, Preprocessor};
use preprocess_support::{crc32, golden, noise, table};

fn describe(size: [u32; 2], filter: Filter, crop: Crop) -> Preprocess {
    let (mean, std) = ([0.0; 3], [1.0; 3]);
    Preprocess { size, filter, crop, mean, std, channels: Channels::Rgb }
}

/// What a line of resize.txt describes: name, picture size, description, expected CRC.
fn case(words: &[String]) -> (String, (u32, u32), Preprocess, u32) {
    let number = |i: usize| words[i].parse::<u32>().unwrap();
    let filter = match &words[5][..] {
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        other => panic!("unknown filter {other}"),
    };
    let fraction = number(7) as f32 / number(8) as f32;
    let crop = match &words[6][..] {
        "center" => Crop::Center { fraction },
        "resize_then_center" => Crop::ResizeThenCenter { fraction },
        "stretch" => Crop::Stretch,
        other => panic!("unknown rule {other}"),
    };
    let description = describe([number(3), number(4)], filter, crop);
    let crc = u32::from_str_radix(&words[9], 16).unwrap();
    (words[0].clone(), (number(1), number(2)), description, crc)
}

#[test]
fn resized_crops_equal_pillows() {
    let cases = table("resize.txt");
    assert!(cases.len() >= 12);
    for words in &cases {
        let (name, (width, height), description, expected) = case(words);
        let mut preprocessor = Preprocessor::new(&description, InputKind::F32Nchw).unwrap();
        let actual = crc32(preprocessor.resized(&noise(width, height)));
        assert_eq!(actual, expected, "{name}: {actual:08x} is not Pillow's {expected:08x}");
    }
}

#[test]
fn one_preprocessor_serves_pictures_of_any_sizes_in_turn() {
    let description = describe([30, 40], Filter::Bicubic, Crop::Center { fraction: 0.9 });
    let mut shared = Preprocessor::new(&description, InputKind::F32Nchw).unwrap();
    for (width, height) in [(64, 48), (500, 20), (1, 1), (30, 700), (64, 48), (3, 200)] {
        let picture = noise(width, height);
        let mut fresh = Preprocessor::new(&description, InputKind::F32Nchw).unwrap();
        assert_eq!(shared.resized(&picture), fresh.resized(&picture), "{width} x {height}");
    }
}

#[test]
fn tensors_hold_normalised_samples_in_the_stated_order() {
    let picture = noise(90, 70);
    let (mean, std) = ([123.675, 116.28, 103.53], [58.395, 57.12, -57.375]);
    let (scale, zero_point) = (0.018_658_f32, 114_u8);
    for channels in [Channels::Rgb, Channels::Bgr] {
        let mut description = describe([20, 30], Filter::Bilinear, Crop::Stretch);
        description.channels = channels;
        (description.mean, description.std) = (mean, std);
        let mut float = Preprocessor::new(&description, InputKind::F32Nchw).unwrap();
        let mut quantized =
            Preprocessor::new(&description, InputKind::U8Nhwc { scale, zero_point }).unwrap();
        // Tensors of another type or length are replaced.
        let (mut f32s, mut u8s) = (InputTensor::U8(vec![]), InputTensor::U8(vec![1; 5]));
        float.run(&picture, &mut f32s);
        quantized.run(&picture, &mut u8s);
        let (InputTensor::F32(f32s), InputTensor::U8(u8s)) = (f32s, u8s) else {
            panic!("wrong types");
        };
        let resized = float.resized(&picture).to_vec();
        assert_eq!((f32s.len(), u8s.len()), (1800, 1800));
        for i in 0..600 {
            for c in 0..3 {
                let from = if channels == Channels::Bgr { 2 - c } else { c };
                let real = (f32::from(resized[i * 3 + from]) - mean[c]) / std[c];
                assert_eq!(f32s[c * 600 + i], real);
                let steps = (real / scale).round_ties_even() + f32::from(zero_point);
                assert_eq!(u8s[i * 3 + c], steps.clamp(0.0, 255.0) as u8);
            }
        }
    }
}

#[test]
fn quantization_rounds_half_to_even_and_clamps() {
    // Grey of 0, 1, ... 255 in one row; steps of 2 make every odd sample a tie.
    let rgb = (0..=255u8).flat_map(|v| [v; 3]).collect();
    let picture = kinglet_engine::picture::Picture::from_rgb(256, 1, rgb).unwrap();
    let description = describe([1, 256], Filter::Bicubic, Crop::Stretch);
    let quantized = |scale, zero_point| {
        let kind = InputKind::U8Nhwc { scale, zero_point };
        let mut preprocessor = Preprocessor::new(&description, kind).unwrap();
        let mut tensor = preprocessor.tensor();
        preprocessor.run(&picture, &mut tensor);
        let InputTensor::U8(values) = tensor else { panic!("wrong type") };
        values.into_iter().step_by(3).collect::<Vec<u8>>()
    };
    assert_eq!(quantized(2.0, 0)[..8], [0, 0, 1, 2, 2, 2, 3, 4]);
    assert_eq!(quantized(1.0, 0), (0..=255).collect::<Vec<u8>>());
    assert_eq!(quantized(1.0, 250)[..8], [250, 251, 252, 253, 254, 255, 255, 255]);
}

#[test]
fn a_description_out_of_range_is_refused() {
    let good = describe([8, 8], Filter::Bicubic, Crop::Stretch);
    let bad = Preprocess { std: [1.0, 0.0, 1.0], ..good.clone() };
    assert!(Preprocessor::new(&bad, InputKind::F32Nchw).is_err());
    let bad = Preprocess { size: [8, 5000], ..good.clone() };
    assert!(Preprocessor::new(&bad, InputKind::F32Nchw).is_err());
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let kind = InputKind::U8Nhwc { scale, zero_point: 0 };
        assert!(Preprocessor::new(&good, kind).is_err(), "{scale}");
    }
}

/// A file's tensor is that of the decoded picture, whatever part of it is decoded.
#[test]
fn files_give_what_their_pictures_give() {
    let names = table("pictures.txt").into_iter().map(|words| golden("pictures").join(&words[0]));
    let rocket = golden("../../photographs/rocket.jpg");
    let kind = InputKind::U8Nhwc { scale: 1.0, zero_point: 0 };
    for (size, crop) in [
        ([24, 24], Crop::Center { fraction: 0.1 }),
        ([24, 24], Crop::Center { fraction: 0.3 }),
        ([30, 20], Crop::Center { fraction: 0.875 }),
        ([24, 24], Crop::Center { fraction: 1.0 }),
        ([10, 40], Crop::Center { fraction: 1.0 }),
        ([9, 9], Crop::ResizeThenCenter { fraction: 0.25 }),
        ([50, 60], Crop::Stretch),
    ] {
        for filter in [Filter::Bicubic, Filter::Bilinear] {
            // One for all files: buffers and tables of the last must not show.
            let mut by = Preprocessor::new(&describe(size, filter, crop), kind).unwrap();
            for path in names.clone().chain([rocket.clone()]) {
                let bytes = std::fs::read(&path).unwrap();
                let (mut actual, mut expected) = (by.tensor(), by.tensor());
                by.run_file(&bytes, &mut actual).unwrap();
                by.run(&kinglet_engine::picture::Picture::decode(&bytes).unwrap(), &mut expected);
                assert!(actual == expected, "{} {crop:?} {filter:?}", path.display());
            }
        }
    }
}
