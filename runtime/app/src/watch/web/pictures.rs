//! Frames as JPEG pictures: each is encoded once, whoever looks at it, and only when somebody does.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::body::Bytes;
use kinglet_device::camera::{Frame, Layout};
use tokio::sync::watch;

use super::super::bus::Bus;
use super::super::pulse::{BEAT, Pulse};
use super::super::snapshots::{QUALITY, encode};
use super::Web;

/// Pictures that are kept, so that what a person has just seen can be saved.
const KEPT: usize = 16;
/// The same in bytes; the newest is always kept.
const KEPT_BYTES: usize = 2 << 20;
/// Largest picture, bytes.
const LARGEST: usize = 8 << 20;
/// How soon somebody who waits asks once more, and the thread looks whether it shall end.
const GLANCE: Duration = Duration::from_millis(250);
/// When nobody has looked for so long, nothing is kept.
const FORGET: Duration = Duration::from_secs(30);

/// One frame.
pub(super) struct Picture {
    /// The frame's number.
    pub(super) number: u64,
    pub(super) jpeg: Bytes,
}

/// The newest pictures.
pub(super) struct Pictures {
    bus: Bus,
    newest: watch::Sender<Option<Arc<Picture>>>,
    asked: Mutex<Asked>,
    changed: Condvar,
    kept: Mutex<VecDeque<Arc<Picture>>>,
}

