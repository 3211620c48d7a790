//! Threads that share the loop of one layer: for pieces of work of some ten microseconds.
//!
//! For what: [`Workers::split`] divides an output among threads and returns when all of it is
//! there. Not for: tasks that wait for anything, or that outlive the call. What a layer's kernel
//! computes does not depend on how it is divided, so neither does a network's result.
//!
//! How it runs: a call publishes the work and takes pieces of it itself; threads that still spin
//! after the layer before join at once, those that have gone to sleep are woken and join late or
//! never: the call waits for pieces that were taken, not for threads. Nothing is allocated.
//!
//! Who takes what: each thread begins with its own share of the pieces, in order, and takes others'
//! when there is none left in it. So the same rows of layer after layer stay in the caches of one core.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread without work spins before it sleeps: longer than what lies between two layers,
/// short against the time between two pictures.
const SPIN: Duration = Duration::from_micros(50);

/// Outputs smaller than this are not worth waking other threads for, bytes.
const MIN_PARALLEL: usize = 8 << 10;
/// Pieces a thread at most: with more than one, a thread that came late or lost its core holds up
/// less.
const PIECES: usize = 2;
/// Outputs of a piece, bytes, below which a thread gets one piece only: each costs about 2 us.
const MIN_PIECE: usize = 32 << 10;

/// Work on piece `.0` by thread `.1`.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// What a share's pieces are, and where they end.
#[derive(Clone, Copy)]
struct Job {
    work: *const Work<'static>,
    end: usize,
}

/// Alone in its cache lines.
#[repr(align(128))]
struct Alone<T>(T);

/// A thread's share of a call's pieces, in one cache line: the only one that two threads fetch from each other, apart from
/// what the work itself reads.
struct Lane {
    /// Pieces that nobody has taken yet; taking one is decrementing this from above 0.
    left: AtomicUsize,
    /// Pieces that are done, of all calls together; wraps around.
    done: AtomicUsize,
    /// Written only while no piece is left and none is being worked on; read only by who has taken
    /// a piece that is not done yet.
    job: UnsafeCell<Option<Job>>,
}

struct Shared {
    /// A share for each thread.
    lanes: Vec<Alone<Lane>>,
    /// Threads that sleep or are about to.
    sleepers: Alone<AtomicUsize>,
    stop: AtomicBool,
    /// A piece panicked on one of our threads.
    panicked: AtomicBool,
}

// SAFETY: all fields but `job` are atomics. A lane's `job` is written by the one call that holds `busy`,
// before it stores the lane's `left` (release), and read after `left` was decremented (acquire) and before
// its `done` is incremented (release); the writer waits until `done` says (acquire) that all pieces are
// done. So no read meets a write. The pointer in it leads to a `Sync` closure.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Shared {}

impl Shared {
    fn new(threads: usize) -> Shared {
        let zero = || AtomicUsize::new(0);
        let lane = || Alone(Lane { left: zero(), done: zero(), job: UnsafeCell::new(None) });
        Shared {
            lanes: (0..threads).map(|_| lane()).collect(),
            sleepers: Alone(zero()),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        }
    }

