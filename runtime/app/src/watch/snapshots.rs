//! Pictures of what was decided, within a budget: the oldest go first, and some space always stays
//! free. A thread of its own; when the disk is slow or full, pictures are left out.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kinglet_device::camera::{Frame, Layout};
use kinglet_engine::atomic::atomic_write;
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::preprocess::{InputKind, InputTensor, Preprocessor};

use super::bus::Bus;
use super::config::Snapshots as Settings;
use super::decision::{Decision, format_time};
use super::eyes::view;
use super::pulse::BEAT;
use crate::decide::State;

/// Pictures that may wait for the disk.
const WAITING: usize = 2;
/// JPEG quality of frames that are not JPEG.
pub(super) const QUALITY: u8 = 90;

/// Keeps pictures of chosen decisions.
#[derive(Debug)]
pub(super) struct Snapshots {
    states: Vec<State>,
    every: Option<Duration>,
    /// When an area's last picture was taken.
    last: Vec<Option<Instant>>,
    sender: Option<SyncSender<(Arc<Frame>, String)>>,
    thread: JoinHandle<()>,
}

impl Snapshots {
    pub(super) fn start(
        settings: &Settings,
        states: Vec<State>,
        areas: usize,
        bus: Bus,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel::<(Arc<Frame>, String)>(WAITING);
        let mib = |mib: u64| mib.saturating_mul(1 << 20);
        let (budget, floor) = (mib(settings.max_mib), mib(settings.free_mib));
        let folder = settings.folder.clone();
        let thread = std::thread::Builder::new().name("snapshots".into()).spawn(move || {
            let pulse = bus.pulse("snapshots");
            let mut store = Store::new(&folder, budget, floor);
            loop {
                pulse.beat();
                let (frame, name) = match receiver.recv_timeout(BEAT) {
                    Ok(picture) => picture,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let kept = encode(&frame)
                    .and_then(|(bytes, kind)| store.keep(&format!("{name}.{kind}"), &bytes));
                bus.report("snapshots", kept.err().map(|e| format!("{e:#}")));
            }
        })?;
        let every = settings.every_ms.map(Duration::from_millis);
        Ok(Self { states, every, last: vec![None; areas], sender: Some(sender), thread })
    }

    /// Keeps the frame if what was decided asks for it.
    pub(super) fn offer(
        &mut self,
        frame: &Arc<Frame>,
        decision: &Decision,
        state: State,
        area: usize,
    ) {
        let now = Instant::now();
        let due = match (self.last[area], self.every) {
            (Some(last), Some(every)) => now.duration_since(last) >= every,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if self.states.contains(&state) && (decision.changed || due) {
            self.keep(frame, decision, area, now);
        }
    }

    /// Keeps the frame, whatever was decided, unless the last one is too recent.
    pub(super) fn offer_now(&mut self, frame: &Arc<Frame>, decision: &Decision, area: usize) {
        let now = Instant::now();
        let every = self.every.unwrap_or_default();
        if self.last[area].is_none_or(|last| now.duration_since(last) >= every) {
            self.keep(frame, decision, area, now);
        }
    }

    fn keep(&mut self, frame: &Arc<Frame>, decision: &Decision, area: usize, now: Instant) {
        self.last[area] = Some(now);
        // What it most likely is, where nothing is decided.
        let likely = decision.top.first().map_or("", |entry| entry.label.as_str());
        let label = decision.decision.as_deref().unwrap_or(likely);
        let name = format!(
            "{}_{:06}{}_{}",
            format_time(decision.time).replace(':', "-"),
            frame.number,
            decision.region.as_ref().map(|r| format!("_{}", plain(r))).unwrap_or_default(),
            plain(label)
        );
        if let Some(sender) = &self.sender
            && let Err(TrySendError::Full(_)) = sender.try_send((Arc::clone(frame), name))
        {
            tracing::debug!("a snapshot was left out: the disk is slow");
        }
    }
}

impl Snapshots {
    /// Takes no more pictures; returns at once. Those that wait are still written.
    pub(super) fn stop(&mut self) {
        self.sender = None;
    }

    /// Whether all are written.
    pub(super) fn stopped(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A name that can stand in a file's.
fn plain(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().take(40).map(safe).collect()
}

/// The frame as a file, and the file's extension.
pub(super) fn encode(frame: &Frame) -> anyhow::Result<(Vec<u8>, &'static str)> {
    if frame.layout == Layout::File {
        let kind = if frame.bytes.starts_with(&[0x89, b'P']) { "png" } else { "jpg" };
        return Ok((frame.bytes.clone(), kind));
    }
    // Resizing to its own size changes nothing: what is left is the conversion.
    let (mean, std) = ([0.0; 3], [1.0; 3]);
    let (filter, crop, channels) = (Filter::Bilinear, Crop::Stretch, Channels::Rgb);
    let size = [frame.height, frame.width];
    let same = Preprocess { size, filter, crop, mean, std, channels };
    let mut preprocessor =
        Preprocessor::new(&same, InputKind::U8Nhwc { scale: 1.0, zero_point: 0 })?;
    let mut tensor = preprocessor.tensor();
    preprocessor.run_frame(&view(frame)?, &mut tensor);
    let InputTensor::U8(rgb) = tensor else { anyhow::bail!("no picture") };
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    encoder.encode(&rgb, frame.width, frame.height, image::ExtendedColorType::Rgb8)?;
    Ok((bytes, "jpg"))
}

/// The folder, and what of it is ours.
#[derive(Debug)]
struct Store {
    folder: PathBuf,
    budget: u64,
    floor: u64,
    /// The oldest first.
    files: VecDeque<(PathBuf, u64)>,
    sum: u64,
}

impl Store {
    fn new(folder: &Path, budget: u64, floor: u64) -> Self {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter(|entry| is_ours(&entry.file_name().to_string_lossy()))
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
            .collect();
        files.sort();
        let sum = files.iter().map(|(_, size)| size).sum();
        Self { folder: folder.to_owned(), budget, floor, files: files.into(), sum }
    }

    /// Writes a picture, after making room for it.
    fn keep(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("{}", self.folder.display()))?;
        let size = bytes.len() as u64;
        anyhow::ensure!(size <= self.budget, "a picture is larger than the budget (max_mib)");
        while self.sum + size > self.budget || self.free()? < self.floor.saturating_add(size) {
            let Some((oldest, size)) = self.files.pop_front() else {
                anyhow::bail!(
                    "less than {} MiB would be free on the disk (free_mib)",
                    self.floor >> 20
                );
            };
            self.sum -= size;
            // Somebody else may have thrown it away.
            let _ = std::fs::remove_file(oldest);
        }
        let path = self.folder.join(name);
        atomic_write(&path, bytes).with_context(|| format!("{}", path.display()))?;
        self.files.push_back((path, size));
        self.sum += size;
        Ok(())
    }

    fn free(&self) -> anyhow::Result<u64> {
        kinglet_device::free_bytes(&self.folder)
            .with_context(|| format!("{}", self.folder.display()))
    }
}

/// `2026-11-24T18-00-00.000Z_…jpg` or png.
fn is_ours(name: &str) -> bool {
    let shape = "dddd-dd-ddTdd-dd-dd.dddZ_";
    let fits = |(c, s): (char, char)| if s == 'd' { c.is_ascii_digit() } else { c == s };
    name.len() > shape.len()
        && name.is_ascii()
        && name.chars().zip(shape.chars()).all(fits)
        && (name.ends_with(".jpg") || name.ends_with(".png"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u64) -> String {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        format!("{}_x.jpg", format_time(time).replace(':', "-"))
    }

    #[test]
    fn the_oldest_go_first_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("holiday.jpg"), [0; 5000]).unwrap();
        let mut store = Store::new(folder.path(), 3500, 0);
        (0..10).for_each(|n| store.keep(&name(n), &[0; 1000]).unwrap());
        // Started again, it knows what is there.
        let mut store = Store::new(folder.path(), 3500, 0);
        store.keep(&name(10), &[0; 1000]).unwrap();
        let there = |n| folder.path().join(name(n)).exists();
        assert_eq!((0..=10).filter(|n| there(*n)).collect::<Vec<_>>(), [8, 9, 10]);
        assert!(folder.path().join("holiday.jpg").exists());
        assert!(store.keep(&name(11), &[0; 4000]).is_err());
    }

    #[test]
    fn below_the_floor_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(folder.path(), 1 << 20, u64::MAX);
        let error = store.keep(&name(1), &[0; 10]).unwrap_err().to_string();
        assert!(error.contains("free_mib"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn frames_of_any_layout_become_pictures_of_their_colours() {
        // Red, in BT.601: Y 81, U 90, V 240.
        let frame = Frame {
            layout: Layout::Yuyv,
            width: 32,
            height: 16,
            bytes: [81, 90, 81, 240].repeat(32 * 16 / 2),
            ..Frame::default()
        };
        let (bytes, kind) = encode(&frame).unwrap();
        let picture = kinglet_engine::Picture::decode(&bytes).unwrap();
        assert_eq!((picture.width(), picture.height(), kind), (32, 16, "jpg"));
        let [r, g, b] = [0, 1, 2].map(|c| picture.rgb()[c + 3 * 100]);
        assert!(r > 245 && g < 10 && b < 10, "{r} {g} {b}");
    }
}
