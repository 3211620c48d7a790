//! Views: parts of a picture as training sees it, the same ones for student and teacher.
//!
//! View 0 is the picture as it will be classified. The others are a random part of it (area 0.35 to
//! 1, aspect 3/4 to 4/3), mirrored every other time, its brightness, contrast and saturation
//! changed by up to a fifth. A teacher that sees the very view that the student sees teaches better
//! than one that sees another: Beyer et al., "Knowledge distillation: A good teacher is patient and
//! consistent", 2022.

use kinglet_compress::splitmix::SplitMix64;
use kinglet_engine::Picture;

/// Least part of a picture's area.
const LEAST_AREA: f64 = 0.35;
/// Largest change of brightness, contrast and saturation.
const JITTER: f64 = 0.2;

/// One view of a picture of a certain size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    mirrored: bool,
    brightness: f32,
    contrast: f32,
    saturation: f32,
}

impl View {
    /// The view of a place (picture, view) under a seed.
    #[must_use]
    pub fn random(seed: u64, place: [u64; 2], width: u32, height: u32) -> Self {
        let mut random = SplitMix64::at(seed, &[2, place[0], place[1]]);
        let area = f64::from(width) * f64::from(height);
        let part = LEAST_AREA + (1.0 - LEAST_AREA) * random.unit();
        let aspect = ((4.0_f64 / 3.0).ln() * (2.0 * random.unit() - 1.0)).exp();
        let side = |wanted: f64, all: u32| (wanted.round() as u32).clamp(1, all);
        let w = side((area * part * aspect).sqrt(), width);
        let h = side((area * part / aspect).sqrt(), height);
        let mut factor = || (1.0 + JITTER * (2.0 * random.unit() - 1.0)) as f32;
        let (brightness, contrast, saturation) = (factor(), factor(), factor());
        Self {
            left: random.below((width - w) as usize + 1) as u32,
            top: random.below((height - h) as usize + 1) as u32,
            width: w,
            height: h,
            mirrored: random.unit() < 0.5,
            brightness,
            contrast,
            saturation,
        }
    }

    /// The part of the picture, as a picture.
    ///
    /// # Panics
    /// When the view was made for another size.
    #[must_use]
    pub fn cut(&self, picture: &Picture) -> Picture {
        let stride = picture.width() as usize * 3;
        let (left, width) = (self.left as usize * 3, self.width as usize * 3);
        let rows = picture.rgb().chunks_exact(stride).skip(self.top as usize);
        let mut rgb = Vec::with_capacity(width * self.height as usize);
        for row in rows.take(self.height as usize) {
            let row = &row[left..left + width];
            if self.mirrored {
                rgb.extend(row.chunks_exact(3).rev().flatten());
            } else {
                rgb.extend_from_slice(row);
            }
        }
        self.recolour(&mut rgb);
        Picture::from_rgb(self.width, self.height, rgb).expect("the view lies within the picture")
    }

    /// Brightness multiplies, contrast moves from the mean grey, saturation from each pixel's own.
    fn recolour(&self, rgb: &mut [u8]) {
        let grey =
            |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
        let pixels = (rgb.len() / 3).max(1) as f64;
        let mean = (rgb.chunks_exact(3).map(|p| f64::from(grey(p))).sum::<f64>() / pixels) as f32;
        for pixel in rgb.chunks_exact_mut(3) {
            let own = grey(pixel);
            for value in pixel {
                let coloured = own + (f32::from(*value) - own) * self.saturation;
                let changed = (mean + (coloured - mean) * self.contrast) * self.brightness;
                *value = changed.round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_the_same_again_and_lie_within_the_picture() {
        let rgb: Vec<u8> = (0..40 * 30 * 3).map(|i| (i % 251) as u8).collect();
        let picture = Picture::from_rgb(40, 30, rgb).unwrap();
        let mut sizes = std::collections::BTreeSet::new();
        for view in 0..200 {
            let random = View::random(7, [3, view], 40, 30);
            assert_eq!(random, View::random(7, [3, view], 40, 30));
            let cut = random.cut(&picture);
            assert!(cut.width() * cut.height() >= 40 * 30 / 4, "{random:?}");
            sizes.insert((cut.width(), cut.height()));
        }
        assert!(sizes.len() > 50);
        let tiny = Picture::from_rgb(1, 1, vec![1, 2, 3]).unwrap();
        let _ = View::random(7, [0, 1], 1, 1).cut(&tiny);
    }
}