    /// Takes a piece of a share, if any is left, and works on it.
    fn work_of(&self, lane: usize, thread: usize) -> bool {
        let Lane { left, done, job } = &self.lanes[lane].0;
        let take = |left: usize| left.checked_sub(1);
        let Ok(left) = left.fetch_update(Ordering::Acquire, Ordering::Relaxed, take) else {
            return false;
        };
        // SAFETY: this thread has taken a piece that is not done yet (see `Sync` above).
        if let Some(Job { work, end }) = unsafe { *job.get() } {
            // SAFETY: the call that published the closure returns only when this piece is done.
            let work = unsafe { &*work };
            if catch_unwind(AssertUnwindSafe(|| work(end - left, thread))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
        done.fetch_add(1, Ordering::Release);
        true
    }

    /// Takes a piece of another thread's share and works on it, if any has some left.
    fn help(&self, thread: usize) -> bool {
        let lanes = self.lanes.len();
        (1..lanes).any(|next| self.work_of((thread + next) % lanes, thread))
    }

    /// Whether some of these shares have a piece left, or the end has come.
    fn wanted(&self, lanes: Range<usize>) -> bool {
        let left = |lane: &Alone<Lane>| lane.0.left.load(Ordering::Relaxed) > 0;
        self.lanes[lanes].iter().any(left) || self.stop.load(Ordering::Relaxed)
    }

    /// Waits for work or the end: spins, then sleeps. Others' shares are looked at now and then only: a look takes the line
    /// away from its thread.
    fn wait(&self, thread: usize) {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..64 {
                if self.wanted(thread..thread + 1) {
                    return;
                }
                std::hint::spin_loop();
            }
            if self.help(thread) {
                return;
            }
            // Costs nothing on a free core, and on a shared one another program need not wait.
            std::thread::yield_now();
        }
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        // A call that does not see this yet has published its work long before this is over, and it is seen. (No fence
        // orders the two: it would cost each call more than it is worth. What is lost without is help with one call.)
        for _ in 0..64 {
            std::hint::spin_loop();
        }
        while !self.wanted(0..self.lanes.len()) {
            std::thread::park();
        }
        self.sleepers.0.fetch_sub(1, Ordering::Relaxed);
        // What woke it may be somebody else's share.
        while self.help(thread) {}
    }

    fn serve(&self, thread: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            while self.work_of(thread, thread) {}
            self.wait(thread);
        }
    }
}

/// An output divided into pieces of any lengths, in any order: pieces that follow one another are
/// likely to be worked on by one thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Division {
    pieces: Vec<Range<usize>>,
    len: usize,
}

impl Division {
    /// Pieces that cover `0..len` for some `len` and share nothing.
    ///
    /// # Panics
    /// If they do not.
    pub fn new(pieces: Vec<Range<usize>>) -> Division {
        let mut order: Vec<&Range<usize>> = pieces.iter().filter(|p| !p.is_empty()).collect();
        order.sort_by_key(|piece| piece.start);
        let len = order.iter().fold(0, |end, piece| {
            assert_eq!(piece.start, end, "pieces follow one another");
            piece.end
        });
        let lies = |piece: &Range<usize>| piece.start <= piece.end && piece.end <= len;
        assert!(pieces.iter().all(lies), "pieces lie in the output");
        Division { pieces, len }
    }

    /// The pieces.
    pub fn pieces(&self) -> &[Range<usize>] {
        &self.pieces
    }
}

/// A fixed number of threads that work together, the caller's own included.
pub struct Workers {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// A call is running.
    busy: AtomicBool,
    /// Pieces of each share that were published, of all calls together; wraps around. Only the call that holds
    /// `busy` looks.
    published: Vec<AtomicUsize>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workers({})", self.threads())
    }
}

impl Workers {
    /// `threads` threads; 0 and 1 mean the caller's own alone.
    ///
    /// # Errors
    /// The operating system's when it starts no more threads.
    pub fn new(threads: usize) -> std::io::Result<Workers> {
        Workers::start(threads, |_| Ok(()))
    }

    /// [`Workers::new`] with each thread bound to a core of its own, the caller's included (for as
    /// long as it lives), of those that the process may use; with more threads than cores, some
    /// share one.
    ///
    /// # Errors
    /// The operating system's; [`std::io::ErrorKind::Unsupported`] where threads cannot be bound.
    pub fn pinned(threads: usize) -> std::io::Result<Workers> {
        let cores = affinity::cores()?;
        affinity::bind(cores[0])?;
        Workers::start(threads, move |thread| affinity::bind(cores[thread % cores.len()]))
    }

    /// Starts threads that call `begin` with their number first.
    fn start(
        threads: usize,
        begin: impl Fn(usize) -> std::io::Result<()> + Clone + Send + 'static,
    ) -> std::io::Result<Workers> {
        let threads = threads.max(1);
        let mut workers = Workers {
            shared: Arc::new(Shared::new(threads)),
            helpers: Vec::new(),
            busy: AtomicBool::new(false),
            published: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
        };
        let (begun, results) = std::sync::mpsc::channel();
        for thread in 1..threads {
            let shared = workers.shared.clone();
            let (begin, begun) = (begin.clone(), begun.clone());
            let helper = std::thread::Builder::new()
                .name(format!("kinglet-{thread}"))
                .stack_size(256 << 10)
                .spawn(move || {
                    // The receiver waits for each thread; if it is gone, so is the loop.
                    let _ = begun.send(begin(thread));
                    shared.serve(thread);
                })?;
            workers.helpers.push(helper);
        }
        for _ in 1..threads {
            results.recv().unwrap_or(Ok(()))?;
        }
        Ok(workers)
    }

