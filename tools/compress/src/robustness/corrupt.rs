//! Pictures made worse, as cameras, light and networks do.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, RgbImage, imageops};
use kinglet_engine::Picture;

use super::Kind;
use crate::splitmix::SplitMix64;

/// The picture, made worse. What has no meaning without a model ([`Kind::ATTACKS`]) changes nothing.
pub(super) fn corrupt(
    kind: Kind,
    strength: f32,
    picture: &Picture,
    random: &mut SplitMix64,
) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let rgb = match kind {
        Kind::Blur => {
            let image = RgbImage::from_raw(width, height, picture.rgb().to_vec());
            image.map(|image| imageops::blur(&image, strength).into_raw())
        }
        Kind::Noise => {
            let noisy = |&v: &u8| clamp(f32::from(v) + strength * normal(random));
            Some(picture.rgb().iter().map(noisy).collect())
        }
        Kind::Brightness => {
            Some(picture.rgb().iter().map(|&v| clamp(f32::from(v) * strength)).collect())
        }
        Kind::Jpeg => return jpeg(picture, strength as u8).unwrap_or_else(|| picture.clone()),
        Kind::Rotation => Some(rotate(picture, strength.to_radians())),
        Kind::Fgsm | Kind::Pgd => None,
    };
    rgb.and_then(|rgb| Picture::from_rgb(width, height, rgb).ok())
        .unwrap_or_else(|| picture.clone())
}

fn clamp(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// A number of the normal distribution (Box and Muller, 1958).
fn normal(random: &mut SplitMix64) -> f32 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.unit()).cos()) as f32
}

fn jpeg(picture: &Picture, quality: u8) -> Option<Picture> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(picture.rgb(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .ok()?;
    Picture::decode(&bytes).ok()
}

/// Turned about its middle; what comes in from outside has the colour of the nearest edge.
fn rotate(picture: &Picture, angle: f32) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (sin, cos) = angle.sin_cos();
    let middle = [(width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0];
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (dx, dy) = (x as f32 - middle[0], y as f32 - middle[1]);
            let from_x = (middle[0] + cos * dx + sin * dy).clamp(0.0, width as f32 - 1.0);
            let from_y = (middle[1] - sin * dx + cos * dy).clamp(0.0, height as f32 - 1.0);
            let (x0, y0) = (from_x as usize, from_y as usize);
            let (x1, y1) = ((x0 + 1).min(width - 1), (y0 + 1).min(height - 1));
            let (fx, fy) = (from_x.fract(), from_y.fract());
            for c in 0..3 {
                let at = |x: usize, y: usize| f32::from(picture.rgb()[(y * width + x) * 3 + c]);
                let above = at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx;
                let below = at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx;
                rgb.push(clamp(above * (1.0 - fy) + below * fy));
            }
        }
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Picture {
        let pixel = |i: u32| {
            if (i % 32 / 4 + i / 32 / 4).is_multiple_of(2) { [30, 60, 90] } else { [200, 180, 160] }
        };
        Picture::from_rgb(32, 32, (0..32 * 32).flat_map(pixel).collect()).unwrap()
    }

    fn distance(a: &Picture, b: &Picture) -> f64 {
        let pairs = a.rgb().iter().zip(b.rgb());
        pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.rgb().len() as f64
    }

    /// Stronger is farther from the picture, for every kind.
    #[test]
    fn strengths_are_in_order() {
        let picture = checks();
        for kind in Kind::CORRUPTIONS {
            let far = |strength: f32| {
                distance(&picture, &corrupt(kind, strength, &picture, &mut SplitMix64::new(1)))
            };
            // Brightness goes two ways from 1.
            let sides = [false, true].map(|above| {
                let own = |s: &&f32| (**s > kind.none()) == above;
                let mut side: Vec<f32> = kind.strengths().iter().filter(own).copied().collect();
                side.sort_by_key(|s| ((s - kind.none()).abs() * 100.0) as u32);
                side
            });
            for side in sides {
                let mut last = 0.0;
                // A rotation of a regular pattern may come near it again.
                for &strength in side.iter().take(if kind == Kind::Rotation { 2 } else { 4 }) {
                    let now = far(strength);
                    assert!(now > last, "{kind:?} {strength}: {now} after {last}");
                    last = now;
                }
            }
        }
    }

    #[test]
    fn a_quarter_turn_moves_the_corners() {
        let mut rgb = vec![0; 9 * 9 * 3];
        rgb[0] = 255;
        let picture = Picture::from_rgb(9, 9, rgb).unwrap();
        let turned = rotate(&picture, std::f32::consts::FRAC_PI_2);
        let bright: Vec<_> = (0..81).filter(|i| turned[i * 3] > 100).collect();
        assert_eq!(bright, [8]);
        assert_eq!(rotate(&picture, 0.0), picture.rgb());
    }

    #[test]
    fn noise_is_as_strong_as_it_says() {
        let grey = Picture::from_rgb(100, 100, vec![127; 30_000]).unwrap();
        let noisy = corrupt(Kind::Noise, 20.0, &grey, &mut SplitMix64::new(2));
        let square = noisy.rgb().iter().map(|&v| (f64::from(v) - 127.0).powi(2)).sum::<f64>();
        let deviation = (square / 30_000.0).sqrt();
        assert!((deviation - 20.0).abs() < 0.5, "{deviation}");
    }
}
