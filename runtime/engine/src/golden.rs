//! The self-test: small pictures inside the model, with the outputs that the host measured.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::ModelError;
use crate::metadata::{GOLDEN_KEY, Golden, GoldenSample};
use crate::picture::Picture;

/// Largest side of a sample's picture, pixels.
const MAX_SIDE: u32 = 512;

impl GoldenSample {
    /// A sample of a picture and the model's raw outputs for it: the `keep` largest are kept.
    ///
    /// # Panics
    /// When `keep` is 0.
    #[must_use]
    pub fn new(name: &str, picture: &Picture, outputs: &[f32], keep: usize) -> Self {
        assert!(keep > 0, "a sample without outputs tests nothing");
        let mut order: Vec<u32> = (0..outputs.len() as u32).collect();
        order.sort_by(|&a, &b| outputs[b as usize].total_cmp(&outputs[a as usize]));
        order.truncate(keep);
        Self {
            name: name.to_owned(),
            width: picture.width(),
            height: picture.height(),
            rgb: STANDARD.encode(picture.rgb()),
            outputs: order.into_iter().map(|i| (i, outputs[i as usize])).collect(),
        }
    }

    /// The sample's picture.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] when size and data do not agree.
    pub fn picture(&self) -> Result<Picture, ModelError> {
        let bad = |why: String| ModelError::Metadata {
            key: GOLDEN_KEY,
            why: format!("sample '{}': {why}", self.name),
        };
        if self.width > MAX_SIDE || self.height > MAX_SIDE {
            return Err(bad(format!("{}x{} is too large", self.width, self.height)));
        }
        let rgb = STANDARD.decode(&self.rgb).map_err(|e| bad(e.to_string()))?;
        Picture::from_rgb(self.width, self.height, rgb).map_err(|e| bad(e.to_string()))
    }

    /// Compares a machine's raw outputs with the expected ones.
    ///
    /// # Errors
    /// [`ModelError::SelfTest`] for the first output that is off by more than `tolerance` of the
    /// sample's largest absolute output, [`ModelError::Metadata`] for an index outside.
    pub fn compare(&self, outputs: &[f32], tolerance: f32) -> Result<(), ModelError> {
        let largest = self.outputs.iter().fold(f32::MIN_POSITIVE, |m, (_, v)| m.max(v.abs()));
        for &(index, expected) in &self.outputs {
            let actual = *outputs.get(index as usize).ok_or_else(|| ModelError::Metadata {
                key: GOLDEN_KEY,
                why: format!(
                    "sample '{}' expects output {index}, the model has {}",
                    self.name,
                    outputs.len()
                ),
            })?;
            let difference = (actual - expected).abs() / largest;
            // Written so that a NaN fails.
            if !matches!(difference.partial_cmp(&tolerance), Some(o) if o.is_le()) {
                let sample = self.name.clone();
                return Err(ModelError::SelfTest {
                    sample,
                    index,
                    actual,
                    expected,
                    difference,
                    tolerance,
                });
            }
        }
        Ok(())
    }
}

impl Golden {
    /// Runs the first `most` samples through `run` (picture to raw outputs) and compares; says how
    /// many there were.
    ///
    /// # Errors
    /// The first sample's that fails, or an error of `run`.
    pub fn verify(
        &self,
        most: usize,
        mut run: impl FnMut(&Picture) -> Result<Vec<f32>, ModelError>,
    ) -> Result<usize, ModelError> {
        let samples = &self.samples[..most.min(self.samples.len())];
        samples
            .iter()
            .try_for_each(|sample| sample.compare(&run(&sample.picture()?)?, self.tolerance))?;
        Ok(samples.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> GoldenSample {
        let picture = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        GoldenSample::new("a", &picture, &[0.5, -4.0, 3.0], 2)
    }

    #[test]
    fn the_largest_outputs_and_the_picture_are_kept() {
        let sample = sample();
        assert_eq!(sample.outputs, [(2, 3.0), (0, 0.5)]);
        assert_eq!(sample.picture().unwrap().rgb(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_difference_is_named_with_its_size() {
        let sample = sample();
        sample.compare(&[0.5, 9.0, 3.0], 0.0).unwrap();
        let error = sample.compare(&[0.5, 9.0, 2.7], 0.01).unwrap_err();
        assert!(matches!(error, ModelError::SelfTest { index: 2, .. }), "{error}");
        assert!(sample.compare(&[0.5, 9.0, f32::NAN], 1.0).is_err());
        assert!(sample.compare(&[0.5], 1.0).is_err());
    }
}
