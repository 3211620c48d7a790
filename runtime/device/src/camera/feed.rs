//! A camera on a thread of its own: the newest frame, and opened again whenever it fails.
//!
//! The thread never waits for whoever takes frames ([`Pace::Newest`]): a frame that nobody took is
//! replaced. It notices a camera that is gone, that stalls or that sends garbage, closes it with
//! all that belongs to it, and opens it again, at longer and longer intervals up to
//! [`Patience::longest_pause`]. Another camera can take its place ([`Feed::change`]); frames are
//! numbered on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::CameraError;
use super::frame::{Frame, Mode};
use super::pool::Pool;
use super::status::{Pace, Patience, State, Status, Taken};
use super::{Camera, Next, Source, Wanted};

/// A camera that has run for this long is opened again soon when it fails.
const RAN_WELL: Duration = Duration::from_secs(5);
/// How soon the thread sees that it shall end.
const GLANCE: Duration = Duration::from_millis(50);
/// How long is waited for the thread to end; a process that it ends may take a second to go.
const FAREWELL: Duration = Duration::from_millis(1200);
/// The same failure is logged this often.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// A camera on a thread. Dropping it ends the thread and closes the camera.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
    stop: AtomicBool,
    /// Another camera is wanted: `Slot::next` has it.
    change: AtomicBool,
    rounds: AtomicU64,
    opening: AtomicBool,
}

#[derive(Debug, Default)]
struct Slot {
    frame: Option<Arc<Frame>>,
    /// The same, and still there when it has been taken.
    newest: Option<Arc<Frame>>,
    lost: bool,
    ended: Option<Result<(), Arc<CameraError>>>,
    status: Status,
    /// Since when every frame has been refused, and why.
    refused: Option<(Instant, String)>,
    /// The camera that takes this one's place.
    next: Option<Work>,
}

