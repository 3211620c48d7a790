//! Folders of pictures: which files there are, and which class each belongs to.
//!
//! Calibration takes any pictures ([`pictures`]); evaluation needs their classes ([`labelled`]).
//! Both give the same order on every machine. Nothing is decoded here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

mod csv;
mod table;

use table::{Class, Row};

/// File of a labelled folder: a header `file,class_index` or `file,class`, then one picture a line.
pub const LABELS_FILE: &str = "labels.csv";

/// Endings of the files that count as pictures, in any case.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Why a folder of pictures was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A folder or file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There are no pictures.
    #[error("{} holds no pictures (.jpg, .jpeg or .png)", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Neither a label file nor class folders.
    #[error(
        "{} is not labelled: it needs a {LABELS_FILE} (header file,class_index or file,class) or one \
         folder a class", path.display()
    )]
    Unlabelled {
        /// The folder.
        path: PathBuf,
    },
    /// A line of the label file cannot be understood.
    #[error("{}, line {line}: {why}", path.display())]
    Line {
        /// The label file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A class folder's name stands for none of the model's classes.
    #[error(
        "folder '{folder}' of {} stands for none of the model's {classes} classes: name it by a \
         label or an index, or have one folder for each class", path.display()
    )]
    Class {
        /// The labelled folder.
        path: PathBuf,
        /// The class folder's name.
        folder: String,
        /// Number of classes of the model.
        classes: usize,
    },
}

/// A picture and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// Index of its class.
    pub class: usize,
}

/// The pictures of a folder and of the folders in it, sorted by path.
///
/// # Errors
/// [`DatasetError::Read`], or [`DatasetError::Empty`] when there are none.
pub fn pictures(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let Listing { mut files, folders } = list(folder)?;
    for inner in folders {
        files.extend(list(&inner)?.files);
    }
    files.sort();
    if files.is_empty() {
        return Err(DatasetError::Empty { path: folder.to_owned() });
    }
    Ok(files)
}

/// The pictures of a labelled folder with their classes.
///
/// With a [`LABELS_FILE`], its lines in their order; a `class` is a label of the model or an index.
/// Otherwise each folder in `folder` is a class,
/// sorted by name; which one, the first of these rules that fits all folders says: the names are
/// labels of the model (case, spaces, hyphens and underscores do not matter); they are class
/// indices; there are as many folders as the model has classes, which are then in sorted order.
///
/// # Errors
/// [`DatasetError`] naming the file, line or folder that is wrong.
pub fn labelled(
    folder: &Path,
    labels: &[String],
    classes: usize,
) -> Result<Vec<Sample>, DatasetError> {
    if let Some(rows) = table::read(folder)? {
        let sample = |row| table_sample(row, folder, labels, classes);
        return rows.into_iter().map(sample).collect();
    }
    let folders = list(folder)?.folders;
    if folders.is_empty() {
        return Err(DatasetError::Unlabelled { path: folder.to_owned() });
    }
    let names: Vec<String> = folders.iter().map(|f| name(f)).collect();
    let class_of = folder_classes(&names, labels, classes).map_err(|at| DatasetError::Class {
        path: folder.to_owned(),
        folder: names[at].clone(),
        classes,
    })?;
    let mut samples = Vec::new();
    for (inner, class) in folders.iter().zip(class_of) {
        let files = list(inner)?.files;
        samples.extend(files.into_iter().map(|path| Sample { path, class }));
    }
    if samples.is_empty() {
        return Err(DatasetError::Empty { path: folder.to_owned() });
    }
    Ok(samples)
}

/// The classes of a folder, sorted by name, each with its pictures: those of a [`LABELS_FILE`] if
/// there is one, in its order; else each folder is a class, its pictures sorted.
///
/// # Errors
/// [`DatasetError::Read`], or [`DatasetError::Line`] for what is wrong with the label file.
pub fn class_folders(folder: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, DatasetError> {
    if let Some(rows) = table::read(folder)? {
        let mut classes: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for Row { file, class, .. } in rows {
            let (Class::Index(name) | Class::Name(name)) = class;
            classes.entry(name).or_default().push(folder.join(file));
        }
        return Ok(classes.into_iter().collect());
    }
    let with_pictures = |inner: PathBuf| Ok((name(&inner), list(&inner)?.files));
    list(folder)?.folders.into_iter().map(with_pictures).collect()
}

/// SHA-256 over the SHA-256 of every picture, in their order, for a model's history.
pub(crate) fn sha256(pictures: &[PathBuf]) -> String {
    let mut whole = Sha256::new();
    for path in pictures {
        // A picture that cannot be read has been counted and named already.
        whole.update(Sha256::digest(std::fs::read(path).unwrap_or_default()));
    }
    whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A folder's pictures and folders, each sorted; hidden ones left out.
struct Listing {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

fn list(folder: &Path) -> Result<Listing, DatasetError> {
    let failed = |source| DatasetError::Read { path: folder.to_owned(), source };
    let mut listing = Listing { files: Vec::new(), folders: Vec::new() };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // Not `DirEntry::file_type`: links to pictures and folders count as what they point to.
        if path.is_dir() {
            listing.folders.push(path);
        } else if is_picture(&path) {
            listing.files.push(path);
        }
    }
    listing.files.sort();
    listing.folders.sort();
    Ok(listing)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e))
}

fn table_sample(
    row: Row,
    folder: &Path,
    labels: &[String],
    classes: usize,
) -> Result<Sample, DatasetError> {
    let bad =
        |why: String| DatasetError::Line { path: folder.join(LABELS_FILE), line: row.line, why };
    let index = |text: &str| text.parse::<usize>().ok();
    let class = match &row.class {
        Class::Index(text) => {
            index(text).ok_or_else(|| bad(format!("class_index '{text}' is not a number")))?
        }
        Class::Name(name) => {
            let label = labels.iter().position(|l| normalized(l) == normalized(name));
            let class = label.or_else(|| index(name));
            class.ok_or_else(|| bad(format!("class '{name}' is none of the model's labels")))?
        }
    };
    if class >= classes {
        return Err(bad(format!("class_index {class}, the model has {classes} classes")));
    }
    Ok(Sample { path: folder.join(row.file), class })
}

/// The class of each folder, or which folder has none.
fn folder_classes(
    names: &[String],
    labels: &[String],
    classes: usize,
) -> Result<Vec<usize>, usize> {
    // The first of equal labels wins.
    let by_label: HashMap<String, usize> =
        labels.iter().enumerate().rev().map(|(i, l)| (normalized(l), i)).collect();
    let by_name = |name: &String| by_label.get(&normalized(name)).copied();
    let by_index = |name: &String| name.parse().ok().filter(|&i: &usize| i < classes);
    let all = |class: &dyn Fn(&String) -> Option<usize>| -> Option<Vec<usize>> {
        names.iter().map(class).collect()
    };
    if let Some(found) = all(&by_name).or_else(|| all(&by_index)) {
        return Ok(found);
    }
    if names.len() == classes {
        return Ok((0..classes).collect());
    }
    Err(names.iter().position(|n| by_name(n).is_none() && by_index(n).is_none()).unwrap_or(0))
}

/// A name as it is compared with others: in small letters, hyphens and underscores as spaces.
#[must_use]
pub fn normalized(name: &str) -> String {
    let same = |c: char| if matches!(c, '_' | '-') { ' ' } else { c };
    name.trim().to_lowercase().chars().map(same).collect()
}

#[cfg(test)]
mod tests;
