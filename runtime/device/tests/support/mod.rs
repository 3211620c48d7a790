//! What the tests of cameras share: scripts in place of cameras.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kinglet_device::camera::{Feed, Frame, Pace, Patience, Source, Taken, Wanted};

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Patience of a test: milliseconds where a device takes seconds.
pub(crate) fn hasty() -> Patience {
    Patience {
        stall: 100 * MS,
        start: 2000 * MS,
        recording: 300 * MS,
        first_pause: MS,
        longest_pause: 4 * MS,
    }
}

/// A program in place of ffmpeg that runs these shell commands.
pub(crate) struct Script {
    folder: tempfile::TempDir,
}

/// A frame of 16 by 16 pixels in YUV4MPEG2 without its header, all zeros.
pub(crate) const FRAME: &str = "printf 'FRAME\\n'; head -c 384 /dev/zero; ";
pub(crate) const HEADER: &str = "printf 'YUV4MPEG2 W16 H16 F25:1 C420jpeg\\n'; ";

impl Script {
    pub(crate) fn new(commands: &str) -> Self {
        let script = Self { folder: tempfile::tempdir().unwrap() };
        let text = format!("#!/bin/sh\ncd {}\n{commands}\n", script.folder.path().display());
        // Written by another process, so that no other test's fork holds it open while it is run.
        let status = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$1\" > \"$0\" && chmod +x \"$0\""])
            .args([script.program().as_os_str(), text.as_ref()])
            .status();
        assert!(status.unwrap().success());
        script
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("camera.sh")
    }

    pub(crate) fn feed(&self, input: &str, patience: Patience) -> Feed {
        self.feed_as(input, false, patience)
    }

    /// From the beginning again at the end, where `repeat`.
    pub(crate) fn feed_as(&self, input: &str, repeat: bool, patience: Patience) -> Feed {
        let wanted = Wanted { program: Some(self.program()), repeat, ..Wanted::default() };
        Feed::start(Source::parse(input).unwrap(), wanted, Pace::Newest, patience)
    }
}

/// The next frame within some seconds.
pub(crate) fn frame(feed: &Feed) -> Arc<Frame> {
    let deadline = Instant::now() + 5000 * MS;
    loop {
        match feed.take(deadline) {
            Taken::Frame(frame) => return frame,
            Taken::Lost => {}
            other => panic!("{other:?}, {:?}", feed.status()),
        }
    }
}

/// Waits until the camera has been lost.
pub(crate) fn lost(feed: &Feed) {
    let deadline = Instant::now() + 5000 * MS;
    loop {
        match feed.take(deadline) {
            Taken::Frame(_) => {}
            Taken::Lost => return,
            other => panic!("{other:?}, {:?}", feed.status()),
        }
    }
}

/// Command lines of all processes.
pub(crate) fn processes() -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok()).collect()
}