/// What the thread is asked for.
#[derive(Default)]
struct Asked {
    picture: bool,
    end: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pictures {
    pub(super) fn new(bus: Bus) -> Self {
        let (newest, asked, kept) = (watch::Sender::new(None), Mutex::default(), Mutex::default());
        Self { bus, newest, asked, changed: Condvar::new(), kept }
    }

    /// The newest frame, if its number is above `number`; waits for it until `patience` is over.
    pub(super) async fn newer_than(&self, number: u64, patience: Duration) -> Option<Arc<Picture>> {
        let deadline = Instant::now() + patience;
        let mut newest = self.newest.subscribe();
        // Of a frame before the program began anew.
        let number = if number > self.bus.frames().status().frames { 0 } else { number };
        // What was there when it was asked for will do: a camera may be faster than we are.
        let mut least = None;
        loop {
            let now = self.bus.frames().newer_than(0, Instant::now()).map(|frame| frame.number);
            least = now.and(least.or(now));
            let picture = newest.borrow_and_update().clone();
            let new = |picture: &Arc<Picture>| picture.number > number;
            if let Some(picture) = picture.filter(new)
                && least.is_some_and(|least| picture.number >= least)
            {
                return Some(picture);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            lock(&self.asked).picture = true;
            self.changed.notify_one();
            let _ = tokio::time::timeout(left.min(GLANCE), newest.changed()).await;
        }
    }

    /// The picture of a frame that was seen just now.
    pub(super) fn seen(&self, number: u64) -> Option<Arc<Picture>> {
        lock(&self.kept).iter().find(|picture| picture.number == number).cloned()
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        lock(&self.asked).end = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut last = 0;
        let own = self.bus.pulse("http pictures");
        while self.asked(&own) {
            let deadline = Instant::now() + GLANCE;
            let Some(frame) = self.bus.frames().newer_than(last, deadline) else { continue };
            // One that cannot be read is not tried again.
            last = frame.number;
            match jpeg(&frame) {
                Ok(jpeg) => self.keep(Arc::new(Picture { number: last, jpeg })),
                Err(error) => tracing::debug!("frame {last} is no picture: {error:#}"),
            }
        }
    }

    /// Waits until a picture is asked for; says whether to go on.
    fn asked(&self, own: &Pulse) -> bool {
        let mut asked = lock(&self.asked);
        let mut idle = Instant::now();
        own.beat();
        while !asked.picture && !asked.end {
            let waited = self.changed.wait_timeout(asked, BEAT);
            own.beat();
            asked = waited.unwrap_or_else(PoisonError::into_inner).0;
            if idle.elapsed() >= FORGET {
                lock(&self.kept).clear();
                self.newest.send_replace(None);
                idle = Instant::now();
            }
        }
        asked.picture = false;
        !asked.end
    }

    fn keep(&self, picture: Arc<Picture>) {
        let mut kept = lock(&self.kept);
        kept.push_back(Arc::clone(&picture));
        let bytes =
            |kept: &VecDeque<Arc<Picture>>| kept.iter().map(|p| p.jpeg.len()).sum::<usize>();
        while kept.len() > 1 && (kept.len() > KEPT || bytes(&kept) > KEPT_BYTES) {
            kept.pop_front();
        }
        drop(kept);
        self.newest.send_replace(Some(picture));
    }
}

/// Starts the thread that encodes.
pub(super) fn start(web: &Arc<Web>) -> io::Result<JoinHandle<()>> {
    let web = Arc::clone(web);
    let thread = std::thread::Builder::new().name("http pictures".into());
    thread.spawn(move || web.pictures.run())
}

/// The frame as JPEG; as it is, if it is one.
fn jpeg(frame: &Frame) -> anyhow::Result<Bytes> {
    if frame.layout == Layout::File {
        ensure!(frame.bytes.len() <= LARGEST, "a file of {} bytes", frame.bytes.len());
        if frame.bytes.starts_with(&[0xff, 0xd8]) {
            return Ok(Bytes::copy_from_slice(&frame.bytes));
        }
        let picture = kinglet_engine::Picture::decode(&frame.bytes)?;
        let mut bytes = Vec::new();
        let (width, height) = (picture.width(), picture.height());
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .encode(picture.rgb(), width, height, image::ExtendedColorType::Rgb8)
            .context("encoding")?;
        return Ok(bytes.into());
    }
    Ok(encode(frame)?.0.into())
}

#[cfg(test)]
mod tests {
    use kinglet_device::camera::{Feed, Pace, Patience, Source, Wanted};

    use super::*;

    fn pictures() -> Arc<Pictures> {
        let wanted = Wanted { fps: Some(50.0), ..Wanted::default() };
        let feed = Feed::start(Source::Test, wanted, Pace::Newest, Patience::default());
        Arc::new(Pictures::new(Bus::new(Arc::new(feed))))
    }

    #[test]
    fn all_who_look_get_the_same_picture_and_the_newest() {
        let pictures = pictures();
        let thread = {
            let pictures = Arc::clone(&pictures);
            std::thread::spawn(move || pictures.run())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let long = Duration::from_secs(20);
            let first = pictures.newer_than(0, long).await.unwrap();
            assert!(first.jpeg.starts_with(&[0xff, 0xd8]));
            let (one, other) =
                tokio::join!(pictures.newer_than(0, long), pictures.newer_than(first.number, long));
            let (one, other) = (one.unwrap(), other.unwrap());
            assert!(one.number >= first.number && other.number > first.number);
            assert!(pictures.seen(other.number).is_some_and(|seen| Arc::ptr_eq(&seen, &other)));
            // A number from before a restart.
            assert!(pictures.newer_than(u64::MAX, long).await.is_some());
            let kept = lock(&pictures.kept).len();
            assert!((1..=KEPT).contains(&kept), "{kept}");
        });
        pictures.end();
        thread.join().unwrap();
    }

    #[test]
    fn files_stay_as_they_are_or_become_jpeg() {
        let file = |bytes: Vec<u8>| Frame { layout: Layout::File, bytes, ..Frame::default() };
        let camera = vec![0xff, 0xd8, 1, 2, 3];
        assert_eq!(jpeg(&file(camera.clone())).unwrap(), camera);
        let mut png = io::Cursor::new(Vec::new());
        image::RgbImage::new(20, 10).write_to(&mut png, image::ImageFormat::Png).unwrap();
        assert!(jpeg(&file(png.into_inner())).unwrap().starts_with(&[0xff, 0xd8]));
        assert!(jpeg(&file(b"nothing".to_vec())).is_err());
        assert!(jpeg(&file(vec![0xff; LARGEST + 1])).is_err());
    }
}
