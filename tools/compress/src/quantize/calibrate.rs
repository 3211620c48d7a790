//! Runs the float model over the calibration pictures and collects what its values look like.

use std::path::PathBuf;

use kinglet_engine::metadata::Preprocess;
use kinglet_engine::onnx::ModelProto;
use kinglet_engine::preprocess::{InputTensor, Preprocessor};
use kinglet_engine::{Options, Picture, Session};

use super::histogram::Histogram;
use super::importance;
use super::plan::Plan;
use super::{Event, QuantizeError};
use crate::evaluate::Skipped;
use crate::parallel;
use crate::watch::{self, Place};

/// Sums over pictures are whole multiples of 2^-40, so that their order does not matter.
const UNIT: f64 = (1_u64 << 40) as f64;

/// What was seen of one point.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Seen {
    pub histogram: Histogram,
    /// Largest magnitude in each channel; empty for values without pixels.
    pub largest: Vec<f32>,
    moments: Vec<[i128; 2]>,
}

/// What was seen of all points.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Calibration {
    pub points: Vec<Seen>,
    pub pictures: usize,
    pub skipped: Vec<Skipped>,
}

impl Calibration {
    /// Mean and variance of each channel of a point that feeds weights.
    pub(super) fn moments(&self, point: usize) -> (Vec<f64>, Vec<f64>) {
        let n = self.pictures.max(1) as f64 * UNIT;
        let moment = |m: &[i128; 2]| {
            let (mean, square) = (m[0] as f64 / n, m[1] as f64 / n);
            (mean, (square - mean * mean).max(0.0))
        };
        self.points[point].moments.iter().map(moment).unzip()
    }
}

/// One thread's share.
struct Part {
    points: Vec<Seen>,
    pictures: usize,
    /// Pictures of a single colour.
    plain: usize,
    skipped: Vec<(usize, String)>,
}

