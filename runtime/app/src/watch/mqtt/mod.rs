//! Decisions to an MQTT broker, and what Home Assistant needs to find them.
//!
//! ```text
//! Bus ──> Teller    teller.rs    a thread: decisions, health and pictures become messages
//!     ──> Outbox    outbox.rs    bounded, in order, the newest kept
//!     ──> Link      link.rs      a thread: connects, again and again
//!     ──> Session   session.rs   one connection: sends, waits for acknowledgements, notices silence
//! ```
//!
//! Nothing here can hold up whoever publishes to the bus. A broker that is away, says nothing or
//! refuses us is a line in [`Bus::health`].

mod discovery;
mod link;
mod outbox;
mod picture;
mod session;
mod settings;
mod teller;
mod tls;
mod topics;
mod wire;

use std::sync::Arc;
use std::thread::JoinHandle;

use kinglet_device::Board;

use super::bus::{Bus, Listener};
use link::Link;
use outbox::Outbox;
pub(crate) use settings::{Plan, Settings};
use teller::Teller;

/// Publishes until the bus is closed and what is left has been sent, or cannot be.
pub(super) fn start(plan: Plan, listener: Listener, bus: Bus) -> std::io::Result<JoinHandle<()>> {
    let Plan { broker, content } = plan;
    let outbox = Arc::new(Outbox::new(content.queue));
    let link = Link {
        greeting: discovery::messages(&content, &Board::read()),
        availability: content.topics.of("availability"),
        broker,
        outbox: Arc::clone(&outbox),
        bus: bus.clone(),
    };
    let named = |name: &str| std::thread::Builder::new().name(name.into());
    let failed = bus.clone();
    let sender = named("mqtt").spawn(move || {
        if let Err(error) = link::run(link) {
            failed.report("mqtt", Some(error.to_string()));
        }
    })?;
    named("mqtt teller").spawn(move || Teller::new(content, bus, listener, outbox).run())?;
    Ok(sender)
}
