//! The reference for drift: what a finished model makes of pictures like those that it will see,
//! sealed in its metadata, with thresholds for windows of such pictures.
//!
//! A threshold must be right for pictures that nobody has seen, while the reference is itself only a
//! sample. So both are drawn again and again from the reference (with replacement): a reference of
//! the same size and a window, and how far they are apart. Distances between the two vary as those
//! between the real reference and a real window do, as `1 / window + 1 / pictures`. The threshold is
//! the greatest of all distances that were drawn, in units of that, and a little more.

use std::path::PathBuf;

use kinglet_engine::drift::{
    Bins, Classes, LEAST_PICTURES, Means, Reference, Sample, Threshold, WINDOWS, project, stability,
};
use kinglet_engine::{ModelError, OnnxFile, Options, Picture, Session};

use crate::parallel;
use crate::splitmix::SplitMix64;

/// Windows that are drawn of each size.
const DRAWS: usize = 8000;
/// How much a threshold is above the greatest distance that was drawn.
const MARGIN: f64 = 1.25;
/// Bins of confidence.
const BINS: usize = 10;
/// Most classes with a bin of their own.
const MOST_OWN: usize = 32;
/// A class has a bin of its own if it has this share and so many pictures.
const OWN: (f64, usize) = (1.0 / 40.0, 5);
/// Share of the reference that is less sure than [`Reference::unsure`].
const UNSURE: f64 = 0.05;

/// Why there is no reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriftError {
    /// The model was refused, or failed while running.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There are too few pictures.
    #[error(
        "{pictures} readable pictures are too few for a reference, it takes {LEAST_PICTURES}: drift \
         will not be noticed"
    )]
    TooFew {
        /// Pictures that could be read.
        pictures: usize,
    },
    /// They are all the same.
    #[error("the pictures of the reference are all alike: they say nothing of what is usual")]
    Alike,
}

/// Runs a finished model over pictures and puts what it makes of them into its metadata. With
/// `mix`, its classes too: then the pictures must have the classes in the shares in which they will
/// come. `done` is called once a picture, from several threads. Pictures that cannot be read are
/// left out.
///
/// # Errors
/// [`DriftError`]; the model is unchanged then.
pub fn seal(
    file: &mut OnnxFile,
    pictures: &[PathBuf],
    mix: bool,
    threads: Option<usize>,
    done: &(dyn Fn() + Sync),
) -> Result<(), DriftError> {
    let samples = samples(file, pictures, parallel::threads(threads), done)?;
    let mut metadata = file.metadata()?;
    metadata.drift = Some(reference(&samples, mix)?);
    metadata.write(&mut file.proto);
    Ok(())
}

/// What the model makes of each picture that can be read, in their order.
///
/// # Errors
/// [`DriftError::Model`].
pub fn samples(
    file: &OnnxFile,
    pictures: &[PathBuf],
    threads: usize,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Sample>, DriftError> {
    let options = Options { self_test: false, ..Options::default() };
    let parts = parallel::run(threads, pictures.len(), |queue| {
        let mut session = Session::new(file.clone(), &options)?;
        let mut part = Vec::new();
        for at in queue {
            if let Ok(picture) = Picture::read(&pictures[at]) {
                part.push((at, sample(&mut session, &picture)?));
            }
            done();
        }
        Ok::<_, DriftError>(part)
    })?;
    let mut all: Vec<(usize, Sample)> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, sample)| sample).collect())
}

/// What a model makes of one picture.
///
/// # Errors
/// When it cannot run.
pub fn sample(session: &mut Session, picture: &Picture) -> Result<Sample, ModelError> {
    let outputs = session.outputs(picture)?;
    let mut features = Vec::new();
    let there = session.features_into(&mut features);
    let best = session.scores(&outputs).top(1).first().map_or((0, 0.0), |r| (r.index, r.score));
    Ok(Sample {
        confidence: best.1,
        class: u32::try_from(best.0).unwrap_or(u32::MAX),
        looks: session.looks(),
        projections: there.then(|| project(&features)),
    })
}

