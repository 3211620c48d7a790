//! Bad pictures are refused with an error that says why; no bytes make the decoders panic, hang or
//! take memory without bound.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod preprocess_support;

use std::time::{Duration, Instant};

use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::picture::{Format, MAX_FILE_BYTES, Picture, PictureError};
use kinglet_engine::preprocess::{InputKind, Preprocessor};
use preprocess_support::{Random, golden, png};

/// Random numbers from a fixed seed, or from KINGLET_SEED (decimal) to try others.
fn random() -> Random {
    let given = std::env::var("KINGLET_SEED").ok().map(|text| text.parse().unwrap());
    let seed = given.unwrap_or(0x6b69_6e67_6c65_7431);
    println!("KINGLET_SEED={seed}");
    Random(seed)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(golden("pictures").join(name)).unwrap()
}

#[test]
fn files_that_are_no_pictures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refused = |name: &str| Picture::read(&path(name)).unwrap_err();

    let error = refused("missing.jpg");
    assert!(matches!(&error, PictureError::Read { .. }), "{error:?}");
    assert!(error.to_string().contains("missing.jpg"), "{error}");

    std::fs::create_dir(path("folder.jpg")).unwrap();
    let error = refused("folder.jpg");
    assert!(matches!(&error, PictureError::Directory { .. }), "{error:?}");
    assert!(error.to_string().contains("is a directory"), "{error}");

    std::fs::write(path("empty.jpg"), b"").unwrap();
    let error = refused("empty.jpg");
    assert!(matches!(error.cause(), PictureError::Empty), "{error:?}");
    assert!(error.to_string().contains("empty.jpg"), "{error}");

    std::fs::write(path("note.jpg"), "Dear bird,\nsit still.\n").unwrap();
    let error = refused("note.jpg");
    assert!(matches!(error.cause(), PictureError::NotAPicture { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("note.jpg") && text.contains("neither JPEG nor PNG"), "{text}");
    assert!(text.contains("Dear bird"), "{text}");

    let huge = std::fs::File::create(path("huge.jpg")).unwrap();
    huge.set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = refused("huge.jpg");
    assert!(matches!(error.cause(), PictureError::TooLarge { .. }), "{error:?}");
    assert!(error.to_string().contains("67108865, over the limit of 67108864"), "{error}");
}

#[test]
fn every_cut_of_a_picture_is_refused() {
    let mut random = random();
    for name in [
        "orientation_1.jpg",
        "progressive.jpg",
        "half_chroma.jpg",
        "large_restart.jpg",
        "rgb.png",
        "alpha.png",
    ] {
        let bytes = file(name);
        assert!(Picture::decode(&bytes).is_ok(), "{name}");
        for _ in 0..500 {
            let length = random.below(bytes.len());
            let error = Picture::decode(&bytes[..length]).unwrap_err();
            let said = match &error {
                PictureError::Empty => length == 0,
                PictureError::NotAPicture { .. } => length == 1,
                PictureError::Truncated { .. } => length >= 2,
                _ => false,
            };
            assert!(said, "{name} cut to {length} bytes: {error}");
        }
    }
}

/// Changes one to eight bytes, copies a piece to another place or takes a piece out.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    match random.below(8) {
        0 => {
            let (from, to) = (random.below(out.len()), random.below(out.len()));
            let length = random.below(32).min(out.len() - from.max(to));
            out.copy_within(from..from + length, to);
        }
        1 => {
            let from = random.below(out.len());
            let length = random.below(16).min(out.len() - from);
            out.drain(from..from + length);
        }
        _ => {
            for _ in 0..=random.below(8) {
                let at = random.below(out.len());
                let extreme = [0, 1, 0x7f, 0x80, 0xff, 0xd9, 0xda, 0xc4];
                out[at] = match random.below(3) {
                    0 => extreme[random.below(extreme.len())],
                    1 => out[at] ^ (1 << random.below(8)),
                    _ => random.below(256) as u8,
                };
            }
        }
    }
    out
}

/// Renews the checksums of a PNG's chunks, so that a mutant gets past them.
fn renew_checksums(png: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = png.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let Some(end) = at.checked_add(length + 12).filter(|end| *end <= png.len()) else { break };
        let crc = preprocess_support::crc32(&png[at + 4..end - 4]).to_be_bytes();
        png[end - 4..end].copy_from_slice(&crc);
        at = end;
    }
}

