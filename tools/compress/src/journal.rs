//! What a long run has found so far, in a file from which the same run goes on after a kill.
//!
//! A run that is the same from the same inputs asks its [`Journal`] for each result that is dear:
//! what an earlier run has found is read, the rest is found and added to the file. So there is no
//! state to save and restore: a resumed run takes the very steps of one that was never stopped, and
//! ends in the same bytes.
//!
//! The file is a CBOR sequence (RFC 8742): a head, then an entry a result. A kill leaves at
//! most a part of the last entry, a power cut perhaps some that were never written: the file is used
//! up to the first entry that is not whole.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// To be raised whenever results come to mean something else.
const FORMAT: u32 = 1;
/// Bytes of an entry's check.
const CHECK: usize = 8;

/// Why a run cannot go on from its file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}; --restart begins anew", path.display())]
pub struct JournalError {
    path: PathBuf,
    why: String,
}

/// The first item of a file.
#[derive(Serialize, Deserialize)]
struct Head {
    kinglet_journal: u32,
    /// SHA-256 of all that the results depend on.
    fingerprint: String,
}

/// A result.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    check: [u8; CHECK],
    /// The result in CBOR.
    value: Value,
}

/// Bytes, which serde would write as a list of numbers.
struct Value(Vec<u8>);

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Value;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(Value(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
                Ok(Value(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Results by their names, in memory or in a file too.
#[derive(Debug, Default)]
pub struct Journal {
    inner: Mutex<Inner>,
    found: usize,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<String, Vec<u8>>,
    file: Option<File>,
}

impl Journal {
    /// Nothing is known, and nothing is kept.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Goes on from a file, or begins one. `restart` leaves an old one unread. `fingerprint` stands
    /// for all that the results depend on.
    ///
    /// # Errors
    /// [`JournalError`] where the file cannot be opened, or is of another run: nothing is changed then.
    pub fn open(path: &Path, fingerprint: &str, restart: bool) -> Result<Self, JournalError> {
        let bad = |why: String| JournalError { path: path.to_owned(), why };
        let failed = |e: std::io::Error| bad(e.to_string());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        file.try_lock().map_err(|_| bad("another run is writing it".into()))?;
        if restart {
            file.set_len(0).map_err(failed)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let head = cbor(&Head { kinglet_journal: FORMAT, fingerprint: fingerprint.into() });
        let mut at = Cursor::new(bytes.as_slice());
        let mut known = HashMap::new();
        let mut whole = 0;
        match ciborium::from_reader::<Head, _>(&mut at) {
            Ok(head) if head.kinglet_journal != FORMAT => {
                return Err(bad("it is of another version of this program".into()));
            }
            Ok(head) if head.fingerprint != fingerprint => {
                return Err(bad("it is of a run with another model, pictures or settings".into()));
            }
            Ok(_) => {
                whole = at.position();
                while let Ok(entry) = ciborium::from_reader::<Entry, _>(&mut at) {
                    if check(&entry.key, &entry.value.0) != entry.check {
                        break;
                    }
                    whole = at.position();
                    known.insert(entry.key, entry.value.0);
                }
            }
            // A kill while the head was written.
            Err(_) if head.starts_with(&bytes) => {}
            Err(_) => return Err(bad("it is no record of a run".into())),
        }
        file.set_len(whole).map_err(failed)?;
        file.seek(SeekFrom::Start(whole)).map_err(failed)?;
        if whole == 0 {
            file.write_all(&head).map_err(failed)?;
        }
        let found = known.len();
        Ok(Self { inner: Mutex::new(Inner { known, file: Some(file) }), found })
    }

    /// How many results an earlier run has left.
    #[must_use]
    pub fn found(&self) -> usize {
        self.found
    }

    /// The result of this name: known from an earlier run, or what `find` finds, which is then kept.
    ///
    /// A disk that is full costs the record from here on, not the run.
    ///
    /// # Errors
    /// Those of `find`.
    pub(crate) fn memo<T, E>(&self, key: &str, find: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
    {
        // A name is asked for once in a run: what is known need not stay in memory.
        let known = self.lock().known.remove(key);
        if let Some(value) = known.and_then(|v| ciborium::from_reader(v.as_slice()).ok()) {
            return Ok(value);
        }
        let value = find()?;
        let mut inner = self.lock();
        if let Some(file) = &mut inner.file {
            let bytes = cbor(&value);
            let check = check(key, &bytes);
            let entry = cbor(&Entry { key: key.to_owned(), check, value: Value(bytes) });
            if file.write_all(&entry).is_err() {
                inner.file = None;
            }
        }
        Ok(value)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The SHA-256, in hexadecimal digits, of what a run depends on, piece by piece.
#[must_use]
pub fn fingerprint(pieces: &[&str]) -> String {
    let mut whole = Sha256::new();
    whole.update(env!("CARGO_PKG_VERSION"));
    for piece in pieces {
        whole.update(Sha256::digest(piece));
    }
    whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cbor(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("plain data always serializes");
    bytes
}

fn check(key: &str, value: &[u8]) -> [u8; CHECK] {
    let whole = Sha256::new().chain_update(key).chain_update([0]).chain_update(value).finalize();
    let mut check = [0; CHECK];
    check.copy_from_slice(&whole[..CHECK]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<(f64, Vec<i8>), ()>;

    /// Opens, asks for results 0 to 2, and says which had to be found.
    fn run(path: &Path) -> (Vec<usize>, Vec<(f64, Vec<i8>)>) {
        let journal = Journal::open(path, "f", false).unwrap();
        let mut found = Vec::new();
        let results = (0..3_usize).map(|at| {
            let find = || -> Found {
                found.push(at);
                Ok((0.1 + at as f64, vec![at as i8, -127]))
            };
            journal.memo(&format!("result {at}"), find).unwrap()
        });
        let results = results.collect();
        (found, results)
    }

    #[test]
    fn a_file_cut_or_flipped_anywhere_gives_the_same_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.progress");
        let (found, expected) = run(&path);
        assert_eq!(found, [0, 1, 2]);
        assert_eq!(run(&path), (vec![], expected.clone()));
        let whole = std::fs::read(&path).unwrap();
        let mut counts = [0; 4];
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (found, results) = run(&path);
            counts[found.len()] += 1;
            assert_eq!(results, expected, "{length} bytes were left");
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{length} bytes were left");
        }
        assert!(counts[1..].iter().all(|&n| n > 10), "{counts:?}");
        let head = cbor(&Head { kinglet_journal: FORMAT, fingerprint: "f".into() }).len();
        for at in head..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(run(&path).1, expected, "byte {at} was flipped");
        }
    }

    #[test]
    fn another_run_and_other_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.progress");
        run(&path);
        let whole = std::fs::read(&path).unwrap();
        let error = Journal::open(&path, "g", false).unwrap_err().to_string();
        assert!(error.contains("another model, pictures or settings"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert_eq!(Journal::open(&path, "g", true).unwrap().found(), 0);
        let notes = "my notes ".repeat(40);
        std::fs::write(&path, &notes).unwrap();
        let error = Journal::open(&path, "g", false).unwrap_err().to_string();
        assert!(error.contains("no record of a run"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), notes);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.progress");
        let journal = Journal::open(&path, "f", false).unwrap();
        assert_eq!(journal.memo("a", || Err::<u8, _>("no")), Err("no"));
        drop(journal);
        let journal = Journal::open(&path, "f", false).unwrap();
        assert_eq!(journal.found(), 0);
        assert_eq!(journal.memo("a", || Ok::<_, ()>(7_u8)), Ok(7));
    }
}
