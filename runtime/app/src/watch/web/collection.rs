//! Labelled pictures in a folder: one folder a class, as `kinglet-tools retrain` takes them.
//!
//! Nothing is thrown away to make room: each picture is a person's work. What is in the folder is
//! looked up each time, so whoever tidies up there by hand is right.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use kinglet_engine::atomic::atomic_write;
use serde::Serialize;

use super::super::decision::format_time;
use crate::http::Refusal;

/// Longest name of a class, characters.
const LONGEST: usize = 64;
/// Most classes.
const CLASSES: usize = 1000;
/// Endings of pictures.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// The folder.
pub(super) struct Collection {
    folder: PathBuf,
    budget: u64,
    floor: u64,
    /// Held while something in it changes.
    busy: Mutex<()>,
}

/// What is there.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Contents {
    classes: Vec<Class>,
    bytes: u64,
    budget_bytes: u64,
}

/// One class.
#[derive(Debug, PartialEq, Serialize)]
struct Class {
    name: String,
    pictures: usize,
    /// Its newest picture of ours.
    last: Option<String>,
}

/// A picture that was saved.
#[derive(Debug, Serialize)]
pub(super) struct Saved {
    class: String,
    file: String,
    frame: u64,
}

impl Collection {
    pub(super) fn new(folder: &Path, budget: u64, floor: u64) -> Self {
        Self { folder: folder.to_owned(), budget, floor, busy: Mutex::new(()) }
    }

    fn busy(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there; nothing, if the folder is not.
    pub(super) fn contents(&self) -> Contents {
        let mut classes = Vec::new();
        let mut bytes = 0;
        for (name, path) in folders(&self.folder) {
            let files = pictures(&path);
            bytes += files.iter().map(|(_, size)| size).sum::<u64>();
            let last = files.iter().rev().find(|(file, _)| is_ours(file));
            let last = last.map(|(file, _)| file.clone());
            classes.push(Class { name, pictures: files.len(), last });
        }
        Contents { classes, bytes, budget_bytes: self.budget }
    }

    /// Saves a picture.
    pub(super) fn save(&self, class: &str, frame: u64, jpeg: &[u8]) -> Result<Saved, Refusal> {
        check(class)?;
        let _busy = self.busy();
        let Contents { classes, bytes, .. } = self.contents();
        let size = jpeg.len() as u64;
        if bytes + size > self.budget {
            let mib = self.budget >> 20;
            let full = format!("the collection takes {mib} MiB, all that it may (collect_mib)");
            return Err(Refusal::Full(full));
        }
        if classes.len() >= CLASSES && classes.iter().all(|known| known.name != class) {
            return Err(Refusal::Full(format!("there are {CLASSES} classes already")));
        }
        let path = self.folder.join(class);
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{}", path.display()))
            .map_err(failed)?;
        let free = kinglet_device::free_bytes(&path)
            .with_context(|| format!("{}", path.display()))
            .map_err(failed)?;
        if free < self.floor.saturating_add(size) {
            let _ = std::fs::remove_dir(&path);
            let mib = self.floor >> 20;
            let full = format!("less than {mib} MiB would be free on the disk (free_mib)");
            return Err(Refusal::Full(full));
        }
        let time = format_time(SystemTime::now()).replace(':', "-");
        let file = format!("{time}_{frame:06}.jpg");
        atomic_write(&path.join(&file), jpeg)
            .with_context(|| format!("{}", path.display()))
            .map_err(failed)?;
        Ok(Saved { class: class.to_owned(), file, frame })
    }

    /// Throws away a picture that was saved here, and the class's folder if it was its last.
    pub(super) fn remove(&self, class: &str, file: &str) -> Result<Contents, Refusal> {
        check(class)?;
        if !is_ours(file) {
            return Err(Refusal::BadQuery("no name of a picture that was saved here".into()));
        }
        let _busy = self.busy();
        let path = self.folder.join(class);
        if !is_folder(&path) || std::fs::remove_file(path.join(file)).is_err() {
            return Err(Refusal::NotFound(format!("there is no {file} of '{class}'")));
        }
        // It stays if there is anything else in it.
        let _ = std::fs::remove_dir(&path);
        Ok(self.contents())
    }

    /// All pictures, class by class: their names in an archive, and where they are.
    pub(super) fn files(&self) -> impl Iterator<Item = (String, PathBuf)> + use<> {
        folders(&self.folder).into_iter().flat_map(|(name, path)| {
            let files = pictures(&path).into_iter();
            files.map(move |(file, _)| (format!("{name}/{file}"), path.join(file)))
        })
    }
}

/// Whether a class's name can be a folder's, on this machine and on others.
fn check(class: &str) -> Result<(), Refusal> {
    // The last stands for bytes that are no text.
    let bad = |c: char| c.is_control() || "/\\:*?\"<>|\u{fffd}".contains(c);
    let edges = |c: char| c.is_whitespace() || c == '.';
    let usable = !class.is_empty()
        && class.chars().count() <= LONGEST
        && class.len() <= 255
        && !class.contains(bad)
        && !class.starts_with(edges)
        && !class.ends_with(edges);
    let why = || {
        format!(
            "class: a name of at most {LONGEST} characters without / \\ : * ? \" < > |, and without a \
             space or a dot at its ends"
        )
    };
    usable.then_some(()).ok_or_else(|| Refusal::BadQuery(why()))
}

/// `2026-11-24T18-00-00.000Z_000123.jpg`
fn is_ours(file: &str) -> bool {
    let Some((time, number)) = file.strip_suffix(".jpg").and_then(|f| f.split_once('_')) else {
        return false;
    };
    let shape = "dddd-dd-ddTdd-dd-dd.dddZ";
    let fits = |(c, s): (char, char)| if s == 'd' { c.is_ascii_digit() } else { c == s };
    time.len() == shape.len()
        && time.chars().zip(shape.chars()).all(fits)
        && (6..=20).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// Whether it is a folder itself, and no link to one.
fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir())
}

