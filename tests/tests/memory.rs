//! Memory of the shipped model: how much its loading takes at most, and that a warm session
//! allocates nothing, on any thread.
//!
//! One test alone: it replaces the allocator and counts what the whole process does.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use kinglet_engine::{Isa, Options, Picture, Session};
use kinglet_kernels::pooled_bytes;
use kinglet_tests::{Random, repository};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; counting touches atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live + pooled_bytes(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`; returns its result, the number of allocations and the peak of memory over the
/// start, bytes: of the heap and of pools together.
fn measure<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let held = || LIVE.load(Ordering::SeqCst) + pooled_bytes();
    let (calls, before) = (CALLS.load(Ordering::SeqCst), held());
    PEAK.store(before, Ordering::SeqCst);
    let result = work();
    let peak = PEAK.load(Ordering::SeqCst).max(held());
    (result, CALLS.load(Ordering::SeqCst) - calls, peak - before)
}

fn noise(width: u32, height: u32) -> Picture {
    let mut random = Random::new(u64::from(width));
    let rgb = (0..3 * width * height).map(|_| random.draw() as u8).collect();
    Picture::from_rgb(width, height, rgb).unwrap()
}

#[test]
fn weights_are_held_once_and_a_warm_session_allocates_nothing() {
    let (kept, calls, peak) = measure(|| {
        let other = std::thread::spawn(|| drop(std::hint::black_box(vec![1_u8; 100_000])));
        other.join().unwrap();
        std::hint::black_box(vec![1_u8; 1000])
    });
    assert!(kept.len() == 1000 && calls >= 2 && peak >= 100_000, "the counter counts");
    drop(kept);

    let path = repository().join("models/efficientnet-lite0-int8.onnx");
    let file_bytes = std::fs::metadata(&path).unwrap().len() as usize;
    let pictures = [noise(320, 240), noise(240, 320)];
    for isa in Isa::available() {
        for threads in [1, 2, 4] {
            let options =
                Options { isa: Some(isa), threads, require_int8: true, ..Options::default() };
            let what = format!("{} with {threads} threads", isa.name());
            let (session, _, peak) = measure(|| Session::load(&path, &options));
            let mut session = session.unwrap();
            // Kernels that hold 16-bit weights need twice the file; a copy more would be 3 times.
            println!("{what}: {peak} bytes, of a file of {file_bytes}");
            assert!(peak < file_bytes * 5 / 2, "{what}: loading took {peak} bytes");

            let input = session.sample_input();
            let mut outputs = Vec::new();
            session.run_into(&input, &mut outputs).unwrap();
            let expected = outputs.clone();
            let ((), calls, _) = measure(|| {
                for _ in 0..if isa == Isa::Scalar { 1 } else { 20 } {
                    session.run_into(&input, &mut outputs).unwrap();
                }
            });
            assert_eq!(calls, 0, "{what}: a tensor");
            assert_eq!(outputs, expected, "{what}");

            if isa == Isa::Scalar {
                continue;
            }
            for picture in &pictures {
                session.outputs_into(picture, &mut outputs).unwrap();
                let expected = outputs.clone();
                let ((), calls, _) = measure(|| {
                    for _ in 0..5 {
                        session.outputs_into(picture, &mut outputs).unwrap();
                    }
                });
                assert_eq!(calls, 0, "{what}: {picture:?}");
                assert_eq!(outputs, expected, "{what}");
            }
        }
    }
}
