//! The C library's heap. The only call of it that is not memory itself.
#![allow(unsafe_code)]

/// Lets all threads of this process share two heaps. glibc makes up to eight for each core: what one thread frees is
/// seldom what another takes, each heap keeps its holes, and a service grows by some KiB with each reload. Before
/// threads start; does nothing with another C library.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        /// Source: malloc.h.
        const M_ARENA_MAX: i32 = -8;
        // SAFETY: it is declared so there, and may be called at any time with any numbers.
        unsafe extern "C" {
            safe fn mallopt(parameter: i32, value: i32) -> i32;
        }
        mallopt(M_ARENA_MAX, 2);
    }
}
