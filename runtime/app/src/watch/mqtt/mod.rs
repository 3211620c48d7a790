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

use super::bus::{Bus, Listener, Writer};
use link::Link;
use outbox::Outbox;
pub(crate) use settings::{Plan, Settings};
use teller::Teller;

/// What publishes. Dropping it, or closing the bus, ends that when what is left has been sent, or
/// cannot be.
#[derive(Debug)]
pub(super) struct Mqtt {
    teller: Writer,
    link: JoinHandle<()>,
}

impl Mqtt {
    /// Publishes what `listener` hears, when `before` has said its last words.
    pub(super) fn start(
        plan: Plan,
        listener: Listener,
        bus: Bus,
        before: Option<Mqtt>,
    ) -> std::io::Result<Self> {
        let Plan { broker, content } = plan;
        let outbox = Arc::new(Outbox::new(content.queue));
        let link = Link {
            greeting: discovery::messages(&content, &Board::read()),
            availability: content.topics.of("availability"),
            broker,
            outbox: Arc::clone(&outbox),
            bus: bus.clone(),
        };
        let before = before.map(Mqtt::end);
        let run = move |bus: Bus| {
            // It may have our name with the broker: there is one of that name at a time.
            if let Some(before) = before {
                let _ = before.join();
            }
            if let Err(error) = link::run(link) {
                bus.report("mqtt", Some(error.to_string()));
            }
        };
        let failed = bus.clone();
        let link = std::thread::Builder::new().name("mqtt".into()).spawn(|| run(failed))?;
        let tell = |listener| Teller::new(content, bus, listener, outbox).run();
        Ok(Self { teller: listener.on_thread("mqtt teller", tell)?, link })
    }

    /// Publishes nothing more; gives the thread that says the last words.
    pub(super) fn end(self) -> JoinHandle<()> {
        self.link
    }

    /// Whether the last words have been said.
    pub(super) fn stopped(&self) -> bool {
        self.teller.stopped() && self.link.is_finished()
    }
}