/// Runs the prepared model over the pictures. `on` hears of each.
pub(super) fn calibrate(
    model: &ModelProto,
    plan: &Plan,
    preprocess: &Preprocess,
    pictures: &[PathBuf],
    threads: usize,
    on: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Calibration, QuantizeError> {
    let (file, places) = watch::watched(model, plan.points.iter().map(|p| p.value.as_str()))?;
    let weights = importance::importance(model, plan);
    on(Event::Start("calibrating", pictures.len()));
    let options = Options { self_test: false, ..Options::default() };
    let parts = parallel::run(threads, pictures.len(), |queue| {
        let mut session = Session::new(file.clone(), &options)?;
        let mut preprocessor = Preprocessor::new(preprocess, session.input_kind())?;
        let mut tensor = preprocessor.tensor();
        let mut part = Part::new(plan.points.len());
        for at in queue {
            match Picture::read(&pictures[at]) {
                Ok(picture) => {
                    part.plain += usize::from(watch::is_plain(&picture));
                    preprocessor.run(&picture, &mut tensor);
                    part.add(&mut session, &tensor, plan, &places, &weights)?;
                }
                Err(error) => part.skipped.push((at, error.to_string())),
            }
            on(Event::Done);
        }
        Ok::<_, QuantizeError>(part)
    })?;
    let whole = parts.into_iter().reduce(Part::merge);
    let mut whole = whole.unwrap_or_else(|| Part::new(plan.points.len()));
    whole.skipped.sort();
    if whole.pictures > 0 && whole.plain == whole.pictures {
        return Err(QuantizeError::Plain { pictures: whole.pictures });
    }
    let skip = |(at, why): (usize, String)| Skipped { path: pictures[at].clone(), why };
    let calibration = Calibration {
        points: whole.points,
        pictures: whole.pictures,
        skipped: whole.skipped.into_iter().map(skip).collect(),
    };
    check(&calibration, plan, pictures.len())?;
    Ok(calibration)
}

fn check(calibration: &Calibration, plan: &Plan, pictures: usize) -> Result<(), QuantizeError> {
    let skipped = calibration.skipped.len();
    if let Some(first) = calibration.skipped.first().filter(|_| calibration.pictures == 0) {
        return Err(QuantizeError::Unreadable { skipped, pictures, first: first.why.clone() });
    }
    if calibration.pictures == 0 {
        return Err(QuantizeError::NoPictures);
    }
    let points = plan.points.iter().zip(&calibration.points);
    for (point, seen) in points {
        if seen.histogram.not_finite() > 0 {
            return Err(QuantizeError::NotFinite { value: point.value.clone() });
        }
    }
    Ok(())
}

impl Part {
    fn new(points: usize) -> Self {
        let seen =
            || Seen { histogram: Histogram::new(), largest: Vec::new(), moments: Vec::new() };
        let points = (0..points).map(|_| seen()).collect();
        Self { points, pictures: 0, plain: 0, skipped: Vec::new() }
    }

    fn add(
        &mut self,
        session: &mut Session,
        tensor: &InputTensor,
        plan: &Plan,
        places: &[Place],
        weights: &[Vec<u64>],
    ) -> Result<(), QuantizeError> {
        let outputs = session.run_all(tensor)?;
        let [height, width] = session.input_size();
        let input_shape = [1, 3, height, width];
        let points = plan.points.iter().zip(places).zip(weights).zip(&mut self.points);
        for (((point, place), weights), seen) in points {
            let (shape, values) = match (*place, tensor) {
                (Place::Output(at), _) => (outputs[at].0.as_slice(), outputs[at].1.as_slice()),
                (Place::Input, InputTensor::F32(values)) => (&input_shape[..], values.as_slice()),
                (Place::Input, InputTensor::U8(_)) => continue,
            };
            seen.count(values, weights);
            seen.add_largest(shape, values);
            if point.feeds_weights {
                seen.add_moments(shape, values);
            }
        }
        self.pictures += 1;
        Ok(())
    }

    fn merge(mut self, other: Self) -> Self {
        for (own, more) in self.points.iter_mut().zip(other.points) {
            own.histogram.merge(more.histogram);
            own.largest.resize(own.largest.len().max(more.largest.len()), 0.0);
            for (a, b) in own.largest.iter_mut().zip(more.largest) {
                *a = a.max(b);
            }
            own.moments.resize(own.moments.len().max(more.moments.len()), [0; 2]);
            for (a, b) in own.moments.iter_mut().zip(more.moments) {
                a[0] += b[0];
                a[1] += b[1];
            }
        }
        self.pictures += other.pictures;
        self.plain += other.plain;
        self.skipped.extend(other.skipped);
        self
    }
}

impl Seen {
    /// Counts values, those of each channel as often as its weight says.
    fn count(&mut self, values: &[f32], weights: &[u64]) {
        let pixels = values.len() / weights.len().max(1);
        if pixels * weights.len() != values.len() || pixels == 0 {
            return self.histogram.add(values, 1);
        }
        for (plane, &weight) in values.chunks_exact(pixels).zip(weights) {
            self.histogram.add(plane, weight);
        }
    }

    fn add_largest(&mut self, shape: &[usize], values: &[f32]) {
        let &[1, channels, height, width] = shape else { return };
        self.largest.resize(channels, 0.0);
        for (largest, plane) in self.largest.iter_mut().zip(values.chunks((height * width).max(1)))
        {
            *largest = plane.iter().fold(*largest, |most, v| most.max(v.abs()));
        }
    }

    /// Adds one picture's mean and mean square of each channel of a (1, channels, …) tensor.
    fn add_moments(&mut self, shape: &[usize], values: &[f32]) {
        let channels = shape.get(1).copied().unwrap_or(1).max(1);
        let pixels = (values.len() / channels).max(1);
        self.moments.resize(channels, [0; 2]);
        for (moment, plane) in self.moments.iter_mut().zip(values.chunks(pixels)) {
            let (mut sum, mut square) = (0.0_f64, 0.0_f64);
            for &v in plane {
                sum += f64::from(v);
                square += f64::from(v) * f64::from(v);
            }
            moment[0] += (sum / pixels as f64 * UNIT).round() as i128;
            moment[1] += (square / pixels as f64 * UNIT).round() as i128;
        }
    }
}
