//! Memory for what a run reads from end to end: packed weights, and the images between layers.
//!
//! In pages of 4 KiB a network's weights are more than a core's translation buffers know, and prefetchers stop at
//! every page's end. So while a network is built ([`pooled`]), its weights are laid side by side in memory that the
//! system is asked to back by huge pages (2 MiB; where it has none to give, or is no Linux, by ordinary ones).
//! Elsewhere each allocation stands alone.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A huge page of x86-64, and of ARM with pages of 4 KiB.
const HUGE: usize = 2 << 20;
/// No system has larger ordinary pages.
#[cfg(target_os = "linux")]
const LARGEST_PAGE: usize = 64 << 10;

/// One cache line, so that a vector of them is aligned like one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; LINE]);

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes that start at a cache line, zero at first.
pub struct Bytes {
    start: NonNull<u8>,
    len: usize,
    _owner: Owner,
}

/// Who frees the bytes.
enum Owner {
    Lines { _lines: Vec<Line> },
    Span { _part: Part },
}

/// Some bytes of a span.
struct Part {
    _span: Arc<Span>,
    len: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        POOLED.fetch_sub(self.len, Ordering::Relaxed);
    }
}

// SAFETY: the bytes are this value's alone, as a vector's are; their owners are `Send`.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// `len` zeros: out of the pool of the network that this thread builds, or else alone.
    pub fn zeroed(len: usize) -> Bytes {
        let pooled = POOL.with_borrow_mut(|pool| pool.as_mut()?.take(len));
        pooled.unwrap_or_else(|| {
            let mut lines = vec![Line([0; LINE]); len.div_ceil(LINE)];
            let start = NonNull::from(lines.as_mut_slice()).cast();
            Bytes { start, len, _owner: Owner::Lines { _lines: lines } }
        })
    }
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes {
            start: NonNull::<Line>::dangling().cast(),
            len: 0,
            _owner: Owner::Lines { _lines: Vec::new() },
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the owner holds `len` initialised bytes from `start` on, and nobody else has them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.len)
    }
}

thread_local! {
    /// Of the network that this thread builds.
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

/// Calls `build`; what this thread packs meanwhile, and [`Bytes`] that it asks for, lie side by side, as far as
/// `capacity` bytes reach. The memory is freed when the last of them is dropped.
pub fn pooled<R>(capacity: usize, build: impl FnOnce() -> R) -> R {
    /// Puts the outer pool back, also when `build` panics.
    struct Outer(Option<Pool>);
    impl Drop for Outer {
        fn drop(&mut self) {
            if let Some(pool) = POOL.replace(self.0.take()) {
                pool.trim();
            }
        }
    }
    let _outer = Outer(POOL.replace(Pool::new(capacity)));
    build()
}

/// Gives freed memory back to the system where the allocator (glibc's) would keep it: what is packed lies elsewhere,
/// and so does not fill the room of what it was packed from.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            // SAFETY: takes no pointer, and may be called at any time.
            safe fn malloc_trim(pad: usize) -> i32;
        }
        malloc_trim(0);
    }
}

/// Bytes that lie in pools now, in the whole process: an allocator does not count them.
pub fn pooled_bytes() -> usize {
    POOLED.load(Ordering::Relaxed)
}

/// See [`pooled_bytes`].
static POOLED: AtomicUsize = AtomicUsize::new(0);

/// A span, and how much of it is taken.
struct Pool {
    span: Arc<Span>,
    taken: usize,
}

impl Pool {
    /// None where huge pages would be mostly empty, or there is no such memory.
    fn new(capacity: usize) -> Option<Pool> {
        let span = (capacity >= HUGE / 2)
            .then(|| Span::new(capacity.checked_next_multiple_of(HUGE)?))??;
        Some(Pool { span: Arc::new(span), taken: 0 })
    }

    fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self.taken.checked_add(len).filter(|&end| end <= self.span.len)?;
        // SAFETY: `taken <= end <= len`, so it lies in the span or at its end.
        let start = unsafe { self.span.start.add(self.taken) };
        self.taken = end.next_multiple_of(LINE);
        POOLED.fetch_add(len, Ordering::Relaxed);
        Some(Bytes {
            start,
            len,
            _owner: Owner::Span { _part: Part { _span: self.span.clone(), len } },
        })
    }

    /// Has no huge page at the end if most of it would be empty.
    fn trim(&self) {
        let used = self.taken % HUGE;
        if used < HUGE / 2 {
            self.span.forget(self.taken - used, used);
        }
    }
}

