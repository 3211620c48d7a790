//! What is refused, and how it is named.

use super::*;

#[test]
fn what_cannot_be_quantized_is_refused() {
    let float = tiny::lite(12);
    let again = run(&quantized(&float), &QuantizeOptions::default());
    assert!(matches!(again, Err(QuantizeError::AlreadyQuantized { .. })));
    let none = quantize(&float, PARENT, &[], &QuantizeOptions::default(), &|_| ());
    assert!(matches!(none, Err(QuantizeError::NoPictures)));
    let mut bare = float.clone();
    bare.proto.metadata_props.clear();
    let options = QuantizeOptions::default();
    assert!(matches!(run(&bare, &options), Err(QuantizeError::NoPreprocess)));
    let options = QuantizeOptions { preprocess: Some(tiny::preprocess()), ..options };
    let given = run(&bare, &options).unwrap().file;
    assert_eq!(given.metadata().unwrap().preprocess, Some(tiny::preprocess()));
    let mut old = float.clone();
    old.proto.opset_import[0].version = 9;
    let error = run(&old, &QuantizeOptions::default()).unwrap_err();
    assert!(matches!(error, QuantizeError::Opset { version: 9, .. }), "{error}");
}

#[test]
fn unreadable_pictures_are_named_and_many_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut pictures = write_pictures(folder.path(), 24);
    let bad = folder.path().join("bad.jpg");
    std::fs::write(&bad, b"no picture").unwrap();
    pictures.insert(3, bad.clone());
    let float = tiny::lite(13);
    let options = QuantizeOptions::default();
    let result = quantize(&float, PARENT, &pictures, &options, &|_| ()).unwrap();
    assert_eq!(result.skipped.len(), 1);
    assert_eq!(result.skipped[0].path, bad);
    let error = quantize(&float, PARENT, &pictures[..8], &options, &|_| ()).unwrap_err();
    assert!(matches!(error, QuantizeError::Unreadable { skipped: 1, pictures: 8, .. }), "{error}");
}

#[test]
fn bad_calibration_and_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let pictures: Vec<_> = (0..6)
        .map(|at| {
            let path = folder.path().join(format!("{at}.png"));
            let pixels = vec![40 * at as u8; 40 * 40 * 3];
            image::save_buffer(&path, &pixels, 40, 40, image::ExtendedColorType::Rgb8).unwrap();
            path
        })
        .collect();
    let float = tiny::lite(29);
    let error = quantize(&float, PARENT, &pictures, &plain(), &|_| ()).unwrap_err();
    assert!(matches!(error, QuantizeError::Plain { .. }), "{error}");
    let mut broken = float.clone();
    scale_channels(&mut broken, "w0", 0, |c| if c == 3 { f32::NAN } else { 1.0 });
    let error = run(&broken, &plain()).unwrap_err();
    assert!(matches!(error, QuantizeError::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("not a number"), "{error}");
}