    /// How many there are, the caller's own included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Divides `output` into pieces of `piece_len` (the last may be shorter) and calls `work` with
    /// each piece's number, the piece, and one of `states` that no other piece uses meanwhile.
    ///
    /// Called while another call is running, also from within `work`, it runs on the caller alone.
    ///
    /// # Panics
    /// If `piece_len` is 0, or there are fewer states than threads, or `work` panics; then all
    /// other pieces are done or dropped.
    pub fn split<T: Send, S: Send>(
        &self,
        output: &mut [T],
        piece_len: usize,
        states: &mut [S],
        work: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        let (len, pieces) = (output.len(), output.len().div_ceil(piece_len));
        let piece_at = move |piece: usize| piece * piece_len..((piece + 1) * piece_len).min(len);
        // SAFETY: pieces of whole `piece_len` from 0 on, the last one cut at the end: they lie in
        // the output and share nothing.
        unsafe { self.split_at(output, pieces, piece_at, states, work) }
    }

    /// Divides `units` of work, the same number of outputs each, among the threads as it suits their
    /// size: small outputs are not worth waking another thread for, and of large ones a thread gets
    /// several pieces, so that one which came late or lost its core holds up less.
    ///
    /// # Panics
    /// As [`Workers::split`]; also if the output's length is not a multiple of `units`.
    pub fn share<T: Send, S: Send>(
        &self,
        units: usize,
        output: &mut [T],
        states: &mut [S],
        work: impl Fn(Range<usize>, &mut [T], &mut S) + Sync,
    ) {
        assert!(output.len().is_multiple_of(units.max(1)));
        let unit_len = output.len() / units.max(1);
        let share = Workers::share_of(units, size_of_val(output), self.threads());
        if share >= units {
            return work(0..units, output, &mut states[0]);
        }
        self.split(output, share * unit_len, states, move |piece, part, state| {
            let start = piece * share;
            work(start..start + part.len() / unit_len, part, state);
        });
    }

    /// [`Workers::share`] of a fully connected layer: few outputs that many bytes of weights are read
    /// for. Pieces are `group` outputs or a multiple of it, but for the last.
    ///
    /// # Panics
    /// As [`Workers::split`]; also if `group` is 0.
    pub fn share_weights<T: Send, S: Send>(
        &self,
        group: usize,
        weight_bytes: usize,
        output: &mut [T],
        states: &mut [S],
        work: impl Fn(Range<usize>, &mut [T], &mut S) + Sync,
    ) {
        let groups = output.len().div_ceil(group);
        // One piece a thread: what is read is in order, and so are the caches.
        let share = Workers::share_of(groups, weight_bytes.min(MIN_PIECE), self.threads()) * group;
        self.split(output, share, states, move |piece, part, state| {
            work(piece * share..piece * share + part.len(), part, state);
        });
    }

    /// How many of `units`, which give `bytes` together, one piece of work gets.
    pub(crate) fn share_of(units: usize, bytes: usize, threads: usize) -> usize {
        if threads == 1 || bytes < MIN_PARALLEL || units < 2 {
            return units.max(1);
        }
        units.div_ceil((bytes / MIN_PIECE).clamp(threads, threads * PIECES))
    }

    /// [`Workers::split`] into the pieces of a division.
    ///
    /// # Panics
    /// As [`Workers::split`]; also if the output's length is not the division's.
    pub fn split_by<T: Send, S: Send>(
        &self,
        output: &mut [T],
        division: &Division,
        states: &mut [S],
        work: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        assert_eq!(output.len(), division.len, "output length");
        let pieces = division.pieces();
        let piece_at = move |piece: usize| pieces[piece].clone();
        // SAFETY: a division's pieces lie within its length and share nothing.
        unsafe { self.split_at(output, pieces.len(), piece_at, states, work) }
    }