/// The folders of classes, by name.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, path)| !name.starts_with('.') && is_folder(path))
        .collect();
    all.sort();
    all
}

/// The pictures of a folder and their sizes, by name.
fn pictures(folder: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_picture = |name: &str| {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        !name.starts_with('.') && ending.is_some_and(|ending| ENDINGS.contains(&&*ending))
    };
    let mut all: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| is_picture(name))?;
            let facts = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((name, facts.len()))
        })
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let collection = Collection::new(&folder.path().join("c"), 2500, 0);
        assert!(collection.contents().classes.is_empty());
        let first = collection.save("tiger cat", 1, &[1; 1000]).unwrap();
        let second = collection.save("Größe 1, rot", 2, &[2; 1000]).unwrap();
        let path = folder.path().join("c/tiger cat").join(&first.file);
        assert_eq!(std::fs::read(&path).unwrap(), [1; 1000]);
        let full = collection.save("tiger cat", 3, &[3; 1000]).unwrap_err().to_string();
        assert!(full.contains("collect_mib"), "{full}");
        // What somebody else has put there counts, and is not ours to delete.
        std::fs::write(folder.path().join("c/tiger cat/mine.png"), [0; 10]).unwrap();
        let contents = collection.contents();
        let counts: Vec<_> = contents.classes.iter().map(|c| (&*c.name, c.pictures)).collect();
        assert_eq!((counts, contents.bytes), (vec![("Größe 1, rot", 1), ("tiger cat", 2)], 2010));
        assert_eq!(contents.classes[1].last.as_deref(), Some(&*first.file));
        let names: Vec<_> = collection.files().map(|(name, _)| name).collect();
        assert_eq!(names[0], format!("Größe 1, rot/{}", second.file));
        assert!(collection.remove("tiger cat", "mine.png").is_err());
        assert!(collection.remove("tiger cat", &second.file).is_err());
        let left = collection.remove("Größe 1, rot", &second.file).unwrap();
        assert_eq!((left.classes.len(), left.bytes), (1, 1010), "an empty class goes");
    }

    #[test]
    fn below_the_floor_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let collection = Collection::new(folder.path(), 1 << 20, u64::MAX);
        let error = collection.save("a", 1, &[0; 10]).unwrap_err().to_string();
        assert!(error.contains("free_mib"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = Collection::new(Path::new("/proc/none"), 1 << 20, 0);
        assert!(matches!(nowhere.save("a", 1, &[0]), Err(Refusal::Failed(_))));
    }

    #[test]
    fn names_play_no_tricks() {
        let folder = tempfile::tempdir().unwrap();
        let collection = Collection::new(&folder.path().join("c"), 1 << 20, 0);
        let long = "x".repeat(LONGEST + 1);
        for name in [
            "", ".", "..", "../x", "a/b", "a\\b", "/etc", ".x", "x.", " x", "x ", "a\0b", "a\nb",
            &long,
        ] {
            assert!(collection.save(name, 1, &[0]).is_err(), "{name:?}");
            assert!(collection.remove(name, "2026-11-24T18-00-00.000Z_000123.jpg").is_err());
        }
        let saved = collection.save("a", 1, &[0]).unwrap();
        for file in ["", "..", "../a", "x.jpg", "2026-11-24T18-00-00.000Z_/../../x.jpg"] {
            assert!(collection.remove("a", file).is_err(), "{file:?}");
        }
        // A link is not followed.
        std::os::unix::fs::symlink(folder.path().join("c/a"), folder.path().join("c/b")).unwrap();
        assert!(collection.remove("b", &saved.file).is_err());
        assert_eq!(collection.contents().classes.len(), 1);
        assert!(collection.remove("a", &saved.file).is_ok());
    }
}
