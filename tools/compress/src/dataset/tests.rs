use super::*;

fn touch(folder: &Path, name: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, b"").unwrap();
}

fn names(files: &[PathBuf], folder: &Path) -> Vec<String> {
    files.iter().map(|f| f.strip_prefix(folder).unwrap().display().to_string()).collect()
}

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn pictures_are_sorted_and_other_files_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.JPG", "a.png", "labels.csv", "notes.txt", ".hidden.png", "more/c.jpeg"] {
        touch(folder.path(), name);
    }
    let found = pictures(folder.path()).unwrap();
    assert_eq!(names(&found, folder.path()), ["a.png", "b.JPG", "more/c.jpeg"]);
}

#[test]
fn a_folder_without_pictures_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(pictures(folder.path()), Err(DatasetError::Empty { .. })));
    assert!(matches!(pictures(&folder.path().join("no")), Err(DatasetError::Read { .. })));
    assert!(matches!(labelled(folder.path(), &[], 2), Err(DatasetError::Unlabelled { .. })));
}

#[test]
fn a_label_file_says_the_classes() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join(LABELS_FILE);
    std::fs::write(&table, "class_index,file\n1,b.jpg\n0,\"x, y.jpg\"\n\n").unwrap();
    let samples = labelled(folder.path(), &[], 2).unwrap();
    let files: Vec<PathBuf> = samples.iter().map(|s| s.path.clone()).collect();
    assert_eq!(names(&files, folder.path()), ["b.jpg", "x, y.jpg"]);
    assert_eq!(samples.iter().map(|s| s.class).collect::<Vec<_>>(), [1, 0]);
    for (text, wanted) in [
        ("file\na.jpg", "class_index"),
        ("file,class_index\na.jpg,2", "2 classes"),
        ("file,class_index\na.jpg,x", "line 2"),
        ("file,class_index\n../a.jpg,1", "no file of this folder"),
        ("file,class_index\na.jpg", "no class"),
        ("file,class\na.jpg,owl", "none of the model's labels"),
        ("file,class\na.jpg,2", "2 classes"),
        ("file,class\n", "no pictures"),
    ] {
        std::fs::write(&table, text).unwrap();
        let error = labelled(folder.path(), &[], 2).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_label_file_may_name_the_classes() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join(LABELS_FILE);
    std::fs::write(&table, "file,class\nb.jpg,Red_Kite\na.jpg,goldcrest\nc.jpg,1\n").unwrap();
    let samples = labelled(folder.path(), &labels(&["goldcrest", "red kite"]), 2).unwrap();
    assert_eq!(samples.iter().map(|s| s.class).collect::<Vec<_>>(), [1, 0, 1]);
    // The classes themselves, sorted, for a model that is to learn them.
    std::fs::write(&table, "file,class\nb.jpg,wren\na.jpg,owl\nmore/c.jpg,wren\n").unwrap();
    let classes = class_folders(folder.path()).unwrap();
    let found = |at: usize| (classes[at].0.as_str(), names(&classes[at].1, folder.path()));
    assert_eq!(found(0), ("owl", vec!["a.jpg".to_owned()]));
    assert_eq!(found(1), ("wren", vec!["b.jpg".to_owned(), "more/c.jpg".to_owned()]));
}

#[test]
fn class_folders_are_matched_by_label_then_index_then_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["Red_Kite/1.jpg", "goldcrest/2.jpg", "goldcrest/1.jpg"] {
        touch(folder.path(), name);
    }
    let classes = |labels: &[String], n: usize| -> Vec<usize> {
        labelled(folder.path(), labels, n).unwrap().iter().map(|s| s.class).collect()
    };
    // Sorted: Red_Kite, goldcrest.
    assert_eq!(classes(&labels(&["wren", "goldcrest", "red kite"]), 3), [2, 1, 1]);
    assert_eq!(classes(&labels(&["x", "y"]), 2), [0, 1, 1]);
    let error = labelled(folder.path(), &labels(&["wren", "goldcrest", "x"]), 3).unwrap_err();
    assert!(error.to_string().contains("Red_Kite"), "{error}");
    let numbered = tempfile::tempdir().unwrap();
    touch(numbered.path(), "7/a.jpg");
    assert_eq!(labelled(numbered.path(), &[], 10).unwrap()[0].class, 7);
}
