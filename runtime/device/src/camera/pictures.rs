//! A folder or a list of picture files, one frame a file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::CameraError;
use super::frame::{Frame, Layout, MAX_BYTES};
use super::{Camera, Next};

/// Extensions that are taken from folders.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Picture files in their order.
#[derive(Debug)]
pub(super) struct Pictures {
    files: std::vec::IntoIter<PathBuf>,
    /// From one picture to the next; zero without a rate.
    interval: Duration,
    due: Instant,
}

/// Whether a file's name is that of a picture.
pub(super) fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

impl Pictures {
    /// The pictures in a folder sorted by name, those that a text file lists (a path a line, from
    /// the list's own folder on), or one picture. `fps` of them a second, or all at once.
    pub(super) fn open(path: &Path, fps: Option<f64>) -> Result<Self, CameraError> {
        let cannot = |e| CameraError::system(format!("reading {}", path.display()))(e);
        let files: Vec<PathBuf> = if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(cannot)?;
            let mut files: Vec<_> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| is_picture(file))
                .collect();
            files.sort();
            files
        } else if is_picture(path) {
            vec![path.to_owned()]
        } else {
            let folder = path.parent().unwrap_or(Path::new("."));
            let list = std::fs::read_to_string(path).map_err(cannot)?;
            let lines =
                list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
            lines.map(|line| folder.join(line)).collect()
        };
        if files.is_empty() {
            return Err(CameraError::NoPictures { path: path.to_owned() });
        }
        let interval = fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f64(1.0 / fps));
        Ok(Self { files: files.into_iter(), interval, due: Instant::now() })
    }
}

impl Camera for Pictures {
    fn next(&mut self, frame: &mut Frame, deadline: Instant) -> Result<Next, CameraError> {
        if !super::test_pattern::sleep_until(self.due, deadline) {
            return Ok(Next::Wait);
        }
        for file in self.files.by_ref() {
            match read(&file, &mut frame.bytes) {
                Ok(()) => {
                    (frame.layout, frame.width, frame.height) = (Layout::File, 0, 0);
                    frame.name.clear();
                    frame.name.push_str(&file.to_string_lossy());
                    frame.captured = Instant::now();
                    self.due += self.interval;
                    return Ok(Next::Frame);
                }
                Err(error) => tracing::error!("{}: {error}", file.display()),
            }
        }
        Ok(Next::End)
    }
}

/// A file's bytes into memory that is used again.
fn read(file: &Path, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Read as _;
    bytes.clear();
    std::fs::File::open(file)?.take(MAX_BYTES as u64 + 1).read_to_end(bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(std::io::Error::other(format!("larger than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(())
}
