//! Which part of a picture lands where in the tensor: the crop rules in whole pixels.

use crate::metadata::{Crop, Preprocess};

/// One direction (x or y) of a crop and resize. The picture's stretch `start..start + length` is
/// resized to `target` pixels, of which `first..first + count` are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    /// At least 1.
    pub(super) length: u32,
    /// At least `first + count`. May be far larger than any picture: a long, narrow one.
    pub(super) target: u64,
    pub(super) first: u64,
    /// Side of the tensor.
    pub(super) count: u32,
}

/// Both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) x: Span,
    pub(super) y: Span,
}

impl Geometry {
    /// Applies the description's crop rule to a picture of `width` by `height` pixels.
    pub(super) fn new(description: &Preprocess, width: u32, height: u32) -> Self {
        let [tensor_h, tensor_w] = description.size;
        match description.crop {
            Crop::Stretch => {
                let whole = |length, count| Span::direct(0, length, count);
                Self { x: whole(width, tensor_w), y: whole(height, tensor_h) }
            }
            Crop::Center { fraction } => {
                let fraction = exact_fraction(fraction);
                let (w, h) = largest_of_aspect(width, height, tensor_w, tensor_h);
                let cut = |side: u32, fits: f64, count| {
                    // int() in Python. A picture of one pixel has a crop of one pixel.
                    let length = ((fraction * fits) as u32).clamp(1, side);
                    Span::direct((side - length) / 2, length, count)
                };
                Self { x: cut(width, w, tensor_w), y: cut(height, h, tensor_h) }
            }
            Crop::ResizeThenCenter { fraction } => {
                let fraction = exact_fraction(fraction);
                let covered = |side: u32| (f64::from(side) / fraction).round_ties_even() as u64;
                let (w, h) = cover(width, height, covered(tensor_w), covered(tensor_h));
                let center = |length, target: u64, count| {
                    let first = half_to_even(target - u64::from(count));
                    Span { start: 0, length, target, first, count }
                };
                Self { x: center(width, w, tensor_w), y: center(height, h, tensor_h) }
            }
        }
    }

    /// Whether the vertical pass comes first for a picture of this size: when the picture gets
    /// lower by more than twice what it gets narrower. The whole picture counts, not the crop.
    /// That is what Pillow 13 does (found by trying: its output is that of two resizes, one a
    /// direction, in this order); up to Pillow 12 the horizontal pass was always first.
    pub(super) fn vertical_first(&self, width: u32, height: u32) -> bool {
        let narrower = i64::from(width) - self.x.target as i64;
        let lower = i64::from(height) - self.y.target as i64;
        lower > 0 && lower > 2 * narrower
    }
}

impl Span {
    fn direct(start: u32, length: u32, count: u32) -> Self {
        Self { start, length, target: count.into(), first: 0, count }
    }
}

/// The largest rectangle of the tensor's aspect within the picture: for a square tensor both are
/// the short side.
fn largest_of_aspect(width: u32, height: u32, tensor_w: u32, tensor_h: u32) -> (f64, f64) {
    let [w, h, tw, th] = [width, height, tensor_w, tensor_h].map(u64::from);
    if w * th <= h * tw {
        (w as f64, (w * th) as f64 / tw as f64)
    } else {
        ((h * tw) as f64 / th as f64, h as f64)
    }
}

/// The size that a picture is resized to so that it just covers `target_w` by `target_h`, its
/// aspect kept: one side fits, the other is floor(side * long / short). For a square target this
/// is torchvision's `Resize`.
fn cover(width: u32, height: u32, target_w: u64, target_h: u64) -> (u64, u64) {
    let (w, h) = (u64::from(width), u64::from(height));
    if w * target_h <= h * target_w {
        (target_w, target_w * h / w)
    } else {
        (target_h * w / h, target_h)
    }
}

/// Half of `margin`, halves rounded to even as Python's `round` does in torchvision's `CenterCrop`.
fn half_to_even(margin: u64) -> u64 {
    let half = margin / 2;
    half + (margin & half & 1)
}

