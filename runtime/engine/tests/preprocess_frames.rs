//! A camera's frame becomes the tensor of the picture that it shows: that of converting the whole
//! frame to RGB in f64 and preparing that picture.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod preprocess_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use kinglet_engine::frame::{FrameView, PixelFormat, Plane, YuvMatrix};
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::picture::Picture;
use kinglet_engine::preprocess::{InputKind, InputTensor, Preprocessor};
use preprocess_support::noise;

/// Codes that are the samples.
const SAMPLES: InputKind = InputKind::U8Nhwc { scale: 1.0, zero_point: 0 };
const MATRICES: [(YuvMatrix, [f64; 2], bool); 4] = [
    (YuvMatrix::Bt601Limited, [0.299, 0.114], true),
    (YuvMatrix::Bt601Full, [0.299, 0.114], false),
    (YuvMatrix::Bt709Limited, [0.2126, 0.0722], true),
    (YuvMatrix::Bt709Full, [0.2126, 0.0722], false),
];

fn describe(size: [u32; 2], filter: Filter, crop: Crop) -> Preprocess {
    let (mean, std) = ([0.0; 3], [1.0; 3]);
    Preprocess { size, filter, crop, mean, std, channels: Channels::Rgb }
}

fn lite0() -> Preprocess {
    describe([224, 224], Filter::Bicubic, Crop::Center { fraction: 0.875 })
}

/// Luma and chroma of a frame: one sample of chroma for each `across` by `down` pixels.
struct Yuv {
    width: usize,
    height: usize,
    across: usize,
    down: usize,
    planes: [Vec<u8>; 3],
}

impl Yuv {
    /// From a picture: chroma is the mean of the pixels that share it.
    fn from_picture(picture: &Picture, across: usize, down: usize, of: usize) -> Self {
        let (_, [red, blue], limited) = MATRICES[of];
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let [luma_range, chroma_range, black] =
            if limited { [219.0, 224.0, 16.0] } else { [255.0, 255.0, 0.0] };
        let pixel = |x: usize, y: usize| {
            let at = (y * width + x) * 3;
            let [r, g, b] = [0, 1, 2].map(|c| f64::from(picture.rgb()[at + c]) / 255.0);
            let luma = red * r + (1.0 - red - blue) * g + blue * b;
            [luma, (b - luma) / (2.0 * (1.0 - blue)), (r - luma) / (2.0 * (1.0 - red))]
        };
        let plane = |c: usize, across: usize, down: usize, offset: f64, range: f64| {
            let mean = |x: usize, y: usize| {
                let all = (0..across * down).map(|i| pixel(x + i % across, y + i / across)[c]);
                all.sum::<f64>() / (across * down) as f64
            };
            let rows = (0..height).step_by(down);
            rows.flat_map(|y| (0..width).step_by(across).map(move |x| (x, y)))
                .map(|(x, y)| (offset + range * mean(x, y)).round().clamp(0.0, 255.0) as u8)
                .collect::<Vec<u8>>()
        };
        let planes = [
            plane(0, 1, 1, black, luma_range),
            plane(1, across, down, 128.0, chroma_range),
            plane(2, across, down, 128.0, chroma_range),
        ];
        Self { width, height, across, down, planes }
    }

    /// The planes of yuyv422 bytes.
    fn from_yuyv(width: usize, height: usize, bytes: &[u8]) -> Self {
        let every = |first: usize, step: usize| {
            bytes.iter().skip(first).step_by(step).copied().collect::<Vec<u8>>()
        };
        let planes = [every(0, 2), every(1, 4), every(3, 4)];
        Self { width, height, across: 2, down: 1, planes }
    }

    /// What the frame shows, each pixel converted in f64 with the chroma that it shares.
    fn picture(&self, of: usize) -> Picture {
        let (_, [red, blue], limited) = MATRICES[of];
        let [luma_range, chroma_range, black] =
            if limited { [219.0, 224.0, 16.0] } else { [255.0, 255.0, 0.0] };
        let mut rgb = Vec::new();
        for y in 0..self.height {
            for x in 0..self.width {
                let at = y / self.down * (self.width / self.across) + x / self.across;
                let luma = (f64::from(self.planes[0][y * self.width + x]) - black) / luma_range;
                let [u, v] = [1, 2].map(|p| (f64::from(self.planes[p][at]) - 128.0) / chroma_range);
                let (r, b) = (luma + 2.0 * (1.0 - red) * v, luma + 2.0 * (1.0 - blue) * u);
                let g = (luma - red * r - blue * b) / (1.0 - red - blue);
                rgb.extend([r, g, b].map(|c| (c * 255.0).round().clamp(0.0, 255.0) as u8));
            }
        }
        Picture::from_rgb(self.width as u32, self.height as u32, rgb).unwrap()
    }

