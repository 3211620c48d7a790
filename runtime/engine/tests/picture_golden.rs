//! Every kind of picture becomes the RGB samples that Pillow gives for it, upright.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod preprocess_support;

use kinglet_engine::picture::Picture;
use preprocess_support::{golden, table};

#[test]
fn pictures_equal_pillows() {
    let cases = table("pictures.txt");
    assert!(cases.len() >= 20);
    for words in &cases {
        let name = &words[0];
        let (width, height) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        let allowed: f64 = words[3].parse().unwrap();
        let picture = Picture::read(&golden("pictures").join(name)).unwrap();
        assert_eq!((picture.width(), picture.height()), (width, height), "{name}");
        let expected = std::fs::read(golden("pictures").join(format!("{name}.rgb"))).unwrap();
        assert_eq!(picture.rgb().len(), expected.len(), "{name}");
        let pairs = picture.rgb().iter().zip(&expected);
        let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        let mean = sum / expected.len() as f64;
        println!("{name}: mean difference {mean:.3}, allowed {allowed}");
        assert!(mean <= allowed, "{name}: mean difference {mean:.3}, allowed {allowed}");
    }
}

#[test]
fn content_decides_and_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    std::fs::copy(golden("pictures/rgb.png"), &path).unwrap();
    let expected = Picture::read(&golden("pictures/rgb.png")).unwrap();
    assert_eq!(Picture::read(&path).unwrap(), expected);
}

#[test]
fn deep_grey_keeps_its_high_byte() {
    // Pillow clips 16-bit grey at 255 instead; see the module's documentation.
    let mut png = preprocess_support::png(2, 1, &[]);
    // Depth 16, and the header's checksum again.
    png[24] = 16;
    let crc = preprocess_support::crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&crc);
    // zlib: one stored block with a filter byte and the samples 0x1280, 0xff7f.
    let line = [0, 0x12, 0x80, 0xff, 0x7f];
    let (mut a, mut b) = (1u32, 0u32);
    for byte in line {
        a += u32::from(byte);
        b += a;
    }
    let mut idat = vec![0x78, 0x01, 1, 5, 0, 250, 255];
    idat.extend(line);
    idat.extend((b << 16 | a).to_be_bytes());
    let chunks = preprocess_support::png(1, 1, &[(b"IDAT", &idat), (b"IEND", &[])]);
    png.extend(&chunks[33..]);
    let picture = Picture::decode(&png).unwrap();
    assert_eq!(picture.rgb(), [0x12, 0x12, 0x12, 0xff, 0xff, 0xff]);
}
