//! Pictures changed along the gradient of a float model's loss, by less than the eye sees.

use kinglet_engine::metadata::{Channels, Preprocess};
use kinglet_engine::preprocess::InputTensor;
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use super::RobustnessError;
use crate::gradient::{Backward, Values};
use crate::inspect::shapes;
use crate::watch::{self, Place};

/// Size of a step, of the largest change divided by the number of steps.
const STEP: f32 = 2.5;

/// Makes pictures that a model gets wrong.
pub(super) struct Attacker {
    session: Session,
    backward: Backward,
    /// Where the forward values are that the gradient needs, by name.
    places: Vec<(String, Place)>,
    input: String,
    preprocess: Preprocess,
    /// The slopes of the last picture as it was, and that picture and its class: the first step of every
    /// attack.
    first: Option<(Picture, usize, Vec<f32>)>,
}

impl Attacker {
    /// # Errors
    /// [`RobustnessError::NoGradient`] where the model has an operator without a rule, such as those of
    /// int8 models.
    pub(super) fn new(file: &OnnxFile, preprocess: &Preprocess) -> Result<Self, RobustnessError> {
        let shapes = shapes::infer(file);
        let input = shapes.inputs.first().cloned().unwrap_or_default();
        let backward = Backward::new(file.graph(), &shapes, &[&input])?;
        let mut names = backward.needed();
        names.push(backward.logits());
        let (watched, places) = watch::watched(&file.proto, names.iter().copied())?;
        let places = names.iter().map(|&n| n.to_owned()).zip(places).collect();
        let options = Options { self_test: false, ..Options::default() };
        let session = Session::new(watched, &options)?;
        Ok(Self { session, backward, places, input, preprocess: preprocess.clone(), first: None })
    }

    /// The picture, changed by at most `size` of 255 in `steps` steps so that its class becomes less
    /// likely: one step is FGSM, several are PGD (without a random start).
    pub(super) fn attack(
        &mut self,
        picture: &Picture,
        class: usize,
        size: f32,
        steps: usize,
    ) -> Result<Picture, ModelError> {
        let clean: Vec<f32> = picture.rgb().iter().map(|&v| f32::from(v)).collect();
        let mut pixels = clean.clone();
        let mut first = None;
        let step = if steps == 1 { size } else { STEP * size / steps as f32 };
        for number in 0..steps {
            let slopes = match self
                .first
                .take()
                .filter(|f| number == 0 && f.0 == *picture && f.1 == class)
            {
                Some((_, _, slopes)) => slopes,
                None => self.slopes(&pixels, class)?,
            };
            for ((pixel, &from), &slope) in pixels.iter_mut().zip(&clean).zip(&slopes) {
                let change = if slope == 0.0 { 0.0 } else { step * slope.signum() };
                *pixel = (*pixel + change).clamp(from - size, from + size).clamp(0.0, 255.0);
            }
            if number == 0 {
                first = Some((picture.clone(), class, slopes));
            }
        }
        self.first = first;
        let rgb = pixels.into_iter().map(|v| v.round() as u8).collect();
        Ok(Picture::from_rgb(picture.width(), picture.height(), rgb)
            .unwrap_or_else(|_| picture.clone()))
    }

