//! Words to the service manager that has started us (sd_notify(3)); to nobody where there is none.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// Says something, or does not: a service manager that does not listen holds nobody up.
pub(super) fn notify(words: &[NotifyState<'_>]) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let message: String = words.iter().map(|word| format!("{word}\n")).collect();
    let sent = || -> std::io::Result<()> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address).map(drop)
    };
    if let Err(error) = sent() {
        tracing::debug!("the service manager was not told '{}': {error}", message.trim_end());
    }
}

/// A text that fits the one line that a status is.
pub(super) fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}
