//! Ports for servers that a test starts.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that nobody else gets: each is given once, and from below those that the kernel gives, where a
/// server that is away would lose it to the next who asks for any port.
///
/// Whether it is free is asked by connecting. To listen for a moment would do harm: a process that another
/// test starts in that moment inherits the listener until it becomes its program, and whoever then waits
/// for the server to listen is answered too soon.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        // Processes side by side start at different places.
        let place = std::process::id().wrapping_mul(64).wrapping_add(given);
        let port = 20_000 + (place % 12_000) as u16;
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}
