//! Variants of a picture: crops, mirror images, other light and colours.

use kinglet_engine::metadata::{Crop, Preprocess};
use kinglet_engine::preprocess::{InputKind, InputTensor, Preprocessor};
use kinglet_engine::{ModelError, Picture};

use crate::splitmix::SplitMix64;

/// Smallest area of a crop, of that which the model sees.
const LEAST_AREA: f64 = 0.5;
/// Largest ratio of a crop's sides, relative to the model's.
const MOST_ASPECT: f64 = 4.0 / 3.0;
/// Largest change of brightness, contrast and saturation.
const COLOR: f64 = 0.3;

/// Makes input tensors of variants.
pub(super) struct Augmenter {
    /// Takes all of what it is given.
    whole: Preprocessor,
    aspect: f64,
    stretch: bool,
    flip: bool,
}

impl Augmenter {
    /// For a model that prepares pictures as described. Without `flip` nothing is mirrored.
    ///
    /// # Errors
    /// As [`Preprocessor::new`].
    pub(super) fn new(
        described: &Preprocess,
        kind: InputKind,
        flip: bool,
    ) -> Result<Self, ModelError> {
        let whole = Preprocess { crop: Crop::Stretch, ..described.clone() };
        Ok(Self {
            whole: Preprocessor::new(&whole, kind)?,
            aspect: f64::from(described.size[1]) / f64::from(described.size[0]),
            stretch: described.crop == Crop::Stretch,
            flip,
        })
    }

    /// Fills `tensor` from a random variant of a picture.
    pub(super) fn run(
        &mut self,
        picture: &Picture,
        random: &mut SplitMix64,
        tensor: &mut InputTensor,
    ) {
        let part = self.crop(picture, random);
        let [height, width] = self.whole.description().size;
        let mut rgb = self.whole.resized(&part).to_vec();
        if self.flip && random.unit() < 0.5 {
            mirror(&mut rgb, width as usize);
        }
        recolor(&mut rgb, random);
        if let Ok(variant) = Picture::from_rgb(width, height, rgb) {
            self.whole.run(&variant, tensor);
        }
    }

    /// A part of the picture, of random size, sides and place.
    fn crop(&self, picture: &Picture, random: &mut SplitMix64) -> Picture {
        let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
        // The largest part with the model's sides.
        let (full_width, full_height) = if self.stretch {
            (width, height)
        } else {
            (width.min(height * self.aspect), height.min(width / self.aspect))
        };
        let scale = (LEAST_AREA + (1.0 - LEAST_AREA) * random.unit()).sqrt();
        let aspect = MOST_ASPECT.powf(random.unit() - 0.5);
        let side = |full: f64, whole: f64| (full * scale).round().clamp(1.0, whole) as usize;
        let (w, h) = (side(full_width * aspect, width), side(full_height / aspect, height));
        let left = random.below(picture.width() as usize - w + 1);
        let top = random.below(picture.height() as usize - h + 1);
        let rows = picture.rgb().chunks_exact(picture.width() as usize * 3).skip(top).take(h);
        let rgb = rows.flat_map(|row| &row[left * 3..(left + w) * 3]).copied().collect();
        Picture::from_rgb(w as u32, h as u32, rgb).unwrap_or_else(|_| picture.clone())
    }
}

/// Left becomes right.
fn mirror(rgb: &mut [u8], width: usize) {
    for row in rgb.chunks_exact_mut(width * 3) {
        for x in 0..width / 2 {
            for c in 0..3 {
                row.swap(x * 3 + c, (width - 1 - x) * 3 + c);
            }
        }
    }
}

/// Other brightness, contrast and saturation.
fn recolor(rgb: &mut [u8], random: &mut SplitMix64) {
    let mut factor = || (1.0 + COLOR * (2.0 * random.unit() - 1.0)) as f32;
    let (brightness, contrast, saturation) = (factor(), factor(), factor());
    let grey =
        |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
    let pixels = (rgb.len() / 3).max(1) as f32;
    let mean = rgb.chunks_exact(3).map(grey).sum::<f32>() / pixels;
    for pixel in rgb.chunks_exact_mut(3) {
        let own = grey(pixel);
        for value in pixel {
            let saturated = own + (f32::from(*value) - own) * saturation;
            let contrasted = mean + (saturated - mean) * contrast;
            *value = (contrasted * brightness).round().clamp(0.0, 255.0) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use kinglet_engine::metadata::{Channels, Filter};

    use super::*;

    #[test]
    fn a_mirror_image_twice_is_the_picture() {
        let rgb: Vec<u8> = (0..3 * 5 * 2).collect();
        let mut twice = rgb.clone();
        mirror(&mut twice, 5);
        assert_eq!(twice[..3], rgb[12..15]);
        mirror(&mut twice, 5);
        assert_eq!(twice, rgb);
    }

    #[test]
    fn variants_differ_by_seed_alone_and_small_pictures_do() {
        let described = Preprocess {
            size: [16, 16],
            filter: Filter::Bilinear,
            crop: Crop::Center { fraction: 0.875 },
            mean: [0.0; 3],
            std: [1.0; 3],
            channels: Channels::Rgb,
        };
        let mut augmenter = Augmenter::new(&described, InputKind::F32Nchw, true).unwrap();
        for (width, height) in [(1, 1), (40, 20), (7, 90)] {
            let rgb = (0..width * height * 3).map(|v| (v * 7 % 251) as u8).collect();
            let picture = Picture::from_rgb(width, height, rgb).unwrap();
            let mut run = |place: u64| {
                let mut tensor = InputTensor::F32(Vec::new());
                augmenter.run(&picture, &mut SplitMix64::at(5, &[place]), &mut tensor);
                tensor
            };
            assert_eq!(run(0), run(0));
            assert_ne!(run(0), run(1));
        }
    }
}