/// The ratio that a fraction stored as f32 was meant to be, as f64.
///
/// 240 / 272 is not an f32, and its nearest f32 times a side of 272 k may fall just below the
/// whole number 240 k, which floor would turn into a crop of one pixel less. The f32 is taken to
/// stand for the ratio with the smallest divisor that rounds to it (15 / 17 here; 9 / 10 for 0.9);
/// dividing that in f64 gives the number that `240 / 272` or `0.9` is in Python.
fn exact_fraction(fraction: f32) -> f64 {
    (1..=4096u32)
        .map(|divisor| {
            let divisor = f64::from(divisor);
            (f64::from(fraction) * divisor).round() / divisor
        })
        .find(|&ratio| ratio as f32 == fraction)
        .unwrap_or(f64::from(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Channels, Filter};

    fn describe(size: [u32; 2], crop: Crop) -> Preprocess {
        let (mean, std) = ([0.0; 3], [1.0; 3]);
        Preprocess { size, filter: Filter::Bicubic, crop, mean, std, channels: Channels::Rgb }
    }

    #[test]
    fn fractions_that_f32_cannot_hold_are_recovered() {
        for size in 1..=1024u32 {
            let exact = f64::from(size) / f64::from(size + 32);
            assert_eq!(exact_fraction(exact as f32), exact, "{size}");
        }
        for percent in 1..=1000u32 {
            let exact = f64::from(percent) / 1000.0;
            assert_eq!(exact_fraction(exact as f32), exact, "{percent}");
        }
        assert_eq!(exact_fraction(1.0), 1.0);
        assert_eq!(exact_fraction(1e-6), f64::from(1e-6f32));
    }

    /// Sides of the crop as Python computes them, by their CRC-32 for all short sides to 4096.
    #[test]
    fn crop_sides_are_pythons() {
        let crops = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/preprocess/crops.txt");
        let text = std::fs::read_to_string(crops).expect("the golden file is there");
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() >= 5);
        for line in lines {
            let (size, expected) = line.split_once(' ').expect("two words a line");
            let size: u32 = size.parse().expect("a number");
            let fraction = size as f32 / (size + 32) as f32;
            let description = describe([size; 2], Crop::Center { fraction });
            let crc = (1..=4096).fold(!0, |crc, side| {
                // The other side must not matter.
                let wide = Geometry::new(&description, side + 100, side);
                let tall = Geometry::new(&description, side, side * 2);
                assert_eq!((wide.x.length, tall.x.length), (wide.y.length, wide.y.length));
                assert_eq!(tall.y.length, wide.y.length);
                wide.y.length.to_le_bytes().iter().fold(crc, |crc, byte| {
                    (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
                        if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
                    })
                })
            });
            assert_eq!(format!("{:08x}", !crc), expected, "size {size}");
        }
    }

    #[test]
    fn center_of_a_square_tensor() {
        let d = describe([224, 224], Crop::Center { fraction: 0.875 });
        let g = Geometry::new(&d, 1920, 1080);
        assert_eq!((g.x.start, g.x.length, g.y.start, g.y.length), (487, 945, 67, 945));
        let g = Geometry::new(&d, 1, 1);
        assert_eq!((g.x.start, g.x.length, g.y.start, g.y.length), (0, 1, 0, 1));
    }

    #[test]
    fn center_of_a_wide_tensor_keeps_its_aspect() {
        let d = describe([100, 200], Crop::Center { fraction: 1.0 });
        let g = Geometry::new(&d, 640, 480);
        assert_eq!((g.x.start, g.x.length, g.y.start, g.y.length), (0, 640, 80, 320));
        let g = Geometry::new(&d, 640, 200);
        assert_eq!((g.x.start, g.x.length, g.y.start, g.y.length), (120, 400, 0, 200));
    }

    #[test]
    fn resize_then_center_is_torchvisions() {
        let d = describe([224, 224], Crop::ResizeThenCenter { fraction: 0.875 });
        // Resize(256): 455 x 256; CenterCrop(224): left = round(115.5) = 116, top = 16.
        let g = Geometry::new(&d, 1920, 1080);
        assert_eq!((g.x.target, g.x.first, g.y.target, g.y.first), (455, 116, 256, 16));
        // 257 x 256: left = round(16.5) = 16.
        let g = Geometry::new(&d, 257, 256);
        assert_eq!((g.x.target, g.x.first), (257, 16));
        let g = Geometry::new(&d, 1, 32768);
        assert_eq!((g.y.target, g.y.first), (256 * 32768, (256 * 32768 - 224) / 2));
    }

    #[test]
    fn what_is_wanted_lies_within_the_target() {
        for fraction in [0.001, 0.5, 0.875, 0.9, 1.0] {
            for (w, h) in [(1, 1), (1, 900), (899, 3), (333, 334), (32768, 2048)] {
                for size in [[1, 1], [7, 300], [300, 7], [224, 224]] {
                    let crop = Crop::ResizeThenCenter { fraction };
                    let g = Geometry::new(&describe(size, crop), w, h);
                    for span in [g.x, g.y] {
                        assert!(span.first + u64::from(span.count) <= span.target, "{span:?}");
                    }
                }
            }
        }
    }
}
