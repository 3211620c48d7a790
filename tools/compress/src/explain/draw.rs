//! A map of evidence over the photograph.

use image::imageops::{self, FilterType};
use image::{ImageFormat, Rgb, RgbImage};
use kinglet_engine::Picture;
use kinglet_engine::metadata::{Crop, Preprocess};

use super::Heat;

/// Longer side of what is drawn, pixels.
const SIDE: f64 = 1024.0;
/// Colours from no evidence to the most: dark violet, red, orange, pale yellow. Their brightness
/// grows evenly, so that the map can be read without seeing colours.
const COLORS: [[f32; 3]; 5] = [
    [20.0, 11.0, 52.0],
    [101.0, 21.0, 110.0],
    [187.0, 55.0, 84.0],
    [249.0, 142.0, 9.0],
    [252.0, 255.0, 164.0],
];

/// A PNG file of the photograph with the map over it; what the model does not see is dark.
#[must_use]
pub fn picture(photograph: &Picture, preprocess: &Preprocess, heat: &Heat) -> Vec<u8> {
    let (width, height) = (photograph.width(), photograph.height());
    let scale = (SIDE / f64::from(width.max(height))).min(4.0);
    let side = |s: u32| ((f64::from(s) * scale).round() as u32).max(1);
    let full = RgbImage::from_raw(width, height, photograph.rgb().to_vec()).unwrap_or_default();
    let mut drawn = imageops::resize(&full, side(width), side(height), FilterType::Triangle);
    let [left, top, right, bottom] = seen(preprocess, width, height);
    let most = heat.values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let (drawn_width, drawn_height) = (drawn.width() as f32, drawn.height() as f32);
    for (x, y, pixel) in drawn.enumerate_pixels_mut() {
        let (u, v) = ((x as f32 + 0.5) / drawn_width, (y as f32 + 0.5) / drawn_height);
        let grey =
            0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2]);
        if !(left..right).contains(&u) || !(top..bottom).contains(&v) {
            *pixel = Rgb([(grey * 0.3) as u8; 3]);
            continue;
        }
        let at = value_at(heat, (u - left) / (right - left), (v - top) / (bottom - top));
        let share = (at / most).clamp(0.0, 1.0);
        let color = color(share);
        // Where there is no evidence the photograph shows in grey, so that the map stands out.
        let strength = 0.35 + 0.3 * share;
        for c in 0..3 {
            let mixed = grey * (1.0 - strength) + color[c] * strength;
            pixel[c] = mixed.round().clamp(0.0, 255.0) as u8;
        }
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    // Writing to memory does not fail.
    _ = drawn.write_to(&mut bytes, ImageFormat::Png);
    bytes.into_inner()
}

/// The value at a place, 0..=1 from the left and top, between the cells' middles.
fn value_at(heat: &Heat, x: f32, y: f32) -> f32 {
    let (columns, rows) = (heat.width.max(1), heat.height().max(1));
    let place = |share: f32, n: usize| {
        let at = (share * n as f32 - 0.5).clamp(0.0, (n - 1) as f32);
        (at as usize, (at as usize + 1).min(n - 1), at.fract())
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (place(x, columns), place(y, rows));
    let value = |x: usize, y: usize| heat.values.get(y * columns + x).copied().unwrap_or(0.0);
    let above = value(x0, y0) * (1.0 - fx) + value(x1, y0) * fx;
    let below = value(x0, y1) * (1.0 - fx) + value(x1, y1) * fx;
    above * (1.0 - fy) + below * fy
}

fn color(share: f32) -> [f32; 3] {
    let at = share * (COLORS.len() - 1) as f32;
    let low = (at as usize).min(COLORS.len() - 2);
    let part = at - low as f32;
    [0, 1, 2].map(|c| COLORS[low][c] * (1.0 - part) + COLORS[low + 1][c] * part)
}

/// Left, top, right and bottom of what a model sees of a picture, 0..=1.
fn seen(preprocess: &Preprocess, width: u32, height: u32) -> [f32; 4] {
    let [tensor_height, tensor_width] = preprocess.size.map(|s| s as f32);
    let (width, height) = (width as f32, height as f32);
    let (Crop::Center { fraction } | Crop::ResizeThenCenter { fraction }) = preprocess.crop else {
        return [0.0, 0.0, 1.0, 1.0];
    };
    let fits = (width / tensor_width).min(height / tensor_height) * fraction;
    let (across, down) = (fits * tensor_width / width, fits * tensor_height / height);
    [(1.0 - across) / 2.0, (1.0 - down) / 2.0, (1.0 + across) / 2.0, (1.0 + down) / 2.0]
}

#[cfg(test)]
mod tests {
    use kinglet_engine::metadata::{Channels, Filter};

    use super::*;

    #[test]
    fn the_brightest_place_is_where_the_evidence_is() {
        let preprocess = Preprocess {
            size: [8, 8],
            filter: Filter::Bilinear,
            crop: Crop::Center { fraction: 0.5 },
            mean: [0.0; 3],
            std: [1.0; 3],
            channels: Channels::Rgb,
        };
        let photograph = Picture::from_rgb(200, 100, vec![120; 200 * 100 * 3]).unwrap();
        let mut values = vec![-1.0; 16];
        values[4 + 3] = 2.0;
        let heat = Heat { class: 0, score: 1.0, width: 4, values };
        let drawn = Picture::decode(&picture(&photograph, &preprocess, &heat)).unwrap();
        let brightness =
            |at: usize| drawn.rgb()[at * 3..at * 3 + 3].iter().map(|&v| u32::from(v)).sum::<u32>();
        let pixels = (drawn.width() * drawn.height()) as usize;
        let best = (0..pixels).max_by_key(|&at| brightness(at)).unwrap() as u32;
        let place = [best % drawn.width(), best / drawn.width()];
        let x = place[0] as f32 / drawn.width() as f32;
        let y = place[1] as f32 / drawn.height() as f32;
        // The model sees 0.375..0.625 across and 0.25..0.75 down.
        assert!((0.56..0.63).contains(&x) && (0.37..0.50).contains(&y), "{x} {y}");
        assert!(brightness(0) < 120, "{}", brightness(0));
    }
}