/// Memory from the system, zero at first.
struct Span {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: memory belongs to no thread; who has which part of it is `Pool::take`'s affair.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::c_void;
    use std::ptr::{NonNull, null_mut};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use super::{HUGE, LARGEST_PAGE, Span};

    impl Span {
        /// `len` is a multiple of [`HUGE`], and so is the address.
        pub(super) fn new(len: usize) -> Option<Span> {
            let whole = len.checked_add(HUGE)?;
            let access = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new mapping, wherever the system likes.
            let all =
                unsafe { mmap_anonymous(null_mut(), whole, access, flags) }.ok()?.cast::<u8>();
            let before = all.align_offset(HUGE);
            // SAFETY: `before < HUGE`, so both ends lie in the mapping, and nobody has seen any of it.
            let start = unsafe {
                let start = all.add(before);
                // What cannot be cut off stays, and costs addresses alone.
                let _ = munmap(all.cast(), before);
                let _ = munmap(start.add(len).cast(), HUGE - before);
                start
            };
            let span = Span { start: NonNull::new(start)?, len };
            // SAFETY: changes no byte. Where there are no huge pages, there are others.
            let _ = unsafe { madvise(start.cast(), len, Advice::LinuxHugepage) };
            Some(span)
        }

        /// Lets ordinary pages be enough for what lies at `page`, and frees them from `used` bytes on, which nobody has.
        pub(super) fn forget(&self, page: usize, used: usize) {
            let free = used.next_multiple_of(LARGEST_PAGE)..HUGE;
            if page + free.end > self.len {
                return;
            }
            let at =
                |offset: usize| self.start.as_ptr().wrapping_add(page + offset).cast::<c_void>();
            // SAFETY: both parts lie in the span; the first call changes no byte, and nobody has the bytes of the second.
            unsafe {
                let _ = madvise(at(0), HUGE, Advice::LinuxNoHugepage);
                let _ = madvise(at(free.start), free.len(), Advice::LinuxDontNeed);
            }
        }
    }

    impl Drop for Span {
        fn drop(&mut self) {
            // SAFETY: the mapping that `new` made; whoever had a part of it is gone.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Span {
    fn new(_len: usize) -> Option<Span> {
        None
    }

    fn forget(&self, _page: usize, _used: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(all: &mut [Bytes]) {
        for (number, bytes) in all.iter_mut().enumerate() {
            assert!(
                (bytes.as_ptr() as usize).is_multiple_of(LINE) && bytes.iter().all(|&b| b == 0)
            );
            bytes.fill(number as u8 + 1);
        }
        for (number, bytes) in all.iter().enumerate() {
            assert!(bytes.iter().all(|&b| b == number as u8 + 1), "nobody else writes there");
        }
    }

    #[test]
    fn parts_of_a_pool_lie_side_by_side_and_outlive_it() {
        let lengths = [100, 0, 64, 1, 3 << 20, 65];
        let mut all = pooled(5 << 20, || lengths.map(Bytes::zeroed));
        assert_eq!(all.each_ref().map(|bytes| bytes.len()), lengths);
        check(&mut all);
        #[cfg(target_os = "linux")]
        assert!(pooled_bytes() >= lengths.iter().sum());
        #[cfg(target_os = "linux")]
        for (two, len) in all.windows(2).zip(lengths) {
            assert_eq!(
                two[1].as_ptr() as usize - two[0].as_ptr() as usize,
                len.next_multiple_of(LINE)
            );
        }
        drop(all);
    }

    #[test]
    fn what_does_not_fit_stands_alone() {
        let mut all =
            pooled(HUGE, || [Bytes::zeroed(HUGE - 64), Bytes::zeroed(65), Bytes::zeroed(64)]);
        check(&mut all);
        let mut alone = [Bytes::zeroed(1000), Bytes::default()];
        check(&mut alone);
        assert_eq!(pooled(usize::MAX, || Bytes::zeroed(10)).len(), 10);
        assert_eq!(pooled(10, || Bytes::zeroed(10)).len(), 10);
    }

    #[test]
    fn a_panic_ends_a_pool_and_an_inner_one_the_outer_does_not() {
        let (first, inner, second) = pooled(HUGE, || {
            let first = Bytes::zeroed(64);
            let panicked = std::panic::catch_unwind(|| pooled(HUGE, || panic!("while building")));
            assert!(panicked.is_err());
            (first, pooled(HUGE, || Bytes::zeroed(64)), Bytes::zeroed(64))
        });
        check(&mut [first, inner, second]);
        POOL.with_borrow(|pool| assert!(pool.is_none()));
    }
}