/// The reference of these samples.
///
/// # Errors
/// [`DriftError::TooFew`].
pub fn reference(samples: &[Sample], mix: bool) -> Result<Reference, DriftError> {
    if samples.len() < LEAST_PICTURES {
        return Err(DriftError::TooFew { pictures: samples.len() });
    }
    let mut sorted: Vec<f32> = samples.iter().map(|s| s.confidence).collect();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f64| sorted[((share * sorted.len() as f64) as usize).min(sorted.len() - 1)];
    let mut edges: Vec<f32> = (1..BINS).map(|n| at(n as f64 / BINS as f64)).collect();
    edges.dedup();
    let mut confidence = Bins { counts: vec![0; edges.len() + 1], edges };
    for sample in samples {
        let bin = confidence.of(sample.confidence);
        confidence.counts[bin] += 1;
    }
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let all: Vec<_> = samples.iter().map(|s| wide(&s.looks)).collect();
    let (looks, looked) = means(&all).ok_or(DriftError::Alike)?;
    let all: Option<Vec<_>> = samples.iter().map(|s| Some(wide(&s.projections?))).collect();
    let (features, projected) = all.and_then(|all| means(&all)).unzip();
    let classes = mix.then(|| classes(samples));
    let mut reference = Reference {
        pictures: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        unsure: at(UNSURE).clamp(0.0, 1.0),
        confidence,
        classes,
        looks,
        features,
        thresholds: Vec::new(),
    };
    reference.thresholds = thresholds(&reference, &looked, projected.as_deref());
    Ok(reference)
}

/// Classes by the pictures that they have, and what that says of those that have none.
fn classes(samples: &[Sample]) -> Classes {
    let mut counts = std::collections::BTreeMap::<u32, usize>::new();
    for sample in samples {
        *counts.entry(sample.class).or_default() += 1;
    }
    let n = samples.len() as f64;
    let once = counts.values().filter(|count| **count == 1).count() as f64;
    // Good and Turing; where no class was seen once, half a picture.
    let unseen = (once.max(0.5) / n).min(1.0 - 0.5 / n);
    let mut frequent: Vec<(u32, usize)> = counts
        .iter()
        .filter(|(_, count)| **count >= OWN.1 && **count as f64 >= OWN.0 * n)
        .map(|(class, count)| (*class, *count))
        .collect();
    frequent.sort_by_key(|(class, count)| (std::cmp::Reverse(*count), *class));
    frequent.truncate(MOST_OWN);
    let own: Vec<u32> = frequent.iter().map(|(class, _)| *class).collect();
    let seen: Vec<u32> = counts.keys().copied().filter(|class| !own.contains(class)).collect();
    let share = |count: usize| (count as f64 / n * (1.0 - unseen)) as f32;
    let of_own: usize = frequent.iter().map(|(_, count)| count).sum();
    let mut shares: Vec<f32> = frequent.iter().map(|(_, count)| share(*count)).collect();
    shares.push(share(samples.len() - of_own));
    shares.push(unseen as f32);
    Classes { own, seen, shares }
}

/// The distribution of some numbers of each picture, and they themselves less their mean. `None`: they
/// do not vary.
fn means(all: &[Vec<f64>]) -> Option<(Means, Vec<Vec<f64>>)> {
    let (n, numbers) = (all.len() as f64, all.first()?.len());
    let mut mean = vec![0.0; numbers];
    for row in all {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
    }
    let less = |row: &Vec<f64>| row.iter().zip(&mean).map(|(v, m)| v - m).collect();
    let centred: Vec<Vec<f64>> = all.iter().map(less).collect();
    let mut covariance = vec![vec![0.0; numbers]; numbers];
    for row in &centred {
        for (line, a) in covariance.iter_mut().zip(row) {
            line.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b / (n - 1.0));
        }
    }
    let varies = (0..numbers).any(|at| covariance[at][at] > 1e-9 * (1.0 + mean[at].powi(2)));
    // A thousandth more variance of each, and a millionth of its square, so that what hardly varies (a
    // grey camera's colours) does not count for all.
    for (at, row) in covariance.iter_mut().enumerate() {
        row[at] = row[at] * 1.001 + 1e-6 * mean[at].powi(2) + 1e-9;
    }
    if !varies {
        return None;
    }
    let whiten = inverse_root(&covariance)?;
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    Some((Means { mean: narrow(&mean), whiten: narrow(&whiten.concat()) }, centred))
}