    /// How the negative log-likelihood of a class grows with each sample of RGB pixels.
    pub(super) fn slopes(&mut self, pixels: &[f32], class: usize) -> Result<Vec<f32>, ModelError> {
        let count = pixels.len() / 3;
        let Preprocess { mean, std, .. } = self.preprocess;
        let bgr = self.preprocess.channels == Channels::Bgr;
        let sample = |plane: usize| if bgr { 2 - plane } else { plane };
        let mut tensor = Vec::with_capacity(pixels.len());
        for plane in 0..3 {
            let samples = pixels.iter().skip(sample(plane)).step_by(3);
            tensor.extend(samples.map(|v| (v - mean[plane]) / std[plane]));
        }
        let outputs = self.session.run_all(&InputTensor::F32(tensor))?;
        let mut values: Values<'_> = Values::new();
        for (name, place) in &self.places {
            if let Place::Output(at) = place {
                values.insert(name, &outputs[*at].1);
            }
        }
        let logits = values.get(self.backward.logits()).copied().unwrap_or_default();
        let mut start = kinglet_engine::Scores::from_logits(logits).probabilities;
        if let Some(own) = start.get_mut(class) {
            *own -= 1.0;
        }
        let gradients = self.backward.run(&values, start);
        let gradient = gradients.get(self.input.as_str()).map_or(&[][..], Vec::as_slice);
        let mut slopes = vec![0.0; pixels.len()];
        for (plane, values) in gradient.chunks_exact(count.max(1)).enumerate().take(3) {
            let own = slopes.iter_mut().skip(sample(plane)).step_by(3);
            own.zip(values).for_each(|(s, g)| *s = g / std[plane]);
        }
        Ok(slopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::import::{ImportOptions, import_random};

    fn loss(session: &mut Session, attacker: &Attacker, pixels: &[f32], class: usize) -> f64 {
        let Preprocess { mean, std, .. } = attacker.preprocess;
        let plane =
            |c: usize| pixels.iter().skip(c).step_by(3).map(move |v| (v - mean[c]) / std[c]);
        let tensor = (0..3).flat_map(plane).collect();
        let outputs = session.run(&InputTensor::F32(tensor)).unwrap();
        let most = outputs.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = outputs.iter().map(|v| f64::from(v - most).exp()).sum();
        sum.ln() - f64::from(outputs[class] - most)
    }

    /// Along the gradient the loss grows as the gradient says.
    #[test]
    fn gradients_are_the_finite_differences() {
        for name in ["efficientnet-lite0", "efficientnet-b0"] {
            let options =
                ImportOptions { classes: Some(5), resolution: Some(32), ..Default::default() };
            let file = import_random(Arch::find(name).unwrap(), 2, &options).unwrap();
            let preprocess = file.metadata().unwrap().preprocess.unwrap();
            let mut attacker = Attacker::new(&file, &preprocess).unwrap();
            let mut session = Session::new(file, &Options::default()).unwrap();
            let pixels: Vec<f32> = (0..3 * 32 * 32).map(|i| (i * 37 % 256) as f32).collect();
            let slopes = attacker.slopes(&pixels, 3).unwrap();
            let norm = slopes.iter().map(|s| s * s).sum::<f32>().sqrt();
            assert!(norm > 0.0, "{name}");
            let mut at = |by: f32| {
                let moved: Vec<f32> =
                    pixels.iter().zip(&slopes).map(|(p, s)| p + by * s / norm).collect();
                loss(&mut session, &attacker, &moved, 3)
            };
            let slope = (at(2.0) - at(-2.0)) / 4.0;
            let error = (slope / f64::from(norm) - 1.0).abs();
            assert!(error < 0.05, "{name}: {slope} {norm}");
        }
    }

    #[test]
    fn a_change_is_small_and_does_harm() {
        let options =
            ImportOptions { classes: Some(5), resolution: Some(32), ..Default::default() };
        let file = import_random(Arch::find("efficientnet-lite0").unwrap(), 2, &options).unwrap();
        let preprocess = file.metadata().unwrap().preprocess.unwrap();
        let mut attacker = Attacker::new(&file, &preprocess).unwrap();
        let mut session = Session::new(file, &Options::default()).unwrap();
        let rgb: Vec<u8> = (0..3 * 32 * 32).map(|i| (i * 37 % 256) as u8).collect();
        let picture = Picture::from_rgb(32, 32, rgb).unwrap();
        let floats = |p: &Picture| p.rgb().iter().map(|&v| f32::from(v)).collect::<Vec<_>>();
        let before = loss(&mut session, &attacker, &floats(&picture), 1);
        for steps in [1, 10] {
            let worse = attacker.attack(&picture, 1, 4.0, steps).unwrap();
            let pairs = worse.rgb().iter().zip(picture.rgb());
            assert!(pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap() <= 4);
            let after = loss(&mut session, &attacker, &floats(&worse), 1);
            assert!(after > before, "{steps}: {before} {after}");
        }
    }
}
