//! Decisions as lines of JSON in files that are ended, and thrown away, by size and age.
//!
//! What cannot be written is lost and said so; nothing waits for the disk.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::bus::{Bus, Listener, Writer};
use super::config::Log;
use super::decision::format_time;

/// The folder's limit in files: one is ended when it is this part of it.
const FILES: u64 = 8;
const PREFIX: &str = "decisions-";
const EXTENSION: &str = "jsonl";

/// A folder of such files.
#[derive(Debug)]
struct Journal {
    folder: PathBuf,
    most: u64,
    age: Duration,
    file: Option<(File, u64)>,
}

/// Writes until the bus is closed.
pub(super) fn start(log: &Log, listener: Listener, bus: Bus) -> std::io::Result<Writer> {
    let age = Duration::from_secs(log.max_days.saturating_mul(86_400));
    let most = log.max_mib.max(1).saturating_mul(1 << 20);
    let mut journal = Journal { folder: log.folder.clone(), most, age, file: None };
    let all = log.all;
    listener.on_thread("log", move |listener| {
        while let Some(decision) = listener.next() {
            if !(all || decision.changed) {
                continue;
            }
            let mut line = serde_json::to_string(&*decision).unwrap_or_default();
            line.push('\n');
            let written = journal.write(line.as_bytes(), SystemTime::now());
            bus.report("log", written.err().map(|e| format!("{}: {e}", journal.folder.display())));
        }
    })
}

impl Journal {
    /// Appends a whole line or nothing.
    fn write(&mut self, line: &[u8], now: SystemTime) -> std::io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, length)| *length >= self.most / FILES) {
            self.file = None;
        }
        let (file, length) = match &mut self.file {
            Some(open) => open,
            None => {
                std::fs::create_dir_all(&self.folder)?;
                let name = format!("{PREFIX}{}.{EXTENSION}", format_time(now).replace(':', "-"));
                let path = self.folder.join(name);
                let file = OpenOptions::new().append(true).create(true).open(&path)?;
                self.clean(&path, now);
                let length = file.metadata()?.len();
                self.file.insert((file, length))
            }
        };
        match file.write_all(line) {
            Ok(()) => {
                *length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A part of the line may be there.
                let _ = file.set_len(*length).and_then(|()| file.seek(SeekFrom::End(0)));
                Err(error)
            }
        }
    }

    /// Throws files away that are too old, or too many.
    fn clean(&self, current: &Path, now: SystemTime) {
        let mut files = files(&self.folder);
        files.retain(|(path, ..)| path != current);
        let mut sum: u64 = files.iter().map(|(_, size, _)| size).sum::<u64>() + self.most / FILES;
        for (path, size, modified) in files {
            let old = now.duration_since(modified).is_ok_and(|age| age > self.age);
            if (old || sum > self.most) && std::fs::remove_file(&path).is_ok() {
                sum -= size;
            }
        }
    }
}

/// Our files in a folder, the oldest first: path, size, time.
fn files(folder: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let ours = path.extension().is_some_and(|e| e == EXTENSION)
                && path.file_name()?.to_str()?.starts_with(PREFIX);
            let facts = entry.metadata().ok()?;
            ours.then_some((path, facts.len(), facts.modified().ok()?))
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_end_by_size_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let age = Duration::from_secs(3600);
        let mut journal = Journal { folder: path.clone(), most: 8000, age, file: None };
        let start = SystemTime::now();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("notes.jsonl"), [0; 9000]).unwrap();
        for n in 0..2000u64 {
            let line = format!("{n:099}\n");
            journal.write(line.as_bytes(), start + Duration::from_millis(n)).unwrap();
        }
        let left = files(&path);
        let sum: u64 = left.iter().map(|(_, size, _)| size).sum();
        assert!((6000..=8000).contains(&sum), "{sum}");
        let text: String =
            left.iter().map(|(path, ..)| std::fs::read_to_string(path).unwrap()).collect();
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        let first = numbers[0];
        assert_eq!(numbers, (first..2000).collect::<Vec<_>>(), "the newest, whole and in order");
        assert!(path.join("notes.jsonl").exists(), "what is not ours stays");
        // A day later all are too old.
        journal.file = None;
        journal.write(b"x\n", start + Duration::from_secs(86_400)).unwrap();
        assert_eq!(files(&path).len(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error_and_a_full_disk_is_too() {
        let (most, age) = (8000, Duration::from_secs(1));
        let mut journal = Journal { folder: "/proc/no".into(), most, age, file: None };
        assert!(journal.write(b"x\n", SystemTime::now()).is_err());
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        journal.file = Some((full, 0));
        assert!(journal.write(b"x\n", SystemTime::now()).is_err());
    }
}