/// The inverse of the lower triangular root of a positive definite matrix (Cholesky).
fn inverse_root(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let numbers = matrix.len();
    let mut root = vec![vec![0.0; numbers]; numbers];
    for row in 0..numbers {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| root[row][k] * root[column][k]).sum();
            let left = matrix[row][column] - known;
            root[row][column] = match row == column {
                true if left.is_nan() || left <= 0.0 => return None,
                true => left.sqrt(),
                false => left / root[column][column],
            };
        }
    }
    let mut inverse = vec![vec![0.0; numbers]; numbers];
    for column in 0..numbers {
        inverse[column][column] = 1.0 / root[column][column];
        for row in column + 1..numbers {
            let sum: f64 = (column..row).map(|k| root[row][k] * inverse[k][column]).sum();
            inverse[row][column] = -sum / root[row][row];
        }
    }
    Some(inverse)
}

/// Draws references and windows; see the module's documentation.
fn thresholds(
    reference: &Reference,
    looked: &[Vec<f64>],
    projected: Option<&[Vec<f64>]>,
) -> Vec<Threshold> {
    let pictures = reference.pictures;
    // The variance of what is compared, of which distances are multiples.
    let variance = |window: u32| 1.0 / f64::from(window) + 1.0 / f64::from(pictures);
    let mut random = SplitMix64::new(u64::from(pictures));
    let mut greatest = |distance: &dyn Fn(&mut SplitMix64, u32) -> f64| {
        let draws = WINDOWS.into_iter().flat_map(|window| (0..DRAWS).map(move |_| window));
        let scaled = draws.map(|window| distance(&mut random, window) / variance(window));
        scaled.fold(0.0, f64::max) * MARGIN
    };
    let bins = reference.confidence.shares();
    let confidence = greatest(&|random, window| apart(random, &bins, pictures, window));
    let classes = reference.classes.as_ref().map_or(0.0, |classes| {
        let shares: Vec<f64> = classes.shares.iter().map(|&s| f64::from(s)).collect();
        greatest(&|random, window| apart(random, &shares, pictures, window))
    });
    let mut hotelling = |means: &Means, rows: &[Vec<f64>]| {
        let own: Vec<f64> = means.mean.iter().map(|m| f64::from(*m)).collect();
        greatest(&|random, window| {
            let (drawn, other) = (mean(random, rows, pictures), mean(random, rows, window));
            let off: Vec<f64> = (0..own.len()).map(|at| own[at] + other[at] - drawn[at]).collect();
            means.distance(&off, 1.0)
        })
    };
    let looks = hotelling(&reference.looks, looked);
    let features = match (&reference.features, projected) {
        (Some(features), Some(rows)) => hotelling(features, rows),
        _ => 0.0,
    };
    let of_window = |window: u32| Threshold {
        window,
        confidence: confidence * variance(window),
        classes: classes * variance(window),
        // Hotelling's statistic counts the window's pictures.
        looks: looks * variance(window) * f64::from(window),
        features: features * variance(window) * f64::from(window),
    };
    WINDOWS.map(of_window).to_vec()
}

/// The mean of so many rows, drawn with replacement.
fn mean(random: &mut SplitMix64, rows: &[Vec<f64>], count: u32) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    for _ in 0..count {
        let row = &rows[random.below(rows.len())];
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    sum.iter_mut().for_each(|s| *s /= f64::from(count));
    sum
}

/// How far a window of these shares is from a reference of them, both drawn.
fn apart(random: &mut SplitMix64, shares: &[f64], pictures: u32, window: u32) -> f64 {
    let mut sums = Vec::with_capacity(shares.len());
    let mut sum = 0.0;
    for share in shares {
        sum += share;
        sums.push(sum);
    }
    let mut draw = |count: u32| {
        let mut counts = vec![0_u32; shares.len()];
        for _ in 0..count {
            let value = random.unit() * sum;
            let bin = sums.partition_point(|s| *s <= value).min(shares.len() - 1);
            counts[bin] += 1;
        }
        counts
    };
    let (drawn, counts) = (draw(pictures), draw(window));
    let total = f64::from(pictures);
    let drawn: Vec<f64> = drawn.iter().map(|&count| f64::from(count) / total).collect();
    stability(&counts, &drawn, total)
}

#[cfg(test)]
mod tests {
    use kinglet_engine::drift::{Distances, Window};

    use super::*;

