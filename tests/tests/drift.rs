//! Drift on real photographs: pictures that are darker, blurred or of other classes than those of
//! the reference raise the alarm, and the same kind of pictures in any order do not.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use image::{RgbImage, imageops};
use kinglet_compress::drift::{reference, sample, seal};
use kinglet_compress::{dataset, parallel};
use kinglet_engine::drift::{Reference, Sample, WINDOWS, Window};
use kinglet_engine::{OnnxFile, Options, Picture, Session};
use kinglet_tests::{Random, data, repository};

type Change = fn(Picture) -> Picture;

fn model() -> PathBuf {
    repository().join("models/efficientnet-lite0-int8.onnx")
}

/// What the model makes of pictures that something was done to.
fn samples(paths: &[PathBuf], change: impl Fn(Picture) -> Picture + Sync) -> Vec<Sample> {
    let parts = parallel::run(parallel::threads(None), paths.len(), |queue| {
        let mut session = Session::load(&model(), &Options::default())?;
        let mut part = Vec::new();
        for at in queue {
            let picture = change(Picture::read(&paths[at]).unwrap());
            part.push((at, sample(&mut session, &picture)?));
        }
        Ok::<_, kinglet_engine::ModelError>(part)
    });
    let mut all = parts.unwrap().concat();
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, sample)| sample).collect()
}

/// Which of confidence, classes, looks and features are beyond their thresholds.
fn alarms(reference: &Reference, samples: &[Sample]) -> [bool; 4] {
    let mut window = Window::new(reference);
    samples.iter().for_each(|sample| window.add(reference, sample));
    let (far, limit) = (window.distances(reference), reference.threshold(window.pictures).unwrap());
    [
        far.confidence > limit.confidence,
        far.classes > Some(limit.classes),
        far.looks > limit.looks,
        far.features > Some(limit.features),
    ]
}

/// The share of windows with an alarm, and with each, over windows in any order.
fn share(reference: &Reference, samples: &[Sample], window: usize, windows: usize) -> [f64; 5] {
    let mut random = Random::new(window as u64);
    let mut order: Vec<Sample> = samples.to_vec();
    let mut counts = [0_u32; 5];
    for _ in 0..windows {
        for at in 0..window {
            let other = at + random.below(order.len() - at);
            order.swap(at, other);
        }
        let found = alarms(reference, &order[..window]);
        counts[0] += u32::from(found.contains(&true));
        for (count, found) in counts[1..].iter_mut().zip(found) {
            *count += u32::from(found);
        }
    }
    counts.map(|count| f64::from(count) / windows as f64)
}

fn darker(picture: Picture) -> Picture {
    let rgb = picture.rgb().iter().map(|&v| (f32::from(v) * 0.6) as u8).collect();
    Picture::from_rgb(picture.width(), picture.height(), rgb).unwrap()
}

fn brighter(picture: Picture) -> Picture {
    let rgb = picture.rgb().iter().map(|&v| (f32::from(v) * 1.5).min(255.0) as u8).collect();
    Picture::from_rgb(picture.width(), picture.height(), rgb).unwrap()
}

fn blurred(picture: Picture) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let image = RgbImage::from_raw(width, height, picture.rgb().to_vec()).unwrap();
    Picture::from_rgb(width, height, imageops::blur(&image, 2.0).into_raw()).unwrap()
}

fn labelled(folder: &Path) -> Vec<(PathBuf, usize)> {
    let samples = dataset::labelled(&folder.join("validation"), &[], 1000).unwrap();
    samples.into_iter().map(|sample| (sample.path, sample.class)).collect()
}

#[test]
fn other_light_blur_and_other_classes_alarm_and_the_same_pictures_do_not() {
    let Some(folder) = data("drift") else { return };
    let all = labelled(&folder);
    // Neighbours in the list are alike: every second is for the reference.
    let paths = |rest: usize| -> Vec<PathBuf> {
        let chosen = all.iter().enumerate().filter(|(at, _)| at % 2 == rest);
        chosen.map(|(_, (path, _))| path.clone()).collect()
    };
    let known = samples(&paths(0), |picture| picture);
    let others = paths(1);
    let clean = samples(&others, |picture| picture);
    let reference_of_all = reference(&known, true).unwrap();
    for window in [64, 128, 256] {
        let found = share(&reference_of_all, &clean, window, 5_000);
        println!("clean, windows of {window}: {found:?}");
        assert!(found[0] <= 0.001, "windows of {window}: {found:?}");
    }
    let darker: Change = darker;
    for (name, change) in [("darker", darker), ("brighter", brighter), ("blurred", blurred)] {
        let changed = samples(&others[..256], change);
        let found = share(&reference_of_all, &changed, 256, 200);
        println!(
            "{name}: {found:?}; windows of 64: {:?}",
            share(&reference_of_all, &changed, 64, 200)
        );
        assert!(found[0] > 0.99, "{name}: {found:?}");
    }
    // A camera that was made to look at animals, and now sees things.
    let is_animal = |at: usize| all[at].1 < 398;
    let pick = |samples: &[Sample], rest: usize, animals: bool| -> Vec<Sample> {
        let numbered = samples.iter().enumerate().map(|(at, sample)| (2 * at + rest, *sample));
        numbered.filter(|(at, _)| is_animal(*at) == animals).map(|(_, sample)| sample).collect()
    };
    let reference_of_animals = reference(&pick(&known, 0, true), true).unwrap();
    let (animals, things) = (pick(&clean, 1, true), pick(&clean, 1, false));
    println!("{} animals, {} things", animals.len(), things.len());
    let found = share(&reference_of_animals, &animals, 64, 5_000);
    println!("animals: {found:?}");
    assert!(found[0] <= 0.001, "animals: {found:?}");
    let found = share(&reference_of_animals, &things, 64, 500);
    println!("things: {found:?}");
    assert!(found[0] > 0.99 && found[2] > 0.99, "things: {found:?}");
}

#[test]
fn a_reference_is_sealed_in_the_model_and_the_model_stays_as_it_is() {
    let Some(folder) = data("drift") else { return };
    let pictures: Vec<PathBuf> =
        labelled(&folder).into_iter().take(120).map(|(path, _)| path).collect();
    let mut file = OnnxFile::read(&model()).unwrap();
    let graph = file.proto.graph.clone();
    seal(&mut file, &pictures, true, None, &|| {}).unwrap();
    assert_eq!(file.proto.graph, graph);
    let read = OnnxFile::from_bytes(&file.to_bytes()).unwrap();
    let sealed = read.metadata().unwrap().drift.unwrap();
    assert_eq!(sealed.pictures, 120);
    assert!(sealed.classes.is_some() && sealed.features.is_some());
    assert_eq!(sealed.thresholds.len(), WINDOWS.len());
    let before = std::fs::metadata(model()).unwrap().len();
    assert!(file.to_bytes().len() as u64 - before < 20_000);
    assert!(seal(&mut file, &pictures[..50], true, None, &|| {}).is_err());
}