    fn bytes(&self, format: PixelFormat) -> Vec<u8> {
        let [y, u, v] = &self.planes;
        let chroma = || u.iter().zip(v);
        match format {
            PixelFormat::Yuyv => {
                let pairs = y.as_chunks::<2>().0.iter().zip(chroma());
                pairs.flat_map(|(y, (u, v))| [y[0], *u, y[1], *v]).collect()
            }
            PixelFormat::Nv12 => {
                y.iter().copied().chain(chroma().flat_map(|(u, v)| [*u, *v])).collect()
            }
            PixelFormat::I420 => [&y[..], u, v].concat(),
            PixelFormat::Grey => y.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn prepared(&self, format: PixelFormat, matrix: YuvMatrix, by: &mut Preprocessor) -> Vec<u8> {
        let bytes = self.bytes(format);
        let (width, height) = (self.width as u32, self.height as u32);
        prepared(&FrameView::packed(format, width, height, &bytes, matrix).unwrap(), by)
    }
}

fn prepared(frame: &FrameView<'_>, by: &mut Preprocessor) -> Vec<u8> {
    let mut tensor = InputTensor::U8(Vec::new());
    by.run_frame(frame, &mut tensor);
    let InputTensor::U8(values) = tensor else { panic!("wrong type") };
    values
}

/// Mean and largest difference.
fn difference(a: &[u8], b: &[u8]) -> (f64, u8) {
    assert_eq!(a.len(), b.len());
    let differences = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    (sum / a.len() as f64, differences().max().unwrap())
}

fn photograph(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/photographs").join(name)
}

/// A photograph with even sides.
fn even(name: &str) -> Picture {
    let picture = Picture::read(&photograph(name)).unwrap();
    let (width, height) = (picture.width() & !1, picture.height() & !1);
    let rows = picture.rgb().chunks_exact(picture.width() as usize * 3).take(height as usize);
    let rgb = rows.flat_map(|row| &row[..width as usize * 3]).copied().collect();
    Picture::from_rgb(width, height, rgb).unwrap()
}

#[test]
fn frames_give_what_their_pictures_give() {
    for name in ["chelsea.png", "coffee.png", "rocket.jpg"] {
        let picture = even(name);
        for (of, (matrix, ..)) in MATRICES.into_iter().enumerate() {
            for (format, down) in
                [(PixelFormat::Yuyv, 1), (PixelFormat::Nv12, 2), (PixelFormat::I420, 2)]
            {
                let yuv = Yuv::from_picture(&picture, 2, down, of);
                let shown = yuv.picture(of);
                for description in [
                    lite0(),
                    describe([160, 120], Filter::Bilinear, Crop::Stretch),
                    describe([96, 128], Filter::Bicubic, Crop::ResizeThenCenter { fraction: 0.9 }),
                ] {
                    let mut by = Preprocessor::new(&description, SAMPLES).unwrap();
                    let actual = yuv.prepared(format, matrix, &mut by);
                    let (mean, largest) = difference(&actual, by.resized(&shown));
                    println!("{name} {format:?} {matrix:?}: mean {mean:.3}, largest {largest}");
                    assert!(mean <= 1.0 && largest <= 24, "{name} {format:?} {matrix:?}");
                }
            }
        }
    }
}

#[test]
fn colours_are_those_of_the_standard() {
    // Bars of 75 %: the codes of BT.601, limited range, and what they show.
    for (yuv, rgb) in [
        ([16, 128, 128], [0, 0, 0]),
        ([235, 128, 128], [255, 255, 255]),
        ([180, 128, 128], [191, 191, 191]),
        ([65, 100, 212], [191, 0, 0]),
        ([112, 72, 58], [0, 191, 0]),
        ([35, 212, 114], [0, 0, 191]),
    ] {
        let [y, u, v] = yuv;
        let bytes = [y, u, y, v].repeat(32);
        let matrix = YuvMatrix::Bt601Limited;
        let frame = FrameView::packed(PixelFormat::Yuyv, 8, 8, &bytes, matrix).unwrap();
        let mut by = Preprocessor::new(&lite0(), SAMPLES).unwrap();
        for pixel in prepared(&frame, &mut by).as_chunks::<3>().0 {
            let apart = difference(pixel, &rgb).1;
            assert!(apart <= 1, "{yuv:?} shows {pixel:?}, not {rgb:?}");
        }
    }
}

/// Bit for bit: formats that hold the same samples, and planes with room between their rows.
#[test]
fn the_same_samples_in_other_formats_give_the_same() {
    for (width, height) in [(2, 2), (4, 2), (2, 90), (64, 48), (318, 202), (130, 400)] {
        let picture = noise(width, height);
        let yuv = Yuv::from_picture(&picture, 2, 2, 0);
        let half = width as usize / 2;
        let twice = |plane: usize| {
            yuv.planes[plane].chunks(half).flat_map(|row| row.repeat(2)).collect::<Vec<u8>>()
        };
        let planes = [yuv.planes[0].clone(), twice(1), twice(2)];
        let tall = Yuv { planes, down: 1, width: yuv.width, height: yuv.height, across: 2 };
        for description in [
            lite0(),
            describe([9, 14], Filter::Bilinear, Crop::Stretch),
            describe([33, 20], Filter::Bicubic, Crop::ResizeThenCenter { fraction: 0.7 }),
        ] {
            let mut by = Preprocessor::new(&description, SAMPLES).unwrap();
            let matrix = YuvMatrix::Bt601Limited;
            let expected = yuv.prepared(PixelFormat::I420, matrix, &mut by);
            assert_eq!(yuv.prepared(PixelFormat::Nv12, matrix, &mut by), expected);
            assert_eq!(tall.prepared(PixelFormat::Yuyv, matrix, &mut by), expected);
            // Five bytes between rows that must not matter, none after the last.
            let widths = [width as usize, half, half];
            let padded: [Vec<u8>; 3] = [0, 1, 2].map(|p| {
                let mut bytes: Vec<u8> = yuv.planes[p]
                    .chunks(widths[p])
                    .flat_map(|row| row.iter().copied().chain([200; 5]))
                    .collect();
                bytes.truncate(bytes.len() - 5);
                bytes
            });
            let planes = [0, 1, 2].map(|p| Plane { bytes: &padded[p], stride: widths[p] + 5 });
            let frame = FrameView::new(PixelFormat::I420, width, height, &planes, matrix);
            assert_eq!(prepared(&frame.unwrap(), &mut by), expected);
        }
    }
}

#[test]
fn a_frame_in_rgb_is_its_picture() {
    let picture = noise(90, 71);
    for description in [lite0(), describe([20, 50], Filter::Bilinear, Crop::Stretch)] {
        let mut by = Preprocessor::new(&description, SAMPLES).unwrap();
        let expected = by.resized(&picture).to_vec();
        // Rows of 90 pixels and a gap of 7 bytes that must not matter.
        let rows = picture.rgb().chunks_exact(270);
        let bytes: Vec<u8> = rows.flat_map(|row| row.iter().copied().chain([99; 7])).collect();
        let planes = [Plane { bytes: &bytes[..bytes.len() - 7], stride: 277 }];
        let frame = FrameView::new(PixelFormat::Rgb, 90, 71, &planes, YuvMatrix::Bt709Full);
        assert_eq!(prepared(&frame.unwrap(), &mut by), expected);
    }
}

#[test]
fn grey_is_black_to_white_as_it_is() {
    let bytes: Vec<u8> = (0..=255).collect();
    let description = describe([1, 256], Filter::Bicubic, Crop::Stretch);
    let mut by = Preprocessor::new(&description, SAMPLES).unwrap();
    let frame = FrameView::packed(PixelFormat::Grey, 256, 1, &bytes, YuvMatrix::default());
    let expected: Vec<u8> = (0..=255u8).flat_map(|v| [v; 3]).collect();
    assert_eq!(prepared(&frame.unwrap(), &mut by), expected);
}

#[test]
fn frames_and_pictures_may_take_turns() {
    let picture = even("chelsea.png");
    let yuv = Yuv::from_picture(&picture, 2, 2, 0);
    let mut shared = Preprocessor::new(&lite0(), SAMPLES).unwrap();
    let small = noise(30, 20);
    for format in [PixelFormat::Nv12, PixelFormat::Grey, PixelFormat::I420, PixelFormat::Nv12] {
        let mut fresh = Preprocessor::new(&lite0(), SAMPLES).unwrap();
        let matrix = YuvMatrix::Bt601Limited;
        let expected = yuv.prepared(format, matrix, &mut fresh);
        assert_eq!(yuv.prepared(format, matrix, &mut shared), expected, "{format:?}");
        assert_eq!(shared.resized(&small), fresh.resized(&small));
        assert_eq!(shared.resized(&picture), fresh.resized(&picture));
    }
}

/// Frames of the videos in KINGLET_DATA, taken out by FFmpeg.
#[test]
fn frames_of_videos_give_what_their_pictures_give() {
    let Some(data) = std::env::var_os("KINGLET_DATA") else {
        println!("skipped: KINGLET_DATA is not set");
        return;
    };
    let (width, height) = (1280, 720);
    for name in ["car-detection", "one-by-one-person-detection", "bottle-detection"] {
        let video = Path::new(&data).join("video").join(format!("{name}.mp4"));
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-ss", "2", "-i"])
            .arg(&video)
            .args(["-frames:v", "3", "-vf", "fps=1,scale=1280:720", "-pix_fmt", "yuyv422"])
            .args(["-f", "rawvideo", "-"])
            .output();
        let Ok(output) = output else {
            println!("skipped: there is no ffmpeg");
            return;
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", video.display());
        assert!(!output.stdout.is_empty(), "{}: no frames", video.display());
        for bytes in output.stdout.chunks_exact(width * height * 2) {
            let yuv = Yuv::from_yuyv(width, height, bytes);
            let mut by = Preprocessor::new(&lite0(), SAMPLES).unwrap();
            let actual = yuv.prepared(PixelFormat::Yuyv, YuvMatrix::Bt601Limited, &mut by);
            let (mean, largest) = difference(&actual, by.resized(&yuv.picture(0)));
            println!("{name}: mean {mean:.3}, largest {largest}");
            assert!(mean <= 1.0 && largest <= 16, "{name}: mean {mean}, largest {largest}");
        }
    }
}