/// Decodes mutants; a decoder's panic fails the test although `decode` catches it, because a device
/// build ends on a panic. Returns how many were still pictures.
fn survive(name: &str, count: usize, random: &mut Random) -> usize {
    let original = file(name);
    let description = Preprocess {
        size: [16, 16],
        filter: Filter::Bilinear,
        crop: Crop::Center { fraction: 0.5 },
        mean: [0.0; 3],
        std: [1.0; 3],
        channels: Channels::Rgb,
    };
    let mut preprocessor = Preprocessor::new(&description, InputKind::F32Nchw).unwrap();
    let mut tensor = preprocessor.tensor();
    let mut shown = 0;
    for i in 0..count {
        let mut mutant = mutate(&original, random);
        if name.ends_with("png") && i % 4 != 0 {
            renew_checksums(&mut mutant);
        }
        let start = Instant::now();
        let result = Picture::decode(&mutant);
        // A picture that can be decoded can be prepared.
        let prepared = preprocessor.run_file(&mutant, &mut tensor);
        assert!(prepared.is_ok() || result.is_err(), "{name}, mutant {i}: {prepared:?}");
        let took = start.elapsed();
        if let Err(PictureError::DecoderPanicked { why, .. }) = &result {
            panic!("{name}, mutant {i}: {why}\n{mutant:02x?}");
        }
        // The largest picture that a header may state takes a while; nothing may hang.
        assert!(took < Duration::from_secs(20), "{name}, mutant {i}: {took:?}");
        shown += usize::from(result.is_ok());
    }
    shown
}

#[test]
fn mutated_jpegs_do_no_harm() {
    let mut random = random();
    let mut shown = 0;
    for (name, count) in [
        ("orientation_1.jpg", 6000),
        ("progressive.jpg", 6000),
        ("half_chroma.jpg", 4000),
        ("large_restart.jpg", 4000),
        ("cmyk.jpg", 2000),
        ("grey.jpg", 2000),
    ] {
        shown += survive(name, count, &mut random);
    }
    println!("{shown} of 24000 mutants were pictures");
    assert!(shown > 0);
}

#[test]
fn mutated_pngs_do_no_harm() {
    let mut random = random();
    let mut shown = 0;
    for (name, count) in [
        ("rgb.png", 6000),
        ("palette_clear.png", 5000),
        ("orientation_6.png", 4000),
        ("interlaced.png", 3000),
        ("rgba_16.png", 2000),
    ] {
        shown += survive(name, count, &mut random);
    }
    println!("{shown} of 20000 mutants were pictures");
    assert!(shown > 0);
}

#[test]
fn sizes_over_a_limit_are_refused_with_their_numbers() {
    let message = |width, height| {
        let bytes = png(width, height, &[(b"IDAT", &[0x78, 1, 3, 0, 0, 0, 0, 1]), (b"IEND", &[])]);
        Picture::decode(&bytes).unwrap_err().to_string()
    };
    assert_eq!(
        message(100_000, 100_000),
        "picture side in pixels (100000 x 100000) is 100000, over the limit of 32768"
    );
    assert_eq!(
        message(32768, 2049),
        "number of pixels (32768 x 2049) is 67141632, over the limit of 67108864"
    );
    assert_eq!(message(0, 5), "corrupt PNG: its size is 0 x 5");
}

#[test]
fn a_palette_of_wrong_length_is_refused() {
    for length in [0, 1, 2, 4, 40, 769, 771] {
        let palette = vec![7; length];
        let idat = [0x78, 1, 1, 2, 0, 253, 255, 0, 0, 0, 2, 0, 1];
        let chunks: [(&[u8; 4], &[u8]); 3] =
            [(b"PLTE", &palette), (b"IDAT", &idat), (b"IEND", &[])];
        let mut bytes = png(1, 1, &chunks);
        bytes[25] = 3; // colour type: palette
        renew_checksums(&mut bytes);
        let error = Picture::decode(&bytes).unwrap_err();
        assert!(error.to_string().contains("palette"), "{length}: {error}");
    }
}

#[test]
fn a_picture_without_pixels_is_refused() {
    let bytes = png(5, 5, &[(b"IEND", &[])]);
    assert!(Picture::decode(&bytes).is_err());
    let error = Picture::decode(&[0xff, 0xd8, 0xff, 0xd9]).unwrap_err();
    assert!(matches!(error, PictureError::Corrupt { format: Format::Jpeg, .. }), "{error:?}");
}

#[test]
fn samples_must_fit_the_size() {
    assert!(Picture::from_rgb(2, 2, vec![0; 12]).is_ok());
    for (width, height, length) in [(2, 2, 11), (2, 2, 13), (0, 2, 0), (2, 0, 0)] {
        let error = Picture::from_rgb(width, height, vec![0; length]).unwrap_err();
        assert!(matches!(error, PictureError::Samples { .. }), "{error:?}");
    }
}
