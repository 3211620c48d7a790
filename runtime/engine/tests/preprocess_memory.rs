//! Counts allocations: none once warm, and few for a picture bomb.
//!
//! A suite of its own, since it replaces the allocator. Counts are kept a thread, so that tests may
//! run side by side.
#![allow(unsafe_code, clippy::unwrap_used)]

mod preprocess_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use kinglet_engine::frame::{FrameView, PixelFormat, YuvMatrix};
use kinglet_engine::metadata::{Channels, Crop, Filter, Preprocess};
use kinglet_engine::picture::{Picture, PictureError};
use kinglet_engine::preprocess::{InputKind, Preprocessor};
use preprocess_support::{golden, noise, png};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let live = LIVE.get() + change;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
    if change > 0 {
        CALLS.set(CALLS.get() + 1);
    }
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches only
// thread-local cells that need no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`; returns its result, the number of allocations and the peak of memory over the
/// start, bytes.
fn measure<T>(work: impl FnOnce() -> T) -> (T, usize, isize) {
    let (calls, live) = (CALLS.get(), LIVE.get());
    PEAK.set(live);
    let result = work();
    (result, CALLS.get() - calls, PEAK.get() - live)
}

#[test]
fn the_counter_counts() {
    let (kept, calls, peak) = measure(|| {
        drop(std::hint::black_box(vec![1u8; 1000]));
        std::hint::black_box(vec![1u8; 10])
    });
    assert_eq!((kept.len(), calls, peak), (10, 2, 1000));
}

#[test]
fn a_warm_preprocessor_allocates_nothing() {
    // Pictures that take the passes in either order.
    let pictures = [noise(320, 200), noise(100, 400)];
    for crop in [
        Crop::Center { fraction: 0.875 },
        Crop::ResizeThenCenter { fraction: 0.875 },
        Crop::Stretch,
    ] {
        for kind in [InputKind::F32Nchw, InputKind::U8Nhwc { scale: 0.02, zero_point: 114 }] {
            let description = Preprocess {
                size: [64, 64],
                filter: Filter::Bicubic,
                crop,
                mean: [127.0; 3],
                std: [128.0; 3],
                channels: Channels::Rgb,
            };
            let mut preprocessor = Preprocessor::new(&description, kind).unwrap();
            let mut tensor = preprocessor.tensor();
            for picture in &pictures {
                preprocessor.run(picture, &mut tensor);
                preprocessor.resized(picture);
                let ((), calls, _) = measure(|| {
                    for _ in 0..3 {
                        preprocessor.run(picture, &mut tensor);
                        preprocessor.resized(picture);
                    }
                });
                assert_eq!(calls, 0, "{crop:?} {kind:?} {picture:?}");
            }
            for format in
                [PixelFormat::Rgb, PixelFormat::Grey, PixelFormat::Yuyv, PixelFormat::I420]
            {
                let length = format.packed_bytes(320, 200).unwrap();
                let bytes = &pictures[0].rgb()[..length];
                let frame = FrameView::packed(format, 320, 200, bytes, YuvMatrix::default());
                let frame = frame.unwrap();
                preprocessor.run_frame(&frame, &mut tensor);
                let ((), calls, _) = measure(|| preprocessor.run_frame(&frame, &mut tensor));
                assert_eq!(calls, 0, "{crop:?} {kind:?} {frame:?}");
            }
            // Sizes that were seen before need no memory either, only new coefficients.
            let ((), calls, _) =
                measure(|| pictures.iter().for_each(|p| preprocessor.run(p, &mut tensor)));
            assert_eq!(calls, 0, "{crop:?} {kind:?} in turn");
        }
    }
}

#[test]
fn a_warm_preprocessor_allocates_nothing_for_a_jpeg() {
    let bytes = std::fs::read(golden("pictures/large_half_both.jpg")).unwrap();
    let description = Preprocess {
        size: [64, 64],
        filter: Filter::Bicubic,
        crop: Crop::Center { fraction: 0.875 },
        mean: [127.0; 3],
        std: [128.0; 3],
        channels: Channels::Rgb,
    };
    let mut preprocessor = Preprocessor::new(&description, InputKind::F32Nchw).unwrap();
    let mut tensor = preprocessor.tensor();
    preprocessor.run_file(&bytes, &mut tensor).unwrap();
    let (result, calls, _) = measure(|| preprocessor.run_file(&bytes, &mut tensor));
    result.unwrap();
    assert_eq!(calls, 0);
}

#[test]
fn resizing_a_large_picture_takes_little_memory() {
    let picture = Picture::from_rgb(4000, 3000, vec![9; 4000 * 3000 * 3]).unwrap();
    let description = Preprocess {
        size: [224, 224],
        filter: Filter::Bicubic,
        crop: Crop::Stretch,
        mean: [127.0; 3],
        std: [128.0; 3],
        channels: Channels::Rgb,
    };
    let mut preprocessor = Preprocessor::new(&description, InputKind::F32Nchw).unwrap();
    let mut tensor = preprocessor.tensor();
    let ((), _, peak) = measure(|| preprocessor.run(&picture, &mut tensor));
    assert!(peak < 1 << 20, "{peak} bytes");
}

#[test]
fn a_picture_bomb_is_refused_at_once_and_without_memory() {
    // 12 KiB of zlib data would be inflated if anyone looked at it.
    let idat = vec![0u8; 12 << 10];
    let bomb = png(100_000, 100_000, &[(b"IDAT", &idat), (b"IEND", &[])]);
    let start = Instant::now();
    let (result, _, peak) = measure(|| Picture::decode(&bomb));
    let took = start.elapsed();
    assert!(matches!(result, Err(PictureError::TooLarge { .. })), "{result:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(peak < 1 << 20, "{peak} bytes");
}

#[test]
fn a_profile_bomb_is_refused_without_much_memory() {
    // An iCCP chunk that inflates to 64 MiB of zeros: deflate's stored blocks would need the room,
    // so a run of matches of length 258 at distance 1 in fixed codes.
    let mut bits = Bits::default();
    bits.push(0b011, 3);
    bits.push(0b0000_1100, 8); // literal 0, code 00110000 from its first bit
    for _ in 0..(64 << 20) / 258 {
        bits.push(0b1010_0011, 8); // length 258, code 11000101
        bits.push(0, 5); // distance 1
    }
    bits.push(0, 7); // end of block
    let mut profile = b"x\0\0\x78\x01".to_vec();
    profile.extend(bits.bytes);
    profile.extend([0; 8]);
    let bytes = png(2, 2, &[(b"iCCP", &profile), (b"IDAT", &[0x78, 1]), (b"IEND", &[])]);
    let (result, _, peak) = measure(|| Picture::decode(&bytes));
    assert!(result.is_err());
    assert!(peak < 40 << 20, "{peak} bytes");
}

/// Bits from the lowest of each byte up, as deflate wants them.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for i in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= (((value >> i) & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }
}
