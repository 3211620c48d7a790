//! Accuracy on worse pictures: of a network that sees colour alone, and of the shipped model.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod tiny;

use std::path::Path;

use kinglet_compress::dataset::{self, Sample};
use kinglet_compress::robustness::{self, Kind, RobustnessError, RobustnessOptions, Subject};
use kinglet_engine::{OnnxFile, Picture};

/// Pictures with the classes that a model itself gives them.
fn own_answers(file: &OnnxFile, dir: &Path, n: u64) -> Vec<Sample> {
    let mut session = tiny::session(file, false);
    let sample = |path: std::path::PathBuf| {
        let scores = session.classify(&Picture::read(&path).unwrap()).unwrap();
        Sample { class: scores.top(1)[0].index, path }
    };
    tiny::write_pictures(dir, n).into_iter().map(sample).collect()
}

#[test]
fn every_level_is_counted_and_attacks_do_more_harm_than_noise() {
    let folder = tempfile::tempdir().unwrap();
    let file = tiny::lite(1);
    let mut samples = own_answers(&file, folder.path(), 20);
    samples.push(Sample { path: folder.path().join("absent.png"), class: 0 });
    let kinds: Vec<Kind> = Kind::CORRUPTIONS.into_iter().chain(Kind::ATTACKS).collect();
    let run = |threads| {
        let options = RobustnessOptions { threads: Some(threads), ..Default::default() };
        robustness::measure(&[&file, &file], Some(&file), &kinds, &samples, &options, &|| ())
            .unwrap()
    };
    let result = run(1);
    assert_eq!(result, run(3));
    // Stopped, it goes on.
    let progress = folder.path().join("page.html.progress");
    let options =
        RobustnessOptions { progress: Some(progress.clone()), ..RobustnessOptions::default() };
    let run = || {
        let models = [&file, &file];
        robustness::measure(&models, Some(&file), &kinds, &samples, &options, &|| ()).unwrap()
    };
    assert_eq!(result, run());
    let record = std::fs::read(&progress).unwrap();
    for length in [record.len() / 3, record.len()] {
        std::fs::write(&progress, &record[..length]).unwrap();
        assert_eq!(result, run());
        assert_eq!(std::fs::metadata(&progress).unwrap().len(), record.len() as u64);
    }
    assert_eq!((result.n, result.skipped.len()), (20, 1));
    assert_eq!(result.levels.len(), 1 + kinds.iter().map(|k| k.strengths().len()).sum::<usize>());
    assert_eq!(result.levels[0].right, [20, 20], "pictures as they are");
    assert!(result.levels.iter().all(|l| l.right[0] == l.right[1]));
    let right = |kind, strength| {
        let level = result.levels.iter().find(|l| l.kind == Some(kind) && l.strength == strength);
        level.unwrap().right[0]
    };
    assert!(right(Kind::Blur, 5.0) < 20, "{result:?}");
    // As large as the mildest noise, but along the gradient.
    assert!(right(Kind::Fgsm, 8.0) < right(Kind::Noise, 10.0), "{result:?}");
    assert!(right(Kind::Pgd, 2.0) <= right(Kind::Fgsm, 2.0), "{result:?}");

    let picture = Picture::read(&samples[0].path).unwrap();
    let preprocess = tiny::preprocess();
    let subject = Subject {
        models: &["a.onnx", "<b>.onnx"],
        dataset: "made up",
        example: Some((&picture, &preprocess)),
    };
    let page = robustness::report(&subject, &result);
    assert_eq!(page.matches("<svg").count(), kinds.len());
    assert_eq!(page.matches("<img").count(), 20);
    assert!(page.contains("&lt;b&gt;.onnx") && !page.contains("<b>"), "escaped");
}

#[test]
fn what_cannot_be_measured_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let float = tiny::lite(1);
    let samples = own_answers(&float, folder.path(), 12);
    let paths: Vec<_> = samples.iter().map(|s| s.path.clone()).collect();
    let options = kinglet_compress::quantize::QuantizeOptions::default();
    let int8 =
        kinglet_compress::quantize::quantize(&float, "00", &paths, &options, &|_| ()).unwrap().file;
    let options = RobustnessOptions::default();
    let measure = |models: &[&OnnxFile], attacker| {
        robustness::measure(models, attacker, &[Kind::Fgsm], &samples[..2], &options, &|| ())
    };
    let error = measure(&[&int8], Some(&int8)).unwrap_err();
    assert!(matches!(error, RobustnessError::NoGradient(_)), "{error}");
    assert!(error.to_string().contains("--parent"), "{error}");
    assert!(measure(&[&int8, &float], Some(&float)).is_ok());
    let mut other = tiny::lite(1);
    let mut metadata = other.metadata().unwrap();
    metadata.preprocess.as_mut().unwrap().mean = [3.0; 3];
    metadata.write(&mut other.proto);
    let error = measure(&[&float, &other], None).unwrap_err();
    assert!(matches!(error, RobustnessError::OtherPreprocess), "{error}");
    other.proto.metadata_props.clear();
    let error = measure(&[&other], None).unwrap_err();
    assert!(matches!(error, RobustnessError::NoPreprocess), "{error}");
}

/// The shipped model stands a little of everything, and no model stands the worst.
#[test]
fn the_shipped_model_stands_mild_corruptions() {
    let Some(data) = std::env::var_os("KINGLET_DATA") else {
        eprintln!("skipped: KINGLET_DATA, the folder with validation/, is not set");
        return;
    };
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx");
    let file = OnnxFile::read(&path).unwrap();
    let mut samples = dataset::labelled(&Path::new(&data).join("validation"), &[], 1000).unwrap();
    samples.truncate(60);
    let options = RobustnessOptions::default();
    let kinds = [Kind::Noise, Kind::Jpeg, Kind::Rotation];
    let result = robustness::measure(&[&file], None, &kinds, &samples, &options, &|| ()).unwrap();
    let clean = result.levels[0].right[0];
    for kind in kinds {
        let of_kind: Vec<usize> =
            result.levels.iter().filter(|l| l.kind == Some(kind)).map(|l| l.right[0]).collect();
        assert!(of_kind[0] + 8 >= clean, "{kind:?}: {of_kind:?} of {clean}");
        assert!(of_kind[3] + 10 < clean, "{kind:?}: {of_kind:?} of {clean}");
    }
}