    /// Pictures of a made-up camera: confidence, classes, and features with a mean.
    fn stream(seed: u64, count: usize, sure: f64, classes: u32, shift: f32) -> Vec<Sample> {
        let mut random = SplitMix64::new(seed);
        let mut one = || {
            let confidence = random.unit().powf(1.0 / sure) as f32;
            let class = (random.unit().powi(2) * f64::from(classes)) as u32;
            let projections =
                std::array::from_fn(|_| (0..4).map(|_| random.centred(0.5)).sum::<f32>() + shift);
            let looks = std::array::from_fn(|at| random.centred(1.0) + [0.0, shift][at % 2]);
            Sample { confidence, class, looks, projections: Some(projections) }
        };
        (0..count).map(|_| one()).collect()
    }

    fn alarm(reference: &Reference, samples: &[Sample]) -> (Distances, [bool; 4]) {
        let mut window = Window::new(reference);
        samples.iter().for_each(|sample| window.add(reference, sample));
        let d = window.distances(reference);
        let t = reference.threshold(window.pictures).unwrap();
        let over = [
            d.confidence > t.confidence,
            d.classes > Some(t.classes),
            d.looks > t.looks,
            d.features > Some(t.features),
        ];
        (d, over)
    }

    #[test]
    fn new_pictures_of_the_same_kind_hardly_ever_alarm_and_others_do() {
        let reference = reference(&stream(1, 500, 3.0, 40, 0.0), true).unwrap();
        // Windows of pictures that are all new: 4,000 of each of three sizes.
        let mut alarms = 0;
        for (place, window) in [64, 128, 256].into_iter().enumerate() {
            let all = stream(100 + place as u64, 4000 * window, 3.0, 40, 0.0);
            for samples in all.chunks_exact(window) {
                alarms += usize::from(alarm(&reference, samples).1.contains(&true));
            }
        }
        assert!(alarms <= 12, "{alarms} of 12000 windows");
        for (places, sure, classes, shift) in
            [(&[0][..], 1.5, 40, 0.0), (&[1], 3.0, 12, 0.0), (&[2, 3], 3.0, 40, 0.6)]
        {
            let samples = stream(9, 256, sure, classes, shift);
            let (distances, over) = alarm(&reference, &samples);
            assert!(places.iter().all(|at| over[*at]), "{places:?}: {distances:?} {over:?}");
        }
    }

    #[test]
    fn too_few_pictures_are_told() {
        let error = reference(&stream(1, 99, 3.0, 4, 0.0), true).unwrap_err().to_string();
        assert!(error.contains("99 readable pictures"), "{error}");
    }

    #[test]
    fn without_features_and_classes_the_rest_is_compared() {
        let mut samples = stream(1, 200, 3.0, 4, 0.0);
        samples[3].projections = None;
        let reference = reference(&samples, false).unwrap();
        assert!(reference.features.is_none() && reference.classes.is_none());
        assert!(reference.thresholds.iter().all(|t| t.confidence > 0.0));
    }

    #[test]
    fn whitening_makes_the_covariance_the_unit_matrix() {
        let samples = stream(1, 400, 3.0, 4, 2.0);
        let wide = |s: &Sample| s.projections.unwrap().iter().map(|v| f64::from(*v)).collect();
        let all: Vec<Vec<f64>> = samples.iter().map(wide).collect();
        let (means, centred) = means(&all).unwrap();
        let rows: Vec<&[f32]> = means.whiten.chunks_exact(means.mean.len()).collect();
        let dot = |row: &[f32], v: &[f64]| -> f64 {
            row.iter().zip(v).map(|(w, x)| f64::from(*w) * x).sum()
        };
        for (a, b) in [(0, 0), (3, 3), (0, 5), (7, 2)] {
            let sum: f64 = centred.iter().map(|v| dot(rows[a], v) * dot(rows[b], v)).sum();
            let expected = if a == b { 1.0 } else { 0.0 };
            assert!((sum / 399.0 - expected).abs() < 0.01, "{a} {b} {sum}");
        }
        assert!(super::means(&vec![vec![1.1; 3]; 10]).is_none(), "they do not vary");
        // Three numbers that are one.
        let same: Vec<Vec<f64>> = all.iter().map(|row| vec![row[0]; 3]).collect();
        assert!(super::means(&same).unwrap().0.whiten.iter().all(|w| w.is_finite()));
    }
}
