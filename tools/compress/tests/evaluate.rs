//! Evaluation of a small random network on generated pictures.

mod tiny;

use kinglet_compress::dataset::{self, Sample};
use kinglet_compress::evaluate::{EvaluateError, EvaluateOptions, evaluate};
use kinglet_engine::{ModelError, Picture};

#[test]
fn right_answers_are_counted_and_bad_files_skipped() {
    let file = tiny::lite(1);
    let folder = tempfile::tempdir().unwrap();
    let pictures = tiny::write_pictures(folder.path(), 20);
    let mut session = tiny::session(&file, false);
    // Labels: the model's own answer for the first fifteen, its worst class for the others.
    let mut table = String::from("file,class_index\n");
    for (at, path) in pictures.iter().enumerate() {
        let scores = session.classify(&Picture::read(path).unwrap()).unwrap();
        let ranked = scores.top(tiny::CLASSES);
        let class = if at < 15 { ranked[0].index } else { ranked[tiny::CLASSES - 1].index };
        table += &format!("{}.png,{class}\n", path.file_stem().unwrap().display());
    }
    table += "missing.jpg,0\n";
    std::fs::write(folder.path().join("labels.csv"), table).unwrap();
    let samples = dataset::labelled(folder.path(), &[], tiny::CLASSES).unwrap();
    for threads in [1, 3] {
        let options = EvaluateOptions { threads: Some(threads), ..Default::default() };
        let done = std::sync::atomic::AtomicUsize::new(0);
        let result = evaluate(&file, &samples, &options, &|| {
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!((result.n, result.right1, result.right5), (20, 15, 15));
        assert_eq!(result.skipped.len(), 1);
        assert!(result.skipped[0].path.ends_with("missing.jpg"));
        assert_eq!(done.into_inner(), 21);
        assert!(result.images_per_s() > 0.0);
    }
}

#[test]
fn what_is_missing_is_said() {
    let mut file = tiny::lite(2);
    let folder = tempfile::tempdir().unwrap();
    let path = tiny::write_pictures(folder.path(), 1).remove(0);
    let options = EvaluateOptions { threads: Some(1), ..Default::default() };
    let good = [Sample { path: path.clone(), class: 0 }];
    let outside = [Sample { path, class: tiny::CLASSES }];
    let error = evaluate(&file, &outside, &options, &|| ()).unwrap_err();
    assert!(matches!(error, EvaluateError::Class { .. }), "{error}");
    let absent = [Sample { path: folder.path().join("no.png"), class: 0 }];
    let error = evaluate(&file, &absent, &options, &|| ()).unwrap_err();
    let expected = matches!(error, EvaluateError::Unreadable { skipped: 1, pictures: 1, .. });
    assert!(expected, "{error}");
    file.proto.metadata_props.clear();
    let error = evaluate(&file, &good, &options, &|| ()).unwrap_err();
    assert!(matches!(error, EvaluateError::Model(ModelError::Unsuitable { .. })), "{error}");
    let options = EvaluateOptions { preprocess: Some(tiny::preprocess()), ..options };
    assert_eq!(evaluate(&file, &good, &options, &|| ()).unwrap().n, 1);
}
