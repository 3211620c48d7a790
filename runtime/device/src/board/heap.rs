//! The C library's heap. The only call of it that is not memory itself.
#![allow(unsafe_code)]

/// From this size on, a block is memory of its own, bytes: what glibc begins with.
#[cfg(target_env = "gnu")]
const ALONE: i32 = 128 << 10;

/// Has the heap stay as small as what is in it, for months. Before threads start; does nothing with another C library.
///
/// All threads share two heaps: glibc makes up to eight for each core, what one thread frees is seldom what another takes,
/// and each heap keeps its holes. And large blocks (frames, weights before they are packed) stay out of them: glibc takes
/// larger and larger ones in once such have been freed, and a frame of another size then leaves a hole of its size.
///
/// For services. A program that ends soon loads faster without it: each large block costs page faults of its own.
pub fn settle_heap() {
    #[cfg(target_env = "gnu")]
    {
        /// Source of both: malloc.h.
        const M_ARENA_MAX: i32 = -8;
        const M_MMAP_THRESHOLD: i32 = -3;
        // SAFETY: it is declared so there, and may be called at any time with any numbers.
        unsafe extern "C" {
            safe fn mallopt(parameter: i32, value: i32) -> i32;
        }
        mallopt(M_ARENA_MAX, 2);
        mallopt(M_MMAP_THRESHOLD, ALONE);
    }
}