    /// # Safety
    /// `piece_at` gives ranges within `output`, disjoint for different pieces below `pieces`.
    unsafe fn split_at<T: Send, S: Send>(
        &self,
        output: &mut [T],
        pieces: usize,
        piece_at: impl Fn(usize) -> Range<usize> + Sync,
        states: &mut [S],
        work: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        assert!(states.len() >= self.threads(), "a state for each thread");
        let (output, states) = (Shareable(output.as_mut_ptr()), Shareable(states.as_mut_ptr()));
        self.run(pieces, &move |piece, thread| {
            let place = piece_at(piece);
            // SAFETY: `piece < pieces`, so the part lies in `output`, which is borrowed for the
            // whole call; each piece is worked on once, and parts of different pieces are disjoint.
            let part = unsafe {
                std::slice::from_raw_parts_mut(output.pointer().add(place.start), place.len())
            };
            // SAFETY: `thread < threads() <= states.len()`, and `states` is borrowed for the whole
            // call; a thread works on one piece at a time, so nobody else uses its state.
            let state = unsafe { &mut *states.pointer().add(thread) };
            work(piece, part, state);
        });
    }

    /// Calls `work(piece, thread)` once for each piece of `0..pieces`; no two calls at a time have
    /// the same thread, which is below [`Self::threads`].
    fn run(&self, pieces: usize, work: &Work<'_>) {
        let alone = pieces < 2 || self.helpers.is_empty();
        if alone || self.busy.swap(true, Ordering::Acquire) {
            return (0..pieces).for_each(|piece| work(piece, 0));
        }
        let shared = &*self.shared;
        let work: *const Work<'_> = work;
        // SAFETY: only the lifetime changes; below, this waits until the last use is over.
        let work = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        let lanes = self.published.len().min(pieces);
        // The caller's own share last: it is the only one that nobody waits for.
        for lane in (0..lanes).rev() {
            let (begin, end) = (lane * pieces / lanes, (lane + 1) * pieces / lanes);
            if begin == end {
                continue;
            }
            let published = self.published[lane].load(Ordering::Relaxed);
            self.published[lane].store(published.wrapping_add(end - begin), Ordering::Relaxed);
            let Lane { left, job, .. } = &shared.lanes[lane].0;
            // SAFETY: this call holds `busy`, and the one before left no piece that is not done.
            unsafe { *job.get() = Some(Job { work, end }) };
            left.store(end - begin, Ordering::Release);
        }
        if shared.sleepers.0.load(Ordering::Relaxed) > 0 {
            self.helpers.iter().take(pieces - 1).for_each(|h| h.thread().unpark());
        }
        while shared.work_of(0, 0) {}
        let start = Instant::now();
        for (lane, published) in shared.lanes.iter().zip(&self.published) {
            while lane.0.done.load(Ordering::Acquire) != published.load(Ordering::Relaxed) {
                if !shared.help(0) {
                    std::hint::spin_loop();
                }
                // A thread that has a piece may have lost its core to another program.
                if start.elapsed() > SPIN {
                    std::thread::yield_now();
                }
            }
        }
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
        if panicked {
            resume_unwind(Box::new("a piece of work panicked".to_owned()));
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches what panics in it.
            let _ = helper.join();
        }
    }
}

/// Binding threads to cores.
#[cfg(target_os = "linux")]
mod affinity {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// The cores that the calling thread may use; never empty.
    pub(super) fn cores() -> std::io::Result<Vec<usize>> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
    }

    /// Binds the calling thread to a core.
    pub(super) fn bind(core: usize) -> std::io::Result<()> {
        let mut set = CpuSet::new();
        set.set(core);
        Ok(sched_setaffinity(None, &set)?)
    }
}

/// Binding threads to cores: not here.
#[cfg(not(target_os = "linux"))]
mod affinity {
    pub(super) fn cores() -> std::io::Result<Vec<usize>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub(super) fn bind(_core: usize) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// A pointer that threads share; what they do with it is on them.
struct Shareable<T>(*mut T);

impl<T> Shareable<T> {
    fn pointer(&self) -> *mut T {
        self.0
    }
}

// SAFETY: a pointer is a number; `Workers::split` says why its uses are sound, and demands `Send` of
// what it leads to.
unsafe impl<T> Sync for Shareable<T> {}