impl Feed {
    /// Opens the source on a thread.
    #[must_use]
    pub fn start(source: Source, wanted: Wanted, pace: Pace, patience: Patience) -> Self {
        let shared = Arc::<Shared>::default();
        let work = Work::new(source, wanted, pace, patience);
        let keeper = Keeper { shared: Arc::clone(&shared), work, pool: Pool::default() };
        let thread = std::thread::Builder::new().name("camera".into()).spawn(|| keeper.run());
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                let error = CameraError::system("starting a thread")(error);
                shared.slot().ended = Some(Err(Arc::new(error)));
                None
            }
        };
        Self { shared, thread: Mutex::new(thread) }
    }

    /// Closes the camera, as soon as it lets go, and opens another in its place. What came from the
    /// first is still there to be taken; frames are numbered on.
    pub fn change(&self, source: Source, wanted: Wanted, pace: Pace, patience: Patience) {
        let mut slot = self.shared.slot();
        slot.next = Some(Work::new(source, wanted, pace, patience));
        self.shared.change.store(true, Relaxed);
        drop(slot);
        self.shared.changed.notify_all();
    }

    /// Waits for a frame that has not been taken yet, until `deadline` at the latest.
    pub fn take(&self, deadline: Instant) -> Taken {
        let mut slot = self.shared.slot();
        loop {
            if std::mem::take(&mut slot.lost) {
                return Taken::Lost;
            }
            if let Some(frame) = slot.frame.take() {
                // Whoever hands on every frame waits for this.
                self.shared.changed.notify_all();
                return Taken::Frame(frame);
            }
            if let Some(end) = &slot.ended {
                return Taken::End(end.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // A thread that is gone without a word has panicked.
                if self.thread().as_ref().is_some_and(JoinHandle::is_finished) {
                    let (what, why) = ("the camera's thread".into(), String::new());
                    return Taken::End(Err(Arc::new(CameraError::Ended { what, why })));
                }
                return Taken::Wait;
            }
            slot = self.shared.wait(slot, left);
        }
    }

    /// The newest frame if its number is above `number`, waiting until `deadline` at the latest. Takes
    /// nothing away: for any number of onlookers, none of which the camera waits for.
    pub fn newer_than(&self, number: u64, deadline: Instant) -> Option<Arc<Frame>> {
        let mut slot = self.shared.slot();
        loop {
            if let Some(frame) = slot.newest.as_ref().filter(|frame| frame.number > number) {
                return Some(Arc::clone(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || slot.ended.is_some() {
                return None;
            }
            slot = self.shared.wait(slot, left);
        }
    }

    /// Says that the last frame was of no use (a picture that cannot be decoded). When nothing else
    /// comes, the camera is opened again.
    pub fn refuse(&self, why: &str) {
        self.shared.slot().refused.get_or_insert_with(|| (Instant::now(), why.to_owned()));
    }

    /// Says that the last frame was good.
    pub fn accept(&self) {
        self.shared.slot().refused = None;
    }

    /// How the camera is doing.
    pub fn status(&self) -> Status {
        self.shared.slot().status.clone()
    }

    /// A number that grows as long as the thread does its rounds, with a camera or without one.
    pub fn rounds(&self) -> u64 {
        self.shared.rounds.load(Relaxed)
    }

    /// Whether a camera is being opened: meanwhile there are no rounds, and a network may take its
    /// time.
    pub fn opening(&self) -> bool {
        self.shared.opening.load(Relaxed)
    }

    /// Tells the thread to close the camera and end; returns at once.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.changed.notify_all();
    }

    /// Whether the thread has ended, and with it all that the camera was.
    pub fn stopped(&self) -> bool {
        self.thread().as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if self.shared.stopped() {
            // Whoever told it to has waited for as long as it wanted to.
            return;
        }
        self.stop();
        let deadline = Instant::now() + FAREWELL;
        while !self.stopped() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, slot: MutexGuard<'a, Slot>, time: Duration) -> MutexGuard<'a, Slot> {
        self.changed.wait_timeout(slot, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Whether this camera is to be left.
    fn over(&self) -> bool {
        self.rounds.fetch_add(1, Relaxed);
        self.stopped() || self.change.load(Relaxed)
    }
}

/// How a camera is kept running.
#[derive(Debug, Clone, Copy)]
struct Keeping {
    pace: Pace,
    patience: Patience,
    live: bool,
    stalls: bool,
    repeat: bool,
}

type Open = dyn Fn() -> Result<Box<dyn Camera>, CameraError> + Send;

/// A camera and how it is kept.
struct Work {
    name: String,
    open: Box<Open>,
    keeping: Keeping,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Work {
    fn new(source: Source, wanted: Wanted, pace: Pace, patience: Patience) -> Self {
        let live = source.is_live();
        // Standard input may rest for as long as it likes.
        let stalls = source != Source::Stdin;
        let repeat = wanted.repeat;
        let name = source.to_string();
        let open = Box::new(move || source.open(&wanted, pace == Pace::Every));
        Self { name, open, keeping: Keeping { pace, patience, live, stalls, repeat } }
    }
}

/// The thread's own.
struct Keeper {
    shared: Arc<Shared>,
    work: Work,
    pool: Pool,
}

impl Keeper {
    fn run(mut self) {
        loop {
            self.keep();
            let mut slot = self.shared.slot();
            let Some(next) = slot.next.take().filter(|_| !self.shared.stopped()) else { return };
            self.shared.change.store(false, Relaxed);
            (slot.ended, slot.refused) = (None, None);
            (slot.status.state, slot.status.mode) = (State::Opening, None);
            drop(slot);
            self.work = next;
        }
    }

    /// Keeps a camera running until it is over, or another is wanted.
    fn keep(&mut self) {
        let Patience { first_pause, longest_pause, .. } = self.work.keeping.patience;
        let mut pause = first_pause;
        let mut logged: Option<(String, Instant)> = None;
        let mut worked = false;
        while !self.shared.over() {
            let before = self.shared.slot().status.frames;
            let begun = Instant::now();
            self.shared.opening.store(true, Relaxed);
            let opened = (self.work.open)();
            self.shared.opening.store(false, Relaxed);
            let outcome = opened.and_then(|mut camera| self.serve(camera.as_mut()));
            if self.shared.over() {
                return;
            }
            let came = self.shared.slot().status.frames > before;
            worked |= came;
            let Keeping { live, repeat, .. } = self.work.keeping;
            let error = match outcome {
                Ok(()) if repeat && came => continue,
                Ok(()) if !live => return self.end(Ok(())),
                // One that is shown again and again is a camera as soon as it has worked.
                Err(error) if !(live || repeat && worked) => {
                    return self.end(Err(Arc::new(error)));
                }
                Ok(()) => CameraError::Ended { what: self.work.name.clone(), why: String::new() },
                Err(error) => error,
            };
            let text = error.to_string();
            if came && begun.elapsed() > RAN_WELL {
                pause = first_pause;
            }
            let again = logged
                .as_ref()
                .is_none_or(|(last, when)| came || *last != text || when.elapsed() > LOG_AGAIN);
            if again {
                tracing::warn!("camera {}: {text}; it is opened again", self.work.name);
                logged = Some((text.clone(), Instant::now()));
            }
            self.lose(text);
            self.rest(pause);
            pause = (pause * 2).min(longest_pause);
        }
    }

    /// Hands on frames until the camera ends or fails, or nobody wants any more.
    fn serve(&mut self, camera: &mut dyn Camera) -> Result<(), CameraError> {
        let Patience { mut stall, mut start, recording, .. } = self.work.keeping.patience;
        if !self.work.keeping.live {
            (stall, start) = (recording, recording);
        }
        let (mut last, mut patience, mut known) = (Instant::now(), start, false);
        while !self.shared.over() {
            let mut frame = self.pool.take();
            let Some(own) = Arc::get_mut(&mut frame) else { continue };
            own.name.clear();
            let next = camera.next(own, Instant::now() + GLANCE.min(patience));
            match next? {
                Next::Frame => {
                    if !std::mem::replace(&mut known, true) {
                        self.announce(camera.mode());
                    }
                    self.post(frame)?;
                    (last, patience) = (Instant::now(), stall);
                }
                Next::Wait => {
                    self.pool.keep(frame);
                    if self.work.keeping.stalls && last.elapsed() >= patience {
                        return Err(CameraError::Stalled { seconds: last.elapsed().as_secs_f64() });
                    }
                }
                Next::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Says what was opened.
    fn announce(&self, mode: Option<Mode>) {
        let mode = mode.map(|mode| mode.to_string());
        let mut slot = self.shared.slot();
        let again = if slot.status.lost > 0 { " again" } else { "" };
        tracing::info!(
            "camera {}{again}: {}",
            self.work.name,
            mode.as_deref().unwrap_or("pictures")
        );
        (slot.status.state, slot.status.mode) = (State::Running, mode);
    }

    /// Puts a frame where it is taken from.
    fn post(&mut self, mut frame: Arc<Frame>) -> Result<(), CameraError> {
        let Keeping { pace, live, patience, .. } = self.work.keeping;
        let mut slot = self.shared.slot();
        if let Some((since, why)) = &slot.refused
            && live
            && since.elapsed() >= patience.stall
        {
            let (what, why) = (self.work.name.clone(), why.clone());
            return Err(CameraError::Garbage { what, why });
        }
        while pace == Pace::Every && slot.frame.is_some() && !self.shared.over() {
            slot = self.shared.wait(slot, GLANCE);
        }
        slot.status.frames += 1;
        if let Some(own) = Arc::get_mut(&mut frame) {
            own.number = slot.status.frames;
        }
        slot.newest = Some(Arc::clone(&frame));
        if slot.frame.replace(Arc::clone(&frame)).is_some() {
            slot.status.dropped += 1;
        }
        drop(slot);
        self.shared.changed.notify_all();
        self.pool.keep(frame);
        Ok(())
    }

    fn lose(&self, why: String) {
        let mut slot = self.shared.slot();
        (slot.frame, slot.newest, slot.lost, slot.refused) = (None, None, true, None);
        slot.status.state = State::Lost;
        slot.status.lost += 1;
        slot.status.last_error = Some(why);
        drop(slot);
        self.shared.changed.notify_all();
    }

    /// Waits, unless it is time to end.
    fn rest(&self, pause: Duration) {
        let deadline = Instant::now() + pause;
        let mut slot = self.shared.slot();
        while !self.shared.over() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            slot = self.shared.wait(slot, left.min(GLANCE * 10));
        }
    }

    fn end(&self, how: Result<(), Arc<CameraError>>) {
        let mut slot = self.shared.slot();
        slot.status.state = State::Ended;
        slot.status.last_error = how.as_ref().err().map(ToString::to_string);
        slot.ended = Some(how);
        drop(slot);
        self.shared.changed.notify_all();
    }
}
